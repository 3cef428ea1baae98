"""Fold of proposals' lives: the list, the inbox, one life, and the receipts. Pure; clocks come in as arguments.

Bounded: the last `KEEP_DONE` finished and `KEEP_OPEN` unfinished lives stay in memory, older ones are read from the log and
folded here again. Invariants: a life in memory is whole from `proposal.created` on; `proposal.created` counts once, a repeat
changes nothing, also when the life is no longer in memory (the last `KEEP_GONE` are known by their key).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from services.gateway.wire.ids import as_given
from services.gateway.wire.lives import Approval, ProposalLife, VerdictSignature, life_event
from services.gateway.wire.views import (
    ApprovalState,
    DecisionReceipt,
    Failure,
    Proposal,
    ProposalStatus,
    Success,
    ToolInvocation,
    Vote,
)
from services.gateway.wire.work import UnknownAction
from shared.contracts import boundaries
from shared.contracts.action import Scalar
from shared.contracts.approvals import answered
from shared.contracts.catalog import matches
from shared.contracts.envelope import Recorded, Stored, Unreadable
from shared.contracts.events import (
    ActionClaimed,
    ActionExecuted,
    ActionResolved,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    ProposalAuthorized,
    ProposalCreated,
    ProposalEvent,
    ProposalFiled,
    ProposalRejected,
    ProposalVerified,
    Risk,
)
from shared.contracts.ids import caused_id
from shared.contracts.text import lines, plain

KEEP_DONE = 1000
KEEP_OPEN = 5000
KEEP_GONE = 20_000
Key = tuple[str, str, str]
"""Swarm, persona and proposal: two swarms or personas may have proposals of one id, and they are two."""
UNASSESSED: Risk = "medium"


class Life(msgspec.Struct, kw_only=True):
    """One proposal, mutable, owned by `Proposals`. `seq` is the last sequence on its `boundary`; `decided` its first verdict."""

    created: ProposalCreated
    events: list[Recorded]
    verified: ProposalVerified | None = None
    request: ApprovalRequested | None = None
    requested: Recorded | None = None
    decided: Recorded | None = None
    authorized: ProposalAuthorized | None = None
    rejected: ProposalRejected | None = None
    claimed: Recorded | None = None
    executed: ActionExecuted | None = None
    resolved: ActionResolved | None = None
    granted_by: list[str] = []
    denied_by: list[str] = []
    seq: int = 0

    @property
    def done(self) -> bool:
        return self.rejected is not None or self.executed is not None

    @property
    def risk(self) -> Risk:
        verdict = self.request or self.verified
        return UNASSESSED if verdict is None else verdict.risk

    @property
    def status(self) -> ProposalStatus:
        if self.executed is not None:
            return "executed"
        if self.rejected is not None:
            return "rejected"
        return "created" if self.verified is None else "verified"

    @property
    def deadline(self) -> datetime:
        return self.created.deadline if self.request is None else self.request.expires_at

    @property
    def key(self) -> Key:
        return (self.created.swarm, self.created.persona, self.created.proposal_id)

    @property
    def filed_by(self) -> str | None:
        """The person who filed it, if one did."""
        return plain(self.created.principal, 120) if isinstance(self.created, ProposalFiled) else None

    @property
    def boundary(self) -> str:
        """What guards a vote."""
        return boundaries.life(*self.key)

    def approval_state(self, now: datetime) -> ApprovalState | None:
        """None when nobody was asked."""
        if self.request is None:
            return None
        if self.denied_by:
            return "denied"
        if len(self.granted_by) >= self.request.quorum:
            return "granted"
        return "expired" if self.done or now >= self.request.expires_at else "pending"

    def add(self, recorded: Recorded) -> None:
        event = recorded.event
        self.events.append(recorded)
        self.seq = recorded.seq
        if self.decided is None and isinstance(event, ProposalRejected | ProposalAuthorized | ApprovalRequested):
            self.decided = recorded
        match event:
            case ProposalVerified():
                self.verified = event
            case ProposalRejected():
                self.rejected = event
            case ProposalAuthorized():
                self.authorized = event
            case ApprovalRequested():
                self.request, self.requested = event, recorded
                self.granted_by = []  # another policy asks anew; the gate carries no grant over either
            case ApprovalGranted():
                if self._asked(recorded) and event.principal not in self.granted_by:
                    self.granted_by.append(event.principal)
            case ApprovalDenied():
                if self._asked(recorded) and event.principal not in self.denied_by:
                    self.denied_by.append(event.principal)
            case ActionClaimed():
                self.claimed = recorded
            case ActionExecuted():
                self.executed = event
            case ActionResolved():
                self.resolved = self.resolved or event
            case _:
                pass

    def _asked(self, vote: Recorded) -> bool:
        """Whether it answers the request that stands; the gate counts no other."""
        return self.requested is not None and answered(vote) == self.requested.id

    @property
    def hold(self) -> str | None:
        """The target its action took, whether or not it is free again."""
        event = None if self.claimed is None else self.claimed.event
        return event.hold if isinstance(event, ActionClaimed) else None

    def unknown_view(self) -> UnknownAction | None:
        """What waits for a person's word; None when nothing does."""
        is_open = self.executed is not None and self.executed.outcome == "unknown" and self.resolved is None
        return self.outcome_view() if is_open else None

    def outcome_view(self) -> UnknownAction:
        """What is known of its outcome. Only of what has one."""
        outcome, said = self.executed, self.resolved
        recorded = next(r for r in self.events if r.event is outcome)
        assert outcome is not None
        return UnknownAction(
            proposal_id=as_given(self.created.proposal_id),
            persona_id=as_given(self.created.persona),
            swarm_id=as_given(self.created.swarm),
            title=plain(self.created.title),
            action_kind=self.created.action.kind,
            action_target=self.created.action.target,
            holds=self.hold is not None and said is None,
            outcome=outcome.outcome if said is None else said.outcome,
            summary=plain(outcome.summary),
            at=recorded.envelope.time,
            resolved_by=None if said is None else said.principal,
            reason="" if said is None else plain(said.reason, 1000),
        )

    def view(self) -> Proposal:
        votes: dict[str, Vote] = dict.fromkeys(self.granted_by, "approve")
        votes.update(dict.fromkeys(self.denied_by, "reject"))
        return Proposal(
            id=as_given(self.created.proposal_id),
            persona_id=as_given(self.created.persona),
            title=plain(self.created.title),
            rationale=lines(self.created.rationale),
            evidence_refs=tuple(e.id for e in self.created.evidence),
            risk=self.risk,
            status=self.status,
            created_at=self.events[0].envelope.time,
            votes=votes,
            vote_deadline=self.deadline,
            votes_requested=self.request is not None,
            quorum_needed=1 if self.request is None else self.request.quorum,
            filed_by=self.filed_by,
        )

    def life_view(self, signature: VerdictSignature | None = None) -> ProposalLife:
        verdict = self.authorized or self.rejected or self.request
        return ProposalLife(
            proposal=self.view(),
            swarm_id=as_given(self.created.swarm),
            digest=self.created.digest,
            action_kind=self.created.action.kind,
            action_target=self.created.action.target,
            policy_ids=() if verdict is None else verdict.policy_ids,
            policy_version="" if verdict is None else verdict.policy_version,
            signature=signature,
            events=tuple(life_event(r) for r in self.events),
        )

    def approval_view(self, now: datetime) -> Approval | None:
        if self.request is None or self.requested is None:
            return None
        return Approval(
            proposal_id=as_given(self.created.proposal_id),
            persona_id=as_given(self.created.persona),
            swarm_id=as_given(self.created.swarm),
            title=plain(self.created.title),
            summary=plain(self.request.summary),
            outside=tuple(plain(line) for line in self.request.outside),
            risk=self.request.risk,
            digest=self.request.digest,
            action_kind=self.created.action.kind,
            action_target=self.created.action.target,
            params=self.created.action.params,
            policy_version=self.request.policy_version,
            policy_ids=self.request.policy_ids,
            request_id=self.requested.id,
            quorum=self.request.quorum,
            granted_by=tuple(self.granted_by),
            denied_by=tuple(self.denied_by),
            requested_at=self.requested.envelope.time,
            expires_at=self.request.expires_at,
            state=self.approval_state(now) or "pending",
            filed_by=self.filed_by,
        )

    def receipt(self) -> DecisionReceipt | None:
        """What was done and by whose leave; None before there is an outcome."""
        outcome = self.executed
        if outcome is None:
            return None
        recorded = next(r for r in self.events if r.event is outcome)
        lease = outcome.claim_id or (self.claimed.id if self.claimed is not None else "")
        invoked = self.claimed.envelope.time if self.claimed is not None else recorded.envelope.time
        arguments: dict[str, Scalar] = {"target": self.created.action.target, **self.created.action.params}
        return DecisionReceipt(
            id=recorded.id,
            proposal_id=as_given(outcome.proposal_id),
            inputs=tuple(e.id for e in self.created.evidence),
            governance_decision=_decision(self.authorized, self.granted_by),
            capability_leases=(lease,) if lease else (),
            tool_invocations=(
                ToolInvocation(
                    tool_name=self.created.action.kind,
                    arguments=arguments,
                    result=outcome.summary,
                    success=(self.resolved or outcome).outcome == "success",
                    lease_id=lease,
                    invoked_at=invoked,
                ),
            ),
            outcome=_outcome(outcome, recorded.id, self.resolved),
            created_at=recorded.envelope.time,
        )


