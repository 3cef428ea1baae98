"""Work for swarms: an intent is submitted, alone or as a part of another, and cancelled with all that were made of it.

A child takes its budget from its parent's in the batch that submits it, so both boundaries guard it. A cancellation is one batch over
the whole family, each part guarded by its own boundary: no moment, and no crash, is between a parent's end and its children's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from services.gateway.commands.bus import Bus, Command
from services.gateway.commands.lifecycle import find as find_persona
from services.gateway.projections.intents import MAX_DEPTH, Entry, Key, view_of
from services.gateway.wire.ids import as_given, as_token, token
from services.gateway.wire.lives import life_event
from services.gateway.wire.problems import RETRY_AFTER_S, Candidate, Problem, ambiguous
from services.gateway.wire.requests import DEFAULT_SWARM, INTENT_BUDGET, CancelIntent, SubmitIntent
from services.gateway.wire.work import IntentLife, IntentView
from shared.contracts.boundaries import intent as boundary_of
from shared.contracts.envelope import Recorded
from shared.contracts.events import IntentCancelled, IntentDelegated, IntentRouted, IntentSubmitted
from shared.contracts.ids import EVERYONE, caused_token, is_life, is_token
from shared.intents import MAX_FAMILY, Life, fold, thinks, why_not_below
from shared.log.port import DuplicateEvent, Expect, StaleBoundary

ATTEMPTS = 20
HELD_RETRY_S, OPEN_RETRY_S = 10, 30
SHOWN = 500
DUE_S = 3600
"""Where nobody says when."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One intent's boundary as it is stored: its life, its last sequence, and its events."""

    key: Key
    life: Life
    seq: int
    events: tuple[Recorded, ...]


async def stored(bus: Bus, key: Key) -> Kept:
    """From the log itself."""
    found = await bus.log.stored((boundary_of(*key),))
    events = tuple(message for message in found if isinstance(message, Recorded))
    return Kept(key=key, life=fold(events), seq=found[-1].seq if found else 0, events=events)


async def submit(bus: Bus, command: Command, request: SubmitIntent, limit: int) -> IntentView:
    """The intent as it was stored, once for one key. Raises `Problem`: 404 who is wanted is not there, or the parent; 409 the parent
    has ended or has too little left; 422 what makes no intent; 429 too many are open; 507 while nothing new is taken in."""
    if (why := bus.held()) is not None:
        raise Problem(507, why, reason="held_back", retry_after_s=HELD_RETRY_S)
    event_id = command.event_id("intent.submitted")
    event = await _event(bus, command, event_id, request)
    key = (event.swarm, event.intent_id)
    known = command.key is not None and (await stored(bus, key)).life.submitted is not None
    if not known:
        _may_submit(bus, event, limit)
    for _ in range(ATTEMPTS):
        messages = [bus.message(command, event_id, event)]
        expect = [Expect(boundary_of(*key), 0)]
        if event.parent_id is not None:
            parent = await stored(bus, (event.swarm, event.parent_id))
            if not known and (why := why_not_below(parent.life, event)) is not None:
                raise Problem(409, f"intent {as_given(event.parent_id)!r}: {why}", reason="parent_refuses")
            taken = IntentDelegated(
                swarm=event.swarm,
                persona=EVERYONE,
                intent_id=event.parent_id,
                child_id=event.intent_id,
                budget=event.budget,
            )
            messages.append(bus.message(command, command.event_id("intent.delegated"), taken))
            expect.append(Expect(boundary_of(*parent.key), parent.seq))
        try:
            await bus.send(command, messages, expect)
        except StaleBoundary:
            if known or (await stored(bus, key)).life.submitted is not None:
                known = True
                await _same(bus, key, event)
                break
            continue
        break
    else:
        raise Problem(409, "others change its parent at the same time; ask again", reason="contended")
    return _view(await stored(bus, key), bus.clock())


async def _same(bus: Bus, key: Key, event: IntentSubmitted) -> None:
    """Raises `Problem` (422) unless the log holds exactly this submission."""
    kept = await stored(bus, key)
    if kept.life.submitted != event:
        raise Problem(422, "this Idempotency-Key was used for a different request", reason="idempotency_key_reused")
    await bus.feed.reached(kept.seq, bus.timeout_s)


