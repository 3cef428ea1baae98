"""Every event class of the mesh, as one tagged union.

The tag is the class name and the first two tokens of the subject: `ProposalCreated` is `proposal.created` on the bus.
Fields are only ever added, with defaults; a new meaning is a new class. Times are UTC; sizes are characters.
This file is long because it is the one table of the vocabulary.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.contracts.action import Action
from shared.contracts.ids import CORE, EventId, Instant, LifeId, Sha256, Slot, Token
from shared.contracts.persona import Identity, Name, PersonaPolicy, Tags, Text

Phase = Literal["observe", "reflect", "test", "compress"]
Risk = Literal["low", "medium", "high", "critical"]
Reason = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}$", description="a reason code")]
Short = Annotated[str, Meta(max_length=300)]
Lines = Annotated[tuple[Short, ...], Meta(max_length=64)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Position = Annotated[int, Meta(ge=1, le=2**53, description="a stream sequence")]
Window = Annotated[int, Meta(ge=0, le=120_000_000)]
"""A minute since 1970, up to the year 2198."""
Ratio = Annotated[float, Meta(ge=0.0, le=1.0)]
Score = Annotated[float, Meta(ge=-1e9, le=1e9)]
Word = Annotated[str, Meta(max_length=200)]
MAX_REFS = 1024
"""Events one event may cite. What is said is bounded much lower where it is said; no list in an event is longer."""


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What every event says: whose it is. What runners may say also has a `slot`, the last token of its subject: who said it."""

    swarm: Token
    persona: Token


class ProposalEvent(Event, frozen=True, kw_only=True):
    """An event in one proposal's life; the proposal's id is the fifth token of its subject."""

    proposal_id: LifeId


class EvidenceRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Points at one event in the log: by stream sequence, checked against its id."""

    id: EventId
    seq: Position


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one thought cost."""

    tokens_in: Count = 0
    tokens_out: Count = 0
    compute_ms: Count = 0
    cost_microusd: Count = 0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


# -- perception and thought ------------------------------------------------------------------------------------------


class ObservationRecorded(Event, frozen=True, kw_only=True, tag="observation.recorded"):
    """What personas perceive; `persona` is `all` when it is for the whole swarm. `observed_at` is the source's own time."""

    text: Annotated[str, Meta(min_length=1, max_length=8192)]
    source: Annotated[str, Meta(max_length=200)] = "api"
    tags: Tags = ()
    observed_at: Instant | None = None
    tainted: bool = True
    principal: Short = ""


class ThoughtGenerated(Event, frozen=True, kw_only=True, tag="thought.generated"):
    """One step of the loop. `step` counts from 1 without gaps; `observed_seq` is the last stream sequence perceived.

    `context_ids` name what the thought was made from, so its context can be rebuilt. `digest` is SHA-256 of the text
    with case and spacing folded. `useful_at` is when the persona last made useful progress (this thought or earlier).
    """

    step: Annotated[int, Meta(ge=1, le=2**53)]
    cycle: Count
    phase: Phase
    text: Annotated[str, Meta(max_length=8000)]
    status: Literal["ok", "model_error", "empty"] = "ok"
    thinker: Annotated[str, Meta(max_length=120)]
    context_ids: Annotated[tuple[EventId, ...], Meta(max_length=MAX_REFS)] = ()
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()
    observed_seq: Count = 0
    usage: Usage = Usage()
    novelty: Ratio = 0.0
    digest: Sha256
    progress: bool = False
    useful_at: Instant
    next_in_ms: Count = 0
    grant_id: EventId | None = None
    runner: Annotated[str, Meta(max_length=120)] = ""
    notice: Short = ""
    final: bool = False
    slot: Slot = CORE


class HypothesisRaised(Event, frozen=True, kw_only=True, tag="hypothesis.raised"):
    """A claim with its evidence; `topic` is a stable key, so the same claim is raised once."""

    hypothesis_id: Token
    topic: Short
    claim: Annotated[str, Meta(min_length=1, max_length=2000)]
    confidence: Ratio
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)]
    slot: Slot = CORE


