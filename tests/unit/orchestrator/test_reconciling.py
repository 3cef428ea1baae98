"""What is found about intents that no message tells of: who had one and is gone, unless its answer is said already."""

from __future__ import annotations

from typing import Any, cast

import pytest
from routing_model import NOW, Desk

from services.meta_orchestrator.routing.decider import Gone
from services.meta_orchestrator.routing.reconciling import Reconciling
from services.meta_orchestrator.routing.roster import Roster
from shared.contracts.events import IntentAnswered, PersonaReaped, PersonaSpawned
from shared.contracts.persona import Identity, PersonaPolicy


class Words:
    dim = 2


def found(desk: Desk, *, begun: int = 0) -> list[str]:
    """Who is found gone, by one that began to tick when so many events were past."""

    async def never(tick: object) -> None:
        raise AssertionError

    roster = Roster(cast(Any, Words()))
    reconciling = Reconciling(roster, never)
    for number, recorded in enumerate(desk.store.records):
        if number == begun:
            reconciling.begin()
        roster.apply(recorded)
        reconciling.apply(recorded)
    if begun >= len(desk.store.records):
        reconciling.begin()
    gone = []
    while (tick := reconciling.next(NOW)) is not None:
        gone += [tick.facts.whose[1]] if isinstance(tick.facts, Gone) else []
    return gone


def lived() -> Desk:
    """p1 and p2, of whom p1 has the intent."""
    desk = Desk("p1", "p2")
    for name in ("p1", "p2"):
        identity = Identity(id=name, name=name, role="r", charter="look", swarm_id="alpha", depth=0, created_at=NOW)
        desk.put(PersonaSpawned(swarm="alpha", persona=name, identity=identity, policy=PersonaPolicy()))
    desk.submit()
    return desk


def ended(persona: str) -> PersonaReaped:
    return PersonaReaped(swarm="alpha", persona=persona, reason="its charter is done")


def answered(persona: str, route: int = 1) -> IntentAnswered:
    return IntentAnswered(swarm="alpha", persona=persona, intent_id="i-1", home="alpha", route=route, slot="r1")


@pytest.mark.parametrize("at_the_start", [False, True])
def test_who_answered_and_then_ended_is_judged_by_its_answer(at_the_start: bool) -> None:
    desk = lived()
    desk.put(answered("p1"))
    desk.put(ended("p1"))
    begun = len(desk.store.records) if at_the_start else 0
    assert [] == found(desk, begun=begun)


@pytest.mark.parametrize("at_the_start", [False, True])
@pytest.mark.parametrize("said", [None, answered("p1", route=2), answered("p2")])
def test_who_ended_without_an_answer_to_its_route_is_gone(said: IntentAnswered | None, at_the_start: bool) -> None:
    desk = lived()
    if said is not None:
        desk.put(said)
    desk.put(ended("p1"))
    begun = len(desk.store.records) if at_the_start else 0
    assert ["p1"] == sorted(set(found(desk, begun=begun)))
