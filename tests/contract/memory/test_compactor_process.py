"""The memory compactor as a real process between a real broker and a real S3 server; killed, and robbed of its index."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.memory_compactor.effects import restore_all
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    AnyEvent,
    PersonaDraining,
    PersonaSpawned,
    RecallAnswered,
    RecallRequested,
    SnapshotCompressed,
    SnapshotCounts,
    ThoughtGenerated,
)
from shared.contracts.ids import fresh_id, utc_now
from shared.contracts.persona import Identity, PersonaPolicy
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.streams import ensure
from shared.memory.cold import S3Cold
from shared.memory.fabric import Fabric
from shared.memory.index.edge import EdgeIndex
from shared.memory.index.embeddings import WordLlamaEmbedder
from shared.memory.port import LOG, ColdMissing
from shared.memory.snapshot import decode
from tests.broker import Broker
from tests.contract.memory.weed import ACCESS_KEY, SECRET_KEY, Weed

BORN = datetime(2026, 11, 1, tzinfo=UTC)


class Compactor:
    """The process; its index lies under `folder`."""

    def __init__(self, broker: Broker, weed: Weed, folder: Path) -> None:
        self.index = folder / "memory"
        self.environment = os.environ | {
            "SWARM_NATS_URL": broker.url,
            "SWARM_DATA_DIR": str(folder),
            "SWARM_REQUIRE_SYNC_ALWAYS": "false",
            "SWARM_S3_ENDPOINT": weed.endpoint,
            "SWARM_S3_ACCESS_KEY": ACCESS_KEY,
            "SWARM_S3_SECRET_KEY": SECRET_KEY,
            "SWARM_S3_BUCKET": f"test-{folder.name.lower().replace('_', '-')}-{os.getpid()}",
            "SWARM_SNAPSHOT_EVERY_THOUGHTS": "4",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.memory_compactor"],
            env=self.environment,
            cwd=Path(__file__).parents[3],
            stdout=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=15)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder)
    await broker.start()
    await ensure(broker.url, None)
    yield broker
    broker.kill()


@pytest.fixture
async def log(broker: Broker) -> AsyncIterator[JetStreamLog]:
    connection = await Connection.open(broker.url, name="test")
    yield JetStreamLog(connection, service="test", instance="test-1")
    await connection.close()


async def say(log: JetStreamLog, event: AnyEvent) -> str:
    name = fresh_id()
    await log.commit(
        [Message(event=event, envelope=Envelope(id=name, source="test", time=utc_now(), correlation=name))]
    )
    return name


def thought(step: int, text: str, *, phase: str = "reflect", final: bool = False) -> ThoughtGenerated:
    return ThoughtGenerated(
        swarm="alpha", persona="ada", step=step, cycle=step // 4, phase=phase, text=text, thinker="rules",  # type: ignore[arg-type]
        digest=hashlib.sha256(text.encode()).hexdigest(), useful_at=BORN, final=final,
    )  # fmt: skip


async def first(log: JetStreamLog, event_filter: str, *, after: int = 0, stream: str = "SWARM") -> Recorded:
    """The next event on a filter, within 60 s."""
    tail = log.tail((event_filter,), after=after, stream=stream)
    async with asyncio.timeout(60):
        async for recorded in tail:
            await tail.stop()
            return recorded
    raise AssertionError("the tail ended")


async def recall(log: JetStreamLog, query: str) -> RecallAnswered:
    name = await say(log, RecallRequested(swarm="alpha", persona="ada", query=query))
    tail = log.tail(("recall.answered.alpha.ada",), stream="RECALL")
    async with asyncio.timeout(60):
        async for recorded in tail:
            if recorded.envelope.causation == name and isinstance(recorded.event, RecallAnswered):
                await tail.stop()
                return recorded.event
    raise AssertionError("the tail ended")


@pytest.mark.timeout(170)
async def test_a_life_survives_a_kill_and_the_loss_of_the_index_and_is_sealed_once(
    broker: Broker, log: JetStreamLog, weed: Weed, tmp_path: Path
) -> None:
    compactor = Compactor(broker, weed, tmp_path)
    compactor.start()
    identity = Identity(
        id="ada", name="ada", role="watcher", charter="Watch the host", swarm_id="alpha", created_at=BORN
    )
    await say(log, PersonaSpawned(swarm="alpha", persona="ada", identity=identity, policy=PersonaPolicy()))
    await say(log, thought(1, "Logins of root over ssh fail again and again"))
    await say(log, thought(2, "the disk of db-1 is nearly full"))
    await say(log, thought(4, "All in all: someone guesses passwords", phase="compress"))
    before = (await first(log, "snapshot.compressed.>")).event
    assert isinstance(before, SnapshotCompressed)
    assert before.metadata == {"role": "watcher", "phase": "compress", "step": "4", "cycle": "1", "source": "rules"}
    found = await recall(log, "ssh login failures")
    assert found.memories[0].text == "Logins of root over ssh fail again and again"

    compactor.kill()
    shutil.rmtree(compactor.index)
    compactor.start()
    again = await recall(log, "ssh login failures")
    while again.seq < found.seq:
        again = await recall(log, "ssh login failures")
    assert [m.id for m in again.memories] == [m.id for m in found.memories]

    await say(
        log, PersonaDraining(swarm="alpha", persona="ada", reason="test", deadline=utc_now() + timedelta(seconds=3))
    )
    compactor.kill()
    compactor.start()
    seq = (await log.read(("persona.draining.>",)))[0].seq
    last = await first(log, "snapshot.compressed.>", after=seq)
    assert isinstance(last.event, SnapshotCompressed)
    assert last.event.final and last.event.metadata["source"] == "deadline"
    assert last.event.snapshot_id == last.id
    await say(log, thought(5, "goodbye, too late", phase="compress", final=True))
    seen = await recall(log, "goodbye")
    while not any(m.text == "goodbye, too late" for m in seen.memories):
        seen = await recall(log, "goodbye")
    assert compactor.terminate() == 0
    finals = [
        r
        for r in await log.read(("snapshot.compressed.>",))
        if isinstance(r.event, SnapshotCompressed) and r.event.final
    ]
    assert [r.id for r in finals] == [last.id]
    cold = S3Cold(weed.endpoint, compactor.environment["SWARM_S3_BUCKET"], access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    snapshot = decode(await cold.get(last.event.key, last.event.sha256))
    assert [i.text for i in snapshot.items] == [
        "Watch the host",
        "Logins of root over ssh fail again and again",
        "the disk of db-1 is nearly full",
        "All in all: someone guesses passwords",
    ]
    await cold.close()


@pytest.mark.timeout(120)
async def test_an_index_that_is_ahead_of_its_log_is_begun_anew(
    broker: Broker, log: JetStreamLog, weed: Weed, tmp_path: Path
) -> None:
    compactor = Compactor(broker, weed, tmp_path)
    ahead = await EdgeIndex.open(compactor.index / "wordllama-256", 256)
    await ahead.write(cursors={LOG: 1_000})
    await ahead.close()
    await say(log, thought(1, "Logins of root over ssh fail again and again"))
    compactor.start()
    found = await recall(log, "ssh login failures")
    while not found.memories:
        found = await recall(log, "ssh login failures")
    assert ["Logins of root over ssh fail again and again"] == [m.text for m in found.memories]
    assert compactor.terminate() == 0


class NoCold:
    """A cold store that has nothing, and counts who asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def get(self, key: str, sha256: str) -> bytes:
        self.asked.append(key)
        raise ColdMissing(key)