class LogCount(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="log.count"):
    """Count observations whose text matches `template` (words, `<*>` for any word) between two stream sequences.

    Confirmed when the count lies within [at_least, at_most].
    """

    template: Annotated[str, Meta(min_length=1, max_length=2000)]
    source: Annotated[str, Meta(max_length=200)] | None = None
    first_seq: Position
    last_seq: Position
    at_least: Count = 0
    at_most: Count | None = None


class LogResolve(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="log.resolve"):
    """Whether every cited event is in the log under the id it is cited by."""

    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)]


class MemoryRecall(msgspec.Struct, frozen=True, kw_only=True, tag_field="probe", tag="memory.recall"):
    """Whether the persona's own memory holds something at least this close to the query."""

    query: Annotated[str, Meta(min_length=1, max_length=2000)]
    min_score: Ratio = 0.5


Probe = LogCount | LogResolve | MemoryRecall


class CheckRequested(Event, frozen=True, kw_only=True, tag="check.requested"):
    """What would confirm or refute a hypothesis: a read-only probe."""

    check_id: LifeId
    hypothesis_id: Token
    probe: Probe
    slot: Slot = CORE


class CheckResult(Event, frozen=True, kw_only=True, tag="check.result"):
    """What the probe found. `measured` is the count or score, times 1 for counts and times 1000 for scores.

    `tainted` when all it rests on is the word of outsiders: counting their lines makes them no truer.
    """

    check_id: LifeId
    hypothesis_id: Token
    outcome: Literal["confirmed", "refuted", "inconclusive"]
    findings: Annotated[str, Meta(max_length=2000)]
    measured: Count = 0
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()
    tainted: bool = True


# -- a proposal's life -----------------------------------------------------------------------------------------------


class ProposalCreated(ProposalEvent, frozen=True, kw_only=True, tag="proposal.created"):
    """An intention. `digest` is `action_digest` over swarm, persona, charter and action."""

    title: Annotated[str, Meta(min_length=1, max_length=72)]
    rationale: Annotated[str, Meta(min_length=1, max_length=900)]
    action: Action
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()
    hypothesis_id: Token | None = None
    charter: Sha256
    digest: Sha256
    deadline: Instant
    slot: Slot = CORE


class ProposalVerified(ProposalEvent, frozen=True, kw_only=True, tag="proposal.verified"):
    """Passed. `risk` comes from the action, never from the persona; `tainted` when all evidence came from outside.

    `proposal` is what was verified, created at `proposed_seq`: who comes after the verifier need not ask what runners said.
    """

    digest: Sha256
    risk: Risk
    findings: Lines = ()
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()
    tainted: bool = True
    proposal: ProposalCreated | None = None
    proposed_seq: Count = 0


class ProposalRejected(ProposalEvent, frozen=True, kw_only=True, tag="proposal.rejected"):
    """Refused, with the stage that refused it and why."""

    stage: Literal["verify", "policy", "approval"]
    reasons: Annotated[tuple[Reason, ...], Meta(min_length=1, max_length=64)]
    detail: Annotated[str, Meta(max_length=2000)] = ""
    digest: Sha256
    policy_ids: Annotated[tuple[Word, ...], Meta(max_length=256)] = ()
    policy_version: Word = ""


class ProposalAuthorized(ProposalEvent, frozen=True, kw_only=True, tag="proposal.authorized"):
    """Permission to act once, before `expires_at`. `signature` is `shared.crypto.sign_verdict` over all of it, Base64."""

    digest: Sha256
    risk: Risk
    policy_ids: Annotated[tuple[Word, ...], Meta(max_length=256)]
    policy_version: Word
    conditions: Lines = ()
    approvals: Annotated[tuple[EventId, ...], Meta(max_length=MAX_REFS)] = ()
    expires_at: Instant
    key: Annotated[str, Meta(max_length=200, description="public nkey of the signer")]
    signature: Word


