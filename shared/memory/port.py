"""What the memory fabric needs from the outside: a vector index, an object store, an embedder.

The index is a projection of the log. It carries the stream sequence it is at *inside itself*, written together with what was
folded, so the cursor may lag behind the items after a crash but never lead; everything above it is folded again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.contracts.ids import EventId, Instant, Token
from shared.log.marks import Mark

Vector = NDArray[np.float32]
"""One unit vector, `(dim,) float32`; or rows of them, `(n, dim) float32`, where that is said."""

Kind = Literal["thought", "hypothesis", "check", "proposal", "rejected", "approval", "action", "charter"]
EdgeType = Literal["because", "refutes", "similar", "supersedes"]

LOG = ""
"""The cursor scope of the log as a whole; other scopes are owners whose memory was restored from a snapshot."""


class Edge(msgspec.Struct, frozen=True, array_like=True):
    """`type` from the item that holds it to `target`: an event id, or the token of a hypothesis or proposal."""

    type: EdgeType
    target: str


class MemoryItem(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One node of the thought graph.

    `id`, `seq`, `at` are those of the first event that said it; `seen_seq`, `seen_at` of the last one merged into it.
    `merged` are the ids of all others, so no source id is ever lost. `about` is the hypothesis or proposal token it concerns.
    `source_bytes` is the UTF-8 size of all texts it stands for. Appending a field is compatible, reordering is not.
    """

    id: EventId
    seq: int
    swarm: Token
    persona: Token
    kind: Kind
    text: str
    at: Instant
    importance: float
    seen_seq: int
    seen_at: Instant
    phase: str = ""
    pinned: bool = False
    tainted: bool = False
    evidence: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    edges: tuple[Edge, ...] = ()
    about: str = ""
    source_bytes: int = 0

    @property
    def owner(self) -> str:
        return owner_of(self.swarm, self.persona)

    @property
    def ids(self) -> tuple[str, ...]:
        """Every event id this item stands for."""
        return (self.id, *self.merged)


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """The `limit` items nearest to `vector` among those of `owners`, none below `min_score` (cosine).

    With `ties`: also what is less than that further away than the last of them, `most` in all, and their vectors. Which of several
    equally near ones an engine leaves out depends on how its segments lie; who must not depend on that asks for all of them.
    """

    vector: Vector
    owners: tuple[str, ...]
    limit: int
    min_score: float | None = None
    ties: float | None = None
    most: int = 0


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """An item near a query. `vector` is the stored one, bit for bit; None unless the query has `ties`."""

    item: MemoryItem
    score: float
    vector: Vector | None = None


class IndexUnavailable(Exception):
    """The vector index does not answer. Remedy: retry later; nothing was half done."""


class IndexInUse(Exception):
    """Another process has the index open; it belongs to one process. Remedy: stop the other one."""


class ColdUnavailable(Exception):
    """The object store does not answer, or refuses us. Remedy: retry later; a put may be repeated."""


class ColdMissing(Exception):
    """There is no such object."""


class ColdCorrupt(Exception):
    """An object's content is not what its digest says. Remedy: rebuild it from the log."""


class EmbedderUnavailable(Exception):
    """The embedding endpoint does not answer or answers wrongly. Remedy: retry later."""


class VectorIndex(Protocol):
    """Vectors with their items, and the cursors they are at. All methods raise `IndexUnavailable`."""

    dim: int

    async def write(
        self,
        rows: Sequence[tuple[MemoryItem, Vector]] = (),
        *,
        drop: Sequence[str] = (),
        cursors: Mapping[str, int] | None = None,
        marks: Sequence[Mark] = (),
    ) -> None:
        """Insert or replace items by id, drop others, move cursors: one step, so after a crash all of it is there or none.

        An index on several machines may apply the rows first; the cursors then come last, and lag.
        """

    async def query(self, queries: Sequence[Query]) -> list[list[Hit]]:
        """The nearest items for each query, best first. An empty `owners` finds nothing."""

    async def retrieve(self, ids: Sequence[str]) -> list[MemoryItem]:
        """Items that stand for, or are about, any of these ids."""

    async def matching(self, digests: Sequence[str]) -> list[MemoryItem]:
        """Items whose `dedup.exact_key` is one of these."""

    async def scan(self, owner: str) -> list[MemoryItem]:
        """All items of one owner, by sequence."""

    async def count(self, owner: str | None = None) -> int:
        """How many items there are, of one owner or of all."""

    async def cursors(self) -> dict[str, int]:
        """The sequence of each scope that has one; see `LOG`."""

    async def marks(self) -> tuple[Mark, ...]:
        """What was last written as marks, with the cursor `LOG`: what the log must still hold for the index to be of it."""

    async def clear(self) -> None:
        """Forget everything, cursors too. After a crash in between it may be half gone, and is to be called again."""

    async def flush(self) -> None:
        """Everything written so far survives loss of power."""

    async def close(self) -> None: ...


class ColdStore(Protocol):
    """Content-addressed objects. Keys contain the SHA-256 of their content, so a put can be repeated and never overwrites.

    All methods raise `ColdUnavailable` within seconds when the store is away.
    """

    async def put(self, key: str, data: bytes) -> bool:
        """Store under a key that contains the digest of `data` (else `ValueError`). False when it was already there."""

    async def get(self, key: str, sha256: str) -> bytes:
        """The content, checked. Raises `ColdMissing`, `ColdCorrupt`."""

    async def exists(self, key: str) -> bool: ...

    async def keys(self, prefix: str) -> list[str]:
        """Keys that begin with `prefix`, sorted."""

    async def close(self) -> None: ...


class Embedder(Protocol):
    """Texts to unit vectors; the same text always gives the same vector, whatever else is in the batch.

    `name` identifies model and dimension; vectors of different names must not share an index.
    """

    name: str
    dim: int

    async def embed(self, texts: Sequence[str]) -> Vector:
        """`(n, dim) float32`, rows of length 1. Raises `EmbedderUnavailable`."""

    async def close(self) -> None: ...


def owner_of(swarm: str, persona: str) -> str:
    """The namespace of a persona's private memory."""
    return f"{swarm}/{persona}"
