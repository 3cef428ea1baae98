"""What is away when memory is opened is waited for, and a disk that refuses is asked again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from memory_model import at, record, spawned, thought
from test_memory_effects import DictCold, say

from services.memory_compactor.decider import Recall, Recalled, TakeSnapshot, Unavailable, Written
from services.memory_compactor.opening import Opening, Ports
from shared.contracts.envelope import Recorded
from shared.contracts.events import SnapshotCompressed
from shared.log.memory import MemoryLog
from shared.memory.index.edge import EdgeIndex
from shared.memory.index.embeddings import WordLlamaEmbedder
from shared.memory.port import Embedder, EmbedderUnavailable, IndexUnavailable, VectorIndex
from shared.memory.snapshot import capture


class Away(DictCold):
    """A cold store that is away; `asked` is set once it was asked twice, so what the first time led to has happened."""

    def __init__(self) -> None:
        super().__init__()
        self.away, self.asked, self._times = True, asyncio.Event(), itertools.count(1)

    def _reach(self) -> None:
        if next(self._times) >= 2:
            self.asked.set()
        super()._reach()


@asynccontextmanager
async def opening(
    log: MemoryLog, cold: DictCold, folder: Path, embedder: Embedder, *, away: int = 0
) -> AsyncIterator[Opening]:
    """Running; the embedder is away for the first `away` times it is asked for."""
    times = itertools.count()

    async def the_embedder() -> Embedder:
        if next(times) < away:
            raise EmbedderUnavailable("the endpoint does not answer")
        return embedder

    async def an_index(embedder: Embedder) -> VectorIndex:
        return await EdgeIndex.open(folder / "index", embedder.dim)

    opened = Opening(log, cold, Ports(embedder=the_embedder, index=an_index))
    running = asyncio.create_task(opened.run())
    yield opened
    await opened.stop()
    await running
    await opened.close()


def take(seq: int) -> TakeSnapshot:
    return TakeSnapshot(seq=seq, swarm="alpha", persona="ada")


async def snapshotted(log: MemoryLog, cold: DictCold) -> None:
    """A log of one persona with a snapshot in cold storage."""
    await say(log, spawned(), thought("the disk fills"))
    taken = capture("alpha", "ada", ())
    cold.objects[taken.key] = taken.data
    await say(
        log,
        SnapshotCompressed(
            swarm="alpha", persona="ada", snapshot_id="s", key=taken.key, sha256=taken.sha256, seq=2, summary="",
            counts=taken.counts,
        ),
    )  # fmt: skip


async def test_cold_storage_that_is_away_at_the_start_is_waited_for_and_readiness_says_so(
    tmp_path: Path, embedder: WordLlamaEmbedder
) -> None:
    log, cold = MemoryLog(), Away()
    await snapshotted(log, cold)
    async with opening(log, cold, tmp_path, embedder) as opened:
        await cold.asked.wait()
        assert opened.problem == "memory waits for what is away: away"
        cold.away = False
        taken = await opened.perform(take(2))
        assert isinstance(taken, Written) and taken.counts.kept == 2


async def test_with_an_index_at_hand_memory_works_while_cold_storage_is_away(
    tmp_path: Path, embedder: WordLlamaEmbedder
) -> None:
    log, cold = MemoryLog(), DictCold()
    await snapshotted(log, cold)
    async with opening(log, cold, tmp_path, embedder) as opened:
        await opened.perform(take(2))
    cold.away = True
    async with opening(log, cold, tmp_path, embedder) as opened:
        seq = await say(log, thought("the disk is full"))
        taken = await opened.perform(take(seq))
        assert Unavailable(detail="away", reason="cold_unavailable") == taken
        found = await opened.perform(Recall(swarm="alpha", persona="ada", query="disk", limit=3, now=at(9)))
        assert isinstance(found, Recalled) and found.seq == seq


async def test_an_index_of_a_log_that_was_cut_and_has_grown_past_it_again_is_begun_anew(
    tmp_path: Path, embedder: WordLlamaEmbedder
) -> None:
    """What was decided again has the same ids at the same sequences; the times it was stored tell."""

    async def told(log: MemoryLog, *texts: str) -> set[str]:
        seq = await say(log, spawned(), *(thought(text) for text in texts))
        async with opening(log, DictCold(), tmp_path, embedder) as opened:
            await opened.perform(take(seq))
            recalled = await opened.perform(
                Recall(swarm="alpha", persona="ada", query="what", limit=9, now=datetime.now(UTC))
            )
            assert isinstance(recalled, Recalled)
            return {memory.text for memory in recalled.memories if memory.kind == "thought"}

    old, new = MemoryLog(lambda: datetime(2026, 1, 1, tzinfo=UTC)), MemoryLog(lambda: datetime(2026, 1, 2, tzinfo=UTC))
    assert {"the disk fills", "the door is open"} == await told(old, "the disk fills", "the door is open")
    assert {"the disk fills", "it rains", "it snows"} == await told(new, "the disk fills", "it rains", "it snows")


async def test_an_embedder_that_is_away_at_the_start_is_waited_for(tmp_path: Path, embedder: WordLlamaEmbedder) -> None:
    log = MemoryLog()
    seq = await say(log, spawned())
    async with opening(log, DictCold(), tmp_path, embedder, away=2) as opened:
        assert opened.problem == "memory is being opened"
        assert isinstance(await opened.perform(take(seq)), Written)


async def test_who_stops_while_it_waits_lets_nobody_wait_for_ever(tmp_path: Path, embedder: WordLlamaEmbedder) -> None:
    async with opening(MemoryLog(), DictCold(), tmp_path, embedder, away=10**6) as opened:
        waiting = asyncio.create_task(opened.perform(take(1)))
        await asyncio.sleep(0)
    assert Unavailable(detail="stopping") == await waiting


class FullDisk:
    """An engine whose flushes fail while `full`: `failed` is set by the second that does, `flushed` by one that does not."""

    def __init__(self, shard: object) -> None:
        self._shard, self._loop = shard, asyncio.get_running_loop()
        self.full, self.failed, self.flushed = True, asyncio.Event(), asyncio.Event()
        self._times = itertools.count(1)

    def __getattr__(self, name: str) -> object:
        return getattr(self._shard, name)

    def flush(self) -> None:
        if not self.full or next(self._times) == 2:
            self._loop.call_soon_threadsafe((self.failed if self.full else self.flushed).set)
        if self.full:
            raise OSError("No space left on device")
        self._shard.flush()  # type: ignore[attr-defined]


def item(recorded: Recorded, embedder: WordLlamaEmbedder) -> tuple[object, object]:
    from shared.memory.items import draft

    drafted = draft(recorded)
    assert drafted is not None
    return drafted.item, embedder._rows([drafted.item.text])[0]


async def test_a_flush_that_failed_is_tried_again_and_memory_goes_on_by_itself(
    tmp_path: Path, embedder: WordLlamaEmbedder
) -> None:
    index = await EdgeIndex.open(tmp_path / "index", 256, flush_s=0.01)
    disk = index._shard = FullDisk(index._shard)  # type: ignore[assignment]
    await index.write([item(record(thought("one"), 1), embedder)])  # type: ignore[list-item]
    await disk.failed.wait()
    with pytest.raises(IndexUnavailable, match="No space left"):
        await index.write([item(record(thought("two"), 2), embedder)])  # type: ignore[list-item]
    assert await index.count() == 1
    disk.full = False
    await disk.flushed.wait()  # without anybody writing
    await index.write([item(record(thought("three"), 3), embedder)])  # type: ignore[list-item]
    assert await index.count() == 2
    await index.close()
