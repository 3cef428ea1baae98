"""The kill switch is a path: while something is there, nothing is permitted and nothing is done."""

from __future__ import annotations

from pathlib import Path

from shared.contracts.text import plain


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


def thrown(switch: Path | None) -> str | None:
    """What to say while it is on; None while it is off."""
    return f"the kill switch is on: remove {plain(str(switch), 500)} to have actions go on" if is_on(switch) else None
