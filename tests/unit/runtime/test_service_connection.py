"""A process whose connection the server ended for good ends too, so that somebody starts it again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.log.client.connection import Connection
from shared.log.port import LogUnavailable
from shared.log.streams import ensure
from shared.runtime.service import Service
from shared.settings import Settings
from tests.broker import Broker


async def test_a_connection_ended_for_good_ends_the_process(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    try:
        service = Service("verifier", Settings(), connection)
        started = asyncio.Event()

        async def begin() -> None:
            started.set()

        service.background("begin", begin)
        running = asyncio.create_task(service.run())
        await started.wait()
        await connection.client._process_err("'maximum connections exceeded'")
        async with asyncio.timeout(10):
            with pytest.raises(ExceptionGroup) as ended:
                await running
        assert isinstance(ended.value.exceptions[0], LogUnavailable)
    finally:
        broker.kill()


async def test_what_does_not_end_in_time_is_left_as_it_is_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.runtime.service.LEAVE_S", 0.2)
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    try:
        settings = Settings(grace_s=0.0, data_dir=str(tmp_path / "data"))
        service = Service("verifier", settings, await Connection.open(broker.url, name="test"))
        folding, closed = asyncio.Event(), []

        async def fold() -> None:
            folding.set()
            await asyncio.Event().wait()

        async def release() -> None:
            closed.append("what is held")

        service.background("fold", fold)
        service.on_close(release)
        running = asyncio.create_task(service.run())
        await folding.wait()
        service.stopping.set()
        with capture_logs() as lines:
            async with asyncio.timeout(10):
                await running
        assert [["fold"]] == [line["left"] for line in lines if line["event"] == "drain_cut_short"]
        assert closed == ["what is held"] and service.connection.closed.is_set()
    finally:
        broker.kill()
