"""What the API answers: exactly these fields, nullable ones as null, times in UTC.

Part A of the HTTP contract first, then ours. The structs are the schema: OpenAPI is generated from them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shared.contracts.action import Scalar
from shared.contracts.events import AnyEvent, Credits, Most, Resolution, Risk, Strategy
from shared.contracts.ids import Instant
from shared.contracts.persona import PersonaPolicy

PersonaStatus = Literal["active", "idle", "draining", "reaped", "error"]
ProposalStatus = Literal["created", "verified", "rejected", "executed"]
Vote = Literal["approve", "reject", "veto", "abstain"]
BeliefStatus = Literal["active", "stale", "invalidated", "archived"]
ApprovalState = Literal["pending", "granted", "denied", "expired"]
AttentionSource = Literal["contested_belief", "failed_check", "stale_belief", "proposal_timeout", "failed_execution"]

Anything = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]
"""An encoded JSON object."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every answer."""


class CognitionStatus(View, frozen=True, kw_only=True):
    """`persona_count` counts personas that are not reaped; `started_at` is the last start; `events_buffered` and
    `snapshots_buffered` are how many audit entries and latest snapshots this gateway holds in memory."""

    enabled: bool
    running: bool
    loop_interval_ms: int
    started_at: Instant | None
    last_tick_at: Instant | None
    persona_count: int
    active_persona_count: int
    events_buffered: int
    snapshots_buffered: int


class QuotaView(View, frozen=True, kw_only=True):
    """One quota: its limit, how often it was refused for, and what was refused last. `reason` is what a refusal says; `refused`
    counts what is in the log, and what this gateway turned away since it started."""

    reason: str
    what: str
    per: str
    by: str
    setting: str | None
    limit: float | None
    refused: int
    last_at: Instant | None
    last_swarm_id: str | None
    last_persona_id: str | None
    last_detail: str | None


class PersonaIdentity(View, frozen=True, kw_only=True):
    """Ids as they were given; everything here stays for the persona's whole life."""

    id: str
    name: str
    role: str
    charter: str
    swarm_id: str
    parent_id: str | None
    depth: int
    created_at: Instant
    tags: tuple[str, ...]


class PersonaRuntimeState(View, frozen=True, kw_only=True):
    """One persona. The window is the current minute of the wall clock."""

    identity: PersonaIdentity
    policy: PersonaPolicy
    status: PersonaStatus
    thought_count: int
    last_tick_at: Instant | None
    updated_at: Instant
    tokens_this_window: int
    compute_ms_this_window: int
    window_started_at: Instant
    last_progress_at: Instant
    budget_paused: bool


class ReapResult(View, frozen=True, kw_only=True, omit_defaults=True):
    """The personas that drain now because of this request; each is gone once its final snapshot is stored.

    `remaining` is there when a cascade goes on: so many descendants do not drain yet; `look_at` shows what becomes of them.
    """

    reaped_ids: tuple[str, ...]
    count: int
    remaining: int = 0
    look_at: str = ""


class LineageNode(View, frozen=True, kw_only=True):
    persona_id: str
    parent_id: str | None
    children: tuple[str, ...]
    depth: int
    status: PersonaStatus


class LineageGraph(View, frozen=True, kw_only=True):
    """Nodes sorted by id, reaped ones included."""

    nodes: tuple[LineageNode, ...]
    roots: tuple[str, ...]
    total_edges: int


class MemorySnapshot(View, frozen=True, kw_only=True):
    """`hot_event_count`: thoughts the snapshot distilled; `warm_fact_count`: memories it kept; `cold_snapshot_count`:
    snapshots of this persona in cold storage, this one included."""

    id: str
    generated_at: Instant
    swarm_id: str
    persona_scope: tuple[str, ...]
    summary: str
    hot_event_count: int
    warm_fact_count: int
    cold_snapshot_count: int
    metadata: dict[str, str | int | float]


