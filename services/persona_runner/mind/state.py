"""One persona as its runner sees it: the fold of the persona's own events, small enough to hold ten thousand of them.

Everything kept is bounded (`KEPT_*`). A runner applies its own commits as soon as they are stored, while older events of
other services may still be on their way to it; so the fold asks for nothing in an order only the log would keep.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import msgspec

from services.persona_runner.mind import goals
from services.persona_runner.mind.goals import Assigned
from services.persona_runner.mind.guard import COOL_DOWN, WINDOW, saying
from shared.contracts.envelope import Recorded, Stored
from shared.contracts.events import (
    ActionExecuted,
    BudgetExhausted,
    BudgetGranted,
    CheckRequested,
    CheckResult,
    Credits,
    EvidenceRef,
    GrantRequested,
    HypothesisRaised,
    IntentAnswered,
    IntentAssigned,
    IntentReleased,
    ObservationRecorded,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    Phase,
    ProposalCreated,
    ProposalRejected,
    ReportGiven,
    ThoughtGenerated,
    ThoughtSealed,
)
from shared.contracts.kinds.mesh import words
from shared.contracts.persona import Identity, PersonaPolicy, charter_sha256
from shared.thinker.port import Note, Output
from shared.thinker.specialists import source_of

KEPT_NOTES, NOTE_CHARS = 6, 400
KEPT_TOPICS = 32
KEPT_OUTCOMES, OUTCOME_CHARS = 4, 240
KEPT_OUTPUTS, OUTPUT_CHARS = 4, 4000
MAX_OPEN_HYPOTHESES = 8
MAX_BESIDE, BESIDE_CHARS = 3, 400
"""Checks of one hypothesis beside the one that decides, and what is kept of the words of each."""
MAX_LOOKS = 8
"""Such checks in one step."""
MAX_OPEN_PROPOSALS = 16
MAX_DRAIN = timedelta(hours=1)
MAX_REST_MS = 86_400_000
"""Of what a stored thought says: one that would rest beyond the calendar rests a day."""
MAX_COST = 2**40
"""Of one thought, as far as the next grant is sized by it."""
MAX_EMPTY = 3
"""Empty answers in a row after which the loop moves on: a context no thinker can cope with must not hold a persona for ever."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Credits in hand; `spent` is what `thoughts` citing the grant have used."""

    id: str
    credits: Credits
    spent: Credits = Credits()
    thoughts: int = 0
    expires_at: datetime

    def left(self) -> Credits:
        """What may still be spent; never negative."""
        return Credits(
            tokens=max(0, self.credits.tokens - self.spent.tokens),
            compute_ms=max(0, self.credits.compute_ms - self.spent.compute_ms),
            cost_microusd=max(0, self.credits.cost_microusd - self.spent.cost_microusd),
        )


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A hypothesis of the running cycle. `asked_at`: when a check of it was last asked for; `taken`: a thought has seen the result.

    `beside`: the checks asked for beside it, and `told` what they found. `assignment`: the id of the assignment it was raised for.
    """

    id: str
    topic: str
    claim: str
    confidence: float
    evidence: tuple[EvidenceRef, ...]
    check_id: str | None = None
    asked_at: datetime | None = None
    result: CheckResult | None = None
    result_id: str | None = None
    result_seq: int = 0
    taken: bool = False
    beside: tuple[str, ...] = ()
    told: tuple[CheckResult, ...] = ()
    assignment: str | None = None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A persona. `at` is the time of its last step, or of its birth; `fresh`: the running cycle began with observing.

    `observed_seq` is the last stream sequence it has perceived, `cycle_seq` the one before the running cycle,
    `heard_seq` the last observation for it alone; `looked_at` and `cycle_at` are the same as times, for what has no line.
    `said` and `recent` serve the loop guard.
    `topics` maps what it has raised (by a short hash) to the newest evidence it had for it. `ends_at`: a draining persona
    says nothing from then on, for its final snapshot is written without it. `unanswered`: requests in a row that
    brought neither credits nor the word that there are none. `cost`: what its paid thoughts have cost of late.
    `assigned`: what it was asked and has not answered; `attending`: which of them its last thought was for.
    """

    swarm: str = ""
    persona: str = ""
    identity: Identity | None = None
    policy: PersonaPolicy = PersonaPolicy()
    charter: str = ""
    hibernates: bool = False
    draining: bool = False
    ends_at: datetime | None = None
    sealed: bool = False
    reaped: bool = False

    step: int = 0
    cycle: int = 0
    phase: Phase | None = None
    fresh: bool = False
    at: datetime = datetime.min
    useful_at: datetime = datetime.min
    next_in_ms: int = 0
    errors: int = 0
    notice: str = ""
    cooling: bool = False
    thought_id: str | None = None
    thought_seq: int = 0
    correlation: str | None = None
    traceparent: str | None = None

    observed_seq: int = 0
    cycle_seq: int = 0
    heard_seq: int = 0
    looked_at: datetime | None = None
    cycle_at: datetime | None = None
    said: tuple[str, ...] = ()
    recent: tuple[Note, ...] = ()
    hypotheses: tuple[Held, ...] = ()
    topics: tuple[tuple[str, int], ...] = ()
    proposals: tuple[tuple[str, str], ...] = ()
    births: tuple[tuple[str, str], ...] = ()
    """Of these, the children that are proposed, with the source each is to perceive alone, or nothing."""
    outcomes: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = ()

    assigned: tuple[Assigned, ...] = ()
    attending: str | None = None
    routes_ended: tuple[tuple[str, int], ...] = ()

    grant: Grant | None = None
    cost: Credits | None = None
    asks: int = 0
    unanswered: int = 0
    asked_at: datetime | None = None
    ask_seq: int = 0
    answered: bool = False
    exhausted_until: datetime | None = None
    waited_at: datetime | None = None
    """When it last stood in line for credits."""

    @property
    def alive(self) -> bool:
        """Whether it may still think at all: born, without a last thought, not gone."""
        return self.identity is not None and not self.sealed and not self.reaped

    def over(self, now: datetime) -> bool:
        """Whether nothing may be said any more: what comes now might come after `persona.reaped`."""
        return not self.alive or (self.ends_at is not None and now >= self.ends_at)

    @property
    def resting(self) -> bool:
        """Whether no cycle is open: the next step begins one."""
        return not self.fresh and not self.hypotheses and self.phase != "observe"


