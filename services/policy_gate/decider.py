"""One verdict per verified proposal: authorized, rejected, or first a question to people.

Theory of operation. `Evaluate` asks the policies twice: with the approvals there are, and as if people had agreed. Allowed as
things are: sign and authorize. Allowed only with people: `approval.requested`, which comes back as its own durable timer until
someone grants, denies, or it expires. Allowed not even then: rejected, without bothering anyone.

    verified ── allowed ────────────────────────────────→ authorized
        ├────── needs people → approval.requested ─ quorum of grants, evaluated again → authorized
        │                            ├─ one denial, or expiry ───────────────────────→ rejected (approval)
        └────── not even with people ────────────────────────────────────────────────→ rejected (policy)

In a conflict with another (`conflict.joined` in its life) it is neither authorised nor are people asked; `conflict.settled` wakes the
gate: who has lost is rejected, naming the winner, the other goes on where it was. Should nobody settle it, its deadline ends it.

A word of people counts for the request it names and for exactly its digest; a grant counts once per principal, only under the
policy version the request was made under, and never from the proposal's side (`shared.policy.sides`: whoever spawned or fed the
persona or one of its ancestors). A changed policy makes a new request; old grants do not carry over. An authorisation ends with
its time to live or the proposal's deadline, whichever is sooner; so does a request.

Invariants: at most one of authorized / rejected after verified (guarded by all that CORE says in the proposal's life, so a
denial can never slip in unseen); the digest signed is the digest of the action as it stands in the log.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from shared.contracts.action import Action, action_digest
from shared.contracts.approvals import answered
from shared.contracts.boundaries import life
from shared.contracts.capabilities import DailyLimit, Reach
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    ConflictJoined,
    ConflictSettled,
    ProposalAuthorized,
    ProposalCreated,
    ProposalFiled,
    ProposalKey,
    ProposalRejected,
    ProposalVerified,
    Risk,
)
from shared.contracts.ids import EventId, Instant, Sha256, Token
from shared.contracts.row import Row
from shared.contracts.text import plain
from shared.decider import NOTHING, Boundary, Decision, Delivered, Effect, Input, Performed, Result, Tick
from shared.policy.sides import LOCAL
from shared.policy.types import PolicyDecision

MAX_GRANTS = 64
NOT_YET_READABLE_S = 0.5
HALTED_S = 2.0


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """One person's yes."""

    event_id: EventId
    principal: str


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One proposal's life, as far as the gate cares. `grants` and `request` belong to the latest request; `conflicts` are
    those it is in, `lost` is how one of them ended. `digest`: of the action as it stands in `created`; None when it has none."""

    created: ProposalCreated | None = None
    created_seq: int = 0
    digest: Sha256 | None = None
    verified: ProposalVerified | None = None
    closed: bool = False
    request: ApprovalRequested | None = None
    request_id: EventId | None = None
    request_seq: int = 0
    grants: tuple[Grant, ...] = ()
    denied_by: str | None = None
    conflicts: tuple[str, ...] = ()
    lost: ConflictSettled | None = None


class Evaluate(Effect, frozen=True, kw_only=True):
    """Ask the policies. `bound_version`: grants count only under this policy version, and none of who filed it (`filed_by`). `seq`: what
    was said before it will do, of halts, keys and policies; 0: as of now."""

    swarm: Token
    persona: Token
    action: Action
    digest: Sha256
    risk: Risk
    tainted: bool
    labels: tuple[str, ...] = ()
    filed_by: str = ""
    scope: Reach = "unstated"
    row: Row | None = None
    cost_microusd: int = 0
    limits: tuple[DailyLimit, ...] = ()
    proposed_seq: int = 0
    grants: tuple[Grant, ...] = ()
    request_id: EventId | None = None
    bound_version: str | None = None
    quorum: int = 0
    seq: int = 0


class Evaluated(Result, frozen=True, kw_only=True):
    """The decision as things are, the decision if people agreed, which approvals were counted, and the operator's limits.
    `over`: which limit of the day has no room, in words."""

    as_is: PolicyDecision
    with_people: PolicyDecision
    approvals: tuple[EventId, ...] = ()
    quorum: int = 1
    authorization_ttl_s: float = 300.0
    approval_ttl_s: float = 3600.0
    halted: bool = False
    over: str = ""
    epoch: int = 0


class Sign(Effect, frozen=True, kw_only=True):
    """Sign the verdict. `request_id` is the request whose grants it rests on."""

    verdict: ProposalAuthorized
    request_id: EventId | None = None


class Signed(Result, frozen=True, kw_only=True):
    """The verdict with its key and signature."""

    verdict: ProposalAuthorized


def initial() -> State:
    """Nothing known."""
    return State()


def boundary(message: Delivered | Tick) -> Boundary | None:
    """What CORE says in the proposal's life is read, and guards it; the proposal is in its verdict, with which the life begins."""
    if isinstance(message, Tick):
        return None
    event = message.recorded.event
    if not isinstance(event, ProposalVerified | ConflictSettled | ApprovalRequested | ApprovalGranted | ApprovalDenied):
        return None
    guard = life(event.swarm, event.persona, event.proposal_id)
    return Boundary(reads=(guard,), guards=(guard,), opens=isinstance(event, ProposalVerified))


