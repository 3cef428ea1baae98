"""A real broker with the mesh's streams, for what the runtime does on one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.log.client.connection import Connection
from shared.log.streams import ensure
from tests.broker import Broker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    yield broker
    broker.kill()


@pytest.fixture
async def connection(broker: Broker) -> AsyncIterator[Connection]:
    connection = await Connection.open(broker.url, name="test")
    yield connection
    await connection.close()
