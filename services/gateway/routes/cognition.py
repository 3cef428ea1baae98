"""Routes under /v1/cognition, and the audit journal: what the mesh thinks, believes and proposes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter
from litestar.response import Stream

from services.gateway.commands import lifecycle, votes
from services.gateway.commands.bus import Command
from services.gateway.context import Gateway, needs
from services.gateway.front.access import Caller
from services.gateway.front.reading import Reader
from services.gateway.front.streaming.asked import parse_filter, parse_position
from services.gateway.front.streaming.stream import HEADERS, PATH
from services.gateway.projections.beliefs import by_confidence
from services.gateway.projections.knowledge import by_urgency
from services.gateway.projections.proposals import by_age, by_outcome
from services.gateway.wire.ids import as_token
from services.gateway.wire.pages import MANY, Paging
from services.gateway.wire.problems import AnyRequest, Problem
from services.gateway.wire.requests import Approve, StartCognition, StopCognition
from services.gateway.wire.views import (
    Approved,
    AttentionItem,
    AuditEntry,
    Belief,
    CognitionStatus,
    DecisionReceipt,
    GlobalWorkspace,
    MemorySnapshot,
    PersonaRuntimeState,
    Proposal,
    SwarmGovernance,
)
from shared.contracts.catalog import ENTITIES
from shared.policy.types import QUORUM

READ, CONTROL, APPROVE = [needs("read")], [needs("control")], [needs("approve")]


def _status(gateway: Gateway) -> CognitionStatus:
    return gateway.projection.status(
        gateway.clock(),
        enabled=gateway.settings.cognition_enabled,
        default_interval_ms=gateway.settings.loop_interval_ms,
    )


@post("/v1/cognition/start", status_code=200, guards=CONTROL)
async def start(
    gateway: NamedDependency[Gateway], command: NamedDependency[Command], data: JSONBody[StartCognition | None] = None
) -> CognitionStatus:
    """Run the loop; seed a persona when there is none."""
    await lifecycle.start(gateway.bus, command, gateway.settings, data or StartCognition())
    return _status(gateway)


@post("/v1/cognition/stop", status_code=200, guards=CONTROL)
async def stop(
    gateway: NamedDependency[Gateway], command: NamedDependency[Command], data: JSONBody[StopCognition | None] = None
) -> CognitionStatus:
    """Stand the loop; nothing is lost."""
    await lifecycle.stop(gateway.bus, command, data or StopCognition())
    return _status(gateway)


@get("/v1/cognition/status", guards=READ)
async def status(gateway: NamedDependency[Gateway]) -> CognitionStatus:
    """Whether the mesh thinks."""
    return _status(gateway)


@get(PATH, guards=READ, media_type="text/event-stream")
async def stream(
    gateway: NamedDependency[Gateway],
    caller: NamedDependency[Caller],
    request: AnyRequest,
    swarm: FromQuery[str | None] = None,
    persona: FromQuery[str | None] = None,
    types: Annotated[str | None, QueryParameter(name="type", description="event classes, comma-separated")] = None,
    start_at: Annotated[str | None, QueryParameter(name="from", description="beginning or now")] = None,
    last_event_id: Annotated[str | None, HeaderParameter(name="Last-Event-ID")] = None,
) -> Stream:
    """Server-sent events; `id:` is the stream sequence, `Last-Event-ID` resumes."""
    wanted = parse_filter(swarm, persona, types)
    after = parse_position(last_event_id, start_at)
    if request.scope.get("head"):
        return Stream(iter(()), media_type="text/event-stream", headers=HEADERS)
    chunks = await gateway.stream.open(
        caller.principal, wanted, after, again=bool(last_event_id), reader=lambda: gateway.reader(caller)
    )
    return Stream(chunks, media_type="text/event-stream", headers=HEADERS)


@get("/v1/cognition/snapshots/latest", guards=READ)
async def latest_snapshot(gateway: NamedDependency[Gateway], caller: NamedDependency[Caller]) -> MemorySnapshot:
    """The newest distilled state of mind."""
    found = gateway.projection.snapshot
    reader = await gateway.reader(caller)
    if found is None or not reader.memory(as_token(found.swarm_id), as_token(found.persona_scope[0])):
        raise Problem(404, "No snapshots available", reason="no_snapshot")
    return found


@get("/v1/cognition/personas/{persona_id:str}", guards=READ)
async def persona_state(
    gateway: NamedDependency[Gateway], persona_id: FromPath[str], swarm: FromQuery[str | None] = None
) -> PersonaRuntimeState:
    """One persona; `swarm` tells two of the same id apart."""
    return lifecycle.find(gateway.projection, as_token(persona_id), swarm and as_token(swarm)).view(gateway.clock())


@get("/v1/cognition/beliefs", guards=READ)
async def beliefs(
    gateway: NamedDependency[Gateway],
    caller: NamedDependency[Caller],
    request: AnyRequest,
    page: NamedDependency[Paging],
    status: FromQuery[str | None] = None,
    persona: FromQuery[str | None] = None,
    swarm: FromQuery[str | None] = None,
) -> Response[list[Belief]]:
    """By confidence, highest first; `status` matches a part of the word, `swarm` is whose blackboard (`all`: of several swarms)."""
    reader, place = await gateway.reader(caller), page.place("beliefs", tuple[float, str])
    found = gateway.projection.beliefs.select(
        status, persona, place, None if swarm is None else as_token(swarm), board=reader.board
    )
    return page.of(request, "beliefs", ((by_confidence(b), b) for b in found), MANY)


@get("/v1/cognition/beliefs/{belief_id:str}", guards=READ)
async def belief(
    gateway: NamedDependency[Gateway], caller: NamedDependency[Caller], belief_id: FromPath[str]
) -> Belief:
    """One belief."""
    found = gateway.projection.beliefs.by_id.get(belief_id)
    if found is None or not (await gateway.reader(caller)).board(found.swarm):
        raise Problem(404, f"there is no belief {belief_id[:60]!r}", reason="belief_missing")
    return found.belief


def _sees(reader: Reader) -> Callable[[AttentionItem, str], bool]:
    """Whether an item may be seen: one of a belief says what it claims."""
    return lambda item, swarm: item.source_type not in ("contested_belief", "stale_belief") or reader.board(swarm)


@get("/v1/cognition/attention", guards=READ)
async def attention(
    gateway: NamedDependency[Gateway],
    caller: NamedDependency[Caller],
    request: AnyRequest,
    page: NamedDependency[Paging],
    swarm: FromQuery[str | None] = None,
) -> Response[list[AttentionItem]]:
    """What somebody should look at: open items first, by priority."""
    sees, place = _sees(await gateway.reader(caller)), page.place("attention", tuple[bool, float, float, str])
    found = gateway.projection.attention.queue(
        gateway.projection.proposals.newest(),
        gateway.clock(),
        place,
        swarm=None if swarm is None else as_token(swarm),
        sees=sees,
    )
    return page.of(request, "attention", ((by_urgency(i), i) for i in found), MANY)


@get("/v1/cognition/proposals", guards=READ)
async def proposals(
    gateway: NamedDependency[Gateway], request: AnyRequest, page: NamedDependency[Paging]
) -> Response[list[Proposal]]:
    """Newest first."""
    found = gateway.projection.proposals.newest(page.place("proposals", int))
    return page.of(request, "proposals", ((by_age(life), life.view()) for life in found), MANY)


@post("/v1/cognition/proposals/{proposal_id:str}/approve", status_code=200, guards=APPROVE)
async def approve(
    gateway: NamedDependency[Gateway],
    command: NamedDependency[Command],
    proposal_id: FromPath[str],
    swarm: FromQuery[str | None] = None,
    persona: FromQuery[str | None] = None,
    if_match: Annotated[
        str | None, HeaderParameter(name="If-Match", description="the digest shown with the request, in quotes")
    ] = None,
    data: JSONBody[Approve | None] = None,
) -> Approved:
    """Grant the approval of this digest, as the key's principal. Without keys on loopback it may be left out."""
    digest = votes.matched(if_match) or (data.digest if data else None)
    if digest is None and not gateway.settings.keyless:
        detail = 'say what you approve: the `digest` shown at /v1/approvals, as `If-Match: "…"` or in the body as {"digest": "…"}'
        raise Problem(428, detail, reason="digest_required")
    which = votes.which(proposal_id, swarm, persona)
    await votes.vote(gateway.bus, command, which, votes.Word(decision="grant", digest=digest))
    return Approved(approved=True, proposal_id=proposal_id)