class ApprovalRequested(ProposalEvent, frozen=True, kw_only=True, tag="approval.requested"):
    """People must decide. Bound to digest and policy version; `quorum` different principals must grant."""

    digest: Sha256
    risk: Risk
    policy_version: Word
    policy_ids: Annotated[tuple[Word, ...], Meta(max_length=256)] = ()
    quorum: Annotated[int, Meta(ge=1, le=16)] = 1
    expires_at: Instant
    summary: Annotated[str, Meta(max_length=1000)]


class ApprovalGranted(ProposalEvent, frozen=True, kw_only=True, tag="approval.granted"):
    """One person's yes to exactly this digest, in answer to the `approval.requested` of that id."""

    digest: Sha256
    request_id: EventId | None = None
    principal: Name
    reason: Annotated[str, Meta(max_length=1000)] = ""


class ApprovalDenied(ProposalEvent, frozen=True, kw_only=True, tag="approval.denied"):
    """One person's no, in answer to the `approval.requested` of that id; one is enough."""

    digest: Sha256
    request_id: EventId | None = None
    principal: Name
    reason: Annotated[str, Meta(max_length=1000)] = ""


class ActionDelayed(ProposalEvent, frozen=True, kw_only=True, tag="action.delayed"):
    """It may be done, but not this minute: `scope` (persona, an ancestor's id, swarm) has no action left before `until`."""

    reason: Reason
    scope: Short
    until: Instant


class ActionClaimed(ProposalEvent, frozen=True, kw_only=True, tag="action.claimed"):
    """The actuator's exclusive, recorded intent; its event id is the idempotency key of the effect.

    `lot_id` names the lot of actions it is taken from.
    """

    digest: Sha256
    actuator: Annotated[str, Meta(max_length=120)]
    timeout_ms: Count
    lot_id: EventId | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What the target said or shows: a path or URL, a content hash, a status code, sizes in bytes."""

    target: Annotated[str, Meta(max_length=1024)]
    sha256: Sha256 | None = None
    size_bytes: Count = 0
    status: Count | None = None


class ActionExecuted(ProposalEvent, frozen=True, kw_only=True, tag="action.executed"):
    """The outcome. `unknown` means nobody can tell whether it happened, and a person decides; it is never retried."""

    digest: Sha256
    outcome: Literal["success", "failure", "unknown"]
    summary: Annotated[str, Meta(max_length=1000)]
    error: Reason | None = None
    claim_id: EventId | None = None
    receipt: Receipt | None = None
    duration_ms: Count = 0


# -- lifecycle -------------------------------------------------------------------------------------------------------


class SpawnRequested(Event, frozen=True, kw_only=True, tag="spawn.requested"):
    """Someone wants a persona; `persona` is the wanted id. `policy` None means the parent's, or the defaults for a root.

    `hibernate`: nobody set the policy's `idle_ttl_secs`; so it is with no policy at all.
    """

    name: Name
    role: Name
    charter: Text
    parent_id: Token | None = None
    policy: PersonaPolicy | None = None
    tags: Tags = ()
    principal: Short = ""
    hibernate: bool = False


class SpawnRefused(Event, frozen=True, kw_only=True, tag="spawn.refused"):
    """No persona, and why. Reasons: reserved_id, duplicate_id, parent_missing, parent_not_live, root_limit, depth_limit,
    branching_limit, lifetime_limit, swarm_limit, no_budget, spawn_rate, too_many_waiting.

    `retry_after_s`: when there may be room again; 0 when waiting brings nothing.
    """

    reason: Reason
    detail: Annotated[str, Meta(max_length=1000)]
    retry_after_s: Count = 0


class PersonaSpawned(Event, frozen=True, kw_only=True, tag="persona.spawned"):
    """A persona lives. `hibernates`: after `idle_ttl_secs` without useful progress it rests until something happens, instead
    of being reaped; a root whose time nobody set."""

    identity: Identity
    policy: PersonaPolicy
    principal: Short = ""
    hibernates: bool = False


class ReapRequested(Event, frozen=True, kw_only=True, tag="reap.requested"):
    """Someone wants a persona to end; without `cascade`, its live descendants drain a little later, as orphans."""

    cascade: bool = False
    reason: Short = "manual_reap"
    principal: Short = ""


class PersonaDraining(Event, frozen=True, kw_only=True, tag="persona.draining"):
    """First phase of reaping: finish the step, think no further, leave a final snapshot before `deadline`."""

    reason: Short
    deadline: Instant
    principal: Short = ""


class PersonaReaped(Event, frozen=True, kw_only=True, tag="persona.reaped"):
    """Second phase: gone. `snapshot_id` names the final snapshot."""

    reason: Short
    snapshot_id: EventId | None = None


class ThoughtSealed(Event, frozen=True, kw_only=True, tag="thought.sealed"):
    """The end of a persona's history, in one commit with `persona.reaped`: a step that was begun before is refused after it.

    What claims to be a thought of this persona and comes later counts for nobody. `reason`: reaped; zombie when a reaped
    persona's history had no seal, or was gone on with, and the governor found it.
    """

    reason: Reason = "reaped"
    slot: Slot = CORE


class SnapshotCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot holds."""

    thoughts: Count = 0
    kept: Count = 0
    merged: Count = 0
    pinned: Count = 0
    edges: Count = 0


