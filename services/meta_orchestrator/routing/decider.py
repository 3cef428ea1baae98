"""Who gets an intent, until when, and what came of it. One intent is one boundary, `intent.*.<home>.all.<id>`.

Theory of operation. Whatever happens to an intent, the same question is asked of its life afterwards (`_go_on`): are the answers all
there (close it), is it due (close it with what there is), does it want somebody and can it pay for one (`Choose`), or is it waited for?
So a crash between any two commits is mended by whatever comes next: the message that was not acknowledged, or the timer.

    submitted ── Choose ─→ routed + assigned each ──┬─ answered, heard ─→ accepted ── all there ─→ closed + released each
        │                     ↑                     ├─ declined ────────→ returned ──────────┐
        └─ nobody ─→ delayed ─┴─ at its time        └─ expired, gone ───→ returned + released ┴→ Choose again

A route is a lease: `intent.routed` comes back as its own durable timer until its time is over; so does `intent.delayed`. No persona has an
intent twice. An answer counts only from who holds the route it names (a runner's word is judged before it comes here), and once:
`accepted` ends the route. What comes after its route or the intent ended is `dissented`, once a persona. Who was reaped, drains, or
can have no credits before its lease is over is told by a tick, which the reconciler makes of what it follows (`reconciling`).

One message brings about at most one route or delay, for their ids derive from it: one that is delivered again, long after, drives nothing.
Each end of a route has a message of its own that has driven nothing yet, and behind that of a tick there is the route's timer.

Budget: a round gives each an equal part and, while there may be further rounds, keeps one part back. A part of nothing is no route.

Invariants: at most one of closed and cancelled (the gateway guards its cancellation by the same boundary); what children, open routes
and ended ones have is never more than the budget; nobody is assigned after the end; who had it and did not answer is released.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from services.meta_orchestrator.routing.closing import closed, ends, of_life
from shared.contracts import boundaries
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AnyEvent,
    Candidate,
    Contribution,
    Credits,
    EvidenceRef,
    IntentAccepted,
    IntentAnswered,
    IntentAssigned,
    IntentCancelled,
    IntentDelayed,
    IntentDissented,
    IntentReturned,
    IntentRouted,
    IntentSubmitted,
)
from shared.contracts.ids import EVERYONE, LifeId, Token, caused_id
from shared.contracts.text import lines, plain
from shared.decider import NOTHING, Boundary, Decision, Delivered, Effect, Input, Performed, Result, Tick
from shared.intents import Life, Said, Whose, applied, part, thinks
from shared.intents import evolve as evolve_life

MAX_EVIDENCE = 64
"""Of one answer, that is looked up."""
FIRST_DELAY_S, MAX_DELAY_S = 5.0, 3600.0
"""How soon somebody is looked for again; twice as long each time."""

State = Life


class Choose(Effect, frozen=True, kw_only=True):
    """Who is best for it now? At most `count` of those who never had it."""

    home: Token
    goal: str
    tags: tuple[Token, ...] = ()
    wanted_swarm: Token | None = None
    wanted_persona: Token | None = None
    among: tuple[Token, ...] = ()
    past: tuple[Whose, ...] = ()
    count: int = 1


class Chosen(Result, frozen=True, kw_only=True):
    """The best first, more than were asked for; `nobody` says why there is none. A route lasts `lease_s`."""

    best: tuple[Candidate, ...] = ()
    reason: str = ""
    nobody: str = ""
    lease_s: float = 300.0


class Hear(Effect, frozen=True, kw_only=True):
    """Look up what the answer cites, as the persona may read it."""

    swarm: Token
    persona: Token
    evidence: tuple[EvidenceRef, ...]


class Heard(Result, frozen=True, kw_only=True):
    """What of it is there. `clean`: all of it is more than somebody's word, and untainted."""

    found: tuple[EvidenceRef, ...] = ()
    clean: bool = False


class Gone(Result, frozen=True, kw_only=True):
    """A tick's fact: a persona that has it can answer no more."""

    intent_id: LifeId
    whose: Whose
    reason: Literal["draining", "reaped", "no_budget"]


class Look(Result, frozen=True, kw_only=True):
    """A tick's fact: somebody may be suitable now, or what was to happen to it by now has not happened."""

    intent_id: LifeId


def initial() -> State:
    """Nothing known."""
    return Life()


def evolve(state: State, recorded: Recorded) -> State:
    """See `shared.intents`."""
    return evolve_life(state, recorded)


def boundary(message: Delivered | Tick) -> Boundary | None:
    """The intent's life, which its submission opens. An answer that comes in a crowd is dropped: its route ends with its time."""
    match message:
        case Tick(facts=Gone(intent_id=intent_id) | Look(intent_id=intent_id), swarm=home):
            return _of(home, intent_id)
        case Delivered(crowd=crowd) if crowd:
            return None
        case Delivered(recorded=Recorded(event=IntentAnswered() as event)):
            return _of(event.home, event.intent_id)
        case Delivered(recorded=Recorded(event=IntentSubmitted() as event)):
            return _of(event.swarm, event.intent_id, opens=True)
        case Delivered(recorded=Recorded(event=IntentCancelled() | IntentRouted() | IntentDelayed() as event)):
            return _of(event.swarm, event.intent_id)
        case _:
            return None


