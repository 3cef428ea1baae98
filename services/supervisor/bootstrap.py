"""`python -m services.supervisor.bootstrap`: the first lines of `declaring`, obedient to signals before anything else is imported.

As the first process of a container it would not hear one otherwise. What it does may be begun anew at any time, so it ends at once, and
with the code of who was ended: whoever waits for it to be done is not to go on.
"""

from __future__ import annotations

import importlib

from shared.runtime.process.first import ENDED, obey


def main() -> None:
    """For its exit codes see `declaring`; 143 when it was told to end."""
    obey(ENDED)
    raise SystemExit(importlib.import_module("services.supervisor.declaring").main())


if __name__ == "__main__":
    main()
