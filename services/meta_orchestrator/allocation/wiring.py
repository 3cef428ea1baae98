"""Wiring of the room: what is measured comes from the one tail; a look a second, once all that was said before is known."""

from __future__ import annotations

from services.meta_orchestrator.allocation.decider import Allocator, Table
from services.meta_orchestrator.allocation.effects import Look
from services.meta_orchestrator.allocation.measuring import CLASSES, Measures
from services.meta_orchestrator.following import Following
from shared.contracts.events import Credits
from shared.runtime.service import Service
from shared.settings import Global, Swarm

EVERY_S = 1.0


def wire_allocation(service: Service, following: Following) -> None:
    """Share the global budget out among the swarms."""
    told = service.settings
    allocator = Allocator(total=_credits(told.global_), max_swarms=told.global_.swarms)
    measures = Measures()
    look = Look(allocator, measures, _credits(told.swarm), service.shell(allocator, state_type=Table).tick)
    following.follow(CLASSES, measures.apply)
    following.follow(("allocation.changed",), look.apply)
    following.when_caught_up(look.begin)
    service.every(EVERY_S, look.look, "allocation")


def _credits(section: Global | Swarm) -> Credits:
    return Credits(
        tokens=section.tokens_per_minute,
        compute_ms=section.compute_ms_per_minute,
        actions=section.actions_per_minute,
        cost_microusd=section.cost_microusd_per_minute,
    )
