"""The vector index on a Qdrant server. Importing qdrant-client costs about a second and 78 MB, so only who opens this pays.

A write is one upsert request (rows, tombstones, cursors), which a collection of one shard applies in order. One process
writes: the compactor; any number may read.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from shared.log.marks import Mark
from shared.memory.index import points
from shared.memory.port import LOG, Hit, IndexUnavailable, MemoryItem, Query, Vector

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient
    from qdrant_client import models as m

T = TypeVar("T")
_PAGE = 1000
_QUERY_BATCH = 64


class ServerIndex:
    """A `VectorIndex` in one collection of a server. Make it with `ServerIndex.open`."""

    def __init__(self, client: AsyncQdrantClient, collection: str, dim: int) -> None:
        from qdrant_client import models

        self.dim = dim
        self._client = client
        self._collection = collection
        self._m = models
        self._items = points.Items()

    @classmethod
    async def open(
        cls,
        url: str,
        collection: str,
        dim: int,
        *,
        api_key: str | None = None,
        ca_file: str = "",
        timeout_s: int = 5,
    ) -> ServerIndex:
        """Connect, and create the collection when it is missing. Raises `IndexUnavailable` within `timeout_s` seconds or so.

        `ca_file`: certificates of whom to believe that it is the server, in place of whom this machine believes.
        """
        from qdrant_client import AsyncQdrantClient

        try:
            verify = ssl.create_default_context(cafile=ca_file or None)
        except OSError as error:
            raise IndexUnavailable(f"SWARM_QDRANT_CA_FILE={ca_file}: {error.strerror or error}") from error
        client = AsyncQdrantClient(
            url=url, api_key=api_key, timeout=timeout_s, check_compatibility=False, verify=verify
        )
        index = cls(client, collection, dim)
        try:
            await index.prepare()
        except IndexUnavailable:
            await client.close()
            raise
        return index

    async def prepare(self) -> None:
        """Create the collection and its payload indexes where missing, and remove tombstones a crash left behind."""
        if not await self._call(self._client.collection_exists(self._collection)):
            params = self._m.VectorParams(size=self.dim, distance=self._m.Distance.COSINE)
            await self._call(self._client.create_collection(self._collection, vectors_config=params, shard_number=1))
        for key in points.KEYWORDS:
            schema = self._m.PayloadSchemaType.KEYWORD
            await self._call(self._client.create_payload_index(self._collection, key, schema, wait=True))
        selector = self._m.FilterSelector(filter=self._any("meta", (points.TOMBSTONE,)))
        await self._call(self._client.delete(self._collection, selector, wait=True))

    async def write(
        self,
        rows: Sequence[tuple[MemoryItem, Vector]] = (),
        *,
        drop: Sequence[str] = (),
        cursors: Mapping[str, int] | None = None,
        marks: Sequence[Mark] = (),
    ) -> None:
        point = self._m.PointStruct
        gone = [points.point_id(i) for i in drop]
        batch = [point(id=points.point_id(i.id), vector=v.tolist(), payload=points.payload_of(i)) for i, v in rows]
        batch += [point(id=i, vector={}, payload={"meta": points.TOMBSTONE}) for i in gone]
        for scope, seq in (cursors or {}).items():
            batch.append(
                point(id=points.cursor_point_id(scope), vector={}, payload=points.cursor_payload(scope, seq, marks))
            )
        if batch:
            await self._call(self._client.upsert(self._collection, batch, wait=True))
        if gone:
            await self._call(self._client.delete(self._collection, self._m.PointIdsList(points=list(gone)), wait=True))

    async def query(self, queries: Sequence[Query]) -> list[list[Hit]]:
        found: list[list[Hit]] = []
        for i in range(0, len(queries), _QUERY_BATCH):
            part = queries[i : i + _QUERY_BATCH]
            requests = [
                self._m.QueryRequest(
                    query=query.vector.tolist(),
                    filter=self._any("owner", query.owners),
                    limit=query.limit if query.ties is None else query.most,
                    score_threshold=query.min_score,
                    with_payload=query.ties is None,
                )
                for query in part
            ]
            answers = await self._call(self._client.query_batch_points(self._collection, requests))
            for query, answer in zip(part, answers, strict=True):
                found.append(await self._hits(query, answer.points))
        return found

    async def _hits(self, query: Query, near: Sequence[m.ScoredPoint]) -> list[Hit]:
        if query.ties is None:
            read = [(self._items.of(p.payload), p.score) for p in near]
            return [Hit(item=item, score=score) for item, score in read if item is not None]
        cut = [(str(p.id), p.score) for p in near[: points.asked_for(query, [p.score for p in near])]]
        records = await self._call(
            self._client.retrieve(self._collection, [i for i, _ in cut], with_payload=True, with_vectors=True)
        )
        there = {str(r.id): r for r in records}
        hits = [(self._items.of(there[i].payload), score, there[i].vector) for i, score in cut if i in there]
        return [
            Hit(item=item, score=score, vector=points.vector_of(vector))
            for item, score, vector in hits
            if item is not None
        ]

    async def retrieve(self, ids: Sequence[str]) -> list[MemoryItem]:
        return await self._scroll(self._any("ids", ids)) if ids else []

    async def matching(self, digests: Sequence[str]) -> list[MemoryItem]:
        return await self._scroll(self._any("hash", digests)) if digests else []

    async def scan(self, owner: str) -> list[MemoryItem]:
        return await self._scroll(self._any("owner", (owner,)))

    async def _scroll(self, where: m.Filter) -> list[MemoryItem]:
        return self._items.all(record.payload for record in await self._records(where))

    async def _records(self, where: m.Filter) -> list[m.Record]:
        records: list[m.Record] = []
        offset: m.ExtendedPointId | None = None
        while True:
            call = self._client.scroll(
                self._collection, scroll_filter=where, limit=_PAGE, offset=offset, with_payload=True
            )
            page, offset = await self._call(call)
            records += page
            if offset is None:
                return records

    async def count(self, owner: str | None = None) -> int:
        empty = self._m.IsEmptyCondition(is_empty=self._m.PayloadField(key="owner"))
        where = self._m.Filter(must_not=[empty]) if owner is None else self._any("owner", (owner,))
        return (await self._call(self._client.count(self._collection, count_filter=where, exact=True))).count

    async def cursors(self) -> dict[str, int]:
        records = await self._records(self._any("meta", (points.CURSOR,)))
        return dict(points.cursor_of(record.payload) for record in records)

    async def marks(self) -> tuple[Mark, ...]:
        records = await self._records(self._any("meta", (points.CURSOR,)))
        return next((points.marks_of(r.payload) for r in records if points.cursor_of(r.payload)[0] == LOG), ())

    async def clear(self) -> None:
        await self._call(self._client.delete_collection(self._collection))
        await self.prepare()

    async def flush(self) -> None:
        """Nothing to do: the server answers a write once it is in its own write-ahead log, and flushes by itself."""

    async def close(self) -> None:
        await self._client.close()

    def _any(self, key: str, values: Sequence[str]) -> m.Filter:
        return self._m.Filter(must=[self._m.FieldCondition(key=key, match=self._m.MatchAny(any=list(values)))])

    async def _call(self, call: Awaitable[T]) -> T:
        from qdrant_client.http.exceptions import ApiException

        try:
            return await call
        except (ApiException, OSError) as error:
            raise IndexUnavailable(
                f"the Qdrant server failed: {' '.join(str(error).split()) or repr(error)}"
            ) from error