class Proposal(View, frozen=True, kw_only=True):
    """`risk` is the verifier's; before its verdict it is `medium`, because unassessed is not low.
    `vote_deadline` is the approval's expiry, or the proposal's deadline while no approval was asked for."""

    id: str
    persona_id: str
    title: str
    rationale: str
    evidence_refs: tuple[str, ...]
    risk: Risk
    status: ProposalStatus
    created_at: Instant
    votes: dict[str, Vote]
    vote_deadline: Instant
    votes_requested: bool
    quorum_needed: int


class Approved(View, frozen=True, kw_only=True):
    approved: bool
    proposal_id: str


class Belief(View, frozen=True, kw_only=True):
    id: str
    belief_key: str
    claim: str
    confidence: float
    evidence_refs: tuple[str, ...]
    asserted_by: str
    confirmed_by: tuple[str, ...]
    contested_by: tuple[str, ...]
    contradicts: tuple[str, ...]
    created_at: Instant
    updated_at: Instant
    review_after: Instant
    status: BeliefStatus


class AttentionItem(View, frozen=True, kw_only=True):
    """`priority` in [0, 1]; `resolved_at` null while it is open."""

    id: str
    topic: str
    topic_tags: tuple[str, ...]
    priority: float
    source_type: AttentionSource
    source_id: str
    assigned_persona: str | None
    created_at: Instant
    resolved_at: Instant | None


class GlobalWorkspace(View, frozen=True, kw_only=True):
    """Ids of beliefs, hypotheses (least sure first) and attention items; objectives are the different
    charters of live roots, 100 at most."""

    top_beliefs: tuple[str, ...]
    top_uncertainties: tuple[str, ...]
    top_attention: tuple[str, ...]
    active_objectives: tuple[str, ...]
    updated_at: Instant | None


class SwarmGovernance(View, frozen=True, kw_only=True):
    """The rules the policy gate goes by.

    Approval takes so many different people, by risk, of those whose key has the scope `approve`; no share of anybody counts
    (`quorum_fraction` 0), and any one of them denies for all. With `four_eyes` nobody approves for a persona they spawned or fed,
    or one above it; whoever is at a mesh without keys is one person, and there it is off. A request ends after `vote_timeout_secs`.
    """

    quorum_fraction: float
    required_approvers_by_role: dict[str, int]
    veto_roles: tuple[str, ...]
    vote_timeout_secs: int
    quorum_by_risk: dict[Risk, int]
    four_eyes: bool
    policy_version: str | None


class ToolInvocation(View, frozen=True, kw_only=True):
    tool_name: str
    arguments: dict[str, Scalar]
    result: str
    success: bool
    lease_id: str
    invoked_at: Instant


class Success(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="success"):
    summary: str


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="failure"):
    """An outcome nobody can tell is a failure whose error begins with `unknown`."""

    error: str
    follow_up_attention: str | None


class DecisionReceipt(View, frozen=True, kw_only=True):
    id: str
    proposal_id: str
    inputs: tuple[str, ...]
    governance_decision: str
    capability_leases: tuple[str, ...]
    tool_invocations: tuple[ToolInvocation, ...]
    outcome: Success | Failure
    created_at: Instant


class AuditEntry(View, frozen=True, kw_only=True):
    """One event as a line of a journal. `category` is the entity of its class, `principal` who caused it where a person did."""

    id: str
    seq: int
    timestamp: Instant
    category: str
    action: str
    principal: str | None
    outcome: Literal["success", "denied", "failure"]
    detail: str
    swarm_id: str
    persona_id: str


class ThoughtEvent(View, frozen=True, kw_only=True):
    """What an event of the stream brings as `data`. `event_type` is the event's class in snake_case, `payload` what it says."""

    id: str
    event_type: str
    persona_id: str | None
    swarm_id: str
    timestamp: Instant
    payload: Anything


# -- Part B ----------------------------------------------------------------------------------------------------------


class ObservationsRecorded(View, frozen=True, kw_only=True):
    """Stream sequences and event ids, in the order of the request."""

    sequences: tuple[int, ...]
    ids: tuple[str, ...]
    count: int


