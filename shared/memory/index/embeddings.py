"""Embedders: wordllama in-process (the offline default), or any OpenAI-compatible `/embeddings` endpoint.

wordllama: static word vectors, mean-pooled; 256 dimensions, weights in the wheel, about 0.06 ms a text. It sees words,
not their order: `dedup.guard` makes up for that.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from typing import Protocol, cast

import httpx
import msgspec
import numpy as np

from shared.memory.port import EmbedderUnavailable, Vector

_INLINE = 64
"""Texts embedded on the loop (4 ms); more go to a thread."""


class _Model(Protocol):
    def embed(self, texts: list[str]) -> Vector: ...


class WordLlamaEmbedder:
    """Owns one model, 16 MB, loaded at construction in about 0.2 s."""

    name = "wordllama-256"
    dim = 256

    def __init__(self) -> None:
        import wordllama

        folder = os.path.dirname(wordllama.__file__)
        self._model = cast(_Model, wordllama.WordLlama.load(cache_dir=folder, disable_download=True))

    async def embed(self, texts: Sequence[str]) -> Vector:
        if len(texts) <= _INLINE:
            return self._rows(texts)
        return await asyncio.to_thread(self._rows, texts)

    def _rows(self, texts: Sequence[str]) -> Vector:
        if not texts:
            return np.empty((0, self.dim), np.float32)
        return unit_rows(self._model.embed(list(texts)), texts)

    async def close(self) -> None:
        return None


class _Row(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Row]


_ANSWER = msgspec.json.Decoder(_Answer)


class EndpointEmbedder:
    """`POST {base_url}/embeddings`, as OpenAI, llama.cpp, vLLM and Ollama serve it. At most `batch` texts a request."""

    def __init__(
        self, base_url: str, model: str, dim: int, *, api_key: str = "", timeout_s: float = 20.0, batch: int = 128
    ) -> None:
        self.name = f"{model}-{dim}"
        self.dim = dim
        self._model = model
        self._batch = batch
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.AsyncClient(
            base_url=base_url.rstrip("/") + "/",
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=3.0),
            trust_env=False,
        )

    @classmethod
    async def open(cls, base_url: str, model: str, *, api_key: str = "") -> EndpointEmbedder:
        """Ask the endpoint for its dimension. Raises `EmbedderUnavailable`."""
        probe = cls(base_url, model, 0, api_key=api_key)
        try:
            dim = (await probe._rows(["dimension"])).shape[1]
        finally:
            await probe.close()
        return cls(base_url, model, dim, api_key=api_key)

    async def embed(self, texts: Sequence[str]) -> Vector:
        chunks = [await self._request(texts[i : i + self._batch]) for i in range(0, len(texts), self._batch)]
        return np.vstack(chunks) if chunks else np.empty((0, self.dim), np.float32)

    async def _request(self, texts: Sequence[str]) -> Vector:
        matrix = await self._rows(texts)
        if matrix.shape != (len(texts), self.dim):
            raise EmbedderUnavailable(f"{self._model} answered {matrix.shape}, wanted {(len(texts), self.dim)}")
        return unit_rows(matrix, texts)

    async def _rows(self, texts: Sequence[str]) -> Vector:
        """As the endpoint gives them. Raises `EmbedderUnavailable`, also when they are no matrix."""
        try:
            answer = await self._http.post(
                "embeddings", json={"model": self._model, "input": [t or " " for t in texts]}
            )
            answer.raise_for_status()
            rows = sorted(_ANSWER.decode(answer.content).data, key=lambda row: row.index)
            matrix = np.array([row.embedding for row in rows], np.float32)
        except (httpx.HTTPError, msgspec.MsgspecError, ValueError) as error:
            raise EmbedderUnavailable(f"embedding {len(texts)} texts with {self._model} failed: {error!r}") from error
        if matrix.ndim != 2 or not np.isfinite(matrix).all():
            raise EmbedderUnavailable(f"{self._model} answered no matrix of finite numbers")
        return matrix

    async def close(self) -> None:
        await self._http.aclose()


def unit_rows(matrix: Vector, texts: Sequence[str]) -> Vector:
    """Rows scaled to length 1. A row of zeros (no known word) becomes a direction of its own, derived from the text."""
    rows = np.asarray(matrix, np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    for i in np.flatnonzero(~(lengths > 1e-9)).tolist():
        seed = int.from_bytes(hashlib.sha256(texts[i].encode("utf-8", "surrogatepass")).digest()[:8], "big")
        rows[i] = np.random.default_rng(seed).standard_normal(rows.shape[1])
        lengths[i] = np.linalg.norm(rows[i])
    return np.asarray(rows / lengths[:, None], np.float32)
