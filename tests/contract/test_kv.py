"""What a bucket promises, in memory and on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.log.client.connection import Connection
from shared.log.client.wire import Raw
from shared.log.kv import JetStreamKeyValue
from shared.log.memory import MemoryKeyValue
from shared.log.port import KeyValue, LogUnavailable, StaleBoundary
from shared.log.streams import ensure
from tests.broker import LOGS, Broker, serving


@pytest.fixture(params=LOGS)
async def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyValue]:
    if request.param == "memory":
        yield MemoryKeyValue()
        return
    async with serving(request.param, tmp_path) as (url, replicas):
        await ensure(url, None, replicas=replicas)
        connection = await Connection.open(url, name="test")
        yield JetStreamKeyValue(connection, "leases", replicated=replicas > 1)
        await connection.close()


async def test_a_value_reads_back_with_its_revision(bucket: KeyValue) -> None:
    assert await bucket.get("a") is None
    revision = await bucket.put("a", b"1")
    entry = await bucket.get("a")
    assert entry is not None and (b"1", revision) == (entry.value, entry.revision)


async def test_only_one_creates_and_only_the_last_reader_updates(bucket: KeyValue) -> None:
    revision = await bucket.put("a", b"1", revision=0)
    with pytest.raises(StaleBoundary):
        await bucket.put("a", b"2", revision=0)
    newer = await bucket.put("a", b"2", revision=revision)
    with pytest.raises(StaleBoundary):
        await bucket.put("a", b"3", revision=revision)
    await bucket.delete("a", revision=newer)
    assert await bucket.get("a") is None
    await bucket.put("a", b"4", revision=0)


async def test_an_entry_with_a_ttl_vanishes_and_can_be_created_again(bucket: KeyValue) -> None:
    await bucket.put("a", b"1", revision=0, ttl_s=1)
    async with asyncio.timeout(10):
        while await bucket.get("a") is not None:
            await asyncio.to_thread(lambda: None)
    assert [] == await bucket.entries()
    await bucket.put("a", b"2", revision=0, ttl_s=1)


async def test_entries_lists_what_lives_under_a_filter(bucket: KeyValue) -> None:
    for key in ("shard.1", "shard.2", "runner.1"):
        await bucket.put(key, key.encode())
    await bucket.delete("shard.2")
    assert ["shard.1"] == [entry.key for entry in await bucket.entries("shard.*")]
    assert {"shard.1", "runner.1"} == {entry.key for entry in await bucket.entries()}


async def test_what_a_bucket_cannot_give_now_is_not_missing(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    bucket = JetStreamKeyValue(connection, "leases")
    try:
        await asyncio.gather(*(bucket.put(f"k{n}", b"") for n in range(1025)))
        with pytest.raises(LogUnavailable, match="413"):
            await bucket.entries()

        async def busy(subject: str, body: bytes = b"", **options: object) -> Raw:
            return Raw("", "", b"", b"NATS/1.0 500 Busy\r\n\r\n")

        connection.request = busy  # type: ignore[method-assign, assignment]
        with pytest.raises(LogUnavailable, match="500 Busy"):
            await bucket.get("k1")
    finally:
        await connection.close()
        broker.kill()
