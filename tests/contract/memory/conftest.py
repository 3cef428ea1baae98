"""Real stores: one `weed mini` for the session, an embedded index per test, a Qdrant server where one is named."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.memory.index.edge import EdgeIndex
from shared.memory.index.server import ServerIndex
from shared.memory.port import VectorIndex
from tests.contract.memory.weed import Weed

DIM = 8


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    server = Weed(tmp_path_factory.mktemp("weed"))
    server.start()
    yield server
    server.kill()


@asynccontextmanager
async def edge(folder: Path) -> AsyncIterator[VectorIndex]:
    index = await EdgeIndex.open(folder / "index", DIM)
    yield index
    await index.close()


@asynccontextmanager
async def local_engine(folder: Path) -> AsyncIterator[VectorIndex]:
    """The server's adapter over qdrant-client's own engine: the same calls, no network."""
    from qdrant_client import AsyncQdrantClient

    index = ServerIndex(AsyncQdrantClient(":memory:"), "memory", DIM)
    await index.prepare()
    yield index
    await index.close()


@asynccontextmanager
async def api(folder: Path) -> AsyncIterator[VectorIndex]:
    """As it asks a server, each request held to the server's own document."""
    from qdrant_client import AsyncQdrantClient

    from tests.contract.memory.qdrant_api import BASE, DOCUMENT, QdrantApi

    served = QdrantApi()
    client = AsyncQdrantClient(url=BASE, api_key="secret", transport=served, check_compatibility=False)
    index = ServerIndex(client, "memory", DIM)
    await index.prepare()
    yield index
    assert "secret" == served.key
    assert served.asked <= {(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    await index.close()


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[VectorIndex]:
    url = os.environ.get("SWARM_TEST_QDRANT_URL")
    if not url:
        pytest.skip("SWARM_TEST_QDRANT_URL names no Qdrant server")
    collection = f"test-{uuid.uuid4().hex}"
    index = await ServerIndex.open(url, collection, DIM)
    yield index
    await index._client.delete_collection(collection)
    await index.close()


@pytest.fixture(params=[edge, local_engine, api, server], ids=lambda factory: factory.__name__)
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorIndex]:
    async with request.param(tmp_path) as opened:
        yield opened
