"""Which observations a search is for. Used by the probe `log.search`; time is told as perception tells it. Pure and total."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from shared.contracts.envelope import Recorded
from shared.contracts.events import LogSearch, ObservationRecorded
from shared.thinker.perceiving.lines import when
from shared.thinker.perceiving.sources import FUTURE_S
from shared.thinker.perceiving.templates import read


def written_at(event: ObservationRecorded, stamp: str, stored_at: datetime) -> float | None:
    """When a line was written, in seconds since 1970: as its source says, else as it says itself; None where neither does.

    A time more than a day ahead of when it was stored is none.
    """
    at = event.observed_at.timestamp() if event.observed_at else when(stamp, stored_at)
    return None if at is not None and at > stored_at.timestamp() + FUTURE_S else at


def searched(probe: LogSearch) -> Callable[[Recorded], bool]:
    """A test of events against one search, for counting many."""
    wanted = probe.text.casefold()
    since = None if probe.since is None else probe.since.timestamp()
    until = None if probe.until is None else probe.until.timestamp()

    def is_one(recorded: Recorded) -> bool:
        event = recorded.event
        if not isinstance(event, ObservationRecorded) or probe.source not in (None, event.source):
            return False
        if wanted not in event.text.casefold():
            return False
        if since is None and until is None:
            return True
        stamp = "" if event.observed_at else read(event.text).stamp
        at = written_at(event, stamp, recorded.stored_at)
        if at is None:
            at = recorded.stored_at.timestamp()
        return (since is None or at >= since) and (until is None or at < until)

    return is_one
