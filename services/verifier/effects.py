"""Read-only looks into the log. Nothing here judges; `decider` does.

Raises `LogUnavailable` through to the shell, which retries the delivery.
"""

from __future__ import annotations

import asyncio

import msgspec

from services.verifier.decider import Resolve, Resolved
from services.verifier.lives import Lives
from services.verifier.opened import Opened
from services.verifier.told import Told, label
from shared.contracts.catalog import class_of
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionExecuted,
    BeliefAsserted,
    BeliefEvent,
    CheckResult,
    ObservationRecorded,
    PersonaSpawned,
    ReportGiven,
)
from shared.contracts.persona import charter_sha256
from shared.contracts.prices import Price, price_of
from shared.contracts.reach import Member
from shared.contracts.text import plain
from shared.decider import Effect, Result
from shared.evidence import is_independent, is_tainted
from shared.log.port import Log
from shared.outside.rows import Rows
from shared.policy.library import MAX_DEPTH, Library
from shared.runtime.heard import Heard

QUOTED = 8
"""Of outsiders' words among the cited, so many are shown to people."""


class VerifierEffects(msgspec.Struct, frozen=True, kw_only=True):
    """Performs the verifier's effects on one log. Without `opened` a persona may have any number of proposals open; without `heard`,
    `told` and `lives` what was told, and who lives, is read anew each time. `prices`: what actions cost."""

    log: Log
    opened: Opened | None = None
    library: Library
    heard: Heard | None = None
    told: Told | None = None
    rows: Rows = Rows()
    prices: tuple[Price, ...] = ()
    lives: Lives | None = None

    async def perform(self, effect: Effect) -> Result:
        match effect:
            case Resolve() if self.opened is not None and (
                count := await self.opened.place(effect.swarm, effect.persona, effect.proposal_id)
            ):
                return Resolved(open=count)
            case Resolve():
                told, lives = self.told or Told(self.log, self.library), self.lives or Lives(self.log)
                resolved = await resolve(effect, self.library, told, lives, self.heard)
                row = self.rows.row(effect.action)
                if isinstance(row, str):
                    return msgspec.structs.replace(resolved, unnamed=row)
                cost = max(price_of(self.prices, effect.action), row.cost_microusd if row is not None else 0)
                return msgspec.structs.replace(resolved, row=row, cost_microusd=cost)
            case _:
                raise TypeError(f"the verifier has no effect {type(effect).__name__}")


async def resolve(effect: Resolve, library: Library, told: Told, lives: Lives, heard: Heard | None) -> Resolved:
    """The cited events and the citing persona, as the log has them."""
    found, missing, foreign, independent = [], [], [], 0
    words: list[str] = []
    labels: list[str] = []
    whose = f"{effect.swarm}.{effect.persona}"
    if len(effect.evidence) == 1:  # as most have, and a task for each is not free
        looked_up = [await library.event(effect.evidence[0].seq)]
    else:
        looked_up = await asyncio.gather(*(library.event(ref.seq) for ref in effect.evidence))
    if heard is not None:
        await heard.reach(effect.seq - 1)
    outside = await told.of(effect.swarm, effect.persona, effect.seq)
    spawned, ended = await library.birth(whose), await lives.is_over(whose, effect.seq)
    for ref, recorded in zip(effect.evidence, looked_up, strict=True):
        if recorded is None or recorded.id != ref.id:
            missing.append(ref)
        elif not await library.may_cite(recorded.event, effect.swarm, effect.persona):
            foreign.append(ref)
        else:
            found.append(ref)
            if quoted := _quoted(recorded):
                words += quoted
                labels.append(label(recorded.event))
            independent += await _stands(library, recorded, effect.swarm, effect.persona)
    return Resolved(
        found=tuple(found),
        missing=tuple(missing),
        foreign=tuple(foreign),
        independent=independent,
        live=spawned is not None and not ended,
        charter=None if spawned is None else charter_sha256(spawned.identity),
        allowed_tools=() if spawned is None else spawned.policy.allowed_tools,
        outside=outside.words,
        labels=tuple(dict.fromkeys((*outside.labels, *labels))),
        words=(*words[:QUOTED], *([f"and {len(words) - QUOTED} more"] if len(words) > QUOTED else [])),
        capabilities=None if spawned is None else spawned.policy.capabilities,
        family=await _family(library, spawned),
    )


async def _family(library: Library, spawned: PersonaSpawned | None) -> tuple[Member, ...]:
    """The persona and all above it, those of which capabilities are stated; only those have, whose child has, and none is wider."""
    members: list[Member] = []
    while spawned is not None and spawned.policy.capabilities is not None and len(members) < MAX_DEPTH:
        members.append((spawned.swarm, spawned.persona, spawned.policy.capabilities))
        above = spawned.parent
        spawned = None if above is None else await library.birth(f"{above[0]}.{above[1]}")
    return tuple(members)


def _quoted(recorded: Recorded) -> tuple[str, ...]:
    """An outsider's words, if it is that, as people are shown them who decide on what rests on them."""
    match recorded.event:
        case ActionExecuted(output=output) if output:
            said = f"what an action was answered: {output}"
        case event if not hasattr(event, "tainted") or not is_tainted(event):
            return ()
        case ObservationRecorded(source=source, text=text):
            said = f"{source}: {text}"
        case ReportGiven(by=by, text=text):
            said = f"{by or 'several'} told it: {text}"
        case BeliefAsserted(claim=claim):
            said = f"a belief: {claim}"
        case CheckResult(findings=findings):
            said = f"a check: {findings}"
        case event:
            said = class_of(event)
    return (plain(f"{recorded.seq}, {said}", 300),)


async def _stands(library: Library, recorded: Recorded, swarm: str, persona: str) -> bool:
    """Whether it is independent. A checker is not trusted: its result is as good as the worst of what it says it rests on."""
    event = recorded.event
    if not isinstance(event, CheckResult):
        return is_independent(event, persona)
    if event.outcome != "confirmed" or event.tainted:
        return False
    for ref in event.evidence:
        measured = await library.event(ref.seq)
        if (
            measured is None
            or measured.id != ref.id
            or not isinstance(measured.event, ObservationRecorded | BeliefEvent)
        ):
            return False
        if not is_independent(measured.event, persona) or not await library.may_cite(measured.event, swarm, persona):
            return False
    return bool(event.evidence)
