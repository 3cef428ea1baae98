"""Embedders: unit rows, independent of the batch; a real HTTP endpoint that answers well, badly, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.memory.index.embeddings import EndpointEmbedder, WordLlamaEmbedder
from shared.memory.port import EmbedderUnavailable

_MODEL = WordLlamaEmbedder()


@given(st.lists(st.text(max_size=60), min_size=1, max_size=80))
def test_rows_are_unit_vectors_and_do_not_depend_on_their_batch(texts: list[str]) -> None:
    rows = asyncio.run(_MODEL.embed(texts))
    assert rows.shape == (len(texts), 256) and rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.array_equal(rows[-1], asyncio.run(_MODEL.embed(texts[-1:]))[0])


@asynccontextmanager
async def endpoint(answer: Callable[[list[str]], object]) -> AsyncIterator[str]:
    """A small HTTP server that answers POST /v1/embeddings."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        texts = json.loads(await reader.readexactly(size))["input"]
        body = json.dumps(answer(texts)).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def test_an_endpoint_tells_its_dimension_and_its_rows_are_ordered_and_scaled() -> None:
    def backwards(texts: list[str]) -> object:
        rows = [{"index": i, "embedding": [float(len(t)), 0.0, 2.0]} for i, t in enumerate(texts)]
        return {"data": rows[::-1]}

    async with endpoint(backwards) as url:
        embedder = await EndpointEmbedder.open(url, "test-model")
        rows = await embedder.embed(["", "four"])
        await embedder.close()
    assert (embedder.dim, embedder.name) == (3, "test-model-3")
    assert np.allclose(rows, [[1 / 5**0.5, 0, 2 / 5**0.5], [4 / 20**0.5, 0, 2 / 20**0.5]], atol=1e-6)


@pytest.mark.parametrize(
    "answer",
    [
        {"data": []},
        {"error": "no"},
        {"data": [{"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": []}]},
    ],
)
async def test_an_endpoint_that_answers_wrongly_is_unavailable(answer: object) -> None:
    async with endpoint(lambda texts: answer) as url:
        embedder = EndpointEmbedder(url, "test-model", 3)
        with pytest.raises(EmbedderUnavailable):
            await embedder.embed(["x"])
        await embedder.close()


async def test_an_endpoint_that_is_away_is_unavailable() -> None:
    embedder = EndpointEmbedder("http://127.0.0.1:9", "test-model", 3)
    with pytest.raises(EmbedderUnavailable, match="test-model"):
        await embedder.embed(["x"])
    assert (await embedder.embed([])).shape == (0, 3)
    await embedder.close()