async def test_more_snapshots_than_the_broker_tells_at_once_are_all_looked_for(
    log: JetStreamLog, tmp_path: Path
) -> None:
    async def life(persona: str) -> None:
        identity = Identity(id=persona, name="n", role="r", charter="c", swarm_id="alpha", created_at=BORN)
        await say(log, PersonaSpawned(swarm="alpha", persona=persona, identity=identity, policy=PersonaPolicy()))
        await say(log, SnapshotCompressed(
            swarm="alpha", persona=persona, snapshot_id="s", key=persona, sha256="0" * 64, seq=1, summary="",
            counts=SnapshotCounts(),
        ))  # fmt: skip

    personas = [f"p-{n}" for n in range(1100)]
    for i in range(0, len(personas), 100):
        await asyncio.gather(*(life(p) for p in personas[i : i + 100]))
    index = await EdgeIndex.open(tmp_path / "index", 256)
    cold = NoCold()
    fabric = await Fabric.open(index, WordLlamaEmbedder())
    assert await restore_all(log, cold, fabric) == 0  # type: ignore[arg-type]
    await index.close()
    assert sorted(cold.asked) == sorted(personas)


async def test_without_a_store_it_says_what_is_missing(broker: Broker, tmp_path: Path) -> None:
    environment = os.environ | {"SWARM_NATS_URL": broker.url, "SWARM_DATA_DIR": str(tmp_path)}
    environment.pop("SWARM_S3_ENDPOINT", None)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.memory_compactor", env=environment, cwd=Path(__file__).parents[3],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode not in (0, None)
    assert b"SWARM_S3_ENDPOINT is not set" in out + err
