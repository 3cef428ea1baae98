"""What must hold of intents in any log at every prefix; fed by `log`, which has collected what runners said before.

An intent has at most one end; nobody is assigned after it, nor without budget, nor twice; what children, open routes and ended ones have
is within its budget; whoever had it and did not answer is released; an answer counts once, from who had the route it names; a child
comes with what its parent gives it, and ends with a parent that is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    IntentAccepted,
    IntentAnswered,
    IntentAssigned,
    IntentCancelled,
    IntentClosed,
    IntentDelegated,
    IntentEvent,
    IntentReleased,
    IntentReturned,
    IntentRouted,
    IntentSubmitted,
)
from shared.contracts.ids import EVERYONE
from shared.intents import Life, Route, Said, Whose, evolve, fits, thinks, total

Broken = Callable[[Recorded, str], None]
Key = tuple[str, str]
"""Home and id."""
Owed = tuple[str, str, str, int]
"""What is still to be said in the batch, of whom, and of which route."""


class IntentInvariants:
    """Feed it with `absorb`; `open()` are those that have no end yet."""

    def __init__(self, broken: Broken) -> None:
        self._broken = broken
        self._lives: dict[Key, Life] = {}
        self._owed: dict[Owed, Key] = {}
        self._assigned: dict[Key, set[Whose]] = {}
        self._answers: dict[str, tuple[Key, Whose, int]] = {}

    def open(self) -> list[str]:
        return [f"{home}.{name}" for (home, name), life in self._lives.items() if life.submitted and not life.ended]

    def absorb(self, recorded: Recorded) -> None:
        """Take the next event of the log."""
        event = recorded.event
        before = set(self._owed.values())
        if isinstance(event, IntentEvent):
            self._intent(recorded, event)
            if (getattr(event, "home", event.swarm), event.intent_id) in before:
                return  # the batch goes on
        if before and self._owed:
            self._broken(recorded, f"a batch ended, and it was not said: {sorted(self._owed)}")
            self._owed.clear()

    def _intent(self, recorded: Recorded, event: IntentEvent) -> None:
        match event:
            case IntentAnswered():
                whose = (event.swarm, event.persona)
                self._answers[recorded.id] = ((event.home, event.intent_id), whose, event.route)
            case IntentAssigned():
                self._assignment(recorded, event)
            case IntentReleased():
                self._paid("released", (event.home, event.intent_id), (event.swarm, event.persona), event.route)
            case _ if isinstance(event, Said):
                self._said(recorded, (event.swarm, event.intent_id), event)
            case _:
                pass

    def _said(self, recorded: Recorded, key: Key, event: Said) -> None:
        before = self._lives.get(key, Life())
        if event.persona != EVERYONE:
            self._broken(recorded, "an intent's life is of nobody in particular")
        match event:
            case IntentSubmitted():
                if before.submitted is not None:
                    self._broken(recorded, "it was submitted before")
                if event.parent_id is not None:
                    self._owe("delegated", (key[0], event.parent_id), (event.intent_id, ""), 0)
            case IntentDelegated():
                self._delegation(recorded, key, before, event)
            case IntentRouted():
                self._routes(recorded, key, before, event)
            case IntentReturned():
                self._return(recorded, key, before, event)
            case IntentAccepted():
                self._acceptance(recorded, key, before, event)
            case IntentCancelled():
                if before.ended:
                    self._broken(recorded, "it had ended before")
                self._paid("cancelled", key, (key[1], ""), 0)
                for child in before.children:
                    if not self._lives.get((key[0], child), Life()).ended:
                        self._owe("cancelled", (key[0], child), (child, ""), 0)
            case IntentClosed():
                if before.ended:
                    self._broken(recorded, "it had ended before")
                for route in before.open:
                    self._owe("released", key, route.whose, route.number)
            case _:
                pass
        after = self._lives[key] = evolve(before, recorded)
        if after.submitted is not None:
            used = total((after.spent, after.delegated, *(route.budget for route in after.open)))
            if not fits(used, after.submitted.budget):
                self._broken(recorded, f"{used} of its budget are used, which is {after.submitted.budget}")

    def _delegation(self, recorded: Recorded, key: Key, before: Life, event: IntentDelegated) -> None:
        child = self._lives.get((key[0], event.child_id), Life()).submitted
        if before.ended:
            self._broken(recorded, "it had ended, and something was made of it")
        if child is None or child.parent_id != key[1] or child.budget != event.budget:
            self._broken(recorded, f"{event.child_id} is not a child of it with that budget")
        self._paid("delegated", key, (event.child_id, ""), 0)

    def _routes(self, recorded: Recorded, key: Key, before: Life, event: IntentRouted) -> None:
        if before.ended:
            self._broken(recorded, "it was routed after its end")
        if before.submitted is None:
            self._broken(recorded, "nobody submitted it")
        if not thinks(event.budget):
            self._broken(recorded, "a route without budget")
        if event.route != before.rounds + 1:
            self._broken(recorded, f"route {event.route} follows {before.rounds}")
        had = self._assigned.setdefault(key, set())
        for one in event.to:
            if (one.swarm, one.persona) in had:
                self._broken(recorded, f"{one.swarm}.{one.persona} had it before")
            had.add((one.swarm, one.persona))
            self._owe("assigned", key, (one.swarm, one.persona), event.route)

    def _assignment(self, recorded: Recorded, event: IntentAssigned) -> None:
        key, whose = (event.home, event.intent_id), (event.swarm, event.persona)
        route = self._route(key, whose, event.route)
        if route is None or (route.budget, route.until) != (event.budget, event.until):
            self._broken(recorded, "it is assigned what was not routed to it")
        self._paid("assigned", key, whose, event.route)

    def _return(self, recorded: Recorded, key: Key, before: Life, event: IntentReturned) -> None:
        whose = (event.of_swarm, event.of_persona)
        if before.route_of(whose, event.route) is None:
            self._broken(recorded, "a route ends that was not open")
        if event.reason != "declined":
            self._owe("released", key, whose, event.route)

    def _acceptance(self, recorded: Recorded, key: Key, before: Life, event: IntentAccepted) -> None:
        whose = (event.by.swarm, event.by.persona)
        if before.ended or before.route_of(whose, event.route) is None:
            self._broken(recorded, "an answer counts of a route that was not open")
        if self._answers.get(event.by.answer_id) != (key, whose, event.route):
            self._broken(recorded, "an answer counts that its persona did not give")

    def _route(self, key: Key, whose: Whose, number: int) -> Route | None:
        return self._lives.get(key, Life()).route_of(whose, number)

    def _owe(self, what: str, key: Key, whose: Whose, number: int) -> None:
        self._owed[what, ".".join(whose), key[1], number] = key

    def _paid(self, what: str, key: Key, whose: Whose, number: int) -> None:
        self._owed.pop((what, ".".join(whose), key[1], number), None)
