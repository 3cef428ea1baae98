"""Routes under /v1/swarm, the proposals and the approvals inbox, the ledger, and operations."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from litestar import Response, get, post, put
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from prometheus_client import CONTENT_TYPE_LATEST

from services.gateway.commands import budgets as commands
from services.gateway.commands import lifecycle, perception, votes
from services.gateway.commands.bus import Command
from services.gateway.commands.perception import MAX_QUERY_CHARS
from services.gateway.commands.why import why
from services.gateway.context import Gateway, needs
from services.gateway.front.access import Caller
from services.gateway.projections.personas import by_name
from services.gateway.projections.personas import lineage as graph
from services.gateway.projections.proposals import by_age
from services.gateway.projections.refusals import view
from services.gateway.projections.signatures import signature_of
from services.gateway.wire.ids import as_token
from services.gateway.wire.lives import Approval, Decided, ObservationsRecorded, ProposalLife, Recalled, Story
from services.gateway.wire.mesh import Health, QuotaView, Reconciliation, SwarmBudget
from services.gateway.wire.pages import Paging
from services.gateway.wire.problems import AnyRequest, Problem
from services.gateway.wire.requests import (
    CreatePersona,
    DecideApproval,
    ReapPersona,
    RecordObservations,
    SetBudget,
    SpawnPersona,
)
from services.gateway.wire.views import LineageGraph, PersonaRuntimeState, ReapResult

READ, CONTROL, APPROVE = [needs("read")], [needs("control")], [needs("approve")]
ALONE = "the mesh has no keys, so that whoever is at this machine is one person; with --http-keys somebody else must say yes"
YIELD_EVERY = 500
"""A view of all personas gives way to other requests so often."""
Inbox = Literal["pending", "granted", "denied", "expired", "all"]


@post("/v1/swarm/personas", status_code=200, guards=CONTROL)
async def create(
    gateway: NamedDependency[Gateway], command: NamedDependency[Command], data: JSONBody[CreatePersona]
) -> PersonaRuntimeState:
    """A persona; the governor decides."""
    persona = await lifecycle.create(gateway.bus, command, data)
    return persona.view(gateway.clock())


@get("/v1/swarm/personas", guards=READ)
async def personas(
    gateway: NamedDependency[Gateway],
    request: AnyRequest,
    page: NamedDependency[Paging],
    swarm: FromQuery[str | None] = None,
) -> Response[list[PersonaRuntimeState]]:
    """By swarm and id, reaped ones included; 100 by default."""
    now = gateway.clock()
    found = gateway.projection.personas.after(page.place("personas", tuple[str, str]), swarm and as_token(swarm))
    return page.of(request, "personas", ((by_name(p), p.view(now)) for p in found))


@post("/v1/swarm/personas/{persona_id:str}/spawn", status_code=200, guards=CONTROL)
async def spawn(
    gateway: NamedDependency[Gateway],
    command: NamedDependency[Command],
    persona_id: FromPath[str],
    data: JSONBody[SpawnPersona],
    swarm: FromQuery[str | None] = None,
) -> PersonaRuntimeState:
    """A child of this persona."""
    persona = await lifecycle.spawn(gateway.bus, command, persona_id, data, swarm)
    return persona.view(gateway.clock())


@post("/v1/swarm/personas/{persona_id:str}/reap", status_code=200, guards=CONTROL)
async def reap(
    gateway: NamedDependency[Gateway],
    command: NamedDependency[Command],
    persona_id: FromPath[str],
    data: JSONBody[ReapPersona | None] = None,
    swarm: FromQuery[str | None] = None,
) -> ReapResult:
    """End a persona: answers once it drains; it is reaped when its final snapshot is stored."""
    return await lifecycle.reap(gateway.bus, command, persona_id, data or ReapPersona(), swarm)


@get("/v1/swarm/personas/{persona_id:str}/memory", guards=READ)
async def memory(
    gateway: NamedDependency[Gateway],
    command: NamedDependency[Command],
    persona_id: FromPath[str],
    q: Annotated[str, QueryParameter(min_length=1, max_length=MAX_QUERY_CHARS)],
    swarm: FromQuery[str | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 8,
) -> Recalled:
    """What this persona remembers about `q`, with scores."""
    return await perception.recall(gateway.bus, command, persona_id, q, limit, swarm)


@get("/v1/swarm/reconciliation", guards=READ)
async def reconciliation(gateway: NamedDependency[Gateway]) -> Reconciliation:
    """Orphans, zombies, stuck drains and expired grants: what is open, and what the governor mended and why."""
    return gateway.projection.disorder.view(gateway.clock())


@get("/v1/swarm/lineage", guards=READ)
async def lineage(gateway: NamedDependency[Gateway]) -> LineageGraph:
    """Who came from whom."""
    nodes = []
    for number, node in enumerate(gateway.projection.personas.nodes(gateway.clock()), 1):
        nodes.append(node)
        if number % YIELD_EVERY == 0:
            await asyncio.sleep(0)
    return graph(nodes)


@post("/v1/swarm/{swarm:str}/observations", status_code=200, guards=CONTROL)
async def observe(
    gateway: NamedDependency[Gateway],
    command: NamedDependency[Command],
    caller: NamedDependency[Caller],
    swarm: FromPath[str],
    data: JSONBody[RecordObservations],
    since: Annotated[
        str | None,
        QueryParameter(
            pattern=r"^[0-9]{1,15}$",
            description="with an old Idempotency-Key: if they were recorded, then after this sequence",
        ),
    ] = None,
) -> ObservationsRecorded:
    """What the swarm is to think about; all are stored, or none. With `vouched` they are the caller's own words, for which it needs the
    scope `approve`: words of outsiders are not to be passed on so."""
    may_vouch = caller.may("approve")
    return await perception.record(gateway.bus, command, swarm, data, None if since is None else int(since), may_vouch)


@get("/v1/proposals/{proposal_id:str}", guards=READ)
async def proposal(
    gateway: NamedDependency[Gateway],
    proposal_id: FromPath[str],
    swarm: FromQuery[str | None] = None,
    persona: FromQuery[str | None] = None,
) -> ProposalLife:
    """One proposal's whole life, in order; `swarm` and `persona` tell two of the same id apart."""
    which = votes.which(proposal_id, swarm, persona)
    life = await votes.find(gateway.bus, which)
    return life.life_view(signature_of(life, await gateway.known_signers()))


