"""Children in swarms of their own, two governors and two meta-orchestrators, crashes between any two steps."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from shared.contracts.events import BudgetLimited, Credits, PersonaDraining, PersonaSpawned, ReapRequested, SpawnRefused
from shared.contracts.ids import EVERYONE
from tests.simulation.world import OTHER, SWARM, World

SEEDS = range(12)


@cache
def lived(seed: int) -> World:
    """A life that is at rest."""
    world = World(seed, founds=0.08)
    world.chaos(1500)
    world.settle()
    return world


def shares(world: World) -> dict[str, Credits]:
    written = (r.event for r in world.store.read(("budget.limited.*.*",)))
    return {e.swarm: e.credits for e in written if isinstance(e, BudgetLimited) and e.swarm != EVERYONE}


def living(world: World) -> set[tuple[str, str]]:
    born = {(r.event.swarm, r.event.persona) for r in world.store.read(("persona.spawned.*.*",))}
    return born - {(r.event.swarm, r.event.persona) for r in world.store.read(("persona.draining.*.*",))}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_law_holds_and_a_reap_reaches_all_below_in_whatever_swarm(seed: int) -> None:
    world = lived(seed)
    assert [] == world.check()
    for swarm, persona in ((SWARM, "root"), (OTHER, "root-b")):
        world.client(ReapRequested(swarm=swarm, persona=persona, cascade=True, reason="test"))
    for _ in range(6):
        world.sweep()
    assert [] == world.check()
    assert (set(), []) == (living(world), world.judged().unparted())
    has = shares(world)
    assert {} == {swarm: has[swarm] for swarm in world.begun() if has.get(swarm, Credits()) != Credits()}


def test_the_seeds_together_see_what_there_is_to_see() -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        world = lived(seed)
        begun = world.begun()
        seen["begun"] += len(begun)
        for recorded in world.store.records:
            match recorded.event:
                case PersonaSpawned(parent_swarm=source) if source in begun:
                    seen["a daughter's daughter"] += 1
                case SpawnRefused(reason=reason):
                    seen[reason] += 1
                case BudgetLimited(reason="ended"):
                    seen["ended"] += 1
                case PersonaDraining(swarm=swarm, reason="orphaned") if swarm in begun:
                    seen["orphaned across swarms"] += 1
                case _:
                    pass
    wanted = {"begun", "a daughter's daughter", "swarm_exists", "depth_limit", "lent_limit"}
    assert set() == wanted - seen.keys(), seen
