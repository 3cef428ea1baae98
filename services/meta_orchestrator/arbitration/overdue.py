"""Conflicts that should be ruled by now and are not: what was to rule one ended in the dead letters. Each is a tick of arbitration.

A fold of `CLASSES`, in the order of the log. A tick is named by what raised the conflict, so those of several replicas say the same, and
the boundary of the target lets one take effect.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import msgspec

from services.meta_orchestrator.arbitration import meeting
from services.meta_orchestrator.arbitration.decider import Due
from shared.contracts.envelope import Recorded
from shared.contracts.events import ConflictRaised, ConflictResolved
from shared.contracts.ids import EVERYONE, caused_id, utc_now
from shared.decider import Tick

CLASSES = ("conflict.raised", "conflict.resolved")
KEEP = 2 * meeting.KEEP
"""No more can be open than proposals are at places of theirs, but for grounds; beyond it the oldest are left to what was to rule them."""
LATE = timedelta(seconds=1)
"""So long after its time nobody else is believed to rule."""


class _Open(msgspec.Struct, frozen=True):
    generation: int
    until: datetime
    raised_id: str


class Overdue:
    """`tick` is arbitration's shell's."""

    def __init__(self, tick: Callable[[Tick], Awaitable[object]], clock: Callable[[], datetime] = utc_now) -> None:
        self._tick, self._clock = tick, clock
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._begun = False

    def begin(self) -> None:
        """The past is folded: what is open in it is open now."""
        self._begun = True

    def apply(self, recorded: Recorded) -> None:
        """Take one event in; a raised one of an older generation never comes after a newer."""
        match recorded.event:
            case ConflictRaised() as event:
                self._open[event.target_id] = _Open(event.generation, event.until, recorded.id)
                while len(self._open) > KEEP:
                    self._open.popitem(last=False)
            case ConflictResolved() as event:
                known = self._open.get(event.target_id)
                if known is not None and event.generation >= known.generation:
                    del self._open[event.target_id]
            case _:
                pass

    async def look(self) -> None:
        """Have ruled what is late. Raises `LogUnavailable`."""
        for tick in self.due(self._clock()):
            await self._tick(tick)

    def due(self, now: datetime) -> list[Tick]:
        """A tick for each that is late."""
        return [
            Tick(
                id=caused_id(known.raised_id, "overdue"),
                now=now,
                swarm=EVERYONE,
                facts=Due(target_id=target_id, generation=known.generation),
            )
            for target_id, known in self._open.items()
            if self._begun and known.until + LATE <= now
        ]