@get("/v1/decisions/{event:str}/why", guards=READ)
async def story(
    gateway: NamedDependency[Gateway],
    caller: NamedDependency[Caller],
    event: FromPath[str],
    swarm: FromQuery[str | None] = None,
    persona: FromQuery[str | None] = None,
) -> Story:
    """How a decision came about: the whole story in order, from what was observed to what came of it, signatures checked.

    `event` is the id of a proposal, the id of an event, or its sequence.
    """
    reader, signers = await gateway.reader(caller), await gateway.known_signers()
    return await why(gateway.bus, reader, signers, event, votes.which(event, swarm, persona))


@get("/v1/approvals", guards=READ)
async def approvals(
    gateway: NamedDependency[Gateway],
    request: AnyRequest,
    page: NamedDependency[Paging],
    wanted: Annotated[Inbox, QueryParameter(name="state")] = "pending",
) -> Response[list[Approval]]:
    """The inbox, newest first; 100 by default."""
    now = gateway.clock()
    lives = gateway.projection.proposals.newest(page.place("approvals", int))
    found = (life for life in lives if wanted in ("all", life.approval_state(now)))
    views = ((by_age(life), approval) for life in found if (approval := life.approval_view(now)))
    return page.of(request, "approvals", views)


@post("/v1/approvals/{proposal_id:str}", status_code=200, guards=APPROVE)
async def decide(
    gateway: NamedDependency[Gateway],
    command: NamedDependency[Command],
    proposal_id: FromPath[str],
    data: JSONBody[DecideApproval],
    swarm: FromQuery[str | None] = None,
    persona: FromQuery[str | None] = None,
) -> Decided:
    """Yes or no to exactly this digest and the request that stands, once."""
    which = votes.which(proposal_id, swarm, persona)
    word = votes.Word(decision=data.decision, digest=data.digest, request_id=data.request_id, reason=data.reason or "")
    life, event_id = await votes.vote(gateway.bus, command, which, word)
    view = life.approval_view(gateway.clock())
    if view is None:
        raise Problem(409, f"proposal {proposal_id[:60]!r} awaits no approval", reason="not_awaiting")
    alone = gateway.settings.four_eyes and gateway.settings.keyless and data.decision == "grant"
    side = votes.side_of(gateway.bus, life, command.principal) if alone else None
    note = None if side is None else f"{side}; that counts here because {ALONE}"
    return Decided(proposal_id=view.proposal_id, decision=data.decision, event_id=event_id, approval=view, note=note)


