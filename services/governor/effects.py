"""What the governor looks up for its ticks: which swarms and personas live, and when each last made useful progress."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from services.governor.decider import LastThoughts
from services.governor.ledger import Spent
from shared.contracts.boundaries import SHARES, said
from shared.contracts.catalog import class_filter
from shared.contracts.events import (
    CognitionStarted,
    Credits,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    ThoughtGenerated,
    ThoughtSealed,
)
from shared.contracts.ids import EVERYONE, utc_now
from shared.log.port import Log
from shared.runtime.hearing import WhyNot, believed

MAX_AUDITED = 20_000
"""Thoughts of one swarm looked at in one turn; the rest is for the next."""
MAX_COUNT = 2**53
PERSONAS = tuple(
    class_filter(name) for name in ("persona.spawned", "persona.draining", "persona.reaped", "thought.sealed")
)
WATCHED = timedelta(minutes=15)
"""So long after its seal a persona's thoughts are looked at: a runner that stood still wakes within, or its step is refused."""


class Ended(msgspec.Struct):
    """A reaped persona: when its thoughts were sealed last, and where; never: 0."""

    at: datetime
    sealed_seq: int = 0


class Roster:
    """The live personas of every swarm, caught up from the log each time it is asked.

    While the mesh was down, suspended or without its log nobody could make progress. So idleness counts anew from when this
    governor began to look, and from each time it could not look for longer than `pause_s`. What `why_not` objects to counts not.
    """

    def __init__(
        self, log: Log, why_not: WhyNot = believed, *, pause_s: float = 60.0, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._log = log
        self._why_not = why_not
        self._clock = clock
        self._pause = timedelta(seconds=pause_s)
        self._awake_since = self._looked_at = clock()
        self._position = 0
        self.shares_seq = 0
        self._snapshot_at = clock()
        self._thought_at: dict[str, int] = {}
        self._audited: dict[str, int] = {}
        self.live: dict[str, set[str]] = {}
        self._ended: dict[str, dict[str, Ended]] = {}

    async def refresh(self) -> None:
        """Take in what happened since, all that lies before the last share. Raises `LogUnavailable`."""
        (self.shares_seq,) = await self._log.ends((SHARES,))
        for recorded in await self._log.read(PERSONAS, self._position):
            event = recorded.event
            personas = self.live.setdefault(event.swarm, set())
            match event:
                case PersonaSpawned():
                    personas.add(event.persona)
                case PersonaDraining() | PersonaReaped():
                    personas.discard(event.persona)
                    if isinstance(event, PersonaReaped) and event.snapshot_id is not None:
                        self._snapshot_at = max(self._snapshot_at, recorded.stored_at)
                    if isinstance(event, PersonaReaped):
                        ended = self._ended.setdefault(event.swarm, {})
                        ended[event.persona] = Ended(recorded.stored_at)
                case ThoughtSealed():
                    self._ended.setdefault(event.swarm, {})[event.persona] = Ended(recorded.stored_at, recorded.seq)
                case _:
                    pass
            self._position = recorded.seq

    async def last_thoughts(self, swarm: str) -> LastThoughts:
        """The facts of one swarm's tick."""
        subjects = [said("thought.generated", swarm, persona) for persona in sorted(self.live.get(swarm, ()))]
        last = [r for r in await self._log.last(subjects) if await self._why_not(r) is None]
        self._thought_at[swarm] = max((r.seq for r in last), default=0)
        useful_at = {r.event.persona: r.event.useful_at for r in last if isinstance(r.event, ThoughtGenerated)}
        running_since = await self._running_since()
        snapshot_at = max(self._snapshot_at, self._awake_since)
        return LastThoughts(
            useful_at=useful_at,
            running_since=running_since,
            snapshot_at=snapshot_at,
            zombies=await self._zombies(swarm),
        )

    async def _zombies(self, swarm: str) -> tuple[str, ...]:
        """Reaped personas whose thoughts do not end with a seal; those sealed long ago are looked at no more."""
        now = self._clock()
        ended = self._ended.get(swarm, {})
        for name in [n for n, e in ended.items() if e.sealed_seq and now - e.at > WATCHED]:
            del ended[name]
        last = await self._log.last([said("thought.generated", swarm, name) for name in ended]) if ended else []
        late = {r.event.persona for r in last if r.seq > ended[r.event.persona].sealed_seq}
        return tuple(name for name, e in ended.items() if name in late or not e.sealed_seq)

    async def spent(self, swarm: str) -> tuple[Spent, ...]:
        """What the swarm's thoughts cost since the last time; nothing the first time, for what ended long ago is forgotten.

        To be asked after `last_thoughts`, which tells whether there is anything to read.
        """
        newest = self._thought_at.get(swarm, 0)
        after = self._audited.setdefault(swarm, newest)
        if newest <= after:
            return ()
        records = await self._log.read((class_filter("thought.generated", swarm),), after, limit=MAX_AUDITED)
        self._audited[swarm] = records[-1].seq if records else newest
        counted = [r for r in records if await self._why_not(r) is None]
        found = ((r.seq, r.event) for r in counted if isinstance(r.event, ThoughtGenerated))
        return tuple(
            Spent(
                persona=event.persona,
                grant_id=event.grant_id,
                credits=Credits(tokens=min(event.usage.tokens, MAX_COUNT), compute_ms=event.usage.compute_ms),
                seq=seq,
            )
            for seq, event in found
            if event.usage.tokens or event.usage.compute_ms
        )

    async def _running_since(self) -> datetime | None:
        told = await self._log.last([f"cognition.*.{EVERYONE}.{EVERYONE}"])
        now = self._clock()
        if now - self._looked_at > self._pause:
            self._awake_since = now
        self._looked_at = now
        if not told or not isinstance(told[-1].event, CognitionStarted):
            return None
        return max(told[-1].stored_at, self._awake_since)
