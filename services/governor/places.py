"""Who runs: leases into the governors' word, `placement.changed`.

A runner that is gone is replaced at once; where nobody is left its shards stay its own, so that one that comes back goes on
where it was. Who comes waits until the last change is `SETTLED_S` old: a runner that comes and goes must not move personas all
the time, nor fill the log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from shared.contracts.envelope import Message, enveloped
from shared.contracts.events import PlacementChanged
from shared.contracts.ids import EVERYONE, fresh_id, slot_of, utc_now
from shared.log.port import DuplicateEvent, Expect, KeyValue, Log, StaleBoundary
from shared.placement import LEASES, PLACEMENT, Placements

SETTLED_S = 5.0
SOURCE = "governor"


def placed(before: tuple[str, ...] | None, alive: Collection[str], age_s: float) -> tuple[str, ...]:
    """The slots there are from now on, sorted. `before`: those of the last word, `age_s` old; None when there was none."""
    kept = {slot for slot in before or () if slot in alive}
    if not alive and before is not None:
        return before
    if kept and age_s < SETTLED_S:
        return tuple(sorted(kept))
    return tuple(sorted(alive))


class Places:
    """Looks at the leases, and says what has changed. Any number of governors may: one word is stored."""

    def __init__(self, log: Log, leases: KeyValue, *, shards: int, clock: Callable[[], datetime] = utc_now) -> None:
        self._log, self._leases, self._shards, self._clock = log, leases, shards, clock

    async def look(self) -> None:
        """Raises `LogUnavailable`."""
        alive = {slot_of(entry.key) for entry in await self._leases.entries(LEASES + ">")}
        (end,) = await self._log.ends((PLACEMENT,))
        last = Placements(await self._log.last((PLACEMENT,))).current
        age_s = 0.0 if last is None else (self._clock() - last.at).total_seconds()
        slots = placed(None if last is None else last.slots, alive, age_s)
        if last is not None and (last.slots, last.shards) == (slots, self._shards):
            return
        event_id = fresh_id()
        envelope = enveloped(event_id, source=SOURCE, time=self._clock())
        event = PlacementChanged(swarm=EVERYONE, persona=EVERYONE, slots=slots, shards=self._shards)
        try:
            await self._log.commit([Message(event=event, envelope=envelope)], [Expect(PLACEMENT, end)])
        except (StaleBoundary, DuplicateEvent):
            return  # another governor was faster, and the next look tells
