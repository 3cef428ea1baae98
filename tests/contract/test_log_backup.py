"""A stream as a file: taken while it is written to, put back on another broker, the same to the byte."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.contracts.envelope import Recorded
from shared.log.backup import CHUNK_BYTES, put_back, take
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable
from shared.log.streams import ensure
from tests.broker import Broker
from tests.contract.test_log import observation


@asynccontextmanager
async def opened(folder: Path, *, declared: bool) -> AsyncIterator[JetStreamLog]:
    folder.mkdir()
    broker = Broker(folder)
    await broker.start()
    if declared:
        await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    yield JetStreamLog(connection, service="test", instance="test-1")
    await connection.close()
    broker.kill()


async def whole(log: JetStreamLog) -> list[Recorded]:
    return [r for r in await log.read(("observation.recorded.*.*",)) if isinstance(r, Recorded)]


async def test_what_is_put_back_is_what_was_taken_while_it_grew(tmp_path: Path) -> None:
    file = tmp_path / "SWARM"
    async with opened(tmp_path / "one", declared=True) as log:
        rng = random.Random(7)
        noise = [observation(rng.randbytes(3000).hex()) for _ in range(100)]
        for message in noise:
            await log.commit([message])

        async def growing() -> None:
            while True:
                await log.commit([observation("later")])

        later = asyncio.create_task(growing())
        taken = await take(log.connection, "SWARM", file)
        later.cancel()
        before = [r for r in await whole(log) if r.seq <= taken.last_seq]
    assert len(before) == taken.last_seq >= len(noise)
    assert taken.size == file.stat().st_size > CHUNK_BYTES
    async with opened(tmp_path / "two", declared=False) as log:
        await put_back(log.connection, taken, file)
        assert before == await whole(log)
        assert [] != await ensure(log.connection.client.connected_url.geturl(), None)  # what the next start declares
        (seq,) = await log.commit([observation("after")])
        assert taken.last_seq + 1 == seq
        with pytest.raises(LogUnavailable, match="already"):
            await put_back(log.connection, taken, file)


async def test_a_file_that_was_changed_is_not_put_back(tmp_path: Path) -> None:
    file = tmp_path / "SWARM"
    async with opened(tmp_path / "one", declared=True) as log:
        await log.commit([observation()])
        taken = await take(log.connection, "SWARM", file)
    file.write_bytes(file.read_bytes()[:100])
    async with opened(tmp_path / "two", declared=False) as log:
        with pytest.raises(LogUnavailable):
            await put_back(log.connection, taken, file)


async def test_what_is_not_there_cannot_be_taken(tmp_path: Path) -> None:
    async with opened(tmp_path / "one", declared=False) as log:
        with pytest.raises(LogUnavailable, match="not found"):
            await take(log.connection, "SWARM", tmp_path / "SWARM")
