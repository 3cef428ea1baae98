"""What is taken in at once, of one swarm and of one key in it: who asks for more is turned away at the door, so others never wait for it.

Requests of one kind are bounded each by themselves: while a swarm is flooded with spawns it can still be reaped. A swarm whose
quota the governor found used up is held until there is room again, without asking the governor each time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

from services.gateway.front.access import Buckets
from services.gateway.projections.refusals import Refusals
from services.gateway.wire.ids import as_given
from services.gateway.wire.problems import RETRY_AFTER_S, Problem

Kind = Literal["spawn", "reap", "observe", "recall"]
MINUTE_S = 60.0
MAX_HELD = 10_000


class Admission:
    """`open_requests` is of one swarm and kind; `per_minute` by reason, of one key and swarm or of a swarm.
    `wall` stamps what is counted.
    """

    def __init__(
        self,
        refusals: Refusals,
        *,
        open_requests: int,
        per_minute: dict[str, int],
        wall: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._refusals, self._wall, self._clock = refusals, wall, clock
        self._open_requests = open_requests
        self._per_minute = per_minute
        self._open: Counter[tuple[Kind, str]] = Counter()
        self._buckets = {reason: Buckets(limit / MINUTE_S, limit) for reason, limit in per_minute.items()}
        self._held: dict[str, tuple[str, str, float]] = {}

    @contextmanager
    def open(self, kind: Kind, swarm: str) -> Iterator[None]:
        """One request that waits for its answer. Raises `Problem` (429) when so many do already."""
        key = kind, swarm
        if self._open[key] >= self._open_requests:
            detail = (
                f"{self._open[key]} requests of this kind ({kind}) wait for their answer in swarm {as_given(swarm)!r}, "
                f"which is the limit (swarm_open_requests); ask again in {RETRY_AFTER_S} s"
            )
            raise self.refused("too_many_open_requests", swarm, detail, RETRY_AFTER_S)
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    def take(self, reason: str, what: str, principal: str | None, swarm: str, count: int = 1) -> None:
        """So many of what is counted by the minute, for one principal or for all. Raises `Problem` (429); 422 when no waiting would do."""
        limit = self._per_minute[reason]
        if count > limit:
            raise Problem(422, f"{count} {what} at once are more than the {limit} a minute there may be; send fewer")
        wait_s = self._buckets[reason].take(f"{principal}\n{swarm}", self._clock(), count)
        if wait_s:
            detail = (
                f"{count} more {what} would be beyond the limit of {limit} a minute{f' for {principal}' if principal else ''} "
                f"in swarm {as_given(swarm)!r}; ask again in {wait_s} s"
            )
            raise self.refused(reason, swarm, detail, wait_s)

    def hold(self, swarm: str, reason: str, detail: str, for_s: int) -> None:
        """Turn away what the governor would refuse for so long."""
        self._held.pop(swarm, None)
        self._held[swarm] = reason, detail, self._clock() + for_s
        if len(self._held) > MAX_HELD:
            del self._held[next(iter(self._held))]

    def assert_not_held(self, swarm: str) -> None:
        """Raises `Problem` (429) while the swarm is held."""
        if (held := self._held.get(swarm)) is None:
            return
        reason, detail, until = held
        left_s = until - self._clock()
        if left_s <= 0:
            del self._held[swarm]
            return
        raise self.refused(reason, swarm, detail, max(1, round(left_s)))

    def refused(self, reason: str, swarm: str, detail: str, retry_after_s: int) -> Problem:
        """The problem to raise; it is counted."""
        self._refusals.note(reason, swarm, None, detail, self._wall())
        return Problem(429, detail, reason=reason, retry_after_s=retry_after_s)
