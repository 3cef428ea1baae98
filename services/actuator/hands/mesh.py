"""What the log tells before something is said to the mesh: whose kin the target is, what the day has left, what the parent intent has.

Read-only; it decides nothing. Raises `LogUnavailable`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from services.actuator.saying import Facts, ids_of
from services.actuator.terms import Job
from shared.contracts.action_kinds import KINDS, read
from shared.contracts.boundaries import intent, question, watches
from shared.contracts.envelope import Recorded
from shared.contracts.events import PersonaSpawned, WatchAdded
from shared.contracts.kinds.mesh import IntentSubmit, PersonaReap
from shared.contracts.kinds.perceiving import WatchAdd
from shared.intents import fold
from shared.log.port import Log

MAX_DEPTH = 128
"""Levels that are looked up; a circle that was stored ends there."""


async def known(log: Log, job: Job, clock: Callable[[], datetime]) -> Facts:
    """The facts for one action."""
    family = await _family(log, job.swarm, job.persona)
    above = family[1].persona if len(family) > 1 else None
    facts = Facts(policy=family[0].policy if family else None, above=above)
    params, swarm = read(job.action), job.swarm
    if isinstance(params, PersonaReap):
        line = await _family(log, swarm, job.action.target)
        return msgspec.structs.replace(facts, kin=any(birth.persona == job.persona for birth in line))
    if isinstance(params, WatchAdd):
        said = await log.stored((watches(swarm, job.persona),))
        rules = {
            r.event.name: r.event.until for r in said if isinstance(r, Recorded) and isinstance(r.event, WatchAdded)
        }
        watching = frozenset(name for name, until in rules.items() if until > clock())
        return msgspec.structs.replace(facts, watching=watching, watch_seq=said[-1].seq if said else 0)
    if isinstance(params, IntentSubmit) and params.parent:
        stored = await log.stored((intent(swarm, params.parent),))
        life = fold(message for message in stored if isinstance(message, Recorded))
        facts = msgspec.structs.replace(facts, parent=life, parent_seq=stored[-1].seq if stored else 0)
    if KINDS[job.action.kind].per_day and family:
        of = question if job.action.kind == "person.ask" else intent
        ids = ids_of(job.action.kind, family[-1].persona, swarm, clock())
        ends = await log.ends(tuple(of(swarm, one) for one in ids))
        free = next((one for one, end in zip(ids, ends, strict=True) if not end), None)
        facts = msgspec.structs.replace(facts, free=free)
    return facts


async def _family(log: Log, swarm: str, persona: str) -> list[PersonaSpawned]:
    """The births of the persona and all above it in its swarm, the root last; nobody's parent ever changes."""
    births: list[PersonaSpawned] = []
    name: str | None = persona
    while name is not None and len(births) < MAX_DEPTH:
        found = await log.last((f"persona.spawned.{swarm}.{name}",))
        birth = found[-1].event if found else None
        if not isinstance(birth, PersonaSpawned):
            break
        births.append(birth)
        name = birth.identity.parent_id if birth.parent_swarm is None else None
    return births
