"""How memory is fed: at a pace, past what it cannot take, and saying how far behind it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from memory_model import at, spawned, thought
from test_memory_effects import DictCold, feeding, say
from test_memory_opening import take

from services.memory_compactor import feed as feed_module
from services.memory_compactor.decider import Written
from services.memory_compactor.feed import QUEUE, Behind, Feed
from services.memory_compactor.opening import Opening, Ports
from shared.contracts.envelope import Recorded
from shared.contracts.events import PlacementChanged
from shared.log.memory import MemoryLog
from shared.memory.fabric import TRANSACTION_EVENTS, Fabric, Remembered
from shared.memory.index.edge import EdgeIndex
from shared.memory.index.embeddings import WordLlamaEmbedder
from shared.memory.port import Embedder, VectorIndex
from shared.placement import PLACEMENT, Placements


async def test_a_quiet_mesh_is_taken_in_at_once_and_a_busy_one_in_few_transactions(
    fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "PACE_S", 3600.0)
    log, sizes = MemoryLog(), []
    remember = fabric.remember

    async def watched(events: Sequence[Recorded]) -> Remembered:
        sizes.append(len(events))
        return await remember(events)

    monkeypatch.setattr(fabric, "remember", watched)
    async with feeding(log, fabric) as feed:
        while feed.problem is not None:
            await asyncio.sleep(0)
        assert await feed.reach(await say(log, spawned()))
        for n in range(1, TRANSACTION_EVENTS):
            await say(log, thought(f"thought number {n}", step=n))
        last = await say(log, thought("the last", step=TRANSACTION_EVENTS))
        assert await feed.reach(last)
    assert sizes == [1, TRANSACTION_EVENTS]


async def test_an_event_memory_cannot_take_is_buried_and_those_around_it_are_remembered(
    fabric: Fabric, index: EdgeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    texts = [thought(text, step=n) for n, text in enumerate(("one", "poison", "two", "three"), 1)]
    await say(log, spawned(), *texts)
    import shared.memory.fabric as fabric_module

    draft = fabric_module.draft

    def poisoned(recorded: Recorded) -> object:
        if getattr(recorded.event, "text", "") == "poison":
            raise OverflowError("date value out of range")
        return draft(recorded)

    monkeypatch.setattr(fabric_module, "draft", poisoned)
    async with feeding(log, fabric) as feed:
        assert await feed.reach(5)
        assert await feed.reach(await say(log, thought("four", step=5)))
    assert [i.text for i in await index.scan("alpha/ada")][1:] == ["one", "two", "three", "four"]
    assert log.dead == [(log.store.records[2].subject, "not_taken", "OverflowError: date value out of range")]
    anew = await Fabric.open(index, fabric._embedder)
    assert anew.cursor == 6


class Slow:
    """An embedder that takes as long as it is told."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder, self.name, self.dim = embedder, embedder.name, embedder.dim
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def embed(self, texts: Sequence[str]) -> object:
        self.asked.set()
        await self.may.wait()
        return await self._embedder.embed(texts)

    async def close(self) -> None:
        return None


async def test_memory_that_falls_behind_says_how_far_and_is_ready_all_the_same(
    tmp_path: Path, embedder: WordLlamaEmbedder
) -> None:
    slow, log = Slow(embedder), MemoryLog(lambda: at(0))

    async def the_embedder() -> Embedder:
        return slow  # type: ignore[return-value]

    async def an_index(embedder: Embedder) -> VectorIndex:
        return await EdgeIndex.open(tmp_path / "index", embedder.dim)

    opened = Opening(log, DictCold(), Ports(embedder=the_embedder, index=an_index), clock=lambda: at(40))
    assert (opened.behind(), opened.warning()) == (Behind(), None)
    running = asyncio.create_task(opened.run())
    slow.may.set()
    assert isinstance(await opened.perform(take(await say(log, spawned()))), Written)
    slow.may.clear()
    slow.asked.clear()
    last = await say(log, *(thought(f"thought number {n}", step=n) for n in range(1, 1001)))
    await slow.asked.wait()
    while opened.behind().events < 1000 - QUEUE:
        await asyncio.sleep(0)
    assert opened.problem is None
    behind = opened.behind()
    assert behind.seconds == 40
    assert (opened.warning() or "").startswith(f"memory is {behind.events} events and 40 s behind the log: ")
    slow.may.set()
    assert isinstance(await opened.perform(take(last)), Written)
    assert (opened.behind(), opened.warning()) == (Behind(), None)
    await opened.stop()
    await running
    await opened.close()


async def test_no_more_is_read_ahead_than_a_bound(fabric: Fabric) -> None:
    log = MemoryLog()
    await say(log, *(thought(f"thought number {n}", step=n) for n in range(1, 3 * QUEUE)))
    async with feeding(log, fabric) as feed:
        await feed.reach(1)
        assert len(feed._waiting) <= QUEUE
        assert await feed.reach(3 * QUEUE - 1)


async def test_what_a_runner_says_of_a_persona_it_does_not_hold_is_not_remembered_also_after_a_restart(
    fabric: Fabric, index: EdgeIndex
) -> None:
    log = MemoryLog()
    placed = PlacementChanged(swarm="all", persona="all", slots=("r1",), shards=64)
    forged, honest = (msgspec.structs.replace(thought(slot, step=1), slot=slot) for slot in ("r2", "r1"))
    async with feeding(log, fabric) as feed:
        await say(log, placed, spawned(), forged)
        assert await feed.reach(await say(log, honest))
    anew = await Fabric.open(index, fabric._embedder)
    placements = Placements(await log.read((PLACEMENT,), upto=anew.cursor))
    restarted = Feed(log, anew, placements)
    running = asyncio.create_task(restarted.run())
    await say(log, msgspec.structs.replace(thought("r2 again", step=2), slot="r2"))
    assert await restarted.reach(await say(log, msgspec.structs.replace(thought("r1 again", step=2), slot="r1")))
    await restarted.stop()
    await running
    assert ["r1", "r1 again"] == [i.text for i in await index.scan("alpha/ada") if i.kind == "thought"]
