"""A broker that has no room for another batch: it is waited for, and is no moved boundary."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import ObservationRecorded
from shared.contracts.ids import utc_now
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import Expect, StaleBoundary
from shared.log.streams import ensure
from tests.broker import Broker

ROOM, IDLE_S = 3, 2
LIMITS = f'    batch {{\n      max_inflight_per_stream: {ROOM}\n      timeout: "{IDLE_S}s"\n    }}'


def seen(text: str) -> Message:
    envelope = Envelope(id=text, source="test", time=utc_now(), correlation=text)
    return Message(event=ObservationRecorded(swarm="a", persona="all", text=text), envelope=envelope)


async def test_a_commit_that_finds_too_many_open_batches_waits_for_room(tmp_path: Path) -> None:
    broker = Broker(tmp_path, limits=LIMITS)
    await broker.start()
    try:
        await ensure(broker.url, None)
        connection = await Connection.open(broker.url, name="test")
        log = JetStreamLog(connection, service="test", instance="test-1")
        for number in range(ROOM):
            connection.send(
                "observation.recorded.a.all", b"{}", lines=f"Nats-Batch-Id: open{number}\r\nNats-Batch-Sequence: 1\r\n"
            )
        free = Expect("observation.recorded.a.all", 0)
        assert (1, 2) == await log.commit([seen("one"), seen("two")], [free])
        with pytest.raises(StaleBoundary):
            await log.commit([seen("three"), seen("four")], [free])
        await connection.close()
    finally:
        broker.kill()