def _of(home: str, intent_id: str, *, opens: bool = False) -> Boundary:
    guard = boundaries.intent(home, intent_id)
    return Boundary(reads=(guard,), guards=(guard,), opens=opens)


def decide(state: State, message: Input) -> Decision:
    """See the module's theory of operation."""
    submitted = state.submitted
    if submitted is None:
        return NOTHING
    cause = message.cause if isinstance(message, Performed) else message
    event = cause.recorded.event if isinstance(cause, Delivered) else None
    if state.ended:
        if state.cancelled is not None:
            return Decision(events=ends(submitted, state.open, "cancelled")) if state.open else NOTHING
        return _dissent(state, submitted, cause) or NOTHING
    match message:
        case Performed(result=Chosen() as chosen):
            return _route(state, submitted, chosen, message.now, cause)
        case Performed(effect=Hear(), result=Heard() as heard, cause=Delivered(recorded=recorded)):
            return _accept(state, submitted, recorded, heard, message)
        case Tick(facts=Gone() as gone):
            routes = tuple(route for route in state.open if route.whose == gone.whose)
            return _go_on(state, submitted, ends(submitted, routes, gone.reason), message.now, cause)
        case Tick():
            routes = tuple(route for route in state.open if route.until <= message.now)
            return _go_on(state, submitted, ends(submitted, routes, "expired"), message.now, cause)
        case Delivered(recorded=recorded) if isinstance(event, IntentAnswered):
            return _answered(state, submitted, event, message)
        case Delivered() if isinstance(event, IntentRouted):
            return _timer(state, submitted, event, message)
        case Delivered() if isinstance(event, IntentDelayed) and event == state.delayed and message.now < event.until:
            return Decision(retry_s=_seconds(event.until - message.now))
        case _:
            return _go_on(state, submitted, (), message.now, cause)


# -- what ends a route ------------------------------------------------------------------------------------------------


def _timer(state: State, submitted: IntentSubmitted, event: IntentRouted, message: Delivered) -> Decision:
    """The route is its own timer."""
    now = message.now
    routes = tuple(route for route in state.open if route.number == event.route)
    if routes and now < event.until:
        return Decision(retry_s=_seconds(event.until - now))
    return _go_on(state, submitted, ends(submitted, routes, "expired"), now, message)


def _answered(state: State, submitted: IntentSubmitted, event: IntentAnswered, message: Delivered) -> Decision:
    route = state.route_of((event.swarm, event.persona), event.route)
    if route is None:
        return _dissent(state, submitted, message) or _go_on(state, submitted, (), message.now, message)
    if not event.declined:
        return Decision(effect=Hear(swarm=event.swarm, persona=event.persona, evidence=_cited(event)))
    returned = IntentReturned(
        **of_life(submitted),
        of_swarm=event.swarm,
        of_persona=event.persona,
        route=event.route,
        reason="declined",
        detail=plain(event.answer, 200),
        spent=event.spent,
    )
    return _go_on(state, submitted, (returned,), message.now, message)


def _accept(state: State, submitted: IntentSubmitted, recorded: Recorded, heard: Heard, message: Performed) -> Decision:
    event = recorded.event
    if not isinstance(event, IntentAnswered) or state.route_of((event.swarm, event.persona), event.route) is None:
        return NOTHING
    accepted = IntentAccepted(
        **of_life(submitted),
        by=_contribution(recorded, event),
        route=event.route,
        answer=lines(event.answer, 8000),
        evidence=heard.found,
        unresolved=len(event.evidence) - len(heard.found),
        spent=event.spent,
        tainted=event.tainted or submitted.tainted or not heard.clean,
    )
    return _go_on(state, submitted, (accepted,), message.now, message.cause)


def _dissent(state: State, submitted: IntentSubmitted, cause: Delivered | Tick) -> Decision | None:
    """What a persona says that had it and has it no more: kept, once."""
    if not isinstance(cause, Delivered) or not isinstance(event := cause.recorded.event, IntentAnswered):
        return None
    whose = (event.swarm, event.persona)
    heard = whose in state.late or any((a.by.swarm, a.by.persona) == whose for a in state.answers)
    if event.declined or heard or (whose, event.route) not in state.past:
        return None
    late = _contribution(cause.recorded, event)
    return Decision(events=(IntentDissented(**of_life(submitted), late=late, route=event.route),))


# -- what comes next --------------------------------------------------------------------------------------------------


