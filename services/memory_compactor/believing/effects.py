"""Looking up what a check is of: the hypothesis, and what both rest on in the end. Reads the log and the policies in force, nothing else.

Raises `LogUnavailable` through to the shell, which retries the delivery.
"""

from __future__ import annotations

import asyncio

import msgspec

from services.memory_compactor.believing.decider import Look, Looked
from services.memory_compactor.believing.grounds import Cited, first, measured, weigh
from services.memory_compactor.believing.merging import Permit, Permitted
from shared.contracts import boundaries
from shared.contracts.events import CheckResult, EvidenceRef, HypothesisRaised, PersonaSpawned
from shared.contracts.ids import EVERYONE
from shared.decider import Effect, Result
from shared.log.port import Log
from shared.policy.reading import Readings
from shared.policy.types import ReadRequest
from shared.runtime.hearing import WhyNot, believed

FIRST_REACH, FURTHER = 4096, 16
"""So many sequences before the check its hypothesis is looked for, and so many times as many the next time."""


class BelievingEffects(msgspec.Struct, frozen=True, kw_only=True):
    """Performs `Look`. What `why_not` objects to was never said."""

    log: Log
    why_not: WhyNot = believed

    async def perform(self, effect: Effect) -> Result:
        if not isinstance(effect, Look):
            raise TypeError(f"who keeps beliefs only looks, it was asked for {type(effect).__name__}")
        check = effect.check.event
        assert isinstance(check, CheckResult)
        shares = effect.born and await self._shares(effect.swarm, effect.persona)
        said = None if effect.born and not shares else await self._hypothesis(effect, check.hypothesis_id)
        if said is None:
            return Looked()
        cited = await self._cited(first((*said.evidence, *check.evidence)))
        cited += await self._cited(measured(cited, effect.swarm))
        grounds, tainted = weigh(cited, effect.swarm, effect.persona)
        return Looked(shares=shares, hypothesis=said, grounds=grounds, tainted=tainted)

    async def _shares(self, swarm: str, persona: str) -> bool:
        """As it was born; nobody is born twice, but anything may be stored there."""
        born = await self.log.read((f"persona.spawned.{swarm}.{persona}",))
        return bool(born) and isinstance(event := born[0].event, PersonaSpawned) and event.policy.share_memory

    async def _hypothesis(self, effect: Look, hypothesis_id: str) -> HypothesisRaised | None:
        """Most were raised a moment before; only for an old one the log is read further back."""
        subjects = (boundaries.said("hypothesis.raised", effect.swarm, effect.persona),)
        upto, reach = effect.check.seq - 1, FIRST_REACH
        while upto > 0:
            after = max(0, upto - reach)
            for recorded in await self.log.read(subjects, after, upto=upto):
                event = recorded.event
                if not isinstance(event, HypothesisRaised) or event.hypothesis_id != hypothesis_id:
                    continue
                if await self.why_not(recorded) is None:
                    return event
            upto, reach = after, reach * FURTHER
        return None

    async def _cited(self, refs: tuple[EvidenceRef, ...]) -> list[Cited]:
        found = await asyncio.gather(*(self.log.get(ref.seq) for ref in refs))
        return list(zip(refs, found, strict=True))


class MergingEffects(msgspec.Struct, frozen=True, kw_only=True):
    """Performs `Permit`. Raises `LogUnavailable` while the policies in force cannot be asked."""

    readings: Readings

    async def perform(self, effect: Effect) -> Result:
        if not isinstance(effect, Permit):
            raise TypeError(f"who merges beliefs only asks, it was asked for {type(effect).__name__}")
        asked = ReadRequest(action="memory.merge", swarm=effect.swarm, namespace="mesh", owner_swarm=EVERYONE)
        return Permitted(allow=(await self.readings.current()).may(asked, counted=False))