def evolve(state: State, recorded: Recorded) -> State:
    """The first verification stands, and the proposal it names, whatever was created under the id; a new request starts its grants
    afresh."""
    replace = msgspec.structs.replace
    match recorded.event:
        case ProposalCreated() as event:
            event = event.proposal if isinstance(event, ProposalFiled) else event
            if state.created:
                return state
            return replace(state, created=event, created_seq=recorded.seq, digest=_digest(event))
        case ProposalVerified() as event:
            if state.verified:
                return state
            if event.proposal is None:  # it is of before it was said
                return replace(state, verified=event)
            created, digest = event.proposal, _digest(event.proposal)
            return replace(state, verified=event, created=created, created_seq=event.proposed_seq, digest=digest)
        case ProposalAuthorized() | ProposalRejected():
            return replace(state, closed=True)
        case ApprovalRequested() as event:
            return replace(state, request=event, request_id=recorded.id, request_seq=recorded.seq, grants=())
        case ApprovalGranted(digest=digest, principal=principal) if _is_answer(state, recorded, digest):
            if len(state.grants) >= MAX_GRANTS or principal in {grant.principal for grant in state.grants}:
                return state
            return replace(state, grants=(*state.grants, Grant(event_id=recorded.id, principal=principal)))
        case ConflictJoined() as event:
            name = _name(event)
            return state if name in state.conflicts else replace(state, conflicts=(*state.conflicts, name))
        case ConflictSettled() as event:
            left = tuple(name for name in state.conflicts if name != _name(event))
            return replace(state, conflicts=left, lost=event if event.outcome == "lost" else state.lost)
        case ApprovalDenied(digest=digest, principal=principal) if _is_answer(state, recorded, digest):
            return replace(state, denied_by=principal)
        case _:
            return state


def _name(event: ConflictJoined | ConflictSettled) -> str:
    return f"{event.target_id}.{event.generation}"


def _is_answer(state: State, recorded: Recorded, digest: Sha256) -> bool:
    """Whether somebody's word is on the request that stands."""
    return state.request is not None and answered(recorded) == state.request_id and digest == state.request.digest