@get("/v1/cognition/receipts", guards=READ)
async def receipts(
    gateway: NamedDependency[Gateway], request: AnyRequest, page: NamedDependency[Paging]
) -> Response[list[DecisionReceipt]]:
    """What was done, newest first."""
    found = gateway.projection.proposals.executed(page.place("receipts", int))
    views = ((by_outcome(life), receipt) for life in found if (receipt := life.receipt()))
    return page.of(request, "receipts", views, MANY)


@get("/v1/cognition/workspace", guards=READ)
async def workspace(
    gateway: NamedDependency[Gateway], caller: NamedDependency[Caller], swarm: FromQuery[str | None] = None
) -> GlobalWorkspace:
    """What is on the mesh's mind, or on a swarm's."""
    reader, which = await gateway.reader(caller), None if swarm is None else as_token(swarm)
    return gateway.projection.workspace(gateway.clock(), which, board=reader.board, sees=_sees(reader))


@get("/v1/cognition/governance", guards=READ)
async def governance(gateway: NamedDependency[Gateway]) -> SwarmGovernance:
    """The rules of approval that hold."""
    return SwarmGovernance(
        quorum_fraction=0.0,
        required_approvers_by_role={},
        veto_roles=("approve",),
        vote_timeout_secs=round(gateway.settings.approval_ttl_s),
        quorum_by_risk=dict(QUORUM),
        four_eyes=gateway.bus.four_eyes,
        policy_version=gateway.projection.policies.active or None,
    )


@get("/v1/audit", guards=READ)
async def audit(
    gateway: NamedDependency[Gateway],
    caller: NamedDependency[Caller],
    request: AnyRequest,
    page: NamedDependency[Paging],
    category: Annotated[str | None, QueryParameter(schema_extra={"enum": list(ENTITIES)})] = None,
) -> Response[list[AuditEntry]]:
    """Newest first; 100 by default."""
    if category is not None and category not in ENTITIES:
        raise Problem(400, f"category: {category[:60]!r} is none of {', '.join(ENTITIES)}", reason="unknown_category")
    reader = await gateway.reader(caller)
    found = gateway.projection.journal.newest(category, page.place("audit", int))
    return page.of(request, "audit", ((entry.seq, entry) for entry in found if reader.reads(entry)))


ROUTES: tuple[HTTPRouteHandler, ...] = (
    start,
    stop,
    status,
    stream,
    latest_snapshot,
    persona_state,
    beliefs,
    belief,
    attention,
    proposals,
    approve,
    receipts,
    workspace,
    governance,
    audit,
)
