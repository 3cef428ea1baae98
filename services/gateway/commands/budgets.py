"""What a person wants a swarm to have: one guarded event, which the governor obeys at once, and the allocator in its next table."""

from __future__ import annotations

import asyncio

from services.gateway.commands.bus import Bus, Command
from services.gateway.settings import GatewaySettings
from services.gateway.wire.ids import as_given, token
from services.gateway.wire.problems import RETRY_AFTER_S, Problem
from services.gateway.wire.requests import SetBudget
from shared.contracts import boundaries
from shared.contracts.envelope import Recorded
from shared.contracts.events import MAX_SWARMS, Credits, LimitsChanged, Most
from shared.contracts.ids import EVERYONE
from shared.log.port import Expect, StaleBoundary

ATTEMPTS = 5
LOOK_S = 0.25
RESOURCES = ("tokens", "compute_ms", "actions", "cost_microusd")


async def put(bus: Bus, command: Command, settings: GatewaySettings, swarm_id: str, request: SetBudget) -> str:
    """Replaces what was set before, and returns the swarm once its share obeys, or after a while. Raises `Problem`: 409 when somebody
    set something since the `version` that was looked at, or where the settings have no room for it; 422 for a name that is none; 429 when
    too many swarms have limits."""
    swarm = token("swarm_id", swarm_id)
    if swarm == EVERYONE:
        raise Problem(
            422, f"swarm_id: {EVERYONE!r} means all swarms, and their limits are settings", reason="reserved_id"
        )
    _may_be(bus, settings, swarm, request)
    event_id = command.event_id("limits.changed")
    repeated = bus.feed.projection.commands.get(event_id)
    for _ in range(ATTEMPTS):
        (seq,), last = await bus.log.ends((boundaries.limits(swarm),)), await bus.log.last((boundaries.limits(swarm),))
        known = last[-1].event if last else None
        version = known.version if isinstance(known, LimitsChanged) else 0
        if repeated is not None:  # it was set once already, as the version it then was
            first = await bus.log.read((boundaries.limits(swarm),), repeated - 1, upto=repeated)
            version = next((r.event.version - 1 for r in first if isinstance(r.event, LimitsChanged)), version)
        elif request.version is not None and request.version != version:
            detail = f"the limits of {as_given(swarm)!r} are version {version} now, not {request.version}; look again"
            raise Problem(409, detail, reason="changed_meanwhile")
        event = LimitsChanged(
            swarm=swarm,
            persona=EVERYONE,
            version=version + 1,
            floor=request.floor or Credits(),
            ceiling=request.ceiling or Most(),
            weight=request.weight,
            principal=command.principal,
            reason=request.reason or "",
        )
        if repeated is not None and await bus.repeated(event_id, event):
            return swarm
        with bus.feed.awaiting(event_id) as queue:
            try:
                messages = [bus.message(command, event_id, event)]
                await bus.send(command, messages, [Expect(boundaries.limits(swarm), seq)])
            except StaleBoundary:
                repeated = bus.feed.projection.commands.get(event_id)
                continue
            await _in_force(bus, queue, swarm, settings.swarm_ceiling)
        return swarm
    raise Problem(409, "others set its limits at the same time; ask again", reason="contended")


def _may_be(bus: Bus, settings: GatewaySettings, swarm: str, request: SetBudget) -> None:
    ledger, floor, most = bus.feed.projection.ledger, request.floor or Credits(), request.ceiling or Most()
    floors = ledger.floors(but=swarm)
    for name in RESOURCES:
        least, all_ = getattr(floor, name), getattr(settings.global_budget, name)
        told = getattr(most, name)
        top = getattr(settings.swarm_ceiling, name) if told is None else told
        if least > top:
            raise Problem(409, f"floor.{name} is {least}, above the ceiling's {top}", reason="floor_above_ceiling")
        if told is not None and told > all_:
            raise Problem(409, f"ceiling.{name} is {told}, all swarms have {all_}", reason="above_global")
        if (together := getattr(floors, name) + least) > all_ and least:
            detail = f"floor.{name}: the floors of all swarms would be {together} together, there are {all_}"
            raise Problem(409, detail, reason="floors_above_global")
    if ledger.limited() >= MAX_SWARMS and not ledger.has_limits(swarm):
        detail = f"{MAX_SWARMS} swarms have limits of their own, which is the most"
        raise Problem(429, detail, reason="too_many_swarms", retry_after_s=RETRY_AFTER_S)


async def _in_force(bus: Bus, queue: asyncio.Queue[Recorded], swarm: str, default: Credits) -> None:
    """Waits a while for the governor to have written what obeys; `in_force` of the view says whether it has."""
    end = asyncio.get_running_loop().time() + bus.timeout_s
    while not bus.feed.projection.ledger.in_force(swarm, default) and asyncio.get_running_loop().time() < end:
        try:
            async with asyncio.timeout(LOOK_S):
                await queue.get()
        except TimeoutError:
            continue
