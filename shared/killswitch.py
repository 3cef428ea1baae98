"""The kill switch is a path: while something is there, nothing is permitted and nothing is done."""

from __future__ import annotations

from pathlib import Path


def is_on(switch: Path | None) -> bool:
    """Whether it was thrown. Only "nothing there" is off: what nobody can look at is on, and so is a link to nowhere."""
    if switch is None:
        return False
    try:
        switch.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
