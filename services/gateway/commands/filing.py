"""A person's or program's proposal, in the name of a persona: said once, and through the same gate as the persona's own."""

from __future__ import annotations

from datetime import timedelta

from services.gateway.commands.bus import Bus, Command
from services.gateway.commands.lifecycle import find
from services.gateway.projections.personas import Persona
from services.gateway.wire.asking import FiledView
from services.gateway.wire.ids import as_given, as_token
from services.gateway.wire.problems import Problem
from services.gateway.wire.requests import FileProposal
from shared.contracts.action import Action, action_digest
from shared.contracts.action_kinds import KINDS, classify, read
from shared.contracts.boundaries import life
from shared.contracts.envelope import Recorded
from shared.contracts.events import ProposalFiled
from shared.contracts.ids import caused_token
from shared.contracts.kinds.kind import Problem as Unfit
from shared.contracts.persona import charter_sha256
from shared.contracts.text import lines, plain
from shared.log.port import Expect

HELD_RETRY_S = 10
DUE_S = 3600


async def file(bus: Bus, command: Command, request: FileProposal) -> FiledView:
    """What was filed, once for one key. Raises `Problem`: 404 there is no such persona, 409 several live or it does not; 422 what is no
    action of ours; 507 while nothing new is taken in."""
    action = _action(request)
    params = read(action)
    if isinstance(params, Unfit):
        raise Problem(422, params.detail, reason=params.code)
    persona = _persona(bus, request)
    identity = persona.identity
    swarm, name, charter = identity.swarm_id, identity.id, charter_sha256(identity)
    digest = action_digest(swarm=swarm, persona=name, charter=charter, action=action)
    would = plain(KINDS[action.kind].dry_run(action.target, params), 1000)
    view = FiledView(
        proposal_id=None,
        persona_id=as_given(name),
        swarm_id=as_given(swarm),
        digest=digest,
        risk=classify(action, swarm, name),
        would=would,
    )
    if request.dry_run:
        return view
    if (why := bus.held()) is not None:
        raise Problem(507, why, reason="held_back", retry_after_s=HELD_RETRY_S)
    event_id = command.event_id("proposal.filed")
    proposal_id = caused_token(event_id, "p")
    deadline = bus.clock() + timedelta(seconds=request.deadline_secs or DUE_S)
    boundary = life(swarm, name, proposal_id)
    if command.key is not None:
        for message in await bus.log.stored((boundary,)):
            if message.id == event_id and isinstance(message, Recorded) and isinstance(message.event, ProposalFiled):
                deadline = message.event.deadline  # the same request, a little later
    event = ProposalFiled(
        swarm=swarm,
        persona=name,
        proposal_id=proposal_id,
        title=plain(request.title or f"{action.kind} on {action.target}", 72),
        rationale=lines((request.rationale or f"filed by {command.principal}").strip(), 900),
        action=action,
        charter=charter,
        digest=digest,
        deadline=deadline,
        principal=command.principal,
    )
    if not await bus.repeated(event_id, event):
        if not persona.live:
            raise Problem(409, f"persona {as_given(name)!r} is {persona.stage}", reason="not_live")
        await bus.send(command, [bus.message(command, event_id, event, charter=charter)], [Expect(boundary, 0)])
    return FiledView(**{**{f: getattr(view, f) for f in view.__struct_fields__}, "proposal_id": as_given(proposal_id)})


def _action(request: FileProposal) -> Action:
    if request.kind not in KINDS:
        kinds = ", ".join(KINDS)
        raise Problem(422, f"kind: {request.kind!r} is none of {kinds}", reason="unknown_kind")
    version = KINDS[request.kind].schema_version
    return Action(kind=request.kind, schema_version=version, target=request.target, params=request.params)


def _persona(bus: Bus, request: FileProposal) -> Persona:
    """Who it is filed in the name of: the one that is named, or the only root there is."""
    projection, home = bus.feed.projection, request.swarm_id and as_token(request.swarm_id)
    if request.persona_id is not None:
        return find(projection, as_token(request.persona_id), home)
    roots = [p for p in projection.personas.after(None, home) if p.live and p.identity.parent_id is None]
    if len(roots) == 1:
        return roots[0]
    names = ", ".join(as_given(p.identity.id) for p in roots[:8]) or "none"
    raise Problem(409, f"say persona_id: {len(roots)} root personas live ({names})", reason="which_persona")
