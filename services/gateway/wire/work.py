"""Answers about work for swarms: intents, and proposals that cannot all be done."""

from __future__ import annotations

from typing import Literal

from services.gateway.wire.lives import LifeEvent
from services.gateway.wire.views import View
from shared.contracts.events import Credits, Resolution, Risk, Strategy
from shared.contracts.ids import Instant

IntentState = Literal["submitted", "assigned", "delayed", "answered", "failed", "cancelled"]


class IntentRoute(View, frozen=True, kw_only=True):
    """A persona that has it until `until`, with its part of the budget."""

    swarm_id: str
    persona_id: str
    route: int
    until: Instant
    budget: Credits


class IntentCandidate(View, frozen=True, kw_only=True):
    """A persona that was considered, with its scores in 0…1; `total` is what they were ordered by."""

    swarm_id: str
    persona_id: str
    capability: float
    memory: float
    load: float
    success: float
    price: float
    total: float
    note: str


class IntentContribution(View, frozen=True, kw_only=True):
    """One answer; `event_id` is that of the persona's own event."""

    swarm_id: str
    persona_id: str
    event_id: str
    confidence: float
    choice: str
    text: str


class IntentView(View, frozen=True, kw_only=True):
    """Work for somebody: who has it and why, and what came of it.

    `left` is of its budget; `considered` the best candidates of the last route with their scores; `reasons` why routes ended without an
    answer; `late` counts answers that came too late. `reason` and `detail` say why it is as it is.
    """

    id: str
    swarm_id: str
    state: IntentState
    goal: str
    tags: tuple[str, ...]
    priority: int
    deadline: Instant
    budget: Credits
    left: Credits
    fan_out: int
    merge: str
    options: tuple[str, ...]
    parent_id: str | None
    children: tuple[str, ...]
    principal: str
    submitted_at: Instant
    updated_at: Instant
    routes: int
    assigned: tuple[IntentRoute, ...]
    why: str
    considered: tuple[IntentCandidate, ...]
    answers: int
    result: str
    choice: str
    confidence: float
    evidence_refs: tuple[str, ...]
    contributors: tuple[IntentContribution, ...]
    dissent: tuple[IntentContribution, ...]
    late: int
    reason: str
    detail: str
    reasons: tuple[str, ...]
    tainted: bool


class IntentLife(View, frozen=True, kw_only=True):
    """One intent and what was said of it, in the order of the log; `truncated` when that was more than is shown."""

    intent: IntentView
    events: tuple[LifeEvent, ...]
    truncated: bool


Place = Literal["waits", "kept", "lost", "ended"]


class ConflictSide(View, frozen=True, kw_only=True):
    """A proposal in a conflict, and what it is ordered by: lower risk, less depth, more evidence that counts. Equal `effect`: the same
    is wanted. `place`: it goes on, has lost, or had ended before the ruling."""

    proposal_id: str
    persona_id: str
    swarm_id: str
    title: str
    risk: Risk
    depth: int
    evidence: int
    effect: str
    deadline: Instant
    place: Place


class ConflictView(View, frozen=True, kw_only=True):
    """Proposals for one target, or of which one rests on what contradicts another's grounds. At `until` it is ruled without people."""

    id: str
    state: Literal["open", "resolved"]
    what: Literal["target", "grounds"]
    target: str
    strategy: Strategy
    raised_at: Instant | None
    until: Instant | None
    resolved_at: Instant | None
    resolution: Resolution | None
    reason: str
    ruled_by: str | None
    sides: tuple[ConflictSide, ...]


class UnknownAction(View, frozen=True, kw_only=True):
    """An action of which nobody could tell whether it happened. `holds`: others wait for its target until a person has said it."""

    proposal_id: str
    persona_id: str
    swarm_id: str
    title: str
    action_kind: str
    action_target: str
    holds: bool
    outcome: Literal["success", "failure", "unknown"]
    summary: str
    at: Instant
    resolved_by: str | None
    reason: str