class LifeEvent(View, frozen=True, kw_only=True):
    """One event of a proposal's life, in the order of the log."""

    id: str
    seq: int
    type: str
    source: str
    time: Instant
    causation_id: str | None
    correlation_id: str
    data: AnyEvent


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


class Approval(View, frozen=True, kw_only=True):
    """One request to people. A decision must name `digest`, which binds it to exactly this action, and counts for this request."""

    proposal_id: str
    persona_id: str
    swarm_id: str
    title: str
    summary: str
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


class HeldAction(View, frozen=True, kw_only=True):
    """An action that a halt because the log went back concerns. `in_log`: its proposal is still there, `title` and `target` are of it."""

    proposal_id: str
    persona_id: str
    swarm_id: str
    what: Literal["authorization", "approval", "claim"]
    in_log: bool
    title: str
    target: str
    at: Instant


class HaltState(View, frozen=True, kw_only=True):
    """Whether actions are halted, and what is void or unknown since the log went back; at most 100 of each, and how many in all.

    `seq` is the sequence of the halt in force, `epoch` that from which on authorisations and approvals count.
    """

    halted: bool
    cause: Literal["person", "log_went_back"] | None
    reason: str
    principal: str
    since: Instant | None
    seq: int
    epoch: int
    void: tuple[HeldAction, ...]
    void_total: int
    unknown: tuple[HeldAction, ...]
    unknown_total: int


class SloFigure(View, frozen=True, kw_only=True):
    """A number beside an objective; null where there is nothing to reckon it from. `_s` are seconds."""

    name: str
    value: float | None


class SloWindow(View, frozen=True, kw_only=True):
    """How an objective fares in the hours up to now, whole hours. `value` is of `of` things; `burn` 1 spends exactly what is allowed."""

    window: str
    value: float
    of: float
    burn: float
    met: bool
    figures: tuple[SloFigure, ...]


class SloView(View, frozen=True, kw_only=True):
    """One objective: what is reckoned, the least share or the largest value, how it fares, and what to do when it is missed."""

    id: str
    title: str
    meaning: str
    objective: float
    direction: Literal["at_least", "at_most"]
    runbook: str
    windows: tuple[SloWindow, ...]


class SwarmBudget(View, frozen=True, kw_only=True):
    """What a swarm was granted and what was settled in the newest minute it asked for any; `outstanding` is unsettled, all minutes.

    `share` is what it may spend a minute (null: nothing yet), and `share_reason` why: fresh, allocated, or limited by what a person
    set. `floor`, `ceiling` and `weight` bound what the allocator gives it; `set` is the part of the ceiling that a person set,
    `version` counts what was set. `in_force`: the share is within the ceiling.
    """

    swarm_id: str
    window_started_at: Instant
    granted: Credits
    settled: Credits
    outstanding: Credits
    paused_personas: tuple[str, ...]
    share: Credits | None = None
    share_reason: str = ""
    floor: Credits = Credits()
    ceiling: Credits = Credits()
    set: Most | None = None
    weight: int = 100
    version: int = 0
    set_by: str = ""
    reason: str = ""
    in_force: bool = True


FindingKind = Literal["orphan", "zombie", "stuck_drain", "expired_grant"]


class Finding(View, frozen=True, kw_only=True):
    """Something reconciliation finds, since when and why it is one; or how it was mended, and when."""

    kind: FindingKind
    swarm_id: str
    persona_id: str
    at: Instant
    reason: str


class Reconciliation(View, frozen=True, kw_only=True):
    """What is open now, at most 256 of `open_count`, and what the governor mended last, newest first, at most 64."""

    open: tuple[Finding, ...]
    open_count: int
    mended: tuple[Finding, ...]


class Health(View, frozen=True, kw_only=True):
    """`problems` is what the process is not ready for, by check, and `warnings` what should be known; only readiness looks."""

    status: Literal["ok", "catching_up", "bus_away", "not_ready"]
    position: int
    problems: dict[str, str] = {}
    warnings: dict[str, str] = {}
