"""Claim, execute once, record the outcome; and after a crash, find out instead of trying again.

Theory of operation. Only the id is taken from the message: what is done is the action that was verified, from the log. `Check`
re-verifies everything the gate promised; a refusal is an outcome without a claim. Then the claim is committed, guarded by all
that CORE has said in the proposal's life, and only then is the action executed, under the claim's id as idempotency key.

    authorized ─ Check ─ refused ────────────────────────────────────────→ executed (failure, no claim)
                   └─ fit ─ Allot ─ none left → delayed, until the next minute or its expiry
                              └─ a lot → claimed ─ Execute ──────────────→ executed
                                            └─ crash, or another actuator's: wait ─ Inquire → executed

An action is taken from a lot, so many of a persona a minute, that the governor gave (`lots.py`), and the claim names it. Where
nothing is left the action waits, which is said once; where nobody answers it waits too: no lot, no action.

A claim without an outcome belongs to someone who may still be at work: it is left alone until its time-out and a margin have
passed. Then `Inquire` asks the target; where it can tell, the outcome is success or failure, else `unknown` for a person. Where it
may be told later or by another actuator (a disk that is away, another's workspace) it is asked again, for `INQUIRE_S`.

Of two actuators only one may be told that its claim is stored. So each attempt marks its claim (`ActionClaimed.actuator` ends in fresh
random digits), and the claim's event id derives from that mark too: whoever lost an answer and looks again finds its own event in the
log or none. A first attempt claims where nothing was said of the action before its authorisation, and demands that nothing was said since:
what is stored then is the claim, and it is acted on without a look. A later one cannot tell what stands there unread, and first reads
from the log whose claim it is.

What touches something that others may want too is *exclusive* (`action_kinds`): its claim holds the target, in one batch
(`target.held`), guarded by what is said of that target, and the outcome itself frees it (`shared.holds`). Never a clock: who died in the
middle of it is inquired about first, and an outcome nobody can tell keeps the hold until a person resolves it. Who finds the target
held waits, which is said once (that it waits, not for what next), until it is free or its authorisation has expired.

What counts against limits of a day (`proposal.verified.limits`) says so with its claim, in one batch (`shared.allowances`), guarded by what
was said of them. What has no room is refused, whoever approved it; what costs something, unless a scope says how much may be spent, or
people said yes.

What is said to the mesh (`saying.py`) needs no hand: claim, what is said, and mostly the outcome are one batch. Whether a child was born
the governor says; its answer names the proposal, and is the outcome.
Halts guard it too, so that none of it is stored behind one.

While the mesh is halted nothing is claimed; it waits. A claim that was on its way may be stored behind a halt: it is looked again after
the claim, so that is never carried out, and its outcome is failure. What was authorised before the log went back is void, a failure.
What this or another actuator has claimed in a part of the log that is gone (`journal.py`, `mesh.halted`) is `unknown`, whoever
authorises it.

Invariants: no execution without a claim in the log that bears this attempt's mark; at most one outcome; never a second execution;
of two exclusive actions on one target the second is claimed after the outcome of the first.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from services.actuator import saying
from services.actuator.terms import (
    LONG_AGO,
    LOST,
    NOT_YET,
    Allot,
    Allotted,
    Check,
    Checked,
    Claim,
    Execute,
    Inquire,
    Job,
    Outcome,
)
from shared.allowances import no_room, used
from shared.contracts.action import action_digest
from shared.contracts.action_kinds import KINDS, held, not_alone, read
from shared.contracts.boundaries import deeds, hold, life
from shared.contracts.capabilities import DailyLimit, Reach
from shared.contracts.catalog import subject_of
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionClaimed,
    ActionDelayed,
    ActionExecuted,
    AnyEvent,
    PersonaSpawned,
    ProposalAuthorized,
    ProposalCreated,
    ProposalFiled,
    ProposalKey,
    ProposalVerified,
    SpawnRefused,
    TargetHeld,
)
from shared.contracts.events.proposals import MAX_OUTPUT
from shared.contracts.ids import EventId, Instant, Sha256, Token, caused_id
from shared.contracts.kinds.kind import MESH, Problem
from shared.contracts.row import Row
from shared.contracts.text import lines, plain
from shared.decider import NOTHING, Boundary, Decision, Delivered, Input, Performed, Tick, id_of
from shared.halts import BOUNDARY as HALTS

INQUIRE_S = 120.0
"""So long after a claim's time-out it is asked what came of it, where somebody may yet be able to tell."""
MARGIN_S = 2.0
"""Beyond a claim's time-out before anyone inquires: clock skew between machines, and the commit on its way."""

