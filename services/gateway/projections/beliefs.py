"""Fold of the blackboards: every belief with its swarm, who holds it, what speaks against it. Pure and bounded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from services.gateway.wire.ids import as_given
from services.gateway.wire.views import Belief
from shared.contracts.envelope import Recorded
from shared.contracts.events import BeliefAsserted, BeliefConfirmed, BeliefContested, BeliefEvent, BeliefRevised
from shared.contracts.events.beliefs import MAX_CONTRADICTIONS

KEEP = 10_000
MAX_NAMES = 64
MAX_REFS = 256
OVER = ("invalidated", "archived")


class Held(msgspec.Struct, kw_only=True):
    """One belief as it is shown, and what its view has no field for: whose blackboard it is on, and its interval."""

    belief: Belief
    swarm: str
    tainted: bool
    valid_from: datetime
    valid_to: datetime | None = None


def by_confidence(belief: Belief) -> tuple[float, str]:
    """Its place among beliefs."""
    return (-belief.confidence, belief.id)


class Beliefs:
    """By id; when there are too many, what is over goes first, then the least recently changed."""

    def __init__(self) -> None:
        self.by_id: dict[str, Held] = {}

    def select(
        self,
        status: str | None = None,
        persona: str | None = None,
        after: tuple[float, str] | None = None,
        swarm: str | None = None,
        *,
        board: Callable[[str], bool] = lambda swarm: True,
    ) -> list[Belief]:
        """By confidence, highest first; those behind the place `after`, on boards that may be seen. `status` is a part of the word."""
        seen: dict[str, bool] = {}
        found = (
            held.belief
            for held in self.by_id.values()
            if (status or "") in held.belief.status
            and persona in (None, held.belief.asserted_by)
            and swarm in (None, held.swarm)
            and (seen[held.swarm] if held.swarm in seen else seen.setdefault(held.swarm, board(held.swarm)))
        )
        return sorted((b for b in found if after is None or by_confidence(b) > after), key=by_confidence)

    def apply(self, recorded: Recorded) -> None:
        event, at = recorded.event, recorded.envelope.time
        if not isinstance(event, BeliefEvent):
            return
        held = self.by_id.pop(event.belief_id, None)
        if isinstance(event, BeliefAsserted):
            if held is None or held.belief.status in OVER:
                held = _asserted(event, at)
        elif held is None or held.swarm != event.swarm:
            if held is not None:
                self.by_id[event.belief_id] = held
            return
        else:
            held.belief = _changed(held.belief, event, at)
            held.tainted = held.tainted or event.tainted
            if isinstance(event, BeliefRevised):
                held.valid_to = event.valid_to
                if event.status in OVER:
                    self._over(event.belief_id, at)
        self.by_id[event.belief_id] = held
        while len(self.by_id) > KEEP:
            del self.by_id[next((i for i, h in self.by_id.items() if h.belief.status in OVER), next(iter(self.by_id)))]

    def _over(self, belief_id: str, at: datetime) -> None:
        """It contradicts nothing any more."""
        for held in self.by_id.values():
            if belief_id in held.belief.contradicts:
                left = tuple(i for i in held.belief.contradicts if i != belief_id)
                held.belief = msgspec.structs.replace(held.belief, contradicts=left, updated_at=at)


def _asserted(event: BeliefAsserted, at: datetime) -> Held:
    belief = Belief(
        id=event.belief_id,
        belief_key=event.belief_key,
        claim=event.claim,
        confidence=event.confidence,
        evidence_refs=tuple(e.id for e in event.evidence)[:MAX_REFS],
        asserted_by=as_given(event.by),
        confirmed_by=(),
        contested_by=(),
        contradicts=event.contradicts,
        created_at=at,
        updated_at=at,
        review_after=event.review_after,
        status="active",
    )
    return Held(belief=belief, swarm=event.swarm, tainted=event.tainted, valid_from=event.valid_from)


def _changed(known: Belief, event: BeliefEvent, at: datetime) -> Belief:
    refs = tuple(dict.fromkeys((*known.evidence_refs, *(e.id for e in event.evidence))))[:MAX_REFS]
    match event:
        case BeliefConfirmed():
            return msgspec.structs.replace(
                known,
                confidence=event.confidence,
                evidence_refs=refs,
                confirmed_by=_with(known.confirmed_by, as_given(event.by), MAX_NAMES),
                updated_at=at,
                review_after=event.review_after,
                status="active",
            )
        case BeliefContested():
            contradicts = known.contradicts
            for other in event.contradicts:
                contradicts = _with(contradicts, other, MAX_CONTRADICTIONS)
            return msgspec.structs.replace(
                known,
                confidence=event.confidence,
                contested_by=_with(known.contested_by, as_given(event.by), MAX_NAMES),
                contradicts=contradicts,
                updated_at=at,
            )
        case BeliefRevised():
            return msgspec.structs.replace(
                known,
                confidence=event.confidence,
                status=event.status,
                evidence_refs=refs,
                contradicts=() if event.status in OVER else known.contradicts,
                updated_at=at,
                review_after=event.review_after or known.review_after,
            )
        case _:
            return known


def _with(names: tuple[str, ...], name: str, most: int) -> tuple[str, ...]:
    return names if name in names or len(names) >= most else (*names, name)
