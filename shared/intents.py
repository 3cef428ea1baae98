"""An intent's life as its boundary tells it: who has it, which answers count, what is left of its budget.

Pure, and the same for whoever decides on it: the meta-orchestrator (who gets it), the gateway (whether a child may take part of its
budget, whether it can still be cancelled), and the invariants. Everything is on `boundaries.intent`, whose guard so guards all of it.

Conservation: what children have, what open routes have and what ended routes were charged with is never more than the budget. A route
that ended without the persona's word is charged in full, for nobody knows what it spent; what a child leaves unspent stays its own.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    Credits,
    IntentAccepted,
    IntentCancelled,
    IntentClosed,
    IntentDelayed,
    IntentDelegated,
    IntentDissented,
    IntentReturned,
    IntentRouted,
    IntentSubmitted,
)
from shared.contracts.events.intents import MAX_FAN_OUT, MAX_ROUTES
from shared.contracts.ids import Instant

MAX_CHILDREN = 16
"""Of one intent."""
MAX_FAMILY = 128
"""Intents that are open below one, which are cancelled with it in one batch."""
KEPT_STEPS = 128
MOST = 2**53
Whose = tuple[str, str]
"""Swarm and persona."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One persona that has it until `until`."""

    whose: Whose
    number: int
    until: Instant
    budget: Credits


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One intent so far. `steps` are the ids of its last routes and delays; `past` is who ever had it, by which route; `reasons` why
    routes ended; `late` whose dissent is kept."""

    submitted: IntentSubmitted | None = None
    submitted_id: str = ""
    submitted_at: Instant | None = None
    seq: int = 0
    rounds: int = 0
    steps: tuple[str, ...] = ()
    open: tuple[Route, ...] = ()
    past: tuple[tuple[Whose, int], ...] = ()
    answers: tuple[IntentAccepted, ...] = ()
    reasons: tuple[str, ...] = ()
    late: tuple[Whose, ...] = ()
    spent: Credits = Credits()
    delegated: Credits = Credits()
    children: tuple[str, ...] = ()
    delayed: IntentDelayed | None = None
    delays: int = 0
    cancelled: IntentCancelled | None = None
    closed: IntentClosed | None = None

    @property
    def ended(self) -> bool:
        return self.cancelled is not None or self.closed is not None

    @property
    def wanted(self) -> int:
        """How many more personas are to have it."""
        if self.submitted is None or self.ended:
            return 0
        return max(0, self.submitted.fan_out - len(self.answers) - len(self.open))

    @property
    def left(self) -> Credits:
        """Of its budget, neither spent nor given away."""
        if self.submitted is None:
            return Credits()
        used = total((self.spent, self.delegated, *(route.budget for route in self.open)))
        return minus(self.submitted.budget, used)

    def route_of(self, whose: Whose, number: int) -> Route | None:
        """The open route of a persona."""
        return next((r for r in self.open if r.whose == whose and r.number == number), None)


Said = (
    IntentSubmitted
    | IntentDelegated
    | IntentRouted
    | IntentDelayed
    | IntentReturned
    | IntentAccepted
    | IntentCancelled
    | IntentClosed
    | IntentDissented
)


def evolve(life: Life, recorded: Recorded) -> Life:
    """The life after an event of it. Unknown events change nothing but where it is."""
    event = recorded.event
    if isinstance(event, IntentSubmitted) and life.submitted is None:
        life = msgspec.structs.replace(life, submitted_id=recorded.id, submitted_at=recorded.envelope.time)
    after = applied(life, event) if isinstance(event, Said) else life
    steps = (
        (*after.steps, recorded.id)[-KEPT_STEPS:] if isinstance(event, IntentRouted | IntentDelayed) else after.steps
    )
    return msgspec.structs.replace(after, seq=recorded.seq, steps=steps)


def fold(records: Iterable[Recorded], life: Life = Life()) -> Life:  # noqa: B008 - frozen
    """The life that these events of one boundary make."""
    for recorded in records:
        life = evolve(life, recorded)
    return life


def applied(life: Life, event: Said) -> Life:
    """The life with what the event says; the first submission stands, and so does the first end."""
    replace = msgspec.structs.replace
    match event:
        case IntentSubmitted():
            return life if life.submitted is not None else replace(life, submitted=event)
        case IntentDelegated():
            children = (*life.children, event.child_id)[:MAX_CHILDREN]
            return replace(life, children=children, delegated=total((life.delegated, event.budget)))
        case IntentRouted():
            routes = tuple(
                Route(whose=(c.swarm, c.persona), number=event.route, until=event.until, budget=event.budget)
                for c in event.to
            )
            return replace(
                life,
                rounds=max(life.rounds, event.route),
                open=() if life.ended else (*life.open, *routes)[:MAX_FAN_OUT],
                past=(*life.past, *((r.whose, r.number) for r in routes))[: MAX_ROUTES * MAX_FAN_OUT],
                delayed=None,
            )
        case IntentDelayed():
            return replace(life, delayed=event, delays=life.delays + 1)
        case IntentReturned():
            whose = (event.of_swarm, event.of_persona)
            said = f"{whose[0]}.{whose[1]}: {event.reason}{f', {event.detail}' if event.detail else ''}"[:300]
            ended = _without(life, whose, event.route, event.spent)
            return replace(ended, reasons=(*life.reasons, said)[: MAX_ROUTES * MAX_FAN_OUT])
        case IntentAccepted():
            ended = _without(life, (event.by.swarm, event.by.persona), event.route, event.spent)
            return replace(ended, answers=(*life.answers, event)[:MAX_FAN_OUT])
        case IntentCancelled():
            return life if life.ended else replace(life, cancelled=event, delayed=None)
        case IntentClosed():
            return life if life.ended else replace(life, closed=event, open=(), delayed=None)
        case IntentDissented():
            return replace(life, late=(*life.late, (event.late.swarm, event.late.persona))[: MAX_ROUTES * MAX_FAN_OUT])


def _without(life: Life, whose: Whose, number: int, spent: Credits) -> Life:
    """The life without an open route; it was charged with no more than it had."""
    route = life.route_of(whose, number)
    if route is None:
        return life
    charged = total((life.spent, least(spent, route.budget)))
    return msgspec.structs.replace(life, open=tuple(r for r in life.open if r is not route), spent=charged)


def why_not_below(parent: Life, child: IntentSubmitted) -> str | None:
    """Why the child may not be made of this intent; None when it may."""
    if parent.submitted is None:
        return "there is no such intent to make it of"
    if parent.ended:
        return f"it has ended: {'cancelled' if parent.cancelled else 'closed'}"
    if len(parent.children) >= MAX_CHILDREN:
        return f"{MAX_CHILDREN} were made of it, which is the limit"
    if child.deadline > parent.submitted.deadline:
        return f"it is due before the child, at {parent.submitted.deadline.isoformat()}"
    if not fits(child.budget, parent.left):
        return f"of its budget {told(parent.left)} are left, not {told(child.budget)}"
    return None


# -- credits ------------------------------------------------------------------------------------------------------------

FIELDS = Credits.__struct_fields__


def total(credits: Iterable[Credits]) -> Credits:
    """Their sum; no number is larger than an event can say."""
    all_of_them = tuple(credits)
    return Credits(**{f: min(MOST, sum(getattr(c, f) for c in all_of_them)) for f in FIELDS})


def minus(credits: Credits, used: Credits) -> Credits:
    """What is left of them, nothing less than nothing."""
    return Credits(**{f: max(0, getattr(credits, f) - getattr(used, f)) for f in FIELDS})


def least(one: Credits, other: Credits) -> Credits:
    """Of each the smaller."""
    return Credits(**{f: min(getattr(one, f), getattr(other, f)) for f in FIELDS})


def part(credits: Credits, parts: int) -> Credits:
    """One of so many equal parts, rounded down."""
    return Credits(**{f: getattr(credits, f) // parts for f in FIELDS})


def fits(credits: Credits, room: Credits) -> bool:
    """Whether there is so much of each."""
    return all(getattr(credits, f) <= getattr(room, f) for f in FIELDS)


def thinks(credits: Credits) -> bool:
    """Whether a thought can be had for it: of a model by tokens, of rules by compute."""
    return credits.tokens > 0 or credits.compute_ms > 0


def told(credits: Credits) -> str:
    return ", ".join(f"{getattr(credits, f)} {f}" for f in FIELDS if getattr(credits, f)) or "nothing"
