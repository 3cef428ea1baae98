"""What arbitration looks up: who is where a proposal is, and what the log says of them.

Raises `LogUnavailable` through to the shell, which retries.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from services.meta_orchestrator.arbitration.decider import Gather, Gathered, Look, Looked, Met, Rules
from services.meta_orchestrator.arbitration.lives import Standing, standing
from services.meta_orchestrator.arbitration.meeting import Meeting, Place
from services.meta_orchestrator.following import Following
from shared import conflicts
from shared.conflicts import Conflict
from shared.contracts import boundaries
from shared.contracts.action import action_digest
from shared.contracts.action_kinds import touched
from shared.contracts.envelope import Recorded
from shared.contracts.events import EvidenceRef, PersonaSpawned, ProposalKey, Side
from shared.contracts.ids import utc_now
from shared.contracts.text import plain
from shared.decider import Effect, Result
from shared.evidence import is_independent
from shared.log.port import Log

COUNTED, LOOKED_UP = 3, 8
"""More evidence than so much does not weigh more, of so many events that are looked up: who cites a thousand has not more reason."""
UNKNOWN_DEPTH = 1000
KEPT = 1024


class ArbitrationEffects:
    """Performs arbitration's effects. `meeting` is fed by `following`."""

    def __init__(
        self, log: Log, following: Following, meeting: Meeting, rules: Rules, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._log, self._following, self._meeting, self._rules, self._clock = log, following, meeting, rules, clock
        self._conflicts: OrderedDict[str, tuple[int, Conflict]] = OrderedDict()

    async def perform(self, effect: Effect) -> Result:
        match effect:
            case Look():
                return await self.look(effect)
            case Gather(sides=sides):
                return Gathered(standings=tuple(await asyncio.gather(*map(self._standing, sides))))
            case _:
                raise TypeError(f"arbitration has no effect {type(effect).__name__}")

    async def look(self, effect: Look) -> Looked:
        """Nothing is asked of the log unless somebody else is there."""
        await self._following.reached(effect.seq)
        verified, now = effect.verified, self._clock()
        key = ProposalKey(swarm=verified.swarm, persona=verified.persona, proposal_id=verified.proposal_id)
        mine: Standing | None = None
        places = self._meeting.places(verified)
        for number, place in enumerate(places, start=1):
            others = self._meeting.others(place, key, now)
            if not others:
                continue
            mine = mine or await self._standing(key)
            if not mine.open:
                break
            if place.target_id in mine.targets or place.target_id in effect.past:
                continue
            met = await self._met(place, mine, others)
            if met is not None:
                losses = self._meeting.losses(key.swarm, key.persona, now, effect.seq)
                return Looked(met=met, more=number < len(places), losses=losses, rules=self._rules)
        return Looked(rules=self._rules)

    async def _met(self, place: Place, mine: Standing, others: Iterable[ProposalKey]) -> Met | None:
        """Who of them is open now; None when nobody is."""
        found = [one for one in await asyncio.gather(*map(self._standing, others)) if one.open]
        if not found:
            return None
        seq, conflict = await self._conflict(place.target_id)
        there = (mine, *found)
        depths = await self._depths(there)
        stances = (place.stance, *[_opposite(place.stance)] * len(found))
        sides = await asyncio.gather(
            *(self._side(one, depth, stance) for one, depth, stance in zip(there, depths, stances, strict=True))
        )
        return Met(
            target_id=place.target_id,
            what="grounds" if place.stance else "target",
            target=place.name,
            conflict=conflict,
            seq=seq,
            mine=sides[0],
            sides=tuple(sides[1:]),
            standings=there,
        )

    async def _standing(self, key: ProposalKey) -> Standing:
        life = boundaries.life(key.swarm, key.persona, key.proposal_id)
        return standing(key, await self._log.stored((life,)))

    async def _conflict(self, target_id: str) -> tuple[int, Conflict]:
        """The newest conflict over the target, and the last sequence that was said of it."""
        seq, state = self._conflicts.get(target_id, (0, Conflict()))
        for message in await self._log.stored((boundaries.conflict(target_id),), seq):
            if message.seq > seq:
                seq = message.seq
                state = conflicts.evolve(state, message) if isinstance(message, Recorded) else state
        self._conflicts[target_id] = (seq, state)
        self._conflicts.move_to_end(target_id)
        while len(self._conflicts) > KEPT:
            self._conflicts.popitem(last=False)
        return seq, state

    async def _depths(self, standings: Iterable[Standing]) -> list[int]:
        """How far below a root each one's persona stands."""
        subjects = [f"persona.spawned.{one.key.swarm}.{one.key.persona}" for one in standings]
        spawned = {r.subject: r.event for r in await self._log.last(tuple(dict.fromkeys(subjects)))}
        events = [spawned.get(subject) for subject in subjects]
        return [event.identity.depth if isinstance(event, PersonaSpawned) else UNKNOWN_DEPTH for event in events]

    async def _side(self, one: Standing, depth: int, stance: str) -> Side:
        """What it is ordered by."""
        verified = one.verified
        assert verified is not None and verified.proposal is not None  # it is open, and was met by what it touches
        created = verified.proposal
        found = touched(created.action, verified.swarm, verified.persona, verified.row)
        assert found is not None
        plainly = msgspec.structs.replace(created.action, target=found.exact)
        return Side(
            swarm=verified.swarm,
            persona=verified.persona,
            proposal_id=verified.proposal_id,
            seq=one.verified_seq,
            exact=hashlib.sha256((stance or found.exact).encode()).hexdigest(),
            effect=action_digest(swarm="", persona="", charter="", action=plainly),
            risk=verified.risk,
            depth=depth,
            evidence=await self._weight(verified.evidence),
            deadline=created.deadline,
            title=plain(created.title, 72),
        )

    async def _weight(self, evidence: tuple[EvidenceRef, ...]) -> int:
        """How much of it is more than somebody's word, up to `COUNTED`."""
        refs = evidence[:LOOKED_UP]
        found = await asyncio.gather(*(self._log.get(ref.seq) for ref in refs))
        counts = (
            isinstance(there, Recorded) and there.id == ref.id and is_independent(there.event)
            for ref, there in zip(refs, found, strict=True)
        )
        return min(COUNTED, sum(counts))


def _opposite(stance: str) -> str:
    return {"for": "against", "against": "for"}.get(stance, stance)