@get("/v1/budgets", guards=READ)
async def budgets(
    gateway: NamedDependency[Gateway], request: AnyRequest, page: NamedDependency[Paging]
) -> Response[list[SwarmBudget]]:
    """The credits ledger, by swarm; 100 by default."""
    after = page.place("budgets", str) or ""
    found = (
        (account.swarm_id, account)
        for account in gateway.projection.ledger.view(gateway.settings.swarm_ceiling)
        if account.swarm_id > after
    )
    return page.of(request, "budgets", found)


@put("/v1/budgets/{swarm:str}", status_code=200, guards=CONTROL)
async def set_budget(
    gateway: NamedDependency[Gateway],
    command: NamedDependency[Command],
    swarm: FromPath[str],
    data: JSONBody[SetBudget],
) -> SwarmBudget:
    """Bound what a swarm may spend a minute: in force at once, and nothing is taken back. It replaces what was set before."""
    name = await commands.put(gateway.bus, command, gateway.settings, swarm, data)
    return gateway.projection.ledger.one(name, gateway.settings.swarm_ceiling)


@get("/v1/quotas", guards=READ)
async def quotas(gateway: NamedDependency[Gateway]) -> tuple[QuotaView, ...]:
    """What may be asked for, and what was refused for it."""
    return view(gateway.limits, gateway.projection.refusals, gateway.turned_away)


@get(["/health", "/health/live"])
async def live(gateway: NamedDependency[Gateway]) -> Health:
    """The process answers."""
    return _health(gateway)


@get("/health/ready")
async def ready(gateway: NamedDependency[Gateway]) -> Response[Health]:
    """Whether answers are of the present, and what is acknowledged is kept as promised."""
    health, problems = _health(gateway), await gateway.problems()
    status = "not_ready" if health.status == "ok" and problems else health.status
    told = Health(status=status, position=health.position, problems=problems, warnings=gateway.warnings())
    return Response(told, status_code=200 if status == "ok" else 503)


@get("/metrics", guards=READ, media_type="text/plain")
async def metrics(gateway: NamedDependency[Gateway]) -> Response[bytes]:
    """Prometheus text format."""
    return Response(
        await gateway.metrics(), media_type=CONTENT_TYPE_LATEST.partition("; charset")[0]
    )  # it is added again


def _health(gateway: Gateway) -> Health:
    if not gateway.connected():
        return Health(status="bus_away", position=gateway.feed.position)
    return Health(status="ok" if gateway.feed.ready else "catching_up", position=gateway.feed.position)


ROUTES: tuple[HTTPRouteHandler, ...] = (
    create,
    personas,
    spawn,
    reap,
    memory,
    reconciliation,
    lineage,
    observe,
    proposal,
    story,
    approvals,
    decide,
    budgets,
    set_budget,
    quotas,
    live,
    ready,
    metrics,
)
