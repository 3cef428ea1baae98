"""The vector index embedded: Qdrant Edge, the Qdrant engine in-process.

Calls hold the GIL, so all run in one worker thread, in order, and large queries are cut into small batches to let others
run in between. A folder belongs to one process (a lock file says so). The engine's write-ahead log survives kill -9; `flush`, a
few seconds after a write and on close, survives loss of power. What can't be opened is moved aside and begun anew: the log rebuilds it.

HNSW is off on purpose: its builds stall for minutes, and brute force is fast enough up to some 200 000 items.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import qdrant_edge as q
import structlog

from shared.log.marks import Mark
from shared.memory.index import points
from shared.memory.port import LOG, Hit, IndexInUse, IndexUnavailable, MemoryItem, Query, Vector

T = TypeVar("T")
_QUERY_BATCH = 16
_PAGE = 1000
_NO_HNSW = 10_000_000
LONGEST_RETRY_S = 30.0
_log = structlog.get_logger()


class EdgeIndex:
    """A `VectorIndex` in a folder of this process. Make it with `EdgeIndex.open`."""

    def __init__(
        self, folder: Path, shard: q.EdgeShard, lock_fd: int, dim: int, flush_s: float, worker: ThreadPoolExecutor
    ) -> None:
        self.dim = dim
        self._folder = folder
        self._shard = shard
        self._lock_fd = lock_fd
        self._flush_s = flush_s
        self._worker = worker
        self._items = points.Items()
        self._flushing: asyncio.Task[None] | None = None
        self._unflushed = False

    @classmethod
    async def open(cls, folder: Path, dim: int, *, flush_s: float = 2.0) -> EdgeIndex:
        """Open or create. Raises `IndexInUse` when another process has it.

        `flush_s`: seconds from a write until it is on disk for good.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock_fd = _lock(folder)
        worker = ThreadPoolExecutor(1, thread_name_prefix="edge-index")
        shard = await asyncio.get_running_loop().run_in_executor(worker, _open, folder, dim)
        return cls(folder, shard, lock_fd, dim, flush_s, worker)

    async def write(
        self,
        rows: Sequence[tuple[MemoryItem, Vector]] = (),
        *,
        drop: Sequence[str] = (),
        cursors: Mapping[str, int] | None = None,
        marks: Sequence[Mark] = (),
    ) -> None:
        """One record of the engine's write-ahead log: rows, tombstones and cursors. The tombstones are removed afterwards."""
        gone = [points.point_id(i) for i in drop]
        batch = [q.Point(points.point_id(item.id), vector.tolist(), points.payload_of(item)) for item, vector in rows]
        batch += [q.Point(i, {}, {"meta": points.TOMBSTONE}) for i in gone]
        for scope, seq in (cursors or {}).items():
            batch.append(q.Point(points.cursor_point_id(scope), {}, points.cursor_payload(scope, seq, marks)))
        if not batch:
            return
        if self._unflushed:
            await self.flush()  # what cannot be kept is not taken in either
        await self._run(self._update, q.UpdateOperation.upsert_points(batch))
        if gone:
            await self._run(self._update, q.UpdateOperation.delete_points(list(gone)))
        if not self._is_flush_due():
            self._flushing = asyncio.create_task(self._flush_later(), name="edge-index-flush")

    def _update(self, operation: q.UpdateOperation) -> None:
        self._shard.update(operation)

    async def query(self, queries: Sequence[Query]) -> list[list[Hit]]:
        found: list[list[Hit]] = []
        for i in range(0, len(queries), _QUERY_BATCH):
            found += await self._run(self._query, queries[i : i + _QUERY_BATCH])
        return found

    def _query(self, queries: Sequence[Query]) -> list[list[Hit]]:
        requests = [
            q.QueryRequest(
                limit=query.limit if query.ties is None else query.most,
                query=q.Query.Nearest(query.vector.tolist()),
                filter=_any("owner", query.owners),
                score_threshold=query.min_score,
                with_payload=query.ties is None,
            )
            for query in queries
        ]
        found = list(zip(queries, self._shard.query_batch(q.QueryBatchRequest(requests)), strict=True))
        near = {i: self._near(query, answer) for i, (query, answer) in enumerate(found) if query.ties is not None}
        wanted = {point: None for cut in near.values() for point, _ in cut}
        there = {p.id: p for p in self._shard.retrieve(list(wanted), True, True)} if wanted else {}
        return [
            [
                Hit(item=item, score=score, vector=points.vector_of(there[point].vector))
                for point, score in near[i]
                if point in there and (item := self._items.of(there[point].payload)) is not None
            ]
            if i in near
            else [Hit(item=item, score=p.score) for p in answer if (item := self._items.of(p.payload)) is not None]
            for i, (_, answer) in enumerate(found)
        ]

    @staticmethod
    def _near(query: Query, answer: Sequence[q.ScoredPoint]) -> list[tuple[q.PointId, float]]:
        return [(p.id, p.score) for p in answer[: points.asked_for(query, [p.score for p in answer])]]

    async def retrieve(self, ids: Sequence[str]) -> list[MemoryItem]:
        return await self._run(self._scroll, _any("ids", ids)) if ids else []

    async def matching(self, digests: Sequence[str]) -> list[MemoryItem]:
        return await self._run(self._scroll, _any("hash", digests)) if digests else []

    async def scan(self, owner: str) -> list[MemoryItem]:
        return await self._run(self._scroll, _any("owner", (owner,)))

    def _scroll(self, where: q.Filter) -> list[MemoryItem]:
        payloads: list[points.Payload | None] = []
        offset = None
        while True:
            page, offset = self._shard.scroll(
                q.ScrollRequest(offset=offset, limit=_PAGE, filter=where, with_payload=True)
            )
            payloads += [record.payload for record in page]
            if offset is None:
                return self._items.all(payloads)

    async def count(self, owner: str | None = None) -> int:
        where = q.Filter(must_not=[q.IsEmptyCondition("owner")]) if owner is None else _any("owner", (owner,))
        return await self._run(self._shard.count, q.CountRequest(exact=True, filter=where))

    async def cursors(self) -> dict[str, int]:
        return dict(map(points.cursor_of, await self._run(self._cursors)))

    async def marks(self) -> tuple[Mark, ...]:
        found = await self._run(self._cursors)
        return next((points.marks_of(payload) for payload in found if points.cursor_of(payload)[0] == LOG), ())

    def _cursors(self) -> list[points.Payload]:
        found: list[points.Payload] = []
        offset = None
        while True:
            request = q.ScrollRequest(
                offset=offset, limit=_PAGE, filter=_any("meta", (points.CURSOR,)), with_payload=True
            )
            page, offset = self._shard.scroll(request)
            found += [record.payload or {} for record in page]
            if offset is None:
                return found

    async def clear(self) -> None:
        await self._run(self._begin_anew)

    def _begin_anew(self) -> None:
        self._shard.close()
        shutil.rmtree(self._folder)
        self._shard = _open(self._folder, self.dim)

    async def flush(self) -> None:
        try:
            await self._run(self._shard.flush)
        except IndexUnavailable:
            self._unflushed = True
            raise
        self._unflushed = False

    def _is_flush_due(self) -> bool:
        return self._flushing is not None

    async def _flush_later(self) -> None:
        """Some time after a write; a disk that refuses is asked again, ever more rarely, until it takes it."""
        delay_s = self._flush_s
        while True:
            await asyncio.sleep(delay_s)
            self._flushing = None  # what is written from here on is for another flush
            try:
                await self.flush()
                return
            except IndexUnavailable as error:
                delay_s = min(LONGEST_RETRY_S, 2 * delay_s)
                _log.error("index_not_flushed", why=str(error), retry_s=delay_s)
                if self._is_flush_due():
                    return  # a write came meanwhile, and its flush is this one's too
                self._flushing = asyncio.current_task()

    async def close(self) -> None:
        """Flush and release the folder. The index is of no use afterwards."""
        if self._flushing is not None:
            self._flushing.cancel()
        try:
            await self._run(self._shard.close)
        finally:
            self._worker.shutdown()
            os.close(self._lock_fd)

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, work, *args)
        except Exception as error:  # the engine raises plain `Exception` for everything
            raise IndexUnavailable(f"{getattr(work, '__name__', work)} failed: {error}") from error


