"""Commands about what is perceived and remembered: record observations, recall."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from services.gateway.commands.bus import Bus, Command
from services.gateway.commands.lifecycle import find
from services.gateway.wire.ids import as_given, as_token, token
from services.gateway.wire.lives import ObservationsRecorded, Recalled, RecalledMemory
from services.gateway.wire.problems import Problem
from services.gateway.wire.requests import Observation, RecordObservations
from shared.contracts.events import ObservationRecorded, ObservationVouched, RecallAnswered, RecallRequested
from shared.contracts.ids import EVERYONE, fresh_id
from shared.evidence import ANSWER

MAX_QUERY_CHARS = 2000
HELD_RETRY_S, CROWDED_RETRY_S = 10, 5


async def record(
    bus: Bus,
    command: Command,
    swarm: str,
    request: RecordObservations,
    since: int | None = None,
    may_vouch: bool = False,
) -> ObservationsRecorded:
    """All of them in one commit, or none; durable when this returns. Raises `Problem`: 507 while the store has no room for more, 403 for
    words that are vouched for by who may not."""
    if (why := bus.held()) is not None:
        raise Problem(507, why, reason="held_back", retry_after_s=HELD_RETRY_S)
    swarm = token("swarm", swarm)
    try:
        observations = request.each()
        events = [_event(swarm, command.principal, o) for o in observations]
    except ValueError as error:
        raise Problem(422, str(error), reason="bad_observations") from None
    if any(event.source.startswith(ANSWER) for event in events):
        raise Problem(
            422, f"source: {ANSWER!r} begins what an answer to a question is recorded as", reason="bad_observations"
        )
    if not may_vouch and any(isinstance(event, ObservationVouched) for event in events):
        detail = f"the key of {command.principal} lacks the scope 'approve', which vouching for an observation needs"
        raise Problem(403, detail, reason="missing_scope")
    ids = [command.event_id("observation.recorded", i) for i in range(len(events))]
    if (
        command.key is not None
        and bus.feed.projection.commands.get(command.event_id("observation.recorded", len(events))) is not None
    ):
        raise Problem(422, "this Idempotency-Key was used for more observations", reason="idempotency_key_reused")
    messages = [bus.message(command, i, e) for i, e in zip(ids, events, strict=True)]
    bus.admission.take("observation_rate", "observations", command.principal, swarm, len(messages))
    seqs = await bus.send(command, messages, wait=False, since=since)
    return ObservationsRecorded(sequences=seqs, ids=tuple(ids), count=len(ids))


def _event(swarm: str, principal: str, observation: Observation) -> ObservationRecorded:
    said = ObservationVouched if observation.vouched else ObservationRecorded
    return said(
        swarm=swarm,
        persona=token("persona", observation.persona or EVERYONE),
        text=observation.text,
        source="api" if observation.source is None else observation.source,
        tags=observation.tags or (),
        observed_at=None if observation.observed_at is None else _utc(observation.observed_at),
        principal=principal,
    )


def _utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"observed_at: {at.isoformat()} is outside the years 1 to 9999 in UTC") from None


async def recall(
    bus: Bus, command: Command, persona_id: str, query: str, limit: int, swarm: str | None = None
) -> Recalled:
    """Asks the persona's own memory and waits for the answer."""
    persona = find(bus.feed.projection, as_token(persona_id), swarm and as_token(swarm))
    bus.admission.take("recall_rate", "recalls", command.principal, persona.identity.swarm_id)
    event_id = fresh_id()
    event = RecallRequested(
        swarm=persona.identity.swarm_id,
        persona=persona.identity.id,
        query=query,
        limit=limit,
        principal=command.principal,
    )
    with bus.feed.awaiting(event_id) as queue:
        await bus.log.commit([bus.message(command, event_id, event)])
        _, answer = await bus.outcome(queue, (RecallAnswered,), event_id, "memory")
    if answer.refused is not None:
        detail = f"memory holds more of {as_given(persona.identity.swarm_id)}'s recalls than its share; ask again in {CROWDED_RETRY_S} s"
        raise Problem(429, detail, reason=answer.refused, retry_after_s=CROWDED_RETRY_S)
    ranked = sorted(answer.memories, key=lambda m: -m.score)
    memories = tuple(RecalledMemory(**{**msgspec.structs.asdict(m), "persona": as_given(m.persona)}) for m in ranked)
    return Recalled(persona_id=persona_id, query=query, seq=answer.seq, memories=memories)
