"""Personas whose every proposal is another child: the family stays within its limits, whatever dies on the way.

SWARM_SEEDS=0-99 scripts/test tests/simulation/test_bomb.py
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from shared.contracts.action import Action
from shared.contracts.events import PersonaDraining, PersonaSpawned, ProposalCreated, SpawnRefused
from tests.simulation import outside, thinker
from tests.simulation.mesh import GOVERNOR, SWARM
from tests.simulation.seeds import seeds
from tests.simulation.world import World

STEPS = 250
BRANCHING, DEPTH = 2, 2


def bomb(dice: random.Random, serial: int) -> Action:
    """A child, and more than there is to give it."""
    greed = {"tokens_per_minute": 2**50, "compute_ms_per_minute": 2**50, "max_children": 1024, "idle_ttl_s": 0}
    params = {"name": "bomb", "role": "bomb", "charter": "Spawn.", **(greed if dice.random() < 0.5 else {})}
    return Action(kind="persona.spawn", target=f"b{serial}-{dice.randrange(10**6)}", params=params)


def test_a_model_that_proposes_children_without_end_gets_no_more_than_its_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outside, "spoken", bomb)
    monkeypatch.setattr(thinker, "spoken", bomb)
    reasons: Counter[str] = Counter()
    proposed = born = 0
    for seed in seeds(12):
        world = World(seed)
        for _ in range(STEPS // 10):
            world.chaos(10)
            world.propose()
        world.settle()
        assert [] == world.check(), seed
        living: dict[str, PersonaSpawned] = {}
        times = []
        for recorded in world.store.records:
            match recorded.event:
                case PersonaSpawned(swarm=swarm) as event if swarm == SWARM:
                    living[event.persona] = event
                    times.append(recorded.envelope.time)
                    born += event.proposal is not None
                case PersonaDraining(swarm=swarm, persona=persona) if swarm == SWARM:
                    living.pop(persona, None)
                case SpawnRefused(reason=reason, proposal=key) if key is not None:
                    reasons[reason] += 1
                case ProposalCreated(action=Action(kind="persona.spawn")):
                    proposed += 1
                case _:
                    pass
            for name, event in living.items():
                children = [one for one in living.values() if one.identity.parent_id == name]
                assert event.identity.depth <= DEPTH and len(children) <= max(
                    BRANCHING, event.policy.max_branching_factor
                )
                for child in children:
                    assert child.policy.token_budget_per_minute <= event.policy.token_budget_per_minute
                    assert child.policy.max_branching_factor <= event.policy.max_branching_factor
        quota = GOVERNOR.spawns_per_minute
        assert all((later - first).total_seconds() >= 60 for first, later in zip(times, times[quota:], strict=False))
    assert proposed > 3 * born > 0 and {"branching_limit", "depth_limit"} & set(reasons), (proposed, born, reasons)
