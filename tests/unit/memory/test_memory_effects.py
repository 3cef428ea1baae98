"""The compactor's effects over the in-memory log, the real index, and a cold store that can be away."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from memory_model import asked, at, draining, record, spawned, thought

from services.memory_compactor.decider import Compactor, Recall, Recalled, TakeSnapshot, Unavailable, Written
from services.memory_compactor.effects import MemoryEffects, restore_all
from services.memory_compactor.feed import Feed
from services.memory_compactor.society import Society
from shared.contracts.envelope import Message
from shared.contracts.events import AnyEvent, RecallAnswered, SnapshotCompressed
from shared.log.memory import MemoryLog
from shared.log.port import ConsumerSpec
from shared.memory.fabric import Fabric
from shared.memory.index.edge import EdgeIndex
from shared.memory.index.embeddings import WordLlamaEmbedder
from shared.memory.port import ColdCorrupt, ColdMissing, ColdUnavailable, IndexUnavailable
from shared.memory.snapshot import decode
from shared.runtime.shell import Shell


class DictCold:
    """A `ColdStore` in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.away = False

    async def put(self, key: str, data: bytes) -> bool:
        self._reach()
        new = key not in self.objects
        self.objects.setdefault(key, data)
        return new

    async def get(self, key: str, sha256: str) -> bytes:
        self._reach()
        if key not in self.objects:
            raise ColdMissing(key)
        if hashlib.sha256(self.objects[key]).hexdigest() != sha256:
            raise ColdCorrupt(key)
        return self.objects[key]

    async def exists(self, key: str) -> bool:
        self._reach()
        return key in self.objects

    async def keys(self, prefix: str) -> list[str]:
        self._reach()
        return sorted(k for k in self.objects if k.startswith(prefix))

    async def close(self) -> None:
        return None

    def _reach(self) -> None:
        if self.away:
            raise ColdUnavailable("away")


async def say(log: MemoryLog, *events: AnyEvent) -> int:
    seq = 0
    for event in events:
        envelope = record(event, len(log.store.records) + len(log.recall.records) + 1).envelope
        (seq,) = await log.commit([Message(event=event, envelope=envelope)])
    return seq


@asynccontextmanager
async def feeding(log: MemoryLog, fabric: Fabric) -> AsyncIterator[Feed]:
    feed = Feed(log, fabric)
    running = asyncio.create_task(feed.run())
    yield feed
    await feed.stop()
    await running


async def test_an_effect_waits_until_memory_has_reached_its_message(fabric: Fabric) -> None:
    log, cold = MemoryLog(), DictCold()
    async with feeding(log, fabric) as feed:
        effects = MemoryEffects(fabric=fabric, feed=feed, cold=cold, society=Society())
        waiting = asyncio.create_task(effects.perform(TakeSnapshot(seq=2, swarm="alpha", persona="ada")))
        await say(log, spawned(), thought("the disk fills", phase="compress"))
        written = await waiting
    assert isinstance(written, Written)
    assert written.seq == 2 and written.counts.kept == 2
    assert decode(cold.objects[written.key]).summary == written.summary


async def test_a_feed_that_stops_lets_nobody_wait_for_ever(fabric: Fabric) -> None:
    log = MemoryLog()
    async with feeding(log, fabric) as feed:
        waiting = asyncio.create_task(feed.reach(99))
    assert await waiting is False
    assert await feed.reach(99) is False


async def test_a_rebuild_is_announced_and_then_memory_is_ready(fabric: Fabric) -> None:
    log = MemoryLog()
    await say(log, spawned(), *(thought(f"thought number {n}", step=n) for n in range(1, 700)))
    feed = Feed(log, fabric)
    assert feed.problem == "memory is being brought up to date with the log: 0 events to go"
    running = asyncio.create_task(feed.run())
    await feed.caught_up()
    assert fabric.cursor == 700
    await feed.stop()
    await running


async def test_an_index_that_is_away_stops_memory_and_loses_nothing(
    index: EdgeIndex, embedder: WordLlamaEmbedder
) -> None:
    class Flaky(EdgeIndex):
        failures = 2

        async def query(self, queries):  # type: ignore[no-untyped-def]
            if Flaky.failures:
                Flaky.failures -= 1
                raise IndexUnavailable("away")
            return await super().query(queries)

    flaky = Flaky.__new__(Flaky)
    flaky.__dict__.update(index.__dict__)
    fabric = await Fabric.open(flaky, embedder)
    log = MemoryLog()
    async with feeding(log, fabric) as feed:
        seq = await say(log, thought("one"), thought("two"))
        assert await feed.reach(seq)
    assert [i.text for i in await index.scan("alpha/ada")] == ["one", "two"]


