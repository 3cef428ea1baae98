"""Commands about personas and the loop: spawn, reap, start, stop. The governor decides; the gateway asks and tells."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from http import HTTPStatus

from services.gateway.commands.bus import Bus, Command
from services.gateway.projections.personas import Persona
from services.gateway.projections.projection import LOOP, Projection
from services.gateway.settings import GatewaySettings
from services.gateway.wire.ids import as_given, as_token, token
from services.gateway.wire.problems import RETRY_AFTER_S, Candidate, Problem, ambiguous
from services.gateway.wire.requests import (
    DEFAULT_SWARM,
    MANUAL,
    ROOT_THINKER,
    CreatePersona,
    ReapPersona,
    SpawnPersona,
    StartCognition,
    StopCognition,
)
from services.gateway.wire.views import ReapResult
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    CognitionStarted,
    CognitionStopped,
    PersonaDraining,
    PersonaSpawned,
    ReapRequested,
    SpawnRefused,
    SpawnRequested,
    SwarmRequested,
)
from shared.contracts.ids import EVERYONE, caused_token
from shared.log.port import Expect, StaleBoundary

MIN_INTERVAL_MS, MAX_INTERVAL_MS = 100, 86_400_000
ATTEMPTS = 5
SWARMS_RETRY_S = 60
LOOK_S = 0.25
"""So often it is looked whether what is still to drain does so for another reason."""
REFUSED = {
    "spawn_rate": 429,
    "too_many_waiting": 429,
    "too_many_swarms": 429,
    "no_share": 429,
    "duplicate_id": 409,
    "parent_not_live": 409,
    "parent_missing": 404,
    "reserved_id": 422,
    "swarm_exists": 422,
}
"""Status by the governor's reason; every other reason is a limit, 400."""
ABOUT_SWARMS = ("too_many_swarms", "no_share")
"""Reasons that say nothing about a child in its parent's own swarm."""


def find(projection: Projection, persona_id: str, swarm: str | None = None) -> Persona:
    """The persona. Raises `Problem` (404, 409 when several swarms have one of that id and `swarm` is None)."""
    found = projection.personas.named(persona_id, swarm)
    if not found:
        raise Problem(404, f"there is no persona {as_given(persona_id)[:60]!r}", reason="persona_missing")
    if len(found) > 1:
        candidates = tuple(
            Candidate(swarm_id=as_given(p.identity.swarm_id), persona_id=as_given(p.identity.id)) for p in found
        )
        raise ambiguous("persona", as_given(persona_id), candidates, "?swarm=")
    return found[0]


async def create(bus: Bus, command: Command, request: CreatePersona, home: str | None = None) -> Persona:
    """A root, or a child of `parent_id`, who is of the swarm `home`. Raises `Problem` as the HTTP contract says."""
    event_id = command.event_id("spawn.requested")
    parent = None
    if request.parent_id is not None:
        parent_id, near = as_token(request.parent_id), request.swarm_id and as_token(request.swarm_id)
        beside = bus.feed.projection.personas.named(parent_id, near)
        parent = find(bus.feed.projection, parent_id, as_token(home) if home else near if beside else None)
    swarm = DEFAULT_SWARM if parent is None else parent.identity.swarm_id
    swarm = token("swarm_id", request.swarm_id) if request.swarm_id else swarm
    if parent is not None and swarm != parent.identity.swarm_id:
        return await _spawn(bus, command, event_id, _begins(command, event_id, swarm, request, parent), parent)
    event = SpawnRequested(
        swarm=swarm,
        persona=token("persona_id", request.persona_id or caused_token(event_id, "persona")),
        name=request.name,
        role=request.role,
        charter=request.charter,
        parent_id=None if parent is None else parent.identity.id,
        policy=None if request.policy is None else request.policy.policy(),
        tags=request.tags or (),
        principal=command.principal,
        hibernate=request.policy is not None and request.policy.idle_ttl_secs is None,
    )
    return await _spawn(bus, command, event_id, event, parent)


def _begins(command: Command, event_id: str, swarm: str, request: CreatePersona, parent: Persona) -> SwarmRequested:
    """The child is the first of a swarm of its own. The id stays that of what a client asks for with the same key."""
    return SwarmRequested(
        swarm=swarm,
        persona=token("persona_id", request.persona_id or caused_token(event_id, "persona")),
        name=request.name,
        role=request.role,
        charter=request.charter,
        parent_swarm=parent.identity.swarm_id,
        parent_id=parent.identity.id,
        policy=None if request.policy is None else request.policy.policy(),
        tags=request.tags or (),
        principal=command.principal,
    )