def topic_key(topic: str) -> str:
    """A topic in the form it is remembered by."""
    return hashlib.sha256(topic.encode("utf-8", "replace")).hexdigest()[:16]


def moves_on(status: str, errors: int) -> bool:
    """Whether a thought of this status ends its phase, after `errors` failed ones in a row."""
    return status == "ok" or (status == "empty" and errors + 1 >= MAX_EMPTY)


def counted(state: State, message: Stored) -> State:
    """The state with its guards at this message of the persona. They count what is stored: also what cannot be read, what says
    nothing new, and what was said before its birth."""
    match message.subject.partition(".")[0]:
        case "thought":
            return msgspec.structs.replace(state, thought_seq=max(state.thought_seq, message.seq))
        case "grant":
            return msgspec.structs.replace(state, ask_seq=max(state.ask_seq, message.seq))
        case _:
            return state


def evolve(state: State, recorded: Recorded) -> State:
    """The state after one event of this persona. Before `persona.spawned` there is nobody to change."""
    event = recorded.event
    if isinstance(event, PersonaSpawned):
        return _born(state, recorded, event) if state.identity is None else state
    if state.identity is None or event.persona != state.persona or event.swarm != state.swarm:
        return state
    match event:
        case ThoughtGenerated():
            return _thought(state, recorded, event)
        case ObservationRecorded():
            return msgspec.structs.replace(state, heard_seq=max(state.heard_seq, recorded.seq))
        case HypothesisRaised():
            return _raised(state, event)
        case CheckRequested(beside=True):
            known = next((h.beside for h in state.hypotheses if h.id == event.hypothesis_id), ())
            beside = tuple(dict.fromkeys((*known, event.check_id)))[:MAX_BESIDE]
            return _held(state, event.hypothesis_id, beside=beside, asked_at=recorded.envelope.time)
        case CheckRequested():
            return _held(state, event.hypothesis_id, check_id=event.check_id, asked_at=recorded.envelope.time)
        case CheckResult():
            return _checked(state, recorded, event)
        case ProposalCreated() if event.proposal_id not in dict(state.proposals):
            proposals = (*state.proposals, (event.proposal_id, event.title))[-MAX_OPEN_PROPOSALS:]
            births, kept = state.births, dict(proposals)
            if event.action.kind == "persona.spawn":
                births = (
                    *births,
                    (event.proposal_id, source_of(words(str(event.action.params.get("tags", "")))) or ""),
                )
            return msgspec.structs.replace(state, proposals=proposals, births=tuple(b for b in births if b[0] in kept))
        case ProposalRejected():
            # who goes first, and by which rule; or what is wrong with it
            why = f": {event.detail}" if event.stage in ("arbitration", "verify") else ""
            return _ended(state, event.proposal_id, f"rejected at {event.stage}: {', '.join(event.reasons)}{why}")
        case ActionExecuted():
            return _done(state, recorded, event)
        case ReportGiven():
            return _told(state, recorded, event)
        case IntentAssigned():
            return goals.taken_up(state, recorded, event)
        case IntentAnswered() | IntentReleased():
            return goals.ended(state, event)
        case GrantRequested():
            return _asked(state, recorded, event)
        case BudgetGranted():
            grant = Grant(id=event.grant_id, credits=event.credits, expires_at=event.expires_at)
            return msgspec.structs.replace(state, grant=grant, answered=True, unanswered=0, exhausted_until=None)
        case BudgetExhausted():
            return msgspec.structs.replace(
                state,
                answered=True,
                unanswered=0,
                exhausted_until=event.retry_at,
                waited_at=recorded.envelope.time,
            )
        case PersonaDraining():
            time_left = max(timedelta(), min(event.deadline - recorded.envelope.time, MAX_DRAIN))
            return msgspec.structs.replace(state, draining=True, ends_at=recorded.envelope.time + 2 * time_left)
        case PersonaReaped() | ThoughtSealed():
            return msgspec.structs.replace(state, reaped=True)
        case _:
            return state