async def test_an_outage_of_cold_storage_is_an_answer(fabric: Fabric) -> None:
    log, cold = MemoryLog(), DictCold()
    cold.away = True
    async with feeding(log, fabric) as feed:
        await say(log, spawned())
        effects = MemoryEffects(fabric=fabric, feed=feed, cold=cold, society=Society())
        result = await effects.perform(TakeSnapshot(seq=1, swarm="alpha", persona="ada"))
        assert result == Unavailable(detail="away", reason="cold_unavailable")
        recalled = await effects.perform(Recall(swarm="alpha", persona="ada", query="host", limit=3, now=at(9)))
        assert isinstance(recalled, Recalled) and len(recalled.memories) == 1 and recalled.seq == 1


async def test_a_lost_index_gets_a_head_start_from_snapshots_and_the_rest_from_the_log(
    fabric: Fabric, tmp_path: Path, embedder: WordLlamaEmbedder
) -> None:
    log, cold = MemoryLog(), DictCold()
    async with feeding(log, fabric) as feed:
        effects = MemoryEffects(fabric=fabric, feed=feed, cold=cold, society=Society())
        seq = await say(
            log,
            spawned(),
            thought("the disk fills"),
            thought("The disk fills."),
            thought("all in all", phase="compress"),
        )
        written = await effects.perform(TakeSnapshot(seq=seq, swarm="alpha", persona="ada"))
        assert isinstance(written, Written)
        fields = {name: getattr(written, name) for name in written.__struct_fields__}
        await say(log, SnapshotCompressed(swarm="alpha", persona="ada", snapshot_id="s", **fields))
        last = await say(log, thought("and then the queue grew"))
        assert await feed.reach(last)
        before = (await fabric.snapshot("alpha", "ada")).data
    index = await EdgeIndex.open(tmp_path / "anew", 256)
    anew = await Fabric.open(index, embedder)
    assert await restore_all(log, cold, anew) == 1
    assert await index.count("alpha/ada") == 3
    async with feeding(log, anew) as feed:
        assert await feed.reach(last)
        assert (await anew.snapshot("alpha", "ada")).data == before
    cold.objects.clear()
    other = await EdgeIndex.open(tmp_path / "other", 256)
    assert await restore_all(log, cold, await Fabric.open(other, embedder)) == 0
    await index.close()
    await other.close()


async def test_through_the_shell_a_life_is_remembered_recalled_and_sealed_once(fabric: Fabric) -> None:
    log, cold = MemoryLog(lambda: at(1000)), DictCold()
    async with feeding(log, fabric) as feed:
        effects = MemoryEffects(fabric=fabric, feed=feed, cold=cold, society=Society())
        decider = Compactor(every_thoughts=2)
        shells = [Shell(log, decider, service="memory_compactor", perform=effects.perform) for _ in range(2)]
        specs = [ConsumerSpec(name="m", filters=(">",)), ConsumerSpec(name="m-recall", filters=(">",), stream="RECALL")]
        pullers = [log.pull(spec) for spec in specs]
        tasks = [asyncio.create_task(s.consume(p, c)) for s, p, c in zip(shells, pullers, specs, strict=True)]
        await say(log, spawned(), thought("logins of root fail"), thought("so far", phase="compress", step=4))
        await say(log, draining(2000))
        assert await feed.reach(await say(log, thought("goodbye", phase="compress", step=5, final=True)))
        await say(log, asked("ssh logins"))
        while (
            len([r for r in log.store.records if isinstance(r.event, SnapshotCompressed)]) < 2
            or len(log.recall.records) < 2
        ):
            await log.changed(None)
        for puller in pullers:
            await puller.stop()
        await asyncio.gather(*tasks)
    snapshots = [r.event for r in log.store.records if isinstance(r.event, SnapshotCompressed)]
    assert [s.final for s in snapshots] == [False, True]
    assert {s.key for s in snapshots} == set(cold.objects)
    answer = log.recall.records[-1]
    assert isinstance(answer.event, RecallAnswered)
    assert answer.envelope.causation == log.recall.records[0].id
    assert {m.persona for m in answer.event.memories} == {"ada"}


async def test_a_draining_after_a_thought_that_needed_no_snapshot_is_still_seen(fabric: Fabric) -> None:
    log, cold = MemoryLog(lambda: at(1000)), DictCold()
    async with feeding(log, fabric) as feed:
        effects = MemoryEffects(fabric=fabric, feed=feed, cold=cold, society=Society())
        shell = Shell(log, Compactor(every_thoughts=9), service="memory_compactor", perform=effects.perform)
        spec = ConsumerSpec(name="m", filters=("persona.draining.>", "thought.generated.>"))
        puller = log.pull(spec)
        consuming = asyncio.create_task(shell.consume(puller, spec))
        await say(log, spawned(), thought("so far", phase="compress", step=1))
        while not any(fold.position for fold in shell._folds.values()):
            await asyncio.sleep(0)
        await say(log, draining(2000), thought("goodbye", phase="compress", step=2, final=True))
        while not isinstance(log.store.records[-1].event, SnapshotCompressed):
            await log.changed(None)
        await puller.stop()
        await consuming
    assert log.store.records[-1].event.final
