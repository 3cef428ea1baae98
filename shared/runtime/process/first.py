"""The first lines of a service's process: signals are obeyed before anything is imported that takes its time.

A process that is PID 1, as in a container, has no default action for a signal: until somebody sets one, SIGTERM does nothing. So it is
set here, and again for the event loop once there is one (`running.py`). Whatever was begun by then is left as a kill -9 would leave it.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ENDED = 128 + signal.SIGTERM
"""The exit code of who was told to end before it had done what it is there for, as shells say it."""


def main(name: str) -> None:
    """Entry point of `python -m services.<name>`. For its exit codes see `running.main`."""
    obey()
    sys.modules["rich"] = None  # type: ignore[assignment]  # for terminals; structlog and httpx import it if they find it: 0.1 s
    wiring = importlib.import_module(f"services.{name}.service")
    importlib.import_module("shared.runtime.process.running").main(name, wiring.wire)


def obey(code: int = 0) -> None:
    """From now on a signal ends the process with this code.

    At once: an exception would come up in the middle of whatever is imported, and an extension that is half there may crash the process
    when Python takes it down in order. Nothing was taken in yet, so there is nothing to drain.
    """

    def end(number: int, frame: FrameType | None) -> None:
        os._exit(code)

    for number in SIGNALS:
        signal.signal(number, end)


def leave_within(seconds: float, code: int) -> None:
    """End the process by then, whatever its threads still do: Python waits for each, and one may be in a call to who does not answer.

    For whoever has closed and saved all there is.
    """

    def leave() -> None:
        time.sleep(seconds)
        os._exit(code)

    threading.Thread(target=leave, name="leave", daemon=True).start()
