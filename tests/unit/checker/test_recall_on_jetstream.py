"""Questions to memory on the real broker, where the one consumer of a process has a fixed name."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.checker.answers import Answers
from services.checker.decider import Measured, RunProbe
from services.checker.desk import Desk
from services.checker.effects import CheckerEffects
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import Memory, MemoryRecall, RecallAnswered, RecallRequested
from shared.contracts.ids import caused_id
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.streams import ensure
from shared.policy.library import Library
from tests.broker import Broker
from tests.unit.gate.given import T0, WHOSE


async def remember(log: JetStreamLog) -> None:
    """What memory does: every question is answered with a memory that scores what the question says."""
    async for asked in log.tail(("recall.requested.*.*.*",), stream="RECALL"):
        assert isinstance(asked.event, RecallRequested)
        semantic = float(asked.event.query)
        memory = Memory(
            id="m",
            seq=7,
            kind="thought",
            text="t",
            at=T0,
            persona="p01",
            score=0,
            semantic=semantic,
            recency=0,
            importance=0,
        )
        answered = RecallAnswered(**WHOSE, memories=(memory,))
        envelope = Envelope(id=caused_id(asked.id, "a"), source="m", time=T0, correlation="c0", causation=asked.id)
        await log.commit([Message(event=answered, envelope=envelope)])


async def test_probes_of_memory_at_the_same_time_get_each_their_own_answer(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    log = JetStreamLog(connection, service="checker", instance="checker-1")
    answers = Answers(log)
    effects = CheckerEffects(Desk(log=log, library=Library(log), answers=answers))

    async def measure(n: int) -> Measured:
        probe = MemoryRecall(query=f"0.{n}")
        found = await effects.perform(
            RunProbe(**WHOSE, probe=probe, check_event_id=f"k{n}", correlation="c0", asked_at=T0)
        )
        assert isinstance(found, Measured)
        return found

    try:
        memory = asyncio.create_task(remember(JetStreamLog(connection, service="memory", instance="memory-1")))
        following = asyncio.create_task(answers.follow())
        measured = await asyncio.gather(*(measure(n) for n in range(1, 9)))
        assert [(100 * n, True) for n in range(1, 9)] == [(m.value, m.complete) for m in measured]
        await answers.stop()
        await following
        memory.cancel()
        await asyncio.gather(memory, return_exceptions=True)
    finally:
        await connection.close()
        broker.kill()