class SnapshotCompressed(Event, frozen=True, kw_only=True, tag="snapshot.compressed"):
    """A distilled state of mind in cold storage; with the log after `seq` it gives the same state, byte for byte."""

    snapshot_id: EventId
    key: Annotated[str, Meta(max_length=1024, description="S3 key")]
    sha256: Sha256
    seq: Count
    summary: Annotated[str, Meta(max_length=4000)]
    counts: SnapshotCounts
    ratio: Annotated[float, Meta(ge=0.0, le=1e9)] = 1.0
    size_bytes: Count = 0
    final: bool = False
    metadata: Annotated[dict[Annotated[str, Meta(max_length=64)], Word], Meta(max_length=64)] = {}


class SnapshotDelayed(Event, frozen=True, kw_only=True, tag="snapshot.delayed"):
    """The final snapshot of a draining persona cannot be written now; it is tried again until it is. Said once a draining.

    Reasons: cold_unavailable, index_unavailable, embedder_unavailable.
    """

    reason: Reason
    detail: Annotated[str, Meta(max_length=1000)] = ""


# -- credits ---------------------------------------------------------------------------------------------------------


class Credits(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of models, milliseconds of compute, actions on the world."""

    tokens: Count = 0
    compute_ms: Count = 0
    actions: Count = 0


class GrantRequested(Event, frozen=True, kw_only=True, tag="grant.requested"):
    """A runner asks for credits ahead of need; `closing` settles the grant it is done with at what it really used."""

    need: Credits
    closing: EventId | None = None
    used: Credits = Credits()
    slot: Slot = CORE


class BudgetGranted(Event, frozen=True, kw_only=True, tag="budget.granted"):
    """Credits to spend until `expires_at`, debited in `window` (minutes since 1970) from the persona and all its ancestors."""

    grant_id: EventId
    window: Window
    credits: Credits
    expires_at: Instant


class BudgetSettled(Event, frozen=True, kw_only=True, tag="budget.settled"):
    """What a grant cost in the end; `in_full` when it expired unclosed and so counts as spent."""

    grant_id: EventId
    window: Window
    credits: Credits
    in_full: bool = False


class BudgetExhausted(Event, frozen=True, kw_only=True, tag="budget.exhausted"):
    """No: `scope` (persona, an ancestor's id, swarm, or not_live) has too little of `resource` left before `retry_at`.

    With a `need` the persona stands in line for it and is granted it as soon as there is room; it asks again at `retry_at` if not.
    """

    scope: Short
    resource: Literal["tokens", "compute_ms", "actions"]
    retry_at: Instant
    need: Credits = Credits()


class BudgetRefused(Event, frozen=True, kw_only=True, tag="budget.refused"):
    """Spending or a closing that rests on no grant of the persona's: no_grant, unknown_grant or anothers_grant.

    `credits` were spent all the same and are charged in `window` like a grant's; a closing changes nothing. `upto` is the
    sequence of the persona's last thought looked at.
    """

    reason: Reason
    grant_id: EventId | None = None
    window: Window
    credits: Credits = Credits()
    upto: Count = 0


class PlacementChanged(Event, frozen=True, kw_only=True, tag="placement.changed"):
    """Which runners there are from now on; of `shards` shards each is held by one of them (`shared/placement.py`)."""

    slots: Annotated[tuple[Slot, ...], Meta(max_length=MAX_REFS)]
    shards: Annotated[int, Meta(ge=1, le=65_536)]


class LotShare(msgspec.Struct, frozen=True, kw_only=True):
    """Actions of one persona; where there are none, `scope` (persona, an ancestor's id, swarm) says whose limit it is."""

    persona: Token
    actions: Count
    scope: Short = ""


Shares = Annotated[tuple[LotShare, ...], Meta(max_length=256)]


class LotRequested(Event, frozen=True, kw_only=True, tag="lot.requested"):
    """An actuator, named as `persona`, wants to do so many actions of these personas."""

    wants: Shares


class LotGranted(Event, frozen=True, kw_only=True, tag="lot.granted"):
    """Actions that the actuator may do until `expires_at`, debited in `window` from each persona, all above it and the swarm.

    `held` is what was wanted beyond them, and whose limit was in the way. A lot is debited as a whole, done or not.
    """

    lot_id: EventId
    window: Window
    shares: Shares = ()
    held: Shares = ()
    expires_at: Instant


# -- control, recall -------------------------------------------------------------------------------------------------


class CognitionStarted(Event, frozen=True, kw_only=True, tag="cognition.started"):
    """The loop runs, no step of one persona sooner than `loop_interval_ms` after its last."""

    loop_interval_ms: Annotated[int, Meta(ge=100, le=86_400_000)] = 2000
    principal: Short = ""


class CognitionStopped(Event, frozen=True, kw_only=True, tag="cognition.stopped"):
    """The loop stands; nothing is lost."""

    reason: Short = ""
    principal: Short = ""


class PolicyActivated(Event, frozen=True, kw_only=True, tag="policy.activated"):
    """From here on the bundle of this digest decides. Of the whole mesh: swarm and persona are `all`.

    The bundle itself is in the bucket `policies` under its digest. `mode` shadow decides nothing. `revokes`: what was authorised under
    earlier bundles is void, else it is good to its expiry. `gate` is the instance whose folder it came from.
    """

    digest: Sha256
    mode: Literal["active", "shadow"] = "active"
    revokes: bool = False
    gate: Word = ""


class LostAction(msgspec.Struct, frozen=True, kw_only=True):
    """An action that was claimed, and perhaps done, in a part of the log that is gone. `known`: its proposal is still there."""

    swarm: Token
    persona: Token
    proposal_id: Token
    digest: Sha256
    claimed_at: Instant
    known: bool = False


class MeshHalted(Event, frozen=True, kw_only=True, tag="mesh.halted"):
    """No action is authorised or executed any more; what waits goes on waiting. Of the whole mesh: swarm and persona are `all`.

    With cause `log_went_back` the sequence of this event begins a new epoch: authorisations and approvals before it are void.
    `reached` is the last sequence somebody had seen before; `lost` are at most 64 of `lost_total` actions.
    """

    cause: Literal["person", "log_went_back"]
    reason: Annotated[str, Meta(max_length=1000)] = ""
    principal: Short = ""
    reached: Count = 0
    lost: Annotated[tuple[LostAction, ...], Meta(max_length=64)] = ()
    lost_total: Count = 0


class MeshResumed(Event, frozen=True, kw_only=True, tag="mesh.resumed"):
    """Actions go on; a person said so, knowing what is void and what is unknown."""

    reason: Annotated[str, Meta(max_length=1000)] = ""
    principal: Short = ""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """One recalled memory with its provenance; `score` is for ranking only."""

    id: EventId
    seq: Count
    kind: Short
    text: Annotated[str, Meta(max_length=8192)]
    at: Instant
    score: Score
    semantic: Score
    recency: Score
    importance: Score
    persona: Token
    tainted: bool = False


class RecallRequested(Event, frozen=True, kw_only=True, tag="recall.requested"):
    """A question to the memory of `persona`."""

    query: Annotated[str, Meta(min_length=1, max_length=2000)]
    limit: Annotated[int, Meta(ge=1, le=100)] = 8
    principal: Short = ""
    slot: Slot = CORE


class RecallAnswered(Event, frozen=True, kw_only=True, tag="recall.answered"):
    """The answer to the request named by the causation id."""

    memories: Annotated[tuple[Memory, ...], Meta(max_length=100)] = ()
    seq: Count = 0


# -- shared beliefs and many swarms ----------------------------------------------------------------------------------


class BeliefAsserted(Event, frozen=True, kw_only=True, tag="belief.asserted"):
    """A claim offered to others under a stable key."""

    belief_id: Token
    belief_key: Short
    claim: Annotated[str, Meta(min_length=1, max_length=2000)]
    confidence: Ratio
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()
    review_after: Instant


class BeliefContested(Event, frozen=True, kw_only=True, tag="belief.contested"):
    """Someone has evidence against it."""

    belief_id: Token
    claim: Annotated[str, Meta(max_length=2000)]
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()


class BeliefRevised(Event, frozen=True, kw_only=True, tag="belief.revised"):
    """It now stands like this."""

    belief_id: Token
    confidence: Ratio
    status: Literal["active", "stale", "invalidated", "archived"]
    reason: Annotated[str, Meta(max_length=1000)] = ""


class IntentRouted(Event, frozen=True, kw_only=True, tag="intent.routed"):
    """An intent goes to the swarm that can serve it."""

    intent_id: Token
    to_swarm: Token
    reason: Annotated[str, Meta(max_length=1000)] = ""


class ConflictRaised(Event, frozen=True, kw_only=True, tag="conflict.raised"):
    """Proposals touch the same target."""

    conflict_id: Token
    target: Annotated[str, Meta(max_length=1024)]
    proposals: Annotated[tuple[Token, ...], Meta(max_length=MAX_REFS)]


class ConflictResolved(Event, frozen=True, kw_only=True, tag="conflict.resolved"):
    """How the conflict ended."""

    conflict_id: Token
    resolution: Literal["combine", "merge", "order", "vote", "person"]
    kept: Annotated[tuple[Token, ...], Meta(max_length=MAX_REFS)] = ()
    reason: Annotated[str, Meta(max_length=1000)] = ""


class AllocationChanged(Event, frozen=True, kw_only=True, tag="allocation.changed"):
    """A swarm's share of the global budget, per minute."""

    credits: Credits
    reason: Annotated[str, Meta(max_length=1000)] = ""


AnyEvent = (
    ObservationRecorded
    | ThoughtGenerated
    | HypothesisRaised
    | CheckRequested
    | CheckResult
    | ProposalCreated
    | ProposalVerified
    | ProposalRejected
    | ProposalAuthorized
    | ApprovalRequested
    | ApprovalGranted
    | ApprovalDenied
    | ActionDelayed
    | ActionClaimed
    | ActionExecuted
    | SpawnRequested
    | SpawnRefused
    | PersonaSpawned
    | ReapRequested
    | PersonaDraining
    | PersonaReaped
    | ThoughtSealed
    | SnapshotCompressed
    | SnapshotDelayed
    | GrantRequested
    | BudgetGranted
    | BudgetSettled
    | BudgetExhausted
    | BudgetRefused
    | PlacementChanged
    | LotRequested
    | LotGranted
    | CognitionStarted
    | CognitionStopped
    | PolicyActivated
    | MeshHalted
    | MeshResumed
    | RecallRequested
    | RecallAnswered
    | BeliefAsserted
    | BeliefContested
    | BeliefRevised
    | IntentRouted
    | ConflictRaised
    | ConflictResolved
    | AllocationChanged
)
