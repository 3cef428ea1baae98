"""`memory.recall` and `belief.lookup`: memory is asked, which tells each persona what the policies let it read and no more."""

from __future__ import annotations

import asyncio

from services.checker.decider import Measured, RunProbe
from services.checker.desk import Desk
from services.checker.inside.shown import also
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import (
    BeliefLookup,
    EvidenceRef,
    Memory,
    MemoryRecall,
    RecallRequested,
    Recollection,
    Remembered,
    Wanted,
)
from shared.contracts.events.probes import MAX_MEMORIES, MAX_MEMORY
from shared.contracts.ids import fresh_id
from shared.contracts.text import plain
from shared.contracts.trace import carried_on

BELIEF = "belief"


async def recall(desk: Desk, asked: RunProbe, probe: MemoryRecall) -> Measured:
    """The persona's own memories on it, and how close the closest is."""
    answered = await _ask(desk, asked, probe.query, "own", probe.most)
    if isinstance(answered, Measured):
        return answered
    own = [memory for memory in answered if memory.persona == asked.persona and memory.kind != BELIEF]
    own.sort(key=lambda memory: -memory.semantic)
    if not own:
        return Measured(value=0, detail="memory holds nothing on it")
    return _told(own, probe.most, max(0, round(own[0].semantic * 1000)))


async def believe(desk: Desk, asked: RunProbe, probe: BeliefLookup) -> Measured:
    """What is believed on it, in the order memory has it."""
    answered = await _ask(desk, asked, probe.query, "beliefs", MAX_MEMORIES)
    if isinstance(answered, Measured):
        return answered
    on_it = [memory for memory in answered if memory.semantic > 0]  # the others are only the surest
    if not on_it:
        return Measured(value=0, detail="nothing is believed on it")
    return _told(on_it, MAX_MEMORIES, len(on_it))


def _told(memories: list[Memory], most: int, value: int) -> Measured:
    shown = [memory for memory in memories if memory.seq][:most]
    cut = f"{len(memories) - len(shown)} more" if len(memories) > len(shown) else ""
    if any(len(memory.text) > MAX_MEMORY for memory in shown):
        cut = also(cut, "some are shortened")
    return Measured(
        value=value,
        evidence=tuple(EvidenceRef(id=memory.id, seq=memory.seq) for memory in shown),
        detail=cut,
        tainted=not shown or any(memory.tainted for memory in shown),
        found=Recollection(memories=tuple(_remembered(memory) for memory in shown), cut=cut),
    )


def _remembered(memory: Memory) -> Remembered:
    return Remembered(
        ref=EvidenceRef(id=memory.id, seq=memory.seq),
        kind=memory.kind,
        by=memory.persona,
        at=memory.at,
        text=plain(memory.text, MAX_MEMORY),
        semantic=memory.semantic,
        tainted=memory.tainted,
    )


async def _ask(desk: Desk, asked: RunProbe, query: str, wanted: Wanted, limit: int) -> tuple[Memory, ...] | Measured:
    """Ask memory and wait for the answer to exactly this question; incomplete when none comes in time.

    A check that is delivered again asks anew, under a new id: the answer to the first question may have passed unseen.
    """
    question = RecallRequested(
        swarm=asked.swarm,
        persona=asked.persona,
        query=query,
        limit=limit,
        principal=desk.source,
        wanted=wanted,
        slot=desk.slot,
    )
    request_id = fresh_id()
    envelope = Envelope(
        id=request_id,
        source=desk.source,
        time=asked.asked_at,
        correlation=asked.correlation,
        causation=asked.check_event_id,
        traceparent=carried_on(request_id, asked.correlation, asked.traceparent),
    )
    waiting = desk.answers.expect(request_id)
    try:
        async with asyncio.timeout(desk.recall_timeout_s):
            await desk.log.commit([Message(event=question, envelope=envelope)])
            answer = await waiting
    except TimeoutError:
        why = f"memory did not answer within {desk.recall_timeout_s:g} s"
        return Measured(value=0, complete=False, detail=why, passing=True)
    finally:
        waiting.cancel()
    if answer.refused is not None:
        return Measured(value=0, complete=False, detail=f"memory was not asked: {answer.refused}", passing=True)
    return answer.memories