async def spawn(bus: Bus, command: Command, parent_id: str, request: SpawnPersona, home: str | None = None) -> Persona:
    """A child of the persona in the path, who is of the swarm `home`."""
    child = CreatePersona(
        persona_id=request.persona_id,
        name=request.name,
        role=request.role,
        charter=request.charter,
        swarm_id=request.swarm_id,
        parent_id=parent_id,
        policy=request.policy,
    )
    return await create(bus, command, child, home)


async def _spawn(
    bus: Bus, command: Command, event_id: str, event: SpawnRequested | SwarmRequested, parent: Persona | None
) -> Persona:
    repeated = await bus.repeated(event_id, event)
    if not repeated:
        _may_spawn(bus.feed.projection, event, parent)
        _may_found(bus, event.swarm)
    with bus.feed.awaiting(event_id) as queue:
        await bus.send(command, [bus.message(command, event_id, event)])
        if command.key is not None:
            for recorded in await _answers(bus, event, event_id):
                queue.put_nowait(recorded)
        recorded, answer = await bus.outcome(queue, (PersonaSpawned, SpawnRefused), event_id, "governor")
    if isinstance(answer, SpawnRefused):
        status, again_s = REFUSED.get(answer.reason, 400), answer.retry_after_s or None
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            again_s = again_s or RETRY_AFTER_S
            if answer.reason not in ABOUT_SWARMS:
                asked = event.parent_swarm if isinstance(event, SwarmRequested) else event.swarm
                bus.admission.hold(asked, answer.reason, answer.detail, again_s)
        raise Problem(status, answer.detail, reason=answer.reason, event_id=recorded.id, retry_after_s=again_s)
    await bus.feed.reached(recorded.seq, bus.timeout_s)
    return find(bus.feed.projection, event.persona, event.swarm)


def _may_spawn(projection: Projection, event: SpawnRequested | SwarmRequested, parent: Persona | None) -> None:
    """What the governor of one swarm cannot see, and what need not be asked."""
    holder = projection.personas.get(event.persona)
    if holder is not None:
        raise Problem(
            409,
            f"persona {as_given(event.persona)!r} exists already in swarm {as_given(holder.identity.swarm_id)!r}",
            reason="duplicate_id",
        )
    if parent is None:
        return
    if not parent.live:
        raise Problem(409, f"parent {as_given(parent.identity.id)!r} is {parent.stage}", reason="parent_not_live")
    if isinstance(event, SwarmRequested) and next(projection.personas.after(None, event.swarm), None) is not None:
        there, home = as_given(event.swarm), as_given(parent.identity.swarm_id)
        detail = (
            f"swarm_id: {there!r} has or had personas; a child begins a swarm that is new, or lives in its parent's: leave swarm_id "
            f"out for {home!r}"
        )
        raise Problem(422, detail, reason="other_swarm")


def _may_found(bus: Bus, swarm: str) -> None:
    """One more swarm has no share of the budget, so nobody could think there; the governor holds to that whoever asks."""
    sharing = bus.feed.projection.ledger.sharing()
    if swarm not in sharing and len(sharing) >= bus.max_swarms:
        detail = (
            f"{len(sharing)} swarms share the budget, which is the limit; reap all of one first, or raise global.swarms"
        )
        raise Problem(429, detail, reason="too_many_swarms", retry_after_s=SWARMS_RETRY_S)


async def _answers(bus: Bus, event: SpawnRequested | SwarmRequested, event_id: str) -> list[Recorded]:
    """What was answered to this very request before."""
    subjects = tuple(f"{name}.{event.swarm}.{event.persona}" for name in ("persona.spawned", "spawn.refused"))
    return [r for r in await bus.log.read(subjects) if r.envelope.causation == event_id]


