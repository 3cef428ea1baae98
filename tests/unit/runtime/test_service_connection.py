"""A process whose connection the server ended for good ends too, so that somebody starts it again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

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
