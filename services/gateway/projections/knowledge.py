"""Fold of beliefs, open hypotheses and what needs attention. Pure and bounded; clocks come in as arguments."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from services.gateway.projections.proposals import Life, attention_id
from services.gateway.wire.ids import as_given
from services.gateway.wire.views import AttentionItem, AttentionSource, Belief
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionExecuted,
    BeliefAsserted,
    BeliefContested,
    BeliefRevised,
    CheckResult,
    HypothesisRaised,
    ProposalRejected,
)
from shared.contracts.text import plain

KEEP = 1000
PRIORITY: dict[AttentionSource, float] = {
    "failed_execution": 0.9,
    "contested_belief": 0.7,
    "proposal_timeout": 0.6,
    "failed_check": 0.4,
    "stale_belief": 0.3,
}
LATE = ("deadline", "expired", "timeout", "timed_out")
"""A rejection for a reason with one of these words in it is a proposal nobody decided in time."""


def by_confidence(belief: Belief) -> tuple[float, str]:
    """Its place among beliefs."""
    return (-belief.confidence, belief.id)


def by_urgency(item: AttentionItem) -> tuple[bool, float, float, str]:
    """Its place in the queue."""
    return (item.resolved_at is not None, -item.priority, -item.created_at.timestamp(), item.id)


class Beliefs:
    """By id; the least recently changed goes when there are too many."""

    def __init__(self) -> None:
        self.by_id: dict[str, Belief] = {}

    def select(
        self,
        status: str | None = None,
        persona: str | None = None,
        after: tuple[float, str] | None = None,
    ) -> list[Belief]:
        """By confidence, highest first; those behind the place `after`. `status` is a part of the word."""
        found = (b for b in self.by_id.values() if (status or "") in b.status and persona in (None, b.asserted_by))
        return sorted((b for b in found if after is None or by_confidence(b) > after), key=by_confidence)

    def apply(self, recorded: Recorded) -> None:
        event, at = recorded.event, recorded.envelope.time
        if not isinstance(event, BeliefAsserted | BeliefContested | BeliefRevised):
            return
        known = self.by_id.pop(event.belief_id, None)
        if isinstance(event, BeliefAsserted):
            self.by_id[event.belief_id] = _asserted(known, event, at)
        elif known is not None:
            self.by_id[event.belief_id] = _changed(known, event, at)
        while len(self.by_id) > KEEP:
            del self.by_id[next(iter(self.by_id))]


class Attention:
    """Open and resolved items, and the hypotheses still open, newest last."""

    def __init__(self) -> None:
        self.items: dict[str, AttentionItem] = {}
        self.open_hypotheses: dict[str, HypothesisRaised] = {}

    def queue(
        self, lives: Iterable[Life], now: datetime, after: tuple[bool, float, float, str] | None = None
    ) -> list[AttentionItem]:
        """Open items first, then by priority, then newest, behind the place `after`; a proposal past its deadline without an
        end is one too."""
        late = [_late(life) for life in lives if not life.done and life.deadline < now]
        found = [*self.items.values(), *late]
        return sorted((i for i in found if after is None or by_urgency(i) > after), key=by_urgency)

    def uncertainties(self, limit: int) -> tuple[str, ...]:
        """Open hypotheses, least sure first."""
        ranked = sorted(self.open_hypotheses.values(), key=lambda h: (h.confidence, h.hypothesis_id))
        return tuple(h.hypothesis_id for h in ranked[:limit])

    def apply(self, recorded: Recorded) -> None:
        event, at = recorded.event, recorded.envelope.time
        match event:
            case HypothesisRaised():
                self.open_hypotheses[event.hypothesis_id] = event
                _bound(self.open_hypotheses)
            case CheckResult():
                self._checked(recorded, event)
            case ActionExecuted() if event.outcome != "success":
                self._raise(recorded, "failed_execution", event.proposal_id, event.summary, event.persona)
            case ProposalRejected() if any(word in reason for reason in event.reasons for word in LATE):
                self._raise(recorded, "proposal_timeout", event.proposal_id, ", ".join(event.reasons), event.persona)
            case BeliefContested():
                self._raise(recorded, "contested_belief", event.belief_id, event.claim, event.persona)
            case BeliefRevised():
                self._resolve(("contested_belief", "stale_belief"), event.belief_id, at)
                if event.status == "stale":
                    self._raise(recorded, "stale_belief", event.belief_id, event.reason, event.persona)
            case _:
                pass

    def _checked(self, recorded: Recorded, event: CheckResult) -> None:
        known = self.open_hypotheses.get(event.hypothesis_id)
        if event.outcome != "inconclusive":
            self.open_hypotheses.pop(event.hypothesis_id, None)
        if event.outcome == "confirmed":
            self._resolve(("failed_check",), event.hypothesis_id, recorded.envelope.time)
            return
        topic = event.findings if known is None else known.topic
        self._raise(recorded, "failed_check", event.hypothesis_id, topic, event.persona)

    def _raise(self, recorded: Recorded, source: AttentionSource, source_id: str, topic: str, persona: str) -> None:
        item = AttentionItem(
            id=attention_id(recorded.id),
            topic=plain(topic) or source,
            topic_tags=(as_given(source_id),),
            priority=PRIORITY[source],
            source_type=source,
            source_id=as_given(source_id),
            assigned_persona=as_given(persona),
            created_at=recorded.envelope.time,
            resolved_at=None,
        )
        self.items[item.id] = item
        _bound(self.items)

    def _resolve(self, sources: tuple[AttentionSource, ...], source_id: str, at: datetime) -> None:
        for item in list(self.items.values()):
            if item.source_id == source_id and item.source_type in sources and item.resolved_at is None:
                self.items[item.id] = msgspec.structs.replace(item, resolved_at=at)


def _bound(items: dict[str, AttentionItem] | dict[str, HypothesisRaised]) -> None:
    while len(items) > KEEP:
        del items[next(iter(items))]


def _late(life: Life) -> AttentionItem:
    return AttentionItem(
        id=attention_id(life.events[0].id),
        topic=life.created.title,
        topic_tags=(as_given(life.created.proposal_id),),
        priority=PRIORITY["proposal_timeout"],
        source_type="proposal_timeout",
        source_id=as_given(life.created.proposal_id),
        assigned_persona=as_given(life.created.persona),
        created_at=life.deadline,
        resolved_at=None,
    )


def _asserted(known: Belief | None, event: BeliefAsserted, at: datetime) -> Belief:
    refs = tuple(e.id for e in event.evidence)
    if known is None:
        return Belief(
            id=event.belief_id,
            belief_key=event.belief_key,
            claim=event.claim,
            confidence=event.confidence,
            evidence_refs=refs,
            asserted_by=as_given(event.persona),
            confirmed_by=(),
            contested_by=(),
            contradicts=(),
            created_at=at,
            updated_at=at,
            review_after=event.review_after,
            status="active",
        )
    confirmed = known.confirmed_by
    says = as_given(event.persona)
    if says != known.asserted_by:
        confirmed = _with(confirmed, says)
    return msgspec.structs.replace(
        known,
        claim=event.claim if says == known.asserted_by else known.claim,
        confidence=event.confidence,
        evidence_refs=tuple(dict.fromkeys((*known.evidence_refs, *refs))),
        confirmed_by=confirmed,
        updated_at=at,
        review_after=event.review_after,
        status="active",
    )


def _changed(known: Belief, event: BeliefContested | BeliefRevised, at: datetime) -> Belief:
    if isinstance(event, BeliefContested):
        return msgspec.structs.replace(
            known, contested_by=_with(known.contested_by, as_given(event.persona)), updated_at=at
        )
    return msgspec.structs.replace(known, confidence=event.confidence, status=event.status, updated_at=at)


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return names if name in names else (*names, name)
