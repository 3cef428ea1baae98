"""What the API answers: exactly these fields, nullable ones as null, times in UTC.

Here are the shapes of part A of the HTTP contract; ours are in `lives`, `work` and `mesh`. The structs are the schema: OpenAPI is
generated from them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shared.contracts.action import Scalar
from shared.contracts.events import Risk
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


class Proposal(View, frozen=True, kw_only=True, omit_defaults=True):
    """`risk` is the verifier's; before its verdict it is `medium`, because unassessed is not low.
    `vote_deadline` is the approval's expiry, or the proposal's deadline while no approval was asked for. `filed_by`: the person who
    filed it in the persona's name; left out when the persona proposed it itself."""

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
    filed_by: str | None = None


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
