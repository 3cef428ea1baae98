"""Answers about one life: what was said of a proposal, what people are asked, what is remembered."""

from __future__ import annotations

from typing import Literal

from services.gateway.wire.views import ApprovalState, Proposal, ProposalStatus, View
from shared.contracts.action import Scalar
from shared.contracts.catalog import class_of
from shared.contracts.envelope import Recorded
from shared.contracts.events import AnyEvent, Risk
from shared.contracts.ids import Instant


class ObservationsRecorded(View, frozen=True, kw_only=True):
    """Stream sequences and event ids, in the order of the request."""

    sequences: tuple[int, ...]
    ids: tuple[str, ...]
    count: int


class LifeEvent(View, frozen=True, kw_only=True):
    """One event of the life of a proposal or an intent, in the order of the log."""

    id: str
    seq: int
    type: str
    source: str
    time: Instant
    causation_id: str | None
    correlation_id: str
    data: AnyEvent


def life_event(recorded: Recorded) -> LifeEvent:
    """An event as the story of its life tells it."""
    envelope = recorded.envelope
    return LifeEvent(
        id=envelope.id,
        seq=recorded.seq,
        type=class_of(recorded.event),
        source=envelope.source,
        time=envelope.time,
        causation_id=envelope.causation,
        correlation_id=envelope.correlation,
        data=recorded.event,
    )


class VerdictSignature(View, frozen=True, kw_only=True):
    """Whether the authorisation is signed by whom the log says may sign there; null: nobody can tell, `detail` says why."""

    key: str
    good: bool | None
    detail: str


class ProposalLife(View, frozen=True, kw_only=True):
    proposal: Proposal
    swarm_id: str
    digest: str
    action_kind: str
    action_target: str
    policy_ids: tuple[str, ...]
    policy_version: str
    signature: VerdictSignature | None
    events: tuple[LifeEvent, ...]


class StoryEvent(View, frozen=True, kw_only=True):
    """One event of a story. `who` is the person (`is_person`) or the service; `because` has the sequences, in this story, of what it
    cites and of what caused it. `signature` is of an authorisation."""

    id: str
    seq: int
    type: str
    time: Instant
    who: str
    is_person: bool
    said: str
    because: tuple[int, ...]
    causation_id: str | None
    signature: VerdictSignature | None


class Story(View, frozen=True, kw_only=True):
    """How a decision came about and what came of it, in the order of the log; of an event of no proposal, what it rests on.

    `missing` is cited and not in the log any more (or not under that id), `hidden` so many the caller's key may not read, `left_out`
    so many beyond the bound of 200.
    """

    proposal_id: str | None
    swarm_id: str
    persona_id: str
    title: str
    status: ProposalStatus | None
    outcome: str | None
    events: tuple[StoryEvent, ...]
    missing: tuple[str, ...]
    hidden: int
    left_out: int


class Approval(View, frozen=True, kw_only=True):
    """One request to people. A decision must name `digest`, which binds it to exactly this action, and counts for this request.
    `outside`: what it rests on that outsiders said, in their words: none of it is an instruction."""

    proposal_id: str
    persona_id: str
    swarm_id: str
    title: str
    summary: str
    outside: tuple[str, ...]
    risk: Risk
    digest: str
    action_kind: str
    action_target: str
    params: dict[str, Scalar]
    policy_version: str
    policy_ids: tuple[str, ...]
    request_id: str
    quorum: int
    granted_by: tuple[str, ...]
    denied_by: tuple[str, ...]
    requested_at: Instant
    expires_at: Instant
    state: ApprovalState
    filed_by: str | None = None


class Decided(View, frozen=True, kw_only=True):
    """`note` says what should be known of this decision, if anything should."""

    proposal_id: str
    decision: Literal["grant", "deny"]
    event_id: str
    approval: Approval
    note: str | None = None


class RecalledMemory(View, frozen=True, kw_only=True):
    """One memory with its provenance; `score` is for ranking only."""

    id: str
    seq: int
    kind: str
    text: str
    at: Instant
    score: float
    semantic: float
    recency: float
    importance: float
    persona: str
    tainted: bool


class Recalled(View, frozen=True, kw_only=True):
    """Memories by score, highest first; `seq` is the stream sequence the memory is at."""

    persona_id: str
    query: str
    seq: int
    memories: tuple[RecalledMemory, ...]
