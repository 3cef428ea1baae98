"""Routes of conflicts between proposals, and of actions whose outcome nobody can tell."""

from __future__ import annotations

from typing import Annotated, Literal

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from services.gateway.commands import arbitration
from services.gateway.commands.bus import Command
from services.gateway.commands.votes import which
from services.gateway.context import Gateway, needs
from services.gateway.projections.conflicts import by_age, view
from services.gateway.projections.proposals import by_outcome
from services.gateway.wire.pages import Paging
from services.gateway.wire.problems import AnyRequest
from services.gateway.wire.requests import ResolveAction, RuleConflict
from services.gateway.wire.work import ConflictView, UnknownAction

READ, APPROVE = [needs("read")], [needs("approve")]


@get("/v1/conflicts", guards=READ)
async def listed(
    gateway: NamedDependency[Gateway],
    request: AnyRequest,
    page: NamedDependency[Paging],
    wanted: Annotated[Literal["open", "resolved", "all"], QueryParameter(name="state")] = "all",
) -> Response[list[ConflictView]]:
    """Proposals that cannot all be done, and which goes first; newest first, 100 by default."""
    found = gateway.projection.conflicts.newest(page.place("conflicts", int))
    views = ((by_age(entry), view(entry)) for entry in found)
    return page.of(request, "conflicts", ((age, one) for age, one in views if wanted in ("all", one.state)))


@get("/v1/conflicts/{conflict_id:str}", guards=READ)
async def shown(gateway: NamedDependency[Gateway], conflict_id: FromPath[str]) -> ConflictView:
    """One conflict, with all its sides."""
    return view(arbitration.shown(gateway.bus, conflict_id))


@post("/v1/conflicts/{conflict_id:str}/rule", status_code=200, guards=APPROVE)
async def ruled(
    gateway: NamedDependency[Gateway],
    command: NamedDependency[Command],
    conflict_id: FromPath[str],
    data: JSONBody[RuleConflict],
) -> ConflictView:
    """Say which proposal goes first; the others are rejected. Only while it is open."""
    return view(await arbitration.rule(gateway.bus, command, conflict_id, data))


@get("/v1/actions/unknown", guards=READ)
async def unknown(
    gateway: NamedDependency[Gateway], request: AnyRequest, page: NamedDependency[Paging]
) -> Response[list[UnknownAction]]:
    """Actions of which nobody can tell whether they happened, and that wait for a person's word; newest first."""
    lives = gateway.projection.proposals.executed(page.place("unknown", int))
    return page.of(request, "unknown", ((by_outcome(life), one) for life in lives if (one := life.unknown_view())))


@post("/v1/actions/{proposal_id:str}/resolve", status_code=200, guards=APPROVE)
async def resolved(
    gateway: NamedDependency[Gateway],
    command: NamedDependency[Command],
    proposal_id: FromPath[str],
    data: JSONBody[ResolveAction],
    swarm: FromQuery[str | None] = None,
    persona: FromQuery[str | None] = None,
) -> UnknownAction:
    """Say what became of an action whose outcome is unknown; what it held is free again."""
    life = await arbitration.resolve(gateway.bus, command, which(proposal_id, swarm, persona), data)
    return life.outcome_view()


ROUTES: tuple[HTTPRouteHandler, ...] = (listed, shown, ruled, unknown, resolved)