def by_age(life: Life) -> int:
    """The sequence it began at."""
    return life.events[0].seq


def by_outcome(life: Life) -> int:
    """The sequence of its outcome; 0 without one."""
    return next((r.seq for r in life.events if r.event is life.executed), 0)


class Proposals:
    """Lives by swarm, persona and id, in the order of their creation."""

    def __init__(self, keep_done: int = KEEP_DONE, keep_open: int = KEEP_OPEN, keep_gone: int = KEEP_GONE) -> None:
        self.lives: dict[Key, Life] = {}
        self.gone: dict[Key, None] = {}
        self._by_id: dict[str, list[Key]] = {}
        self._done: deque[Key] = deque()
        self._keep_done, self._keep_open, self._keep_gone = keep_done, keep_open, keep_gone

    def apply(self, recorded: Recorded) -> None:
        event = recorded.event
        if not isinstance(event, ProposalEvent):
            return
        key = (event.swarm, event.persona, event.proposal_id)
        life = self.lives.get(key)
        if isinstance(event, ProposalCreated):
            if life is None and key not in self.gone:
                life = self.lives[key] = Life(created=event, events=[recorded])
                if matches(life.boundary, recorded.subject):  # it is of before slots
                    life.seq = recorded.seq
                self._by_id.setdefault(event.proposal_id, []).append(key)
                self._evict()
            return
        if life is None:
            return
        was_done = life.done
        life.add(recorded)
        if life.done and not was_done:
            self._done.append(key)
            self._evict()

    def named(self, proposal_id: str, swarm: str | None = None, persona: str | None = None) -> list[Life]:
        """Those in memory of that id, in that swarm and of that persona where they are given."""
        keys = self._by_id.get(proposal_id, ())
        return [self.lives[k] for k in keys if swarm in (None, k[0]) and persona in (None, k[1])]

    def capture(self) -> list[Recorded]:
        """The events of the lives in memory, in the order of the log; applied again, they give the same lives."""
        return sorted((r for life in self.lives.values() for r in life.events), key=lambda r: r.seq)

    def newest(self, below: int | None = None) -> Iterator[Life]:
        """The youngest first, of a lower sequence than `below`."""
        return (life for life in reversed(self.lives.values()) if below is None or by_age(life) < below)

    def executed(self, below: int | None = None) -> list[Life]:
        """Those with an outcome, the newest outcome of a lower sequence than `below` first."""
        found = (life for life in self.lives.values() if life.executed is not None)
        return sorted((f for f in found if below is None or by_outcome(f) < below), key=by_outcome, reverse=True)

    def _evict(self) -> None:
        while len(self._done) > self._keep_done:
            self._forget(self._done.popleft())
        while len(self.lives) - len(self._done) > self._keep_open:
            self._forget(next(k for k, life in self.lives.items() if not life.done))

    def _forget(self, key: Key) -> None:
        del self.lives[key]
        keys = self._by_id[key[2]]
        keys.remove(key)
        if not keys:
            del self._by_id[key[2]]
        self.gone[key] = None
        while len(self.gone) > self._keep_gone:
            del self.gone[next(iter(self.gone))]


