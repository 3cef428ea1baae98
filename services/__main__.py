"""`python -m services NAME`: one service of the catalog in this process, as if by `python -m services.NAME`.

It is the image's entry point: one image, and the command says which service.
"""

from __future__ import annotations

import runpy
import sys

from shared.runtime.process.first import obey


def main() -> None:
    """Ends with the service's exit code, or with 2 when there is no such service."""
    obey()
    from shared.contracts.services import SERVICES  # takes its time, and signals are obeyed by now

    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in SERVICES:
        print(f"usage: python -m services NAME, where NAME is one of {', '.join(SERVICES)}", file=sys.stderr)
        raise SystemExit(2)
    runpy.run_module(SERVICES[name].module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
