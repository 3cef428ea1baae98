"""A proposal's life: from the intention to its outcome."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.contracts.action import Action
from shared.contracts.capabilities import MAX_SCOPES, DailyLimit, Reach
from shared.contracts.events.common import MAX_REFS, Count, EvidenceRef, Lines, ProposalEvent, Reason, Risk, Short, Word
from shared.contracts.ids import CORE, EventId, Instant, Sha256, Slot, Token
from shared.contracts.persona import Name, Tags
from shared.contracts.row import Row

MAX_OUTPUT = 8000
"""Characters of what a target answered that an outcome tells; its receipt has the size and digest of all that was read."""


MAX_LIMITS = 4 * MAX_SCOPES
"""That one action counts against."""


class ProposalCreated(ProposalEvent, frozen=True, kw_only=True, tag="proposal.created"):
    """An intention. `digest` is `action_digest` over swarm, persona, charter and action. `assignment`: as of a thought."""

    title: Annotated[str, Meta(min_length=1, max_length=72)]
    rationale: Annotated[str, Meta(min_length=1, max_length=900)]
    action: Action
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()
    hypothesis_id: Token | None = None
    charter: Sha256
    digest: Sha256
    deadline: Instant
    assignment: EventId | None = None
    slot: Slot = CORE


class ProposalFiled(ProposalCreated, frozen=True, kw_only=True, tag="proposal.filed"):
    """A person's or program's proposal, `principal`'s, in the name of a persona within whose bounds it stays. Only a gateway may say it,
    so it needs neither evidence nor a slot: whose words it is made of is known."""

    principal: Name

    @property
    def proposal(self) -> ProposalCreated:
        """What was filed, as any other proposal."""
        return ProposalCreated(**{name: getattr(self, name) for name in ProposalCreated.__struct_fields__})


class ProposalVerified(ProposalEvent, frozen=True, kw_only=True, tag="proposal.verified"):
    """Passed. `risk` comes from the action, never from the persona; `tainted` when anything that the persona was told, cited or
    not, came from outside: `outside` says what, first and among the cited, and `labels` in single words of what kind that is.

    `scope`: where the action stands to the persona's capabilities. `cost_microusd`: its price, by the operator's list. `limits`: what it
    counts against, of the persona's and of those above it. `filed_by`: the person who filed it, who is on its side. `row`: what the
    operator's row says of the action, where its kind has rows. `proposal` is what was verified, created at `proposed_seq`: who comes
    after the verifier need not ask what runners said.
    """

    digest: Sha256
    risk: Risk
    findings: Lines = ()
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()
    tainted: bool = True
    outside: Lines = ()
    labels: Tags = ()
    scope: Reach = "unstated"
    cost_microusd: Count = 0
    limits: Annotated[tuple[DailyLimit, ...], Meta(max_length=MAX_LIMITS)] = ()
    proposal: ProposalCreated | None = None
    proposed_seq: Count = 0
    filed_by: Annotated[str, Meta(max_length=120)] = ""
    row: Row | None = None


class ProposalRejected(ProposalEvent, frozen=True, kw_only=True, tag="proposal.rejected"):
    """Refused, with the stage that refused it and why."""

    stage: Literal["verify", "policy", "approval", "arbitration"]
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
    """People must decide. Bound to digest and policy version; `quorum` different principals must grant.
    `outside`: what came from outsiders of what it rests on, in their words."""

    digest: Sha256
    risk: Risk
    policy_version: Word
    policy_ids: Annotated[tuple[Word, ...], Meta(max_length=256)] = ()
    quorum: Annotated[int, Meta(ge=1, le=16)] = 1
    expires_at: Instant
    summary: Annotated[str, Meta(max_length=1000)]
    outside: Lines = ()


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
    """It may be done, but not now.

    `action_limit`: `scope` (persona, an ancestor's id, swarm) has no action left before `until`. `target_held`: the action of `scope`
    holds its target, and it waits until `until` at most.
    """

    reason: Reason
    scope: Short
    until: Instant


class ActionClaimed(ProposalEvent, frozen=True, kw_only=True, tag="action.claimed"):
    """The actuator's exclusive, recorded intent; its event id is the idempotency key of the effect.

    `lot_id` names the lot of actions it is taken from. `hold` is the token of the target it holds, said in one batch.
    """

    digest: Sha256
    actuator: Annotated[str, Meta(max_length=120)]
    timeout_ms: Count
    lot_id: EventId | None = None
    hold: Token | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What the target said or shows: a path or URL, a content hash, a status code, sizes in bytes."""

    target: Annotated[str, Meta(max_length=1024)]
    sha256: Sha256 | None = None
    size_bytes: Count = 0
    status: Count | None = None


class ActionExecuted(ProposalEvent, frozen=True, kw_only=True, tag="action.executed"):
    """The outcome. `unknown` means nobody can tell whether it happened, and a person decides; it is never retried.

    `output` is what the target answered, in its own words: an outsider's, made harmless to look at, and no evidence of anything.
    """

    digest: Sha256
    outcome: Literal["success", "failure", "unknown"]
    summary: Annotated[str, Meta(max_length=1000)]
    error: Reason | None = None
    claim_id: EventId | None = None
    receipt: Receipt | None = None
    duration_ms: Count = 0
    output: Annotated[str, Meta(max_length=MAX_OUTPUT)] = ""
