"""A log that is another one behind the same address: noticed before anything is said into it, and at the next start."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from shared.log import identity as identity_module
from shared.log.client.connection import FENCED, Connection
from shared.log.identity import Identity
from shared.log.jetstream import JetStreamLog
from shared.log.port import ConsumerSpec, LogUnavailable
from shared.log.streams import ensure
from tests.broker import Broker
from tests.contract.test_log import observation

SPEC = ConsumerSpec(name="test", filters=("observation.recorded.*.*",), ack_wait_s=30)


class Store:
    """A broker whose store can be put back, or made anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = Broker(folder)

    async def start(self) -> None:
        await self.broker.start()
        await ensure(self.broker.url, None)

    async def _while_down(self, work: Callable[[], object]) -> None:
        self.broker.kill()
        await asyncio.to_thread(work)
        await self.start()

    async def keep(self) -> None:
        """A copy of the store as it is now."""
        await self._while_down(lambda: shutil.copytree(self.folder / "js", self.folder / "older"))

    async def put_back(self) -> None:
        await self._while_down(self._put_back)

    async def make_anew(self) -> None:
        await self._while_down(lambda: shutil.rmtree(self.folder / "js"))

    async def cut_short(self) -> None:
        """As after a loss of power: the second half of what is on disk is gone, and consumers are further than the log."""
        await self._while_down(self._cut)

    def _cut(self) -> None:
        folder = next((self.folder / "js").rglob("SWARM/msgs"))
        (folder / "index.db").unlink(missing_ok=True)
        (block,) = folder.glob("*.blk")
        os.truncate(block, block.stat().st_size // 2)

    async def restart(self) -> None:
        await self._while_down(lambda: None)

    def _put_back(self) -> None:
        shutil.rmtree(self.folder / "js")
        shutil.copytree(self.folder / "older", self.folder / "js")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    (tmp_path / "broker").mkdir()
    store = Store(tmp_path / "broker")
    await store.start()
    yield store
    store.broker.kill()


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    return tmp_path / "service" / "witness.json"


class Living:
    """A service that reads and writes the log, and looks whether it is the one it was."""

    def __init__(self, connection: Connection, witness: Path) -> None:
        self.connection = connection
        self.log = JetStreamLog(connection, service="test", instance="test-1")
        self.identity = Identity(connection, self.log.trail, witness)
        connection.passes = self.identity.look

    @classmethod
    async def begin(cls, store: Store, witness: Path) -> Living:
        return cls(await Connection.open(store.broker.url, name="living"), witness)


@pytest.fixture
async def living(store: Store, witness: Path) -> AsyncIterator[Living]:
    living = await Living.begin(store, witness)
    yield living
    await living.connection.close()


async def grow(store: Store, count: int) -> None:
    """By somebody else."""
    connection = await Connection.open(store.broker.url, name="other")
    log = JetStreamLog(connection, service="other", instance="other-1")
    for n in range(count):
        await log.commit([observation(f"later {n}")])
    await connection.close()


async def commit(log: JetStreamLog, text: str) -> int:
    async with asyncio.timeout(20):
        while True:
            try:
                return (await log.commit([observation(text)]))[0]
            except LogUnavailable:
                await asyncio.sleep(0.05)


async def test_a_broker_that_was_only_restarted_has_the_same_log(store: Store, living: Living, witness: Path) -> None:
    assert await living.identity.begin() is None
    await commit(living.log, "before")
    store.broker.kill()
    async with asyncio.timeout(20):
        while not living.connection.fenced:
            await asyncio.sleep(0.02)
    assert FENCED == living.identity.sentence
    await store.restart()
    assert 2 == await commit(living.log, "after")
    assert living.identity.another is None
    again = await Living.begin(store, witness)
    assert await again.identity.begin() is None
    await again.connection.close()


async def rolled_back(store: Store) -> str:
    await store.put_back()
    return "it ends at 3, and had reached 5"


async def made_anew(store: Store) -> str:
    await store.make_anew()
    return "it was made at"


@pytest.mark.parametrize("change", [rolled_back, made_anew])
async def test_a_living_service_notices_and_says_nothing_into_another_log(
    store: Store, living: Living, witness: Path, change: Callable[[Store], Awaitable[str]]
) -> None:
    assert await living.identity.begin() is None
    for n in range(3):
        await commit(living.log, str(n))
    await store.keep()
    for n in range(2):
        await commit(living.log, f"lost {n}")
    puller = living.log.pull(SPEC)
    delivery = await anext(aiter(puller))
    assert await living.identity.look()
    why = await change(store)
    async with asyncio.timeout(20):
        await living.identity.noticed.wait()
    assert why in (living.identity.another or "")
    assert (living.identity.sentence or "").startswith("the log is another one: ")
    with pytest.raises(LogUnavailable):
        delivery.ack()  # it would be taken for one of what has its sequence now
    with pytest.raises(LogUnavailable):
        await living.log.commit([observation("rests on what is lost")])
    await puller.stop()

    again = await Living.begin(store, witness)
    length = 3 if change is rolled_back else 0
    assert length == len(await again.log.read(("observation.recorded.*.*",)))
    before = await again.identity.begin()
    assert before is not None and 5 == before.reached and before.at is not None
    await again.identity.accept()
    assert length + 1 == await commit(again.log, "of the log as it is now")
    assert await again.identity.look()
    await again.connection.close()
    once_more = await Living.begin(store, witness)
    assert await once_more.identity.begin() is None
    await once_more.connection.close()


async def test_a_log_that_went_back_while_nobody_lived_is_noticed_at_the_start_also_when_it_has_grown_past_it_again(
    store: Store, living: Living, witness: Path
) -> None:
    assert await living.identity.begin() is None
    for n in range(3):
        await commit(living.log, str(n))
    await store.keep()
    for n in range(2):
        await commit(living.log, f"lost {n}")
    assert await living.identity.look()
    await living.connection.close()
    await store.put_back()
    await grow(store, 9)
    again = await Living.begin(store, witness)
    before = await again.identity.begin()
    assert before is not None and 5 == before.reached
    assert "at 5 is another event" in (again.identity.another or "")
    await again.connection.close()


async def test_what_others_wrote_is_known_too_a_look_later(store: Store, living: Living) -> None:
    """Who reads little of the log notices all the same that it went back."""
    assert await living.identity.begin() is None
    await store.keep()
    await grow(store, 4)
    async with asyncio.timeout(20):
        while living.connection.fenced:
            await asyncio.sleep(0.02)
    assert await living.identity.look()
    await store.put_back()
    async with asyncio.timeout(20):
        await living.identity.noticed.wait()
    assert "it ends at 0, and had reached 4" == living.identity.another


async def test_a_log_that_was_cut_short_is_noticed_and_what_comes_then_is_delivered(
    store: Store, living: Living
) -> None:
    assert await living.identity.begin() is None
    puller = living.log.pull(SPEC)
    deliveries = aiter(puller)
    for n in range(10):
        await commit(living.log, str(n))
        (await anext(deliveries)).ack()
    store.broker.terminate()  # so that all of it is on disk
    await store.cut_short()
    async with asyncio.timeout(20):
        await living.identity.noticed.wait()
    assert "and had reached 10" in (living.identity.another or "")
    await puller.stop()
    connection = await Connection.open(store.broker.url, name="after")
    log = JetStreamLog(connection, service="test", instance="test-1")
    seq = await commit(log, "after the cut")
    assert seq < 10
    again = log.pull(SPEC)
    coming = aiter(again)
    async with asyncio.timeout(20):
        while (delivery := await anext(coming)).seq != seq:
            delivery.ack()
    await again.stop()
    await connection.close()


async def test_a_stream_that_somebody_made_anew_on_a_running_broker_is_noticed_by_looking(
    store: Store, living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_module, "EVERY_S", 0.05)
    assert await living.identity.begin() is None
    await commit(living.log, "before")
    looking = asyncio.create_task(living.identity.run(asyncio.Event()))
    await living.connection.request("$JS.API.STREAM.DELETE.SWARM")
    await ensure(store.broker.url, None)
    async with asyncio.timeout(20):
        await living.identity.noticed.wait()
    looking.cancel()
    assert "it was made at" in (living.identity.another or "")


async def test_nothing_pending_from_before_a_disconnect_is_said_after_it(store: Store, living: Living) -> None:
    """An ack of what was delivered before would be taken for one of what has its sequence now."""
    assert await living.identity.begin() is None
    client = living.connection._client
    store.broker.kill()
    async with asyncio.timeout(20):
        while client.is_connected:
            await asyncio.sleep(0)
        client.send("observation.recorded.alpha.all", b"between the break and the moment it is told")
        await store.start()
        while living.connection.fenced:
            await asyncio.sleep(0.02)
    assert 1 == await commit(living.log, "the first there is")
