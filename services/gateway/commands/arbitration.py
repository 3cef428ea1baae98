"""People's word on conflicts, and on actions whose outcome nobody can tell: each once, guarded by what it rests on."""

from __future__ import annotations

from services.gateway.commands.bus import Bus, Command
from services.gateway.commands.votes import ATTEMPTS, Which, find
from services.gateway.projections.conflicts import Entry, Key
from services.gateway.projections.proposals import Life
from services.gateway.wire.ids import as_given, as_token
from services.gateway.wire.problems import Problem
from services.gateway.wire.requests import ResolveAction, RuleConflict
from shared.conflicts import Conflict, evolve, key_of
from shared.contracts.boundaries import conflict as boundary_of
from shared.contracts.boundaries import hold
from shared.contracts.envelope import Message, Recorded
from shared.contracts.events import ActionResolved, AnyEvent, ConflictRuled, ProposalKey, Side, TargetFreed
from shared.contracts.ids import is_life
from shared.holds import holder_of
from shared.log.port import DuplicateEvent, Expect, StaleBoundary


def named(conflict_id: str) -> Key:
    """The target and the number of a conflict's id. Raises `Problem` (404) for what is none."""
    target, _, number = conflict_id.rpartition(".")
    if not is_life(target) or not (number.isascii() and number.isdigit() and len(number) <= 15):
        raise _missing(conflict_id)
    return target, int(number)


def shown(bus: Bus, conflict_id: str) -> Entry:
    """The conflict of that id. Raises `Problem` (404)."""
    entry = bus.feed.projection.conflicts.by_key.get(named(conflict_id))
    if entry is None:
        raise _missing(conflict_id)
    return entry


def _missing(conflict_id: str) -> Problem:
    return Problem(404, f"there is no conflict {conflict_id[:60]!r}", reason="conflict_missing")


async def rule(bus: Bus, command: Command, conflict_id: str, request: RuleConflict) -> Entry:
    """Who goes first, as a person says; the orchestrator resolves it so.

    Raises `Problem`: 404 there is no such conflict, or no such proposal in it; 409 it is over, or the proposal may mean several.
    """
    target_id, generation = key = named(conflict_id)
    event_id = command.event_id("conflict.ruled")
    for _ in range(ATTEMPTS):
        stored = await bus.log.stored((boundary_of(target_id),))
        state = Conflict()
        for message in stored:
            state = evolve(state, message) if isinstance(message, Recorded) else state
        said = next((m for m in stored if isinstance(m, Recorded) and m.id == event_id), None)
        if said is None and state.generation < generation:
            raise _missing(conflict_id)
        sides = state.sides if state.generation == generation else ()
        if said is None and (not state.open or state.generation != generation):
            raise Problem(409, f"conflict {conflict_id!r} is ruled already", reason="conflict_over")
        event = ConflictRuled(
            target_id=target_id,
            generation=generation,
            winner=_winner(sides, request),
            principal=command.principal,
            reason=request.reason or "",
        )
        if said is not None:
            if said.event != event:
                raise _reused()
            seq = said.seq
        else:
            try:
                (seq,) = await bus.log.commit(
                    [bus.message(command, event_id, event)], [Expect(boundary_of(target_id), stored[-1].seq)]
                )
            except (StaleBoundary, DuplicateEvent):
                continue
        await bus.feed.reached(seq, bus.timeout_s)
        entry = bus.feed.projection.conflicts.by_key.get(key)
        if entry is None:
            raise _missing(conflict_id)
        return entry
    raise Problem(409, "others join this conflict at the same time; ask again", reason="contended")


def _winner(sides: tuple[Side, ...], request: RuleConflict) -> ProposalKey:
    found = [
        key_of(side)
        for side in sides
        if side.proposal_id == as_token(request.winner)
        and (request.swarm_id is None or side.swarm == as_token(request.swarm_id))
        and (request.persona_id is None or side.persona == as_token(request.persona_id))
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        there = ", ".join(as_given(side.proposal_id) for side in sides)
        raise Problem(404, f"proposal {request.winner[:60]!r} is not in it; in it are {there}", reason="not_a_side")
    detail = f"{len(found)} proposals in it have the id {request.winner[:60]!r}; say swarm_id and persona_id too"
    raise Problem(409, detail, reason="ambiguous")


async def resolve(bus: Bus, command: Command, which: Which, request: ResolveAction) -> Life:
    """What became of an action whose outcome was `unknown`; the target it held is free again, in one batch.

    Raises `Problem`: 404 unknown, 409 ambiguous, not unknown, or resolved already.
    """
    event_id = command.event_id("action.resolved")
    life = await find(bus, which, fresh=True)
    swarm, persona, proposal_id = life.key
    which = Which(proposal_id=proposal_id, swarm=swarm, persona=persona)
    for _ in range(ATTEMPTS):
        cast = next((r for r in life.events if r.id == event_id), None)
        if cast is not None:
            event = cast.event
            if not isinstance(event, ActionResolved) or (event.outcome, event.reason) != (
                request.outcome,
                request.reason,
            ):
                raise _reused()
            await bus.feed.reached(cast.seq, bus.timeout_s)
            return await find(bus, which)
        name = as_given(proposal_id)
        if life.executed is None or life.executed.outcome != "unknown":
            raise Problem(409, f"what became of proposal {name!r} is not unknown: {life.status}", reason="not_unknown")
        if life.resolved is not None:
            detail = f"{life.resolved.principal} has said already that it was a {life.resolved.outcome}"
            raise Problem(409, detail, reason="already_resolved")
        executed = next(r for r in life.events if r.event is life.executed)
        resolved = ActionResolved(
            swarm=swarm,
            persona=persona,
            proposal_id=proposal_id,
            digest=life.created.digest,
            outcome=request.outcome,
            executed_id=executed.id,
            principal=command.principal,
            reason=request.reason,
        )
        messages = [bus.message(command, event_id, resolved, cause=executed, charter=life.created.charter)]
        expect = [Expect(life.boundary, life.seq)]
        mine = ProposalKey(swarm=swarm, persona=persona, proposal_id=proposal_id)
        holder, seq = (None, 0) if life.hold is None else await holder_of(bus.log, life.hold)
        if life.hold is not None and holder == mine:
            messages.append(_freed(bus, command, TargetFreed(persona=life.hold, holder=mine), executed))
            expect.append(Expect(hold(life.hold), seq))
        try:
            seqs = await bus.log.commit(messages, expect)
        except (StaleBoundary, DuplicateEvent):
            life = await find(bus, which, fresh=True)
            continue
        await bus.feed.reached(seqs[-1], bus.timeout_s)
        return await find(bus, which)
    raise Problem(409, "it changes at the same time; ask again", reason="contended")


def _freed(bus: Bus, command: Command, freed: AnyEvent, executed: Recorded) -> Message:
    return bus.message(command, command.event_id("target.freed"), freed, cause=executed)


def _reused() -> Problem:
    return Problem(422, "this Idempotency-Key was used for a different request", reason="idempotency_key_reused")