async def reap(
    bus: Bus, command: Command, persona_id: str, request: ReapPersona, home: str | None = None
) -> ReapResult:
    """Who drains because of this request, the target first. Without `cascade` its children are orphaned, and the governor
    drains them at its next tick. What has not begun to drain in time is counted, and drains all the same."""
    persona_id = as_token(persona_id)
    target = find(bus.feed.projection, persona_id, home and as_token(home))
    swarm = target.identity.swarm_id
    event = ReapRequested(
        swarm=swarm,
        persona=persona_id,
        cascade=bool(request.cascade),
        reason=MANUAL if request.reason is None else request.reason,
        principal=command.principal,
    )
    event_id = command.event_id("reap.requested")
    if await bus.repeated(event_id, event):
        drained = await bus.log.read((f"persona.draining.{swarm}.*",))
        found = tuple(r.event.persona for r in drained if r.envelope.causation == event_id)
        if found:
            return _reaped(found, bus.feed.projection.personas.live_family(target) if request.cascade else ())
    if not target.live:
        raise Problem(409, f"persona {as_given(persona_id)!r} is {target.stage} already", reason="not_live")
    family = bus.feed.projection.personas.live_family(target) if request.cascade else [target]
    with bus.feed.awaiting(event_id) as queue:
        await bus.send(command, [bus.message(command, event_id, event)])
        first, _ = await bus.outcome(queue, (PersonaDraining,), event_id, "governor")
        found = (first.event.persona,)
        end = asyncio.get_running_loop().time() + bus.timeout_s
        while asyncio.get_running_loop().time() < end and (any(p.live for p in family) or not queue.empty()):
            try:
                async with asyncio.timeout(LOOK_S):
                    recorded = await queue.get()
            except TimeoutError:
                continue
            if isinstance(recorded.event, PersonaDraining):
                found = (*found, recorded.event.persona)
    return _reaped(found, family)


def _reaped(found: tuple[str, ...], family: Iterable[Persona]) -> ReapResult:
    remaining = sum(persona.live for persona in family)
    return ReapResult(
        reaped_ids=tuple(as_given(name) for name in found),
        count=len(found),
        remaining=remaining,
        look_at="/v1/swarm/lineage" if remaining else "",
    )


async def start(bus: Bus, command: Command, settings: GatewaySettings, request: StartCognition) -> None:
    """Runs the loop; with no persona at all the seed comes first. Already running: nothing."""
    if not settings.cognition_enabled:
        raise Problem(400, "cognition is disabled by configuration", reason="cognition_disabled")
    projection = bus.feed.projection
    event_id = command.event_id("cognition.started")
    asked = request.loop_interval_ms
    interval = projection.loop.loop_interval_ms or settings.loop_interval_ms if asked is None else asked
    event = CognitionStarted(
        swarm=EVERYONE,
        persona=EVERYONE,
        loop_interval_ms=min(max(interval, MIN_INTERVAL_MS), MAX_INTERVAL_MS),
        principal=command.principal,
    )
    if projection.commands.get(event_id) is not None:
        if asked is not None:
            await bus.repeated(event_id, event)
        return
    if projection.loop.running:
        return
    if not projection.personas.by_key:
        await _seed(bus, command, request.seed_persona or ROOT_THINKER)
    await _set_loop(bus, command, event_id, event, running=True)


async def _seed(bus: Bus, command: Command, seed: CreatePersona) -> None:
    try:
        await create(bus, command, seed)
    except Problem as problem:
        if problem.details.reason != "duplicate_id":
            raise


async def stop(bus: Bus, command: Command, request: StopCognition) -> None:
    """The loop stands; not running: nothing."""
    event_id = command.event_id("cognition.stopped")
    event = CognitionStopped(swarm=EVERYONE, persona=EVERYONE, reason=request.reason or "", principal=command.principal)
    if not await bus.repeated(event_id, event) and bus.feed.projection.loop.running:
        await _set_loop(bus, command, event_id, event, running=False)


async def _set_loop(
    bus: Bus, command: Command, event_id: str, event: CognitionStarted | CognitionStopped, *, running: bool
) -> None:
    """Of two who start at once, one does; the other finds it running."""
    projection = bus.feed.projection
    for _ in range(ATTEMPTS):
        if projection.loop.running == running:
            return
        expect = Expect(LOOP, projection.loop.seq)
        try:
            await bus.send(command, [bus.message(command, event_id, event)], [expect])
            return
        except StaleBoundary:
            (end,) = await bus.log.ends((LOOP,))
            await bus.feed.reached(end, bus.timeout_s)
    raise Problem(409, "others change the loop at the same time; ask again", reason="contended")