def _any(key: str, values: Sequence[str]) -> q.Filter:
    return q.Filter(must=[q.FieldCondition(key=key, match=q.MatchAny(list(values)))])


def _lock(folder: Path) -> int:
    descriptor = os.open(folder.with_name(folder.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise IndexInUse(f"the index at {folder} is open in another process; stop that one first") from error
    return descriptor


def _open(folder: Path, dim: int) -> q.EdgeShard:
    config = q.EdgeConfig(
        vectors=q.EdgeVectorParams(size=dim, distance=q.Distance.Cosine),
        optimizers=q.EdgeOptimizersConfig(indexing_threshold=_NO_HNSW),
        wal_enabled=True,
    )
    if (folder / "segments").is_dir():
        try:
            shard = q.EdgeShard.load(str(folder), config)
            _index_payload(shard)
            shard.update(q.UpdateOperation.delete_points_by_filter(_any("meta", (points.TOMBSTONE,))))
            return shard
        except Exception as error:  # the engine raises plain `Exception` for everything
            _log.error(
                "index_unreadable", folder=str(folder), error=str(error), remedy="moved aside, rebuilt from the log"
            )
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}.broken-{time.time_ns()}"))
    folder.mkdir()
    shard = q.EdgeShard.create(str(folder), config)
    _index_payload(shard)
    shard.flush()
    return shard


def _index_payload(shard: q.EdgeShard) -> None:
    """At every opening: what a kill during the first one left out is a scan of everything for each lookup."""
    for key in set(points.KEYWORDS) - set(shard.info().payload_schema):
        shard.update(q.UpdateOperation.create_field_index(key, q.PayloadSchemaType.Keyword))
