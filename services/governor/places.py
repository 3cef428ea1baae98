"""Who runs: leases into the governors' word, `placement.changed`.

A runner that is gone is replaced at once; where nobody is left its shards stay its own, so that one that comes back goes on
where it was. Who comes waits until the last change is `SETTLED_S` old: a runner that comes and goes must not move personas all
the time, nor fill the log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime

from shared.contracts.envelope import Message, enveloped
from shared.contracts.events import PlacementChanged
from shared.contracts.ids import EVERYONE, fresh_id, slot_of, utc_now
from shared.log.port import DuplicateEvent, Expect, KeyValue, Log, StaleBoundary
from shared.placement import LEASES, PLACEMENT, Placements, boundary_of

SETTLED_S = 5.0
NAMED = 5
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
    """Looks at the leases, and says what has changed. Any number of governors may: one word is stored.

    `groups`: the slots of those that serve some swarms only, by these; a swarm of a group whose runners never came is its own all
    the same, and waits for them. All other runners serve all other swarms.
    """

    def __init__(
        self,
        log: Log,
        leases: KeyValue,
        *,
        shards: int,
        groups: Mapping[tuple[str, ...], frozenset[str]] | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._log, self._leases, self._shards, self._clock = log, leases, shards, clock
        self._groups = dict(groups or {})
        self._said = Placements()

    async def look(self) -> None:
        """Raises `LogUnavailable`."""
        alive = {slot_of(entry.key) for entry in await self._leases.entries(LEASES + ">")}
        said = self._said = Placements(await self._log.last((PLACEMENT,)))
        bound = frozenset[str]().union(*self._groups.values())
        await self._say(said, (EVERYONE,), alive - bound)
        for swarms, slots in self._groups.items():
            await self._say(said, swarms, alive & slots, to_come=slots)
        served = frozenset(swarm for swarms in self._groups for swarm in swarms)
        for swarm in sorted(said.apart - served):
            await self._commit({swarm: ()})

    def unserved(self, swarms: Iterable[str]) -> str | None:
        """Whom of these nobody thinks for, by the last look; None when somebody does for each."""
        common = self._said.current()
        if common is None or common.slots:
            return None
        alone = sorted(set(swarms) - self._said.apart)
        if not alone:
            return None
        more = f" and {len(alone) - NAMED} more" if len(alone) > NAMED else ""
        return f"no runner serves {', '.join(alone[:NAMED])}{more}: nobody thinks there; start one for all, or one with --serve"

    async def _say(
        self, said: Placements, swarms: tuple[str, ...], alive: Collection[str], *, to_come: Collection[str] = ()
    ) -> None:
        """One word for all these swarms, which the same runners serve, if it is another than the last."""
        last = said.current(swarms[0])
        before = last.slots if last is not None and (last.slots or swarms == (EVERYONE,)) else None
        age_s = 0.0 if last is None else (self._clock() - last.at).total_seconds()
        slots = placed(before, alive, age_s) or tuple(sorted(to_come))
        known = (said.current(swarm) for swarm in swarms)
        if any(word is None or (word.slots, word.shards) != (slots, self._shards) for word in known):
            await self._commit(dict.fromkeys(swarms, slots))

    async def _commit(self, words: Mapping[str, tuple[str, ...]]) -> None:
        """All of them or none: what is said of one group is said at once."""
        boundaries = [boundary_of(swarm) for swarm in words]
        ends = await self._log.ends(boundaries)
        messages = [
            Message(
                event=PlacementChanged(swarm=swarm, persona=EVERYONE, slots=slots, shards=self._shards),
                envelope=enveloped(fresh_id(), source=SOURCE, time=self._clock()),
            )
            for swarm, slots in words.items()
        ]
        try:
            await self._log.commit(messages, [Expect(b, end) for b, end in zip(boundaries, ends, strict=True)])
        except (StaleBoundary, DuplicateEvent):
            return  # another governor was faster, and the next look tells