NOT_YET_READABLE_S = 0.5
HALTED_S = 2.0
NO_LOT_S = 1.0
"""After this an action that got no answer asks again."""
HELD_S, HELD_LOOKS = 0.2, 64
"""A target that is held is looked at again after so long, then each time as much later, and at least so often in all while the
authorisation lasts: each look is a delivery, and there are not many more of one message."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One proposal's life, as far as the actuator cares."""

    created: ProposalCreated | None = None
    verified: bool = False
    tainted: bool = True
    scope: Reach = "unstated"
    row: Row | None = None
    cost_microusd: int = 0
    limits: tuple[DailyLimit, ...] = ()
    authorized: ProposalAuthorized | None = None
    authorized_seq: int = 0
    authorized_at: Instant = LONG_AGO
    claim: Claim | None = None
    delayed: tuple[str, ...] = ()
    executed: bool = False


def initial() -> State:
    """Nothing known."""
    return State()


def boundary(message: Delivered | Tick) -> Boundary | None:
    """What CORE says in the proposal's life is read, and guards it. The verdict that has the proposal and the authorisation will do, where
    nothing was said of the action before and nothing at all since."""
    if isinstance(message, Tick):
        return None
    match message.recorded.event:
        case ProposalAuthorized() as event:
            whose = event.swarm, event.persona, event.proposal_id
            guard, verdict = life(*whose), f"proposal.verified.{'.'.join(whose)}"
            return Boundary(reads=(guard,), guards=(guard,), opens=True, begins=(verdict,), unsaid=(deeds(*whose),))
        case PersonaSpawned(proposal=ProposalKey() as key) | SpawnRefused(proposal=ProposalKey() as key):
            guard = life(key.swarm, key.persona, key.proposal_id)
        case _:
            return None
    return Boundary(reads=(guard,), guards=(guard,))


def evolve(state: State, recorded: Recorded) -> State:
    """The first of everything stands, and what was verified before what was merely created."""
    replace = msgspec.structs.replace
    match recorded.event:
        case ProposalCreated() as event:
            event = event.proposal if isinstance(event, ProposalFiled) else event
            return state if state.created else replace(state, created=event)
        case ProposalVerified(proposal=ProposalCreated() as event) if not state.verified:
            verified = recorded.event
            return replace(
                state,
                created=event,
                verified=True,
                tainted=verified.tainted,
                scope=verified.scope,
                row=verified.row,
                cost_microusd=verified.cost_microusd,
                limits=verified.limits,
            )
        case ProposalAuthorized() as event:
            if state.authorized:
                return state
            return replace(state, authorized=event, authorized_seq=recorded.seq, authorized_at=recorded.stored_at)
        case ActionClaimed() as event if state.claim is None:
            at = max(recorded.stored_at, recorded.envelope.time)
            claim = Claim(
                id=recorded.id,
                hold=event.hold,
                actuator=event.actuator,
                at=at,
                timeout_ms=event.timeout_ms,
            )
            return replace(state, claim=claim)
        case ActionDelayed(reason=reason):
            return state if reason in state.delayed else replace(state, delayed=(*state.delayed, reason))
        case ActionExecuted():
            return replace(state, executed=True)
        case _:
            return state