async def _event(bus: Bus, command: Command, event_id: str, request: SubmitIntent) -> IntentSubmitted:
    home = None if request.swarm_id is None else token("swarm_id", request.swarm_id)
    parent_id = None if request.parent_id is None else as_token(request.parent_id)
    parent = None if parent_id is None else await _kept(bus, parent_id, home)
    home = parent.key[0] if parent is not None else home or DEFAULT_SWARM
    intent_id = caused_token(event_id, "i")
    deadline = request.deadline
    if deadline is None and request.deadline_secs is None and parent is not None and parent.life.submitted is not None:
        deadline = parent.life.submitted.deadline
    elif deadline is None:
        deadline = bus.clock() + timedelta(seconds=request.deadline_secs or DUE_S)
        if command.key is not None and (before := (await stored(bus, (home, intent_id))).life.submitted) is not None:
            deadline = before.deadline  # the same request, a little later
    try:
        return msgspec.convert(
            {
                "swarm": home,
                "persona": EVERYONE,
                "intent_id": intent_id,
                "goal": request.goal,
                "tags": request.tags or (),
                "priority": 5 if request.priority is None else request.priority,
                "deadline": deadline,
                "budget": msgspec.to_builtins(request.budget or INTENT_BUDGET),
                "wanted_swarm": request.wanted_swarm and token("wanted_swarm", request.wanted_swarm),
                "wanted_persona": request.wanted_persona and token("wanted_persona", request.wanted_persona),
                "fan_out": request.fan_out or 1,
                "merge": request.merge or "first",
                "options": request.options or (),
                "max_routes": request.max_routes or 8,
                "parent_id": parent_id,
                "principal": command.principal,
                "type": "intent.submitted",
            },
            IntentSubmitted,
        )
    except msgspec.ValidationError as error:
        raise Problem(422, str(error), reason="bad_intent") from None


def _may_submit(bus: Bus, event: IntentSubmitted, limit: int) -> None:
    projection, home = bus.feed.projection, event.swarm
    if event.deadline <= bus.clock():
        raise Problem(422, f"deadline: {event.deadline.isoformat()} is over", reason="deadline_passed")
    if not thinks(event.budget):
        detail = "budget: with neither tokens nor compute_ms nobody can think about it"
        raise Problem(422, detail, reason="no_budget")
    if len(set(event.options)) != len(event.options):
        raise Problem(422, "options: two of them are the same", reason="bad_intent")
    if event.wanted_persona is not None:
        find_persona(projection, event.wanted_persona, event.wanted_swarm or home)
    elif event.wanted_swarm is not None and not projection.personas.all(event.wanted_swarm):
        raise Problem(404, f"nobody ever lived in swarm {as_given(event.wanted_swarm)!r}", reason="swarm_missing")
    if (count := projection.intents.open_in(home)) >= limit:
        detail = (
            f"{count} intents are open in swarm {as_given(home)!r}, which is the limit (swarm_open_intents); "
            "cancel one, or wait until one is closed"
        )
        raise bus.admission.refused("too_many_intents", home, detail, OPEN_RETRY_S)
    if event.parent_id is not None:
        _may_be_below(bus, (home, event.parent_id))


def _may_be_below(bus: Bus, parent: Key) -> None:
    intents = bus.feed.projection.intents
    if intents.depth(parent) + 1 > MAX_DEPTH:
        detail = f"intent {as_given(parent[1])!r} is {MAX_DEPTH} deep already, which is the limit"
        raise Problem(409, detail, reason="too_deep")
    if (count := len(intents.family(intents.root(parent)))) >= MAX_FAMILY:
        raise Problem(409, f"{count} intents of its family are open, which is the limit", reason="family_too_large")


async def _kept(bus: Bus, intent_id: str, home: str | None) -> Kept:
    """The intent of that id, from the log. Raises `Problem`: 404, 409 when it may mean several."""
    missing = Problem(404, f"there is no intent {as_given(intent_id)[:60]!r}", reason="intent_missing")
    if not is_life(intent_id) or not (home is None or is_token(home)):
        raise missing
    homes = {home} if home else {entry.key[0] for entry in bus.feed.projection.intents.named(intent_id)}
    if not homes:
        found = await bus.log.stored((boundary_of("*", intent_id),))
        homes = {message.event.swarm for message in found if isinstance(message, Recorded)}
    if len(homes) > 1:
        candidates = tuple(Candidate(swarm_id=as_given(h), persona_id=EVERYONE) for h in sorted(homes))
        raise ambiguous("intent", as_given(intent_id), candidates, "?swarm=")
    kept = await stored(bus, (homes.pop(), intent_id)) if homes else None
    if kept is None or kept.life.submitted is None:
        raise missing
    return kept