def _go_on(
    state: State,
    submitted: IntentSubmitted,
    events: tuple[AnyEvent, ...],
    now: datetime,
    cause: Delivered | Tick,
) -> Decision:
    """What follows from the life with these events in it."""
    after = state
    for event in events:
        after = applied(after, event) if isinstance(event, Said) else after
    if len(after.answers) >= (1 if submitted.merge == "first" else submitted.fan_out):
        return Decision(events=(*events, *closed(after, submitted)))
    if now >= submitted.deadline:
        return Decision(events=(*events, *closed(after, submitted, "deadline")))
    waits = after.delayed is not None and now < after.delayed.until and not isinstance(cause, Tick)
    if not after.wanted or waits or _drove(state, submitted, cause):
        return Decision(events=events) if events else NOTHING
    if (why := _spent_up(after, submitted)) is not None:
        return Decision(events=(*events, *(() if after.open else closed(after, submitted, why))))
    effect = Choose(
        home=submitted.swarm,
        goal=submitted.goal,
        tags=submitted.tags,
        wanted_swarm=submitted.wanted_swarm,
        wanted_persona=submitted.wanted_persona,
        among=submitted.among,
        past=tuple(dict.fromkeys(whose for whose, _ in after.past)),
        count=after.wanted,
    )
    return Decision(events=events, effect=effect)


def _drove(life: Life, submitted: IntentSubmitted, cause: Delivered | Tick) -> bool:
    """Whether a route or a delay of it followed from this message already."""
    cause_id = cause.recorded.id if isinstance(cause, Delivered) else cause.id
    whose = f"{submitted.swarm}.{EVERYONE}.{submitted.intent_id}"
    return any(caused_id(cause_id, f"intent.{verb}.{whose}") in life.steps for verb in ("routed", "delayed"))


def _spent_up(life: Life, submitted: IntentSubmitted) -> str | None:
    """Why nobody more can have it."""
    if life.rounds >= submitted.max_routes:
        return "routes_used_up"
    return None if thinks(_share(life, submitted, life.wanted)) else "no_budget"


def _share(life: Life, submitted: IntentSubmitted, count: int) -> Credits:
    """What each of so many gets: the last round shares out all there is, any other keeps one part back."""
    keeps = life.rounds + 1 < submitted.max_routes
    return part(life.left, max(1, count + keeps))


def _route(
    state: State, submitted: IntentSubmitted, chosen: Chosen, now: datetime, cause: Delivered | Tick
) -> Decision:
    """Assign it to the best that never had it; with nobody, wait and say so, or be content with the answers there are."""
    if (settled := _go_on(state, submitted, (), now, cause)).effect is None:
        return settled  # meanwhile it was answered, is due, or is had by others
    past = {whose for whose, _ in state.past}
    best = tuple(c for c in chosen.best if (c.swarm, c.persona) not in past)[: state.wanted]
    if not best:
        return _nobody(state, submitted, chosen, now)
    until = min(submitted.deadline, now + timedelta(seconds=chosen.lease_s))
    number, budget = state.rounds + 1, _share(state, submitted, len(best))
    routed = IntentRouted(
        **of_life(submitted),
        to=best,
        until=until,
        route=number,
        budget=budget,
        why=chosen.best[:32],
        reason=plain(chosen.reason, 1000),
    )
    assigned = (
        IntentAssigned(
            swarm=candidate.swarm,
            persona=candidate.persona,
            intent_id=submitted.intent_id,
            home=submitted.swarm,
            goal=submitted.goal,
            tags=submitted.tags,
            priority=submitted.priority,
            merge=submitted.merge,
            options=submitted.options,
            until=until,
            budget=budget,
            route=number,
            principal=submitted.principal,
            tainted=submitted.tainted,
        )
        for candidate in best
    )
    return Decision(events=(routed, *assigned))


def _nobody(state: State, submitted: IntentSubmitted, chosen: Chosen, now: datetime) -> Decision:
    if state.open:
        return NOTHING  # whoever has it is waited for; the end of that route asks again
    if state.answers:
        return Decision(events=closed(state, submitted))
    if state.delayed is not None and now < state.delayed.until:
        return NOTHING
    pause_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(state.delays, 20))
    delayed = IntentDelayed(
        **of_life(submitted),
        reason="nobody_suitable",
        detail=plain(chosen.nobody, 1000),
        until=min(submitted.deadline, now + timedelta(seconds=pause_s)),
    )
    return Decision(events=(delayed,))


# -- parts ------------------------------------------------------------------------------------------------------------


def _cited(event: IntentAnswered) -> tuple[EvidenceRef, ...]:
    """Each once, as many as are looked up."""
    return tuple({(ref.seq, ref.id): ref for ref in event.evidence}.values())[:MAX_EVIDENCE]


def _contribution(recorded: Recorded, event: IntentAnswered) -> Contribution:
    return Contribution(
        swarm=event.swarm,
        persona=event.persona,
        answer_id=recorded.id,
        seq=recorded.seq,
        confidence=round(event.confidence, 3),
        choice=plain(event.choice, 120),
        text=plain(event.answer, 600),
    )


def _seconds(span: timedelta) -> float:
    return max(0.01, span.total_seconds())