def decide(state: State, message: Input) -> Decision:
    """See the module's theory of operation."""
    cause = message.cause if isinstance(message, Performed) else message
    if state.executed or isinstance(cause, Tick):
        return NOTHING
    created, authorized, event = state.created, state.authorized, cause.recorded.event
    if isinstance(event, PersonaSpawned | SpawnRefused):
        return _answered(state, event)
    if not isinstance(event, ProposalAuthorized):
        return NOTHING
    if created is None or authorized is None:
        # a replica that lags behind may not show them yet; the shell's delivery limit ends the waiting
        return Decision(retry_s=NOT_YET_READABLE_S)
    match message:
        case Performed(effect=Inquire(), result=Outcome(error=error) as outcome) if error == NOT_YET and state.claim:
            return _again(created, outcome, state.claim, message.now)
        case Performed(effect=Execute() | Inquire(), result=Outcome() as outcome) if state.claim is not None:
            return _record(created, outcome, state.claim)
        case Performed(effect=Check(), result=Checked() as checked) if state.claim is None:
            if checked.halted:
                return Decision(retry_s=HALTED_S)
            if checked.lost:
                return _record(created, LOST, None)
            refused = _refused(state, created, authorized, checked, message.now)
            if refused is not None:
                return refused
            if checked.holder:
                return _wait_for(state, created, authorized, checked.holder, cause, message.now)
            allot = Allot(
                job=_job(state, created),
                actuator=checked.actuator,
                hold_seq=checked.hold_seq,
                facts=checked.facts,
                halts_seq=checked.halts_seq,
                standings=checked.standings,
            )
            return Decision(effect=allot)
        case Performed(effect=Allot() as allot, result=Allotted() as allotted) if state.claim is None:
            if message.now >= authorized.expires_at:
                return _refuse(created, [_expired(authorized)])
            if allotted.lot_id is None:
                return _delay(state, created, authorized, allotted, message.now)
            if _is_said(created):
                return _say(state, created, allot, allotted.lot_id, cause, message.now)
            return _claim(state, created, allot, allotted.lot_id, cause, message.now)
        case _ if state.claim is not None and _is_said(created):
            return NOTHING  # it was said with its claim; who is asked answers
        case _ if state.claim is not None:
            return _wait_or_inquire(state, created, state.claim, message.now)
        case Delivered(crowd=crowd) if crowd:
            why = f"{crowd} actions of {created.swarm} wait or are being done already, which is the limit; propose again later"
            return _refuse(created, [("too_many_actions", why)])
        case _:
            target = held(created.action, created.swarm, created.persona, state.row)
            check = Check(
                authorized=authorized,
                target=target.id if target else None,
                job=_job(state, created) if _is_said(created) else None,
                limits=state.limits,
                seq=state.authorized_seq,
                at=state.authorized_at,
                is_first=isinstance(message, Delivered) and message.attempt == 1 and not _is_said(created),
            )
            return Decision(effect=check)


def _refused(
    state: State, created: ProposalCreated, authorized: ProposalAuthorized, checked: Checked, now: datetime
) -> Decision | None:
    """The outcome of what may not be claimed; None when it may."""
    problems, whose = list(checked.problems), (created.swarm, created.persona)
    if authorized.conditions:
        problems.append(("unknown_condition", f"cannot keep the condition {authorized.conditions[0]!r}"))
    if not authorized.digest == created.digest == _digest(created):
        problems.append(("digest_mismatch", "the action in the log is not the one that was authorised"))
    action = read(created.action)
    if isinstance(action, Problem):
        problems.append(("kind_unknown" if action.code == "unknown_kind" else action.code, action.detail))
    elif (
        not authorized.approvals
        and state.scope != "free"
        and (unasked := not_alone(created.action, *whose)) is not None
    ):
        problems.append((unasked.code, unasked.detail))
    elif state.cost_microusd and not authorized.approvals and state.scope != "free":
        said = f"it costs {state.cost_microusd} microusd, no scope says that its persona may spend that, and nobody said yes to it"
        problems.append(("cost_not_allowed", said))
    elif over := no_room(state.limits, checked.standings, state.cost_microusd, now):
        problems.append(("limit_of_day", over))
    elif checked.facts is not None and (why := saying.refusal(created, action, checked.facts, now)) is not None:
        problems.append(why)
    if now >= authorized.expires_at:
        problems.append(_expired(authorized))
    return _refuse(created, problems) if problems else None


def _expired(authorized: ProposalAuthorized) -> tuple[str, str]:
    return "authorization_expired", f"it was valid until {authorized.expires_at.isoformat()}"