def _born(unborn: State, recorded: Recorded, event: PersonaSpawned) -> State:
    return State(
        thought_seq=unborn.thought_seq,
        ask_seq=unborn.ask_seq,
        swarm=event.swarm,
        persona=event.persona,
        identity=event.identity,
        policy=event.policy,
        charter=charter_sha256(event.identity),
        hibernates=event.hibernates,
        at=recorded.envelope.time,
        useful_at=recorded.envelope.time,
        looked_at=recorded.envelope.time,
        cycle_at=recorded.envelope.time,
    )


def _thought(state: State, recorded: Recorded, event: ThoughtGenerated) -> State:
    if event.step <= state.step:
        # no step of this history, but stored on its boundary: a guard counts what is stored
        return msgspec.structs.replace(state, thought_seq=max(state.thought_seq, recorded.seq))
    on = moves_on(event.status, state.errors)
    ok = event.status == "ok"
    grant = state.grant
    if grant is not None and grant.id == event.grant_id:
        spent = Credits(
            tokens=grant.spent.tokens + event.usage.tokens,
            compute_ms=grant.spent.compute_ms + event.usage.compute_ms,
            cost_microusd=grant.spent.cost_microusd + event.usage.cost_microusd,
        )
        grant = msgspec.structs.replace(grant, spent=spent, thoughts=grant.thoughts + 1)
    cost = state.cost
    if event.grant_id is not None:
        latest = Credits(
            tokens=min(event.usage.tokens, MAX_COST),
            compute_ms=min(event.usage.compute_ms, MAX_COST),
            cost_microusd=min(event.usage.cost_microusd, MAX_COST),
        )
        cost = latest if cost is None else _smoothed(cost, latest)
    fresh = state.fresh
    if on:
        fresh = event.phase == "observe" or (fresh and event.phase != "compress")
    looks = on and event.assignment is None and event.phase in ("observe", "reflect")
    hypotheses = state.hypotheses
    if on and event.phase == "compress":
        hypotheses = ()
    elif on and event.phase == "test":
        hypotheses = tuple(msgspec.structs.replace(h, taken=h.taken or h.result is not None) for h in hypotheses)
    recent, said = state.recent, state.said
    if ok:
        recent = (*recent, Note(id=recorded.id, phase=event.phase, text=event.text[:NOTE_CHARS]))[-KEPT_NOTES:]
    if ok and event.assignment is None:  # what is asked twice may be answered alike
        word = saying(event.phase, event.digest)
        said = (*said, next((known for known in said if known == word), word))[-WINDOW:]  # an idle one repeats itself
    return msgspec.structs.replace(
        state,
        step=event.step,
        cycle=event.cycle if on else state.cycle,
        phase=event.phase if on else state.phase,
        fresh=fresh,
        at=recorded.envelope.time,
        useful_at=event.useful_at,
        next_in_ms=min(event.next_in_ms, MAX_REST_MS),
        errors=0 if on else state.errors + 1,
        notice=event.notice,
        cooling=event.notice == COOL_DOWN and (fresh or state.fresh),
        thought_id=recorded.id,
        thought_seq=recorded.seq,
        correlation=recorded.envelope.correlation,
        traceparent=recorded.envelope.traceparent,
        observed_seq=max(state.observed_seq, event.observed_seq),
        cycle_seq=state.observed_seq if on and state.resting else state.cycle_seq,
        looked_at=recorded.envelope.time if looks else state.looked_at,
        cycle_at=state.looked_at if on and state.resting else state.cycle_at,
        said=said,
        recent=recent,
        hypotheses=hypotheses,
        outcomes=() if ok else state.outcomes,
        outputs=tuple(
            one for one in state.outputs if one.ref.id not in event.context_ids
        )  # what came meanwhile is yet to be shown
        if ok and event.phase != "observe"
        else state.outputs,
        assigned=state.assigned
        if event.assignment is None
        else goals.charged(state.assigned, event.assignment, event.usage),
        attending=event.assignment,
        grant=grant,
        cost=cost,
        sealed=event.final and state.draining,
    )


