"""The real embedder, once; the real embedded index, in a folder of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.memory.fabric import Fabric
from shared.memory.index.edge import EdgeIndex
from shared.memory.index.embeddings import WordLlamaEmbedder


@pytest.fixture(scope="session")
def embedder() -> WordLlamaEmbedder:
    return WordLlamaEmbedder()


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[EdgeIndex]:
    index = await EdgeIndex.open(tmp_path / "index", 256)
    yield index
    await index.close()


@pytest.fixture
async def fabric(index: EdgeIndex, embedder: WordLlamaEmbedder) -> Fabric:
    return await Fabric.open(index, embedder)
