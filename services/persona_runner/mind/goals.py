"""What a persona was asked for: the assignments it has, folded, and which of them its next step is for.

An assignment is open from `intent.assigned` until the persona's own `intent.answered`, an `intent.released`, or its `until`. One at a
time is worked on, in cycles of its own, so that what it costs is known and what the persona perceives meanwhile waits for no more
than one such cycle. Everything is bounded: `MAX_ASSIGNED` are held, of which those behind the first `MAX_WORKED` are declined at once;
what comes on top is not taken up, and its route ends by its time. After `MAX_THOUGHTS` an assignment is given up.

Route numbers of one intent only grow, so the newest that ended tells that an older one, come again, is over too.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    REPORT,
    Credits,
    EvidenceRef,
    IntentAnswered,
    IntentAssigned,
    IntentReleased,
    Usage,
)

if TYPE_CHECKING:
    from services.persona_runner.mind.state import Held, State

MAX_ASSIGNED, MAX_WORKED = 16, 8
MAX_ENDED = 64
"""Intents whose newest ended route is remembered."""
MAX_THOUGHTS = 12


class Assigned(msgspec.Struct, frozen=True, kw_only=True):
    """One open assignment. `id` and `seq` are of its event; `spent` is what the thoughts made for it have cost."""

    id: str
    seq: int
    intent_id: str
    home: str
    route: int
    goal: str
    options: tuple[str, ...]
    priority: int
    at: datetime
    until: datetime
    budget: Credits
    tainted: bool
    correlation: str
    traceparent: str | None = None
    report: bool = False
    spent: Credits = Credits()
    thoughts: int = 0

    @property
    def ref(self) -> EvidenceRef:
        return EvidenceRef(id=self.id, seq=self.seq)

    def left(self) -> Credits:
        """What may still be spent on it; never negative."""
        return Credits(
            tokens=max(0, self.budget.tokens - self.spent.tokens),
            compute_ms=max(0, self.budget.compute_ms - self.spent.compute_ms),
        )

    def after(self, usage: Usage) -> Credits:
        """What is spent on it, with one more thought."""
        return Credits(tokens=self.spent.tokens + usage.tokens, compute_ms=self.spent.compute_ms + usage.compute_ms)


def topic_for(assignment: str, topic: str) -> str:
    """The topic of a hypothesis that is raised for an assignment: the same may be a topic of the persona's own too."""
    return f"{assignment}: {topic}"


def topic_of(held: Held) -> str:
    """The topic without what it is for: as perception and thinkers know it."""
    return held.topic if held.assignment is None else held.topic.removeprefix(topic_for(held.assignment, ""))


def in_order(assigned: tuple[Assigned, ...]) -> list[Assigned]:
    """The more important, then what must be done sooner, then the older."""
    return sorted(assigned, key=lambda a: (-a.priority, a.until, a.seq))


def goal_of(state: State, *, unseen: bool) -> Assigned | None:
    """What the next step is made for: within a cycle what the cycle is for; else the first in order, unless the last cycle was for
    an assignment already and there is something unseen."""
    if not state.assigned or state.draining:
        return None
    if not state.resting:
        return next((a for a in state.assigned if a.id == state.attending), None)
    return None if unseen and state.attending is not None else in_order(state.assigned)[0]


def overflowing(state: State) -> list[Assigned]:
    """Those that more important ones leave no room for."""
    return in_order(state.assigned)[MAX_WORKED:]


# -- the fold --------------------------------------------------------------------------------------------------------


def taken_up(state: State, recorded: Recorded, event: IntentAssigned) -> State:
    """With one more assignment, unless its route is over, known or outdone by a newer one, or there is no room at all."""
    if dict(state.routes_ended).get(event.intent_id, 0) >= event.route:
        return state
    others = tuple(a for a in state.assigned if a.intent_id != event.intent_id)
    known = next((a for a in state.assigned if a.intent_id == event.intent_id), None)
    if (known is not None and known.route >= event.route) or len(others) >= MAX_ASSIGNED:
        return state
    if known is not None:
        state = _without(state, known)
    assigned = Assigned(
        id=recorded.id,
        seq=recorded.seq,
        intent_id=event.intent_id,
        home=event.home,
        route=event.route,
        goal=event.goal,
        options=event.options,
        priority=event.priority,
        at=recorded.envelope.time,
        until=event.until,
        budget=event.budget,
        tainted=event.tainted,
        correlation=recorded.envelope.correlation,
        traceparent=recorded.envelope.traceparent,
        report=REPORT in event.tags,
    )
    return msgspec.structs.replace(state, assigned=(*others, assigned))


def ended(state: State, event: IntentAnswered | IntentReleased) -> State:
    """Without the route that was answered or released, and those before it."""
    for assigned in state.assigned:
        if assigned.intent_id == event.intent_id and assigned.route <= event.route:
            state = _without(state, assigned)
    return _route_ended(state, event.intent_id, event.route)


def charged(assigned: tuple[Assigned, ...], assignment: str, usage: Usage) -> tuple[Assigned, ...]:
    """With one more thought made for this one."""
    return tuple(
        msgspec.structs.replace(a, spent=a.after(usage), thoughts=a.thoughts + 1) if a.id == assignment else a
        for a in assigned
    )


def current(state: State, now: datetime) -> State:
    """The state at a time: whose time is over is open no more, and what was asked for it either."""
    over = [a for a in state.assigned if a.until <= now]
    for assigned in over:
        state = _route_ended(_without(state, assigned), assigned.intent_id, assigned.route)
    return state


def _without(state: State, assigned: Assigned) -> State:
    """Work on it stops: its hypotheses are of no more use."""
    return msgspec.structs.replace(
        state,
        assigned=tuple(a for a in state.assigned if a is not assigned),
        hypotheses=tuple(h for h in state.hypotheses if h.assignment != assigned.id),
    )


def _route_ended(state: State, intent_id: str, route: int) -> State:
    before = dict(state.routes_ended)
    route = max(route, before.pop(intent_id, 0))
    return msgspec.structs.replace(state, routes_ended=(*before.items(), (intent_id, route))[-MAX_ENDED:])
