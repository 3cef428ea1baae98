"""Routes under /v1/intents: work for swarms."""

from __future__ import annotations

from typing import Annotated, Literal

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from services.gateway.commands import intents
from services.gateway.commands.bus import Command
from services.gateway.context import Gateway, needs
from services.gateway.projections.intents import by_age, state_of, view_of
from services.gateway.wire.ids import as_token
from services.gateway.wire.pages import Paging
from services.gateway.wire.problems import AnyRequest
from services.gateway.wire.requests import CancelIntent, SubmitIntent
from services.gateway.wire.work import IntentLife, IntentView

READ, CONTROL = [needs("read")], [needs("control")]
Wanted = Literal["open", "submitted", "assigned", "delayed", "answered", "failed", "cancelled", "all"]
OPEN = ("submitted", "assigned", "delayed")


@post("/v1/intents", status_code=200, guards=CONTROL)
async def submit(
    gateway: NamedDependency[Gateway], command: NamedDependency[Command], data: JSONBody[SubmitIntent]
) -> IntentView:
    """A goal for somebody; who gets it is decided by the meta-orchestrator."""
    return await intents.submit(gateway.bus, command, data, gateway.settings.swarm_open_intents)


@get("/v1/intents", guards=READ)
async def listed(
    gateway: NamedDependency[Gateway],
    request: AnyRequest,
    page: NamedDependency[Paging],
    swarm: FromQuery[str | None] = None,
    wanted: Annotated[Wanted, QueryParameter(name="state")] = "all",
) -> Response[list[IntentView]]:
    """Newest first; 100 by default."""
    home = swarm and as_token(swarm)
    found = gateway.projection.intents.newest(page.place("intents", int))
    wants = OPEN if wanted == "open" else (wanted,)
    views = (
        (by_age(entry), view)
        for entry in found
        if home in (None, entry.key[0])
        and (wanted == "all" or state_of(entry.life) in wants)
        and (view := view_of(entry.life, entry.why, entry.updated_at)) is not None
    )
    return page.of(request, "intents", views)


@get("/v1/intents/{intent_id:str}", guards=READ)
async def shown(
    gateway: NamedDependency[Gateway],
    intent_id: FromPath[str],
    swarm: FromQuery[str | None] = None,
    wait_s: Annotated[float, QueryParameter(ge=0, le=15, description="answer when it has ended, or after so long")] = 0,
) -> IntentLife:
    """One intent's whole life, in order; `swarm` tells two of the same id apart."""
    return await intents.show(gateway.bus, intent_id, swarm, wait_s)


@post("/v1/intents/{intent_id:str}/cancel", status_code=200, guards=CONTROL)
async def cancelled(
    gateway: NamedDependency[Gateway],
    command: NamedDependency[Command],
    intent_id: FromPath[str],
    data: JSONBody[CancelIntent | None] = None,
    swarm: FromQuery[str | None] = None,
) -> IntentView:
    """Nobody is to work on it any more, nor on what was made of it."""
    return await intents.cancel(gateway.bus, command, intent_id, data or CancelIntent(), swarm)


ROUTES: tuple[HTTPRouteHandler, ...] = (submit, listed, shown, cancelled)
