"""Which seeds are lived: as many as a run of the suite has time for, or those of `SWARM_SEEDS=12` and `SWARM_SEEDS=0-99999`."""

from __future__ import annotations

import os


def seeds(count: int) -> range:
    """So many, unless others are asked for."""
    first, _, last = os.environ.get("SWARM_SEEDS", f"0-{count - 1}").partition("-")
    return range(int(first), int(last or first) + 1)