async def cancel(
    bus: Bus, command: Command, intent_id: str, request: CancelIntent, home: str | None = None
) -> IntentView:
    """The intent and all below it end, in one batch. Raises `Problem`: 404, 409 when it has ended already."""
    event_id = command.event_id("intent.cancelled")
    kept = await _kept(bus, as_token(intent_id), home and as_token(home))
    reason = request.reason or ""
    for _ in range(ATTEMPTS):
        said = next((r.event for r in kept.events if r.id == event_id), None)
        if said is not None:
            if not isinstance(said, IntentCancelled) or said.reason != reason:
                raise Problem(
                    422, "this Idempotency-Key was used for a different request", reason="idempotency_key_reused"
                )
            await bus.feed.reached(kept.seq, bus.timeout_s)
            return _view(kept, bus.clock())
        if kept.life.ended:
            how = "cancelled" if kept.life.cancelled else "closed"
            raise Problem(409, f"intent {as_given(kept.key[1])!r} is {how} already", reason="intent_ended")
        below = await _below(bus, kept)
        family = (kept, *below)
        events = family_cancelled(kept.key[0], [member.key[1] for member in family], command.principal, reason)
        ids = [event_id, *(command.event_id("intent.cancelled", index) for index in range(1, len(events)))]
        messages = [bus.message(command, one, event) for one, event in zip(ids, events, strict=True)]
        expect = [Expect(boundary_of(*member.key), member.seq) for member in family]
        try:
            seqs = await bus.log.commit(messages, expect)
        except (StaleBoundary, DuplicateEvent):
            kept = await stored(bus, kept.key)
            continue
        await bus.feed.reached(seqs[-1], bus.timeout_s)
        return _view(await stored(bus, kept.key), bus.clock())
    raise Problem(409, "it changes all the time; ask again", reason="contended")


def family_cancelled(home: str, family: Sequence[str], principal: str, reason: str) -> tuple[IntentCancelled, ...]:
    """The ends of an intent, which is the first, and of all below it."""
    with_it = f"with {family[0]}, of which it was made: {reason}"[:1000]
    return tuple(
        IntentCancelled(
            swarm=home,
            persona=EVERYONE,
            intent_id=name,
            principal=principal,
            reason=reason if name == family[0] else with_it,
        )
        for name in family
    )


async def _below(bus: Bus, kept: Kept) -> list[Kept]:
    """All that are open below it, as the log has them; also those below one that has ended."""
    found: list[Kept] = []
    seen, queue = {kept.key[1]}, list(kept.life.children)
    while queue:
        wanted = [child for child in dict.fromkeys(queue) if child not in seen]
        seen.update(wanted)
        children = await asyncio.gather(*(stored(bus, (kept.key[0], child)) for child in wanted))
        found += [child for child in children if child.life.submitted is not None and not child.life.ended]
        queue = [below for child in children for below in child.life.children]
    return found


async def show(bus: Bus, intent_id: str, home: str | None, wait_s: float) -> IntentLife:
    """One intent, from the log; with `wait_s`, when it has ended or after so long."""
    kept = await _kept(bus, as_token(intent_id), home and as_token(home))
    if wait_s and not kept.life.ended:
        await _ended(bus, kept.key, wait_s)
        kept = await stored(bus, kept.key)
    shown = kept.events[-SHOWN:]
    return IntentLife(
        intent=_view(kept, bus.clock()),
        events=tuple(map(life_event, shown)),
        truncated=len(shown) < len(kept.events),
    )


async def _ended(bus: Bus, key: Key, wait_s: float) -> None:
    intents = bus.feed.projection.intents

    def is_over() -> bool:
        entry: Entry | None = intents.by_key.get(key)
        return entry is not None and entry.ended

    subject = boundary_of(*key).replace(".*.", ".{}.", 1)
    wanted = {subject.format(verb) for verb in ("closed", "cancelled")}
    subscription = bus.feed.subscribe(lambda recorded: recorded.subject in wanted, 1)
    try:
        if not is_over():
            await subscription.take(wait_s)
    finally:
        bus.feed.unsubscribe(subscription)


def _view(kept: Kept, now: datetime) -> IntentView:
    routed = [r.event for r in kept.events if isinstance(r.event, IntentRouted)]
    updated_at = kept.events[-1].envelope.time if kept.events else now
    view = view_of(kept.life, routed[-1] if routed else None, updated_at)
    if view is None:
        raise Problem(503, "it is not in the log yet; ask again", reason="catching_up", retry_after_s=RETRY_AFTER_S)
    return view