def decide(state: State, message: Input) -> Decision:
    """See the module's theory of operation."""
    cause = message.cause if isinstance(message, Performed) else message
    if state.closed or isinstance(cause, Tick):
        return NOTHING
    created, verified = state.created, state.verified
    if created is None or verified is None:
        # a replica that lags behind may not show the creation yet; the shell's delivery limit ends the waiting
        waits = isinstance(cause.recorded.event, ProposalVerified)
        return Decision(retry_s=NOT_YET_READABLE_S) if waits else NOTHING
    if not verified.digest == created.digest == state.digest:
        return _reject(created, "policy", "digest_mismatch", "the action is not the one that was verified")
    if state.denied_by is not None:
        return _reject(created, "approval", "denied", f"denied by {state.denied_by}")
    if state.lost is not None:
        return _reject(created, "arbitration", "conflict_lost", _lost_to(state.lost))
    now = message.now
    if isinstance(message, Delivered) and message.crowd:
        why = f"{message.crowd} verified proposals of {created.swarm} wait already, more than its share; propose again later"
        return _reject(created, "policy", "too_many_waiting", why)
    if state.request is not None and now >= state.request.expires_at:
        return _reject(created, "approval", "approval_expired", "nobody decided in time")
    if now >= created.deadline:
        return _reject(created, "policy", "deadline_passed", f"it was due before {created.deadline.isoformat()}")
    if state.conflicts:
        return _stands_still(state, created, cause.recorded, now)
    match message:
        case Delivered():
            return _delivered(state, created, verified, message, now)
        case Performed(effect=Evaluate(request_id=asked) | Sign(request_id=asked)) if asked != state.request_id:
            return NOTHING  # someone else asked people meanwhile; that request has a timer of its own
        case Performed(result=Evaluated() as answer):
            return _judge(state, created, verified, answer, message)
        case Performed(effect=Sign(), result=Signed(verdict=verdict)):
            if verdict.digest != created.digest:
                return NOTHING
            return Decision(events=(verdict,), charter=created.charter)
        case _:
            return NOTHING


def eligible(grants: tuple[Grant, ...], side: frozenset[str]) -> tuple[Grant, ...]:
    """One grant per principal, without those on the proposal's side; the one person of a mesh without keys is nobody's side."""
    first: dict[str, Grant] = {}
    for grant in grants:
        if grant.principal == LOCAL or grant.principal not in side:
            first.setdefault(grant.principal, grant)
    return tuple(first.values())


def _delivered(
    state: State, created: ProposalCreated, verified: ProposalVerified, message: Delivered, now: datetime
) -> Decision:
    request, recorded = state.request, message.recorded
    if request is None:
        wakes = isinstance(recorded.event, ProposalVerified | ConflictSettled)
        is_first = isinstance(recorded.event, ProposalVerified) and message.attempt == 1
        return _evaluate(state, created, verified, recorded.seq if is_first else 0) if wakes else NOTHING
    if isinstance(recorded.event, ProposalVerified) or (
        isinstance(recorded.event, ApprovalRequested) and recorded.id != state.request_id
    ):
        return NOTHING
    if len(state.grants) >= request.quorum:
        return _evaluate(state, created, verified)
    return _wait(request, recorded, now)


def _stands_still(state: State, created: ProposalCreated, recorded: Recorded, now: datetime) -> Decision:
    """In a conflict: `conflict.settled` goes on with it. Should nobody settle it, the timer of its request ends it, or, before there is
    one, its verification at its deadline."""
    if state.request is not None:
        return _wait(state.request, recorded, now) if recorded.id == state.request_id else NOTHING
    waits = isinstance(recorded.event, ProposalVerified)
    return Decision(retry_s=max(0.01, (created.deadline - now).total_seconds())) if waits else NOTHING


def _wait(request: ApprovalRequested, recorded: Recorded, now: datetime) -> Decision:
    """The request is its own timer; other messages have nothing to wait for."""
    if not isinstance(recorded.event, ApprovalRequested):
        return NOTHING
    return Decision(retry_s=max(0.01, (request.expires_at - now).total_seconds()))


def _evaluate(state: State, created: ProposalCreated, verified: ProposalVerified, seq: int = 0) -> Decision:
    request = state.request
    effect = Evaluate(
        swarm=created.swarm,
        persona=created.persona,
        action=created.action,
        digest=created.digest,
        risk=verified.risk,
        tainted=verified.tainted,
        labels=verified.labels,
        filed_by=verified.filed_by,
        scope=verified.scope,
        row=verified.row,
        cost_microusd=verified.cost_microusd,
        limits=verified.limits,
        proposed_seq=state.created_seq,
        grants=state.grants,
        request_id=state.request_id,
        bound_version=request.policy_version if request else None,
        quorum=request.quorum if request else 0,
        seq=seq,
    )
    return Decision(effect=effect)