def _refuse(created: ProposalCreated, problems: list[tuple[str, str]]) -> Decision:
    """A failure without a claim."""
    detail = "refused: " + "; ".join(sentence for _, sentence in problems)
    return _record(created, Outcome(outcome="failure", summary=detail, error=problems[0][0]), None)


def _delay(
    state: State, created: ProposalCreated, authorized: ProposalAuthorized, allotted: Allotted, now: datetime
) -> Decision:
    """Not now. It comes again in the next minute, spread over a second of it, while its authorisation lasts."""
    if allotted.until is None:
        return Decision(retry_s=NO_LOT_S)
    if allotted.too_many:
        sentence = f"the action limit of {allotted.scope} is reached, and {allotted.too_many} actions wait already"
        return _refuse(created, [("action_limit", sentence)])
    delayed = ActionDelayed(
        swarm=created.swarm,
        persona=created.persona,
        proposal_id=created.proposal_id,
        reason="action_limit",
        scope=allotted.scope,
        until=allotted.until,
    )
    spread_s = int(created.digest[:4], 16) / 0xFFFF
    wait_s = (min(allotted.until, authorized.expires_at) - now).total_seconds() + spread_s
    events = () if delayed.reason in state.delayed else (delayed,)
    return Decision(events=events, about=delayed.reason, retry_s=max(NO_LOT_S, wait_s), charter=created.charter)


def _wait_for(
    state: State,
    created: ProposalCreated,
    authorized: ProposalAuthorized,
    holder: str,
    cause: Delivered,
    now: datetime,
) -> Decision:
    """Another action has the target. It is looked at again soon, then ever more seldom, until the authorisation has expired."""
    delayed = ActionDelayed(
        swarm=created.swarm,
        persona=created.persona,
        proposal_id=created.proposal_id,
        reason="target_held",
        scope=holder,
        until=authorized.expires_at,
    )
    most_s = max(2.0, (authorized.expires_at - state.authorized_at).total_seconds() / HELD_LOOKS)
    left_s = max(0.0, (authorized.expires_at - now).total_seconds())
    wait_s = min(HELD_S * cause.attempt, most_s, left_s + HELD_S)
    events = () if delayed.reason in state.delayed else (delayed,)
    return Decision(events=events, about=delayed.reason, retry_s=wait_s, charter=created.charter)


def _claim(
    state: State, created: ProposalCreated, allot: Allot, lot_id: EventId, cause: Delivered, now: datetime
) -> Decision:
    """Claim, hold what must be held, and execute."""
    target = held(created.action, created.swarm, created.persona, state.row)
    claimed = _claimed(created, allot, lot_id, target.id if target else None)
    is_first = cause.attempt == 1 and not state.delayed
    claim = Claim(
        id=id_of(cause.recorded.id, subject_of(claimed), allot.actuator),
        hold=claimed.hold,
        actuator=allot.actuator,
        at=now,
        timeout_ms=claimed.timeout_ms,
    )
    execute = Execute(
        job=_job(state, created),
        digest=created.digest,
        actuator=allot.actuator,
        deadline=now + timedelta(milliseconds=claimed.timeout_ms),
        claim=claim if is_first else None,
    )
    events: tuple[AnyEvent, ...] = (claimed,)
    expects: tuple[tuple[str, int], ...] = ()
    counted, counts = used(state.limits, allot.standings, state.cost_microusd, now, _key(created))
    if is_first:
        expects = ((life(created.swarm, created.persona, created.proposal_id), cause.recorded.seq),)
    if target is not None:
        events = (claimed, TargetHeld(persona=target.id, holder=_key(created), target=target.name))
        expects = (*expects, (hold(target.id), allot.hold_seq))
    return Decision(
        events=(*events, *counted),
        guards=() if is_first else None,
        expects=(*expects, *counts),
        effect=execute,
        charter=created.charter,
        about=allot.actuator,
    )


