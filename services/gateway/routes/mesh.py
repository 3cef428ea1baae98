"""Routes about the mesh as a whole: whether actions are halted, and what that concerns."""

from __future__ import annotations

from litestar import get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from services.gateway.commands import halting
from services.gateway.commands.bus import Command
from services.gateway.context import Gateway, needs
from services.gateway.projections.halted import view
from services.gateway.projections.slo import views
from services.gateway.wire.mesh import HaltState, SloView
from services.gateway.wire.requests import HaltMesh, ResumeMesh
from shared.killswitch import thrown

READ, CONTROL, APPROVE = [needs("read")], [needs("control")], [needs("approve")]


def _state(gateway: Gateway) -> HaltState:
    return view(gateway.projection.halts, gateway.projection.proposals, thrown(gateway.settings.kill_switch))


@get("/v1/halt", guards=READ)
async def halted(gateway: NamedDependency[Gateway]) -> HaltState:
    """Whether actions are halted, and what is void or unknown."""
    return _state(gateway)


@post("/v1/halt", status_code=200, guards=CONTROL)
async def halt(
    gateway: NamedDependency[Gateway], command: NamedDependency[Command], data: JSONBody[HaltMesh | None] = None
) -> HaltState:
    """Authorise and do nothing any more; what waits goes on waiting. Who may control may halt."""
    await halting.halt(gateway.bus, command, data or HaltMesh())
    return _state(gateway)


@post("/v1/resume", status_code=200, guards=APPROVE)
async def resume(
    gateway: NamedDependency[Gateway], command: NamedDependency[Command], data: JSONBody[ResumeMesh | None] = None
) -> HaltState:
    """Have actions go on, unless the kill switch's file is there, which only who may remove it lifts.

    Only who may approve may resume; look at `GET /v1/halt` first, and give its `seq`."""
    await halting.resume(gateway.bus, command, data or ResumeMesh())
    return _state(gateway)


@get("/v1/slo", guards=READ)
async def objectives(gateway: NamedDependency[Gateway]) -> tuple[SloView, ...]:
    """What the mesh is judged by, and how it fares, by what is in the log."""
    return views(gateway.projection.measures, gateway.projection.personas, gateway.clock())


ROUTES: tuple[HTTPRouteHandler, ...] = (halted, halt, resume, objectives)