def _judge(
    state: State, created: ProposalCreated, verified: ProposalVerified, answer: Evaluated, message: Performed
) -> Decision:
    """What the policies' two answers mean. While the mesh is halted it waits, and what people said before the log went back is void."""
    if answer.halted:
        return Decision(retry_s=HALTED_S)
    if state.request is not None and state.request_seq < answer.epoch:
        said = f"it was asked and approved at {state.request_seq}, before the log went back; what is before {answer.epoch} is void"
        return _reject(created, "approval", "void_after_rollback", said)
    if answer.as_is.allow:
        verdict = ProposalAuthorized(
            swarm=created.swarm,
            persona=created.persona,
            proposal_id=created.proposal_id,
            digest=created.digest,
            risk=verified.risk,
            policy_ids=answer.as_is.policy_ids,
            policy_version=answer.as_is.version,
            approvals=answer.approvals,
            expires_at=_until(message.now, answer.authorization_ttl_s, created.deadline),
            key="",
            signature="",
        )
        return Decision(effect=Sign(verdict=verdict, request_id=state.request_id))
    if not answer.with_people.allow:
        decision = answer.with_people
        detail = (
            "; ".join((*decision.errors, *([answer.over] if answer.over else [])))
            or f"{created.action.kind} on {created.action.target} at {verified.risk} risk"
        )
        return _reject(created, "policy", decision.reason, detail, decision)
    request = state.request
    if request is not None and request.policy_version == answer.with_people.version:
        cause = message.cause
        return NOTHING if isinstance(cause, Tick) else _wait(request, cause.recorded, message.now)
    asked = ApprovalRequested(
        swarm=created.swarm,
        persona=created.persona,
        proposal_id=created.proposal_id,
        digest=created.digest,
        risk=verified.risk,
        policy_version=answer.with_people.version,
        policy_ids=answer.with_people.policy_ids,
        quorum=answer.quorum,
        expires_at=_until(message.now, answer.approval_ttl_s, created.deadline),
        summary=plain(_asked(created, verified), 1000),
        outside=verified.outside,
    )
    return Decision(events=(asked,), charter=created.charter)


def _asked(created: ProposalCreated, verified: ProposalVerified) -> str:
    """What people are asked, in a sentence; they are told whether outsiders may have had it asked."""
    what = f"{created.title}: {created.action.kind} on {created.action.target}, {verified.risk} risk"
    if not verified.tainted:
        return what
    return f"{what}; tainted by outsiders' words" + (f": {verified.outside[0]}" if verified.outside else "")


def _reject(
    created: ProposalCreated,
    stage: Literal["policy", "approval", "arbitration"],
    reason: str,
    detail: str,
    decision: PolicyDecision | None = None,
) -> Decision:
    rejected = ProposalRejected(
        swarm=created.swarm,
        persona=created.persona,
        proposal_id=created.proposal_id,
        stage=stage,
        reasons=(reason,),
        detail=plain(detail, 2000),
        digest=created.digest,
        policy_ids=decision.policy_ids if decision else (),
        policy_version=decision.version if decision else "",
    )
    return Decision(events=(rejected,), charter=created.charter)


def _lost_to(lost: ConflictSettled) -> str:
    """Why it has lost, in words."""
    why = f": {lost.reason}" if lost.reason else ""
    return f"{_named(lost.winner)} goes first, ruled by {lost.resolution}{why}" if lost.winner else f"lost{why}"


def _named(key: ProposalKey) -> str:
    return f"proposal {key.proposal_id} of {key.persona} in {key.swarm}"


def _until(now: datetime, ttl_s: float, deadline: Instant) -> datetime:
    return min(now + timedelta(seconds=ttl_s), deadline)


def _digest(created: ProposalCreated) -> str | None:
    who = {"swarm": created.swarm, "persona": created.persona, "charter": created.charter}
    try:
        return action_digest(**who, action=created.action)
    except ValueError:
        return None