def _claimed(created: ProposalCreated, allot: Allot, lot_id: EventId, hold_: Token | None) -> ActionClaimed:
    return ActionClaimed(
        swarm=created.swarm,
        persona=created.persona,
        proposal_id=created.proposal_id,
        digest=created.digest,
        actuator=allot.actuator,
        timeout_ms=KINDS[created.action.kind].timeout_ms,
        lot_id=lot_id,
        hold=hold_,
    )


def _is_said(created: ProposalCreated) -> bool:
    """Whether the action is one that is said to the mesh."""
    return created.action.kind in KINDS and KINDS[created.action.kind].hand == MESH


def _say(
    state: State, created: ProposalCreated, allot: Allot, lot_id: EventId, cause: Delivered, now: datetime
) -> Decision:
    """Claim it, say it, and where that is all, say that it is done: in one batch. What it rests on guards it."""
    params = read(created.action)
    if isinstance(params, Problem) or allot.facts is None:
        return NOTHING  # refused before
    claimed = _claimed(created, allot, lot_id, None)
    said = saying.say(created, params, allot.facts, now, tainted=state.tainted)
    counted, counts = used(state.limits, allot.standings, state.cost_microusd, now, _key(created))
    events: tuple[AnyEvent, ...] = (claimed, *counted, *said.events)
    if said.summary is not None:
        claim_id = caused_id(cause.recorded.id, f"action.claimed.{allot.job.key}")
        claim = Claim(id=claim_id, actuator=allot.actuator, at=now, timeout_ms=claimed.timeout_ms)
        events += _record(created, Outcome(outcome="success", summary=said.summary), claim).events
    expects = (*said.expects, *counts, (HALTS, allot.halts_seq))
    return Decision(events=events, expects=expects, charter=created.charter)


def _answered(state: State, answer: PersonaSpawned | SpawnRefused) -> Decision:
    """Whether there is a child, as the governor says."""
    created, claim = state.created, state.claim
    if created is None or claim is None:
        return Decision(retry_s=NOT_YET_READABLE_S)  # it follows from the claim, which a replica may not show yet
    born, summary, error = saying.answered(answer)
    outcome = Outcome(outcome="success" if born else "failure", summary=summary, error=error or None)
    return _record(created, outcome, claim)


def _wait_or_inquire(state: State, created: ProposalCreated, claim: Claim, now: datetime) -> Decision:
    remaining = (claim.at - now).total_seconds() + claim.timeout_ms / 1000 + MARGIN_S
    if remaining > 0:
        return Decision(retry_s=remaining)
    return Decision(effect=Inquire(job=_job(state, created), claim=claim))


def _again(created: ProposalCreated, outcome: Outcome, claim: Claim, now: datetime) -> Decision:
    """Asked again, ever more seldom, until it has been long enough."""
    waited_s = (now - claim.at).total_seconds() - claim.timeout_ms / 1000
    if waited_s < INQUIRE_S:
        return Decision(retry_s=max(1.0, waited_s / 2))
    return _record(created, msgspec.structs.replace(outcome, error="cannot_tell"), claim)


def _record(created: ProposalCreated, outcome: Outcome, claim: Claim | None) -> Decision:
    executed = ActionExecuted(
        swarm=created.swarm,
        persona=created.persona,
        proposal_id=created.proposal_id,
        digest=created.digest,
        outcome=outcome.outcome,
        summary=plain(outcome.summary, 1000),
        error=outcome.error,
        claim_id=claim.id if claim else None,
        receipt=outcome.receipt,
        duration_ms=outcome.duration_ms,
        output=lines(outcome.output, MAX_OUTPUT),
    )
    return Decision(events=(executed,), charter=created.charter)


def _key(created: ProposalCreated) -> ProposalKey:
    return ProposalKey(swarm=created.swarm, persona=created.persona, proposal_id=created.proposal_id)


def _job(state: State, created: ProposalCreated) -> Job:
    whose = {"swarm": created.swarm, "persona": created.persona, "proposal_id": created.proposal_id}
    return Job(**whose, action=created.action, row=state.row.digest if state.row else "")


def _digest(created: ProposalCreated) -> Sha256 | None:
    who = {"swarm": created.swarm, "persona": created.persona, "charter": created.charter}
    try:
        return action_digest(**who, action=created.action)
    except ValueError:
        return None