def _smoothed(cost: Credits, latest: Credits) -> Credits:
    """An exponential mean over about four thoughts, rounded up."""
    return Credits(
        tokens=(3 * cost.tokens + latest.tokens + 3) // 4,
        compute_ms=(3 * cost.compute_ms + latest.compute_ms + 3) // 4,
        cost_microusd=(3 * cost.cost_microusd + latest.cost_microusd + 3) // 4,
    )


def _raised(state: State, event: HypothesisRaised) -> State:
    if any(h.id == event.hypothesis_id for h in state.hypotheses):
        return state
    held = Held(
        id=event.hypothesis_id,
        topic=event.topic,
        claim=event.claim,
        confidence=event.confidence,
        evidence=event.evidence,
        assignment=event.assignment,
    )
    hypotheses = (*state.hypotheses, held)[-MAX_OPEN_HYPOTHESES:]
    if event.assignment is not None:
        return msgspec.structs.replace(state, hypotheses=hypotheses)
    key = topic_key(event.topic)
    newest = max((ref.seq for ref in event.evidence), default=0)
    topics = (*(t for t in state.topics if t[0] != key), (key, newest))[-KEPT_TOPICS:]
    return msgspec.structs.replace(state, hypotheses=hypotheses, topics=topics)


def _held(state: State, hypothesis_id: str, **changes: object) -> State:
    return msgspec.structs.replace(
        state,
        hypotheses=tuple(
            msgspec.structs.replace(h, **changes) if h.id == hypothesis_id else h for h in state.hypotheses
        ),
    )


def _checked(state: State, recorded: Recorded, event: CheckResult) -> State:
    held = next((h for h in state.hypotheses if event.check_id in h.beside), None)
    if held is not None:
        if any(told.check_id == event.check_id for told in held.told):
            return state
        kept = msgspec.structs.replace(event, findings=event.findings[:BESIDE_CHARS])
        return _held(state, held.id, told=(*held.told, kept))
    known = any(h.check_id == event.check_id and h.result is None for h in state.hypotheses) and not event.beside
    return (
        _held(state, event.hypothesis_id, result=event, result_id=recorded.id, result_seq=recorded.seq)
        if known
        else state
    )


def _done(state: State, recorded: Recorded, event: ActionExecuted) -> State:
    """What the target answered comes into the next context as an outsider's words, the newest of them."""
    title = dict(state.proposals).get(event.proposal_id)
    outputs = state.outputs
    if title is not None and event.output:
        ref = EvidenceRef(id=recorded.id, seq=recorded.seq)
        outputs = (*outputs, Output(ref=ref, title=title, text=event.output[:OUTPUT_CHARS]))[-KEPT_OUTPUTS:]
    ended = _ended(state, event.proposal_id, f"{event.outcome}: {event.summary}")
    return msgspec.structs.replace(ended, outputs=outputs)


_REPORTS = {"last": "last words of {by}", "end": "end of {by} ({reason})", "answer": "answer of {by} to {intent}"}


def _told(state: State, recorded: Recorded, event: ReportGiven) -> State:
    """What others tell of their work is as much an outsider's word as what an action was answered."""
    by = event.by.rpartition("/")[2] or "several"
    title = _REPORTS[event.kind].format(by=by, reason=event.reason, intent=event.of_intent or "what was asked")
    ref = EvidenceRef(id=recorded.id, seq=recorded.seq)
    output = Output(ref=ref, title=title[:OUTCOME_CHARS], text=event.text[:OUTPUT_CHARS])
    return msgspec.structs.replace(state, outputs=(*state.outputs, output)[-KEPT_OUTPUTS:])


def _ended(state: State, proposal_id: str, outcome: str) -> State:
    title = dict(state.proposals).get(proposal_id)
    if title is None:
        return state
    return msgspec.structs.replace(
        state,
        proposals=tuple(p for p in state.proposals if p[0] != proposal_id),
        births=tuple(b for b in state.births if b[0] != proposal_id),
        outcomes=(*state.outcomes, f"{title!r} {outcome}"[:OUTCOME_CHARS])[-KEPT_OUTCOMES:],
    )


def _asked(state: State, recorded: Recorded, event: GrantRequested) -> State:
    """A request that needs nothing only closes a grant, and waits for no answer."""
    closes = state.grant is not None and state.grant.id == event.closing
    waits = event.need != Credits()
    return msgspec.structs.replace(
        state,
        grant=None if closes else state.grant,
        asks=state.asks + 1,
        unanswered=state.unanswered + waits,
        ask_seq=recorded.seq,
        asked_at=recorded.envelope.time if waits else state.asked_at,
        answered=state.answered and not waits,
        exhausted_until=None if waits else state.exhausted_until,
    )
