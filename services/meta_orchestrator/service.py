"""Wiring: one shell a room, and one tail of the log for all of them."""

from __future__ import annotations

from services.meta_orchestrator.allocation.wiring import wire_allocation
from services.meta_orchestrator.arbitration.wiring import wire_arbitration
from services.meta_orchestrator.following import Following
from services.meta_orchestrator.routing.wiring import wire_routing
from shared.runtime.service import Service


async def wire(service: Service) -> None:
    """Consume what each room decides on."""
    following = Following(service.log)
    wire_routing(service, following)
    wire_arbitration(service, following)
    wire_allocation(service, following)
    service.background("following", following.run)
    service.on_stop(following.stop)