def fold_lives(messages: Sequence[Stored], proposal_id: str) -> list[Life]:
    """The lives of that id; one without a beginning is none. What cannot be read moves their boundaries all the same."""
    proposals = Proposals()
    for message in messages:
        if isinstance(message, Recorded):
            proposals.apply(message)
    lives = proposals.named(proposal_id)
    for life in lives:
        on_it = (m.seq for m in messages if isinstance(m, Unreadable) and matches(life.boundary, m.subject))
        life.seq = max(life.seq, max(on_it, default=0))
    return lives


def attention_id(event_id: str) -> str:
    """The attention item an event gives rise to."""
    return caused_id(event_id, "attention")


def _decision(authorized: ProposalAuthorized | None, granted_by: list[str]) -> str:
    if authorized is None:
        return "executed without a recorded authorisation"
    said = f"authorized under policy {authorized.policy_version} by {', '.join(authorized.policy_ids) or 'no named policy'}"
    return f"{said}, approved by {', '.join(granted_by)}" if granted_by else said


def _outcome(event: ActionExecuted, event_id: str, said: ActionResolved | None) -> Success | Failure:
    if said is not None:
        by = f"{said.principal} says so: {plain(said.reason, 1000)}"
        return Success(summary=by) if said.outcome == "success" else Failure(error=by, follow_up_attention=None)
    if event.outcome == "success":
        return Success(summary=event.summary)
    reason = event.error or event.summary or event.outcome
    error = f"unknown: {reason}" if event.outcome == "unknown" else reason
    return Failure(error=error, follow_up_attention=attention_id(event_id))
