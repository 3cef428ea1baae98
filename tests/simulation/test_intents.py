"""Intents among all the others: two meta-orchestrators that lag and die, people who submit and cancel, runners who lie and come late."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from services.meta_orchestrator.routing import decider as routing
from services.meta_orchestrator.routing.wiring import DECIDES, TIMERS
from shared.contracts.events import IntentClosed, IntentReleased, IntentReturned, ReapRequested
from shared.decider import Boundary, Decision, Delivered, Input, Tick
from tests.simulation.seeds import seeds
from tests.simulation.world import World

STEPS = 70
ROUNDS = 12
SEEDS = seeds(160)


def busy(seed: int, *, buries: dict[str, float] | None = None) -> World:
    """A life with much work for the swarm: in chaos, then without faults while people and personas go on, then rest."""
    world = World(seed)
    world.buries = buries or {}
    world.asks, world.lies = 0.4, True
    world.chaos(STEPS)
    for number in range(ROUNDS):
        world.live(7, every_s=7)
        if number == ROUNDS // 2 and seed % 4 == 0:
            world.client(ReapRequested(swarm="alpha", persona="root", cascade=True, reason="test"))
        for _ in range(3):
            world.ask()
    world.settle()
    return world


def broken(world: World) -> list[str]:
    """What the log says that should not be, but for the lies that were put in."""
    return [violation for violation in world.check() if "it answers what it was not asked" not in violation]


@pytest.mark.timeout(900)
def test_every_intent_has_one_end_and_its_budget_is_conserved_whatever_dies() -> None:
    """And whole lives of intents are in it: chaos that nothing survives would prove nothing."""
    said: Counter[str] = Counter()
    for seed in SEEDS:
        world = busy(seed)
        assert broken(world) == [], f"seed {seed}; replay with SWARM_SEEDS={seed}"
        for recorded in world.store.records:
            event = recorded.event
            said[".".join(recorded.subject.split(".")[:2])] += 1
            if isinstance(event, IntentClosed):
                said[f"{event.outcome} {event.reason}"] += 1
            if isinstance(event, IntentReturned):
                said[event.reason] += 1
    wanted = {
        "intent.accepted", "intent.dissented", "intent.delegated", "intent.delayed", "intent.cancelled", "answered merged",
        "answered partial", "answered tie", "failed deadline", "failed no_budget", "failed routes_used_up", "declined", "expired",
        "cancelled", "draining",
    }  # fmt: skip
    print({what: said[what] for what in sorted(wanted)})
    assert len(SEEDS) < 100 or wanted <= said.keys(), wanted - said.keys()


def test_no_intent_depends_on_one_delivery() -> None:
    """Half of what a meta-orchestrator is delivered ends in the dead letters: the ends of routes, submissions, cancellations."""
    buried = 0
    for seed in range(16):
        world = busy(seed, buries=dict.fromkeys((*DECIDES, *TIMERS), 0.5))
        buried += world.buried
        assert broken(world) == [], seed
    assert buried > 100


def test_routing_that_does_not_guard_the_life_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation can fail: without the guard two route it at once, or it ends twice."""
    real = routing.boundary

    def unguarded(message: Delivered | Tick) -> Boundary | None:
        boundary = real(message)
        return boundary and Boundary(reads=boundary.reads, guards=())

    monkeypatch.setattr(routing, "boundary", unguarded)
    assert any(_found(seed) for seed in range(100))


def test_routing_that_tells_nobody_when_a_route_is_over_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = routing.decide

    def silent(state: routing.State, message: Input) -> Decision:
        decision = real(state, message)
        kept = tuple(event for event in decision.events if not isinstance(event, IntentReleased))
        return msgspec.structs.replace(decision, events=kept)

    monkeypatch.setattr(routing, "decide", silent)
    assert any(_found(seed) for seed in range(20))


def test_routing_that_gives_each_the_whole_budget_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "_share", lambda life, submitted, count: submitted.budget)
    assert any(_found(seed) for seed in range(40))


def _found(seed: int) -> bool:
    try:
        return bool(broken(busy(seed)))
    except Exception:
        return True
