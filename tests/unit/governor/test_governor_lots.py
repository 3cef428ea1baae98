"""How many actions who may do this minute: given, when, then. T0 is the start of a minute."""

from __future__ import annotations

import msgspec
import pytest

from services.governor.decider import Limits, State, lots_boundary
from shared.contracts.events import AnyEvent, Credits, GrantRequested, LotGranted, LotRequested, LotShare, ReapRequested
from tests.unit.governor.governor_model import T0, Swarm, at
from tests.unit.governor.test_governor_ledger import exhausted, swarm_of

WINDOW = int(T0.timestamp()) // 60


def limits(persona: int = 10, swarm: int = 25) -> Limits:
    return Limits(actions_per_minute=persona, swarm_per_minute=Credits(tokens=1000, actions=swarm))


def family(limits_: Limits | None = None) -> Swarm:
    return swarm_of(
        ("root", None, 100), ("a", "root", 100), ("b", "root", 100), ("x", None, 100), limits=limits_ or limits()
    )


def wants(actuator: str = "actuator-1", **wishes: int) -> LotRequested:
    shares = tuple(LotShare(persona=name, actions=actions) for name, actions in wishes.items())
    return LotRequested(swarm="s", persona=actuator, wants=shares)


def lot(events: list[AnyEvent]) -> tuple[dict[str, int], dict[str, str]]:
    """What was given, and whose limit held the rest."""
    (event,) = events
    assert isinstance(event, LotGranted)
    return {s.persona: s.actions for s in event.shares}, {s.persona: s.scope for s in event.held}


def test_a_lot_is_of_one_minute_and_one_actuator() -> None:
    swarm = family()
    (event,) = swarm.ask(wants(a=4), 5)
    assert isinstance(event, LotGranted)
    assert (event.persona, event.window, event.expires_at) == ("actuator-1", WINDOW, at(60))
    assert event.shares == (LotShare(persona="a", actions=4),)


def test_the_limit_of_a_persona_holds_for_all_below_it_over_all_actuators() -> None:
    swarm = family()
    assert lot(swarm.ask(wants(a=6), 1)) == ({"a": 6}, {})
    assert lot(swarm.ask(wants("actuator-2", b=6), 2)) == ({"b": 4}, {"b": "root"})
    assert lot(swarm.ask(wants(a=1, b=1, root=1, x=1), 3)) == ({"x": 1}, {"a": "root", "b": "root", "root": "persona"})
    assert lot(swarm.ask(wants(a=20), 60)) == ({"a": 10}, {"a": "persona"})


def test_the_limit_of_the_swarm_holds_over_all_its_personas() -> None:
    swarm = family(limits(persona=10, swarm=12))
    assert lot(swarm.ask(wants(a=10, x=10), 1)) == ({"a": 10, "x": 2}, {"x": "swarm"})
    assert lot(swarm.ask(wants(x=1), 2)) == ({}, {"x": "swarm"})


def test_zero_means_no() -> None:
    assert lot(family(limits(persona=0)).ask(wants(a=1), 1)) == ({}, {"a": "persona"})


def test_an_action_may_outlive_its_persona() -> None:
    swarm = family()
    swarm.ask(ReapRequested(swarm="s", persona="x"))
    assert lot(swarm.ask(wants(x=1, ghost=11), 1)) == ({"x": 1, "ghost": 10}, {"ghost": "persona"})


def test_a_request_is_answered_once_and_an_old_one_not_at_all() -> None:
    swarm = family()
    request = swarm.record(wants(a=6), 0)
    assert lot(swarm.deliver(request, 1)) == ({"a": 6}, {})
    assert [swarm.deliver(request, second) for second in (2, 29, 61, 100)] == [[], [], [], []]
    assert swarm.deliver(swarm.record(wants(a=1), 0), 31) == []


def test_a_slow_clock_gives_nothing_of_a_minute_that_is_over() -> None:
    swarm = family()
    swarm.ask(wants(a=10), 61)
    (event,) = swarm.ask(wants(a=10), 1)
    assert isinstance(event, LotGranted)
    assert (event.window, event.shares) == (WINDOW + 1, ())


@pytest.mark.parametrize("need", [Credits(actions=1), Credits(tokens=1, actions=1)])
def test_a_runner_gets_no_actions(need: Credits) -> None:
    assert exhausted(family().ask(GrantRequested(swarm="s", persona="a", need=need))) == ("persona", "actions")


def test_lots_survive_being_a_checkpoint() -> None:
    swarm = family()
    swarm.ask(wants(a=3, x=1))
    state = swarm.replica.state(lots_boundary("s"))
    assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state
