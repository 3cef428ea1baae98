"""Doing what the decider asks for: feeding memory from the log, snapshots to cold storage, recall.

`Feed` is the one writer of memory: an ordered tail of the log from the index's cursor on. What arrives while a transaction
is written goes into the next one together, so a rebuild runs in large transactions and a quiet mesh in single ones.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
from collections.abc import Callable

import msgspec
import structlog

from services.memory_compactor.decider import Recall, Recalled, Remember, Remembered, TakeSnapshot, Unavailable, Written
from shared.contracts.catalog import class_filter
from shared.contracts.envelope import Recorded, Unreadable
from shared.contracts.events import SnapshotCompressed
from shared.decider import Effect, Result
from shared.log.port import Log
from shared.memory.fabric import TRANSACTION_EVENTS, Fabric
from shared.memory.items import REMEMBERED
from shared.memory.port import (
    ColdCorrupt,
    ColdMissing,
    ColdStore,
    ColdUnavailable,
    EmbedderUnavailable,
    IndexUnavailable,
)
from shared.memory.snapshot import UnknownVersion

FILTERS = tuple(class_filter(name) for name in (*REMEMBERED, "persona.draining", "persona.reaped"))
"""What moves the cursor: all that may be remembered, what a snapshot may have to wait for, and what ends a memory."""

AWAY = {
    ColdUnavailable: "cold_unavailable",
    IndexUnavailable: "index_unavailable",
    EmbedderUnavailable: "embedder_unavailable",
}
FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 10.0
_QUEUE = 4 * TRANSACTION_EVENTS
_log = structlog.get_logger()


class Feed:
    """Feeds a fabric from the log until `stop`. `run` is the task; the others may be called from anywhere."""

    def __init__(self, log: Log, fabric: Fabric) -> None:
        self._fabric = fabric
        self._tail = log.tail(FILTERS, after=fabric.cursor)
        self._waiting: collections.deque[Recorded] = collections.deque()
        self._changed = asyncio.Condition()
        self._ended = False
        self.problem: str | None = "memory is being brought up to date with the log"
        """Why memory does not move on just now, for readiness; None when it does."""

    async def run(self) -> None:
        """Raises whatever is not an outage; the index and the embedder may be away, and are tried again."""
        try:
            async with asyncio.TaskGroup() as group:
                announce = group.create_task(self._announce())
                group.create_task(self._fold())
                await self._read()
                announce.cancel()
        finally:
            await self._end()

    async def reach(self, seq: int) -> bool:
        """Wait until memory holds everything up to `seq`; False when the feed was stopped before."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._fabric.cursor >= seq or self._ended)
        return self._fabric.cursor >= seq

    async def caught_up(self) -> None:
        """Wait until memory holds what was in the log when the feed began."""
        await self._tail.caught_up()
        async with self._changed:
            await self._changed.wait_for(lambda: not self._waiting or self._ended)

    async def _announce(self) -> None:
        await self.caught_up()
        self.problem = None

    async def stop(self) -> None:
        await self._tail.stop()
        await self._end()

    async def _end(self) -> None:
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def _read(self) -> None:
        async for recorded in self._tail:
            if isinstance(recorded, Unreadable):
                continue
            async with self._changed:
                await self._changed.wait_for(lambda: len(self._waiting) < _QUEUE or self._ended)
                self._waiting.append(recorded)
                self._changed.notify_all()
        await self._end()

    async def _fold(self) -> None:
        delay_s = FIRST_RETRY_S
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._waiting) or self._ended)
                batch = list(itertools.islice(self._waiting, TRANSACTION_EVENTS))
            if self._ended:
                return
            try:
                done = await self._fabric.remember(batch)
            except (IndexUnavailable, EmbedderUnavailable) as error:
                self.problem = str(error)
                _log.error("memory_stands", at=self._fabric.cursor, why=self.problem, retry_s=delay_s)
                await self._pause(delay_s)
                delay_s = min(LONGEST_RETRY_S, 2 * delay_s)
                continue
            if delay_s != FIRST_RETRY_S:
                delay_s, self.problem = FIRST_RETRY_S, None
            for reason in done.refused:
                _log.warning("compaction_refused", why=reason)
            async with self._changed:
                for _ in batch:
                    self._waiting.popleft()
                self._changed.notify_all()

    async def _pause(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s), self._changed:
                await self._changed.wait_for(lambda: self._ended)
        except TimeoutError:
            return


class MemoryEffects(msgspec.Struct, frozen=True, kw_only=True):
    """Performs the compactor's effects. An outage is an answer (`Unavailable`), and the decider's to judge."""

    fabric: Fabric
    feed: Feed
    cold: ColdStore

    async def perform(self, effect: Effect) -> Result:
        try:
            match effect:
                case Remember():
                    return Remembered() if await self.feed.reach(effect.seq) else Unavailable(detail="stopping")
                case TakeSnapshot():
                    return await self._write_down(effect)
                case Recall():
                    found = await self.fabric.recall(
                        effect.swarm, effect.persona, effect.query, effect.limit, effect.now
                    )
                    return Recalled(memories=tuple(found), seq=self.fabric.cursor)
                case _:
                    raise TypeError(f"the memory compactor has no effect {type(effect).__name__}")
        except (IndexUnavailable, EmbedderUnavailable, ColdUnavailable) as error:
            _log.error("memory_unavailable", effect=type(effect).__name__, why=str(error))
            return Unavailable(detail=str(error), reason=AWAY[type(error)])

    async def _write_down(self, effect: TakeSnapshot) -> Result:
        if not await self.feed.reach(effect.seq):
            return Unavailable(detail="stopping")
        captured = await self.fabric.snapshot(effect.swarm, effect.persona)
        await self.cold.put(captured.key, captured.data)
        return Written(
            key=captured.key,
            sha256=captured.sha256,
            seq=captured.snapshot.seq,
            summary=captured.snapshot.summary,
            counts=captured.counts,
            ratio=captured.ratio,
            size_bytes=len(captured.data),
        )


async def restore_all(
    log: Log, cold: ColdStore, fabric: Fabric, *, tell: Callable[[int], None] = lambda restored: None
) -> int:
    """Give an empty memory a head start from the last snapshot of every persona; how many were restored, also told meanwhile.

    What cannot be read is left to the log, which is replayed anyway. Raises `LogUnavailable`, `ColdUnavailable` and outages of
    the index, and is then to be called again.
    """
    restored = 0
    personas = {(r.event.swarm, r.event.persona) for r in await log.read(("persona.spawned.>",))}
    for last in await log.last([f"snapshot.compressed.{swarm}.{persona}" for swarm, persona in sorted(personas)]):
        if not isinstance(event := last.event, SnapshotCompressed):
            continue
        try:
            restored += await fabric.restore(await cold.get(event.key, event.sha256))
            tell(restored)
        except (ColdMissing, ColdCorrupt, UnknownVersion) as error:
            _log.warning("snapshot_not_restored", key=event.key, why=str(error), remedy="the log is replayed instead")
    return restored
