"""Runners as real processes: they start from their checkpoints, share what they host now, and leave one history a persona."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path

from shared.contracts.events import (
    AnyEvent,
    CognitionStarted,
    ObservationRecorded,
    SpawnRequested,
    ThoughtGenerated,
)
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.streams import ensure
from tests.broker import Broker
from tests.e2e.test_gateway import Process, followed_from, message

PERSONAS = tuple(f"p{n}" for n in range(8))
LINES = 6000


class Colony:
    """Some personas, whatever hosts them."""

    def __init__(self, log: JetStreamLog) -> None:
        self.log = log

    async def put(self, *events: AnyEvent) -> int:
        """The sequence of the last."""
        return (await self.log.commit([message(event) for event in events]))[-1]

    async def think(self, runners: set[str]) -> None:
        """Gives them something new, and waits until each has thought about it, and each of the runners has hosted one."""
        since = await self.put(ObservationRecorded(swarm="alpha", persona="all", text="something new"))
        waiting, quiet = set(PERSONAS), set(runners)
        tail = self.log.tail(["thought.generated.alpha.*.*"], since)
        async with asyncio.timeout(40):
            async for recorded in tail:
                event = recorded.event
                assert isinstance(event, ThoughtGenerated)
                if event.observed_seq >= since:
                    waiting.discard(event.persona)
                    quiet.discard(event.runner)
                if not waiting and not quiet:
                    break
        await tail.stop()


async def test_runners_go_on_from_their_checkpoints_and_leave_one_history_each(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    colony = Colony(JetStreamLog(connection, service="test", instance="test-1"))
    for first in range(0, LINES, 500):
        lines = range(first, first + 500)
        await colony.put(*(ObservationRecorded(swarm="alpha", persona="all", text=f"line {n} came") for n in lines))
    await colony.put(CognitionStarted(swarm="all", persona="all", loop_interval_ms=100))
    for name in PERSONAS:
        await colony.put(SpawnRequested(swarm="alpha", persona=name, name=name, role="r", charter="c", principal="al"))
    processes = [Process("governor", broker, tmp_path)]
    try:
        one = Process("persona_runner", broker, tmp_path, SWARM_INSTANCE="persona_runner-1")
        processes.append(one)
        await colony.think({"persona_runner-1"})
        assert await followed_from(broker, "persona_runner-1") == 1
        assert await one.end() == 0
        two = Process("persona_runner", broker, tmp_path, SWARM_INSTANCE="persona_runner-2")
        processes.append(two)
        await colony.think({"persona_runner-2"})
        one.start()
        await colony.think({"persona_runner-1", "persona_runner-2"})
        assert LINES < await followed_from(broker, "persona_runner-1")
        await two.end(signal.SIGKILL)
        await colony.think({"persona_runner-1"})
        two.start()
        await colony.think({"persona_runner-1", "persona_runner-2"})
        assert await followed_from(broker, "persona_runner-2") == 1, "killed before it had anything to go on from"
        assert await two.end() == 0
        two.start()
        await colony.think({"persona_runner-1", "persona_runner-2"})
        assert LINES < await followed_from(broker, "persona_runner-2")
        steps = Counter[str]()
        for recorded in await colony.log.read(["thought.generated.alpha.*.*"]):
            event = recorded.event
            assert isinstance(event, ThoughtGenerated)
            steps[event.persona] += 1
            assert event.step == steps[event.persona]
        assert set(steps) == set(PERSONAS)
    finally:
        for process in processes:
            process.process.kill()
            process.process.wait()
        await connection.close()
        broker.kill()
