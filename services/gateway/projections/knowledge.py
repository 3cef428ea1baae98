"""Fold of open hypotheses and what needs attention. Pure and bounded; clocks come in as arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from services.gateway.projections.beliefs import OVER
from services.gateway.projections.proposals import Life, attention_id
from services.gateway.wire.ids import as_given
from services.gateway.wire.views import AttentionItem, AttentionSource
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionExecuted,
    BeliefConfirmed,
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


def by_urgency(item: AttentionItem) -> tuple[bool, float, float, str]:
    """Its place in the queue."""
    return (item.resolved_at is not None, -item.priority, -item.created_at.timestamp(), item.id)


class Asked(msgspec.Struct, frozen=True):
    """An item, and whose blackboard it is on."""

    item: AttentionItem
    swarm: str


def any_swarm(item: AttentionItem, swarm: str) -> bool:
    """For who may see it all."""
    return True


class Attention:
    """Open and resolved items, and the hypotheses still open, newest last."""

    def __init__(self) -> None:
        self.items: dict[str, Asked] = {}
        self.open_hypotheses: dict[str, HypothesisRaised] = {}

    def queue(
        self,
        lives: Iterable[Life],
        now: datetime,
        after: tuple[bool, float, float, str] | None = None,
        *,
        swarm: str | None = None,
        sees: Callable[[AttentionItem, str], bool] = any_swarm,
    ) -> list[AttentionItem]:
        """Open items first, then by priority, then newest, behind the place `after`; a proposal past its deadline without an
        end is one too. Only those of a `swarm`, and those that `sees` says may be seen."""
        late = [Asked(_late(life), life.created.swarm) for life in lives if not life.done and life.deadline < now]
        found = (a for a in (*self.items.values(), *late) if swarm in (None, a.swarm) and sees(a.item, a.swarm))
        return sorted((a.item for a in found if after is None or by_urgency(a.item) > after), key=by_urgency)

    def opened_by(self, event_id: str) -> AttentionItem | None:
        """The item an event opened, if it did, and as far as it is kept."""
        asked = self.items.get(attention_id(event_id))
        return None if asked is None else asked.item

    def uncertainties(self, limit: int, swarm: str | None = None) -> tuple[str, ...]:
        """Open hypotheses, least sure first."""
        found = (h for h in self.open_hypotheses.values() if swarm in (None, h.swarm))
        ranked = sorted(found, key=lambda h: (h.confidence, h.hypothesis_id))
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
            case BeliefConfirmed():
                self._resolve(("stale_belief",), event.belief_id, at)
            case BeliefRevised():
                over = event.status in OVER
                self._resolve(("stale_belief",), event.belief_id, at)
                if over or event.settled:
                    self._resolve(("contested_belief",), event.belief_id, at)
                if event.status == "stale" and not event.settled:
                    self._raise(recorded, "stale_belief", event.belief_id, event.reason, event.persona)
            case _:
                pass

    def _checked(self, recorded: Recorded, event: CheckResult) -> None:
        if event.beside:
            return
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
        self.items[item.id] = Asked(item, recorded.event.swarm)
        _bound(self.items)

    def _resolve(self, sources: tuple[AttentionSource, ...], source_id: str, at: datetime) -> None:
        for asked in list(self.items.values()):
            item = asked.item
            if item.source_id == source_id and item.source_type in sources and item.resolved_at is None:
                self.items[item.id] = Asked(msgspec.structs.replace(item, resolved_at=at), asked.swarm)


def _bound(items: dict[str, Asked] | dict[str, HypothesisRaised]) -> None:
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
