"""Commands about actions as a whole: halt and resume. Gate and actuator obey what is in the log."""

from __future__ import annotations

from services.gateway.commands.bus import Bus, Command
from services.gateway.wire.problems import Problem
from services.gateway.wire.requests import HaltMesh, ResumeMesh
from shared.contracts.events import MeshHalted, MeshResumed
from shared.contracts.ids import EVERYONE
from shared.halts import BOUNDARY
from shared.log.port import Expect, StaleBoundary

ATTEMPTS = 5


async def halt(bus: Bus, command: Command, request: HaltMesh) -> None:
    """Nothing is authorised or done any more; halted already: nothing."""
    event_id = command.event_id("mesh.halted")
    event = MeshHalted(
        swarm=EVERYONE,
        persona=EVERYONE,
        cause="person",
        reason=request.reason or "",
        principal=command.principal,
    )
    if not await bus.repeated(event_id, event):
        await _set(bus, command, event_id, event, halted=True)


async def resume(bus: Bus, command: Command, request: ResumeMesh) -> None:
    """Actions go on; not halted: nothing. Raises `Problem` (409) when another halt than the one that was looked at is in force."""
    event_id = command.event_id("mesh.resumed")
    event = MeshResumed(swarm=EVERYONE, persona=EVERYONE, reason=request.reason or "", principal=command.principal)
    if not await bus.repeated(event_id, event):
        await _set(bus, command, event_id, event, halted=False, seen=request.seq)


async def _set(
    bus: Bus, command: Command, event_id: str, event: MeshHalted | MeshResumed, *, halted: bool, seen: int | None = None
) -> None:
    """Of two at once, one does; the other finds it done."""
    for _ in range(ATTEMPTS):
        state = bus.feed.projection.halts
        if (state.halt is not None) == halted:
            return
        if seen is not None and state.halt is not None and state.halt.seq != seen:
            detail = f"the mesh was halted anew at {state.halt.seq}, after what was looked at; look again"
            raise Problem(409, detail, reason="halted_anew")
        try:
            await bus.send(command, [bus.message(command, event_id, event)], [Expect(BOUNDARY, state.seq)])
            return
        except StaleBoundary:
            (end,) = await bus.log.ends((BOUNDARY,))
            await bus.feed.reached(end, bus.timeout_s)
    raise Problem(409, "others halt and resume at the same time; ask again", reason="contended")
