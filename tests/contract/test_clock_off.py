"""A service whose clock is off takes no work, as it is really wired, on a real broker; and takes it once the clock is right.

The clocks are simulated: each service judges one that says what the test wants.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import AnyEvent, CheckRequested, LogResolve, PersonaDraining, SpawnRequested
from shared.contracts.ids import fresh_id, utc_now
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.streams import ensure
from shared.runtime.service import Service
from shared.settings import S3, Settings, Verdict
from shared.signers import announce
from tests.broker import Broker
from tests.unit.gate.given import KEY, ROOT, SEED, appointed
from tests.unit.gateway.gateway_model import authorized, created, verified

HOUR_S = 3600.0
PROPOSAL = created("prop-1", swarm="alpha", persona="p1")
WORK: dict[str, AnyEvent] = {
    "governor": SpawnRequested(swarm="alpha", persona="p1", name="n", role="r", charter="c", principal="op"),
    "verifier": PROPOSAL,
    "checker": CheckRequested(
        swarm="alpha", persona="p1", check_id="k-1", hypothesis_id="h-1", probe=LogResolve(evidence=())
    ),
    "policy_gate": verified(PROPOSAL),
    "actuator": authorized(PROPOSAL),
    "memory_compactor": PersonaDraining(
        swarm="alpha", persona="p1", reason="test", deadline=utc_now() + timedelta(minutes=1)
    ),
}
"""Something each service would take up at once."""


class Clock:
    """A wall clock that is `off_s` wrong."""

    def __init__(self, off_s: float) -> None:
        self.off_s = off_s

    def __call__(self) -> float:
        return time.time() + self.off_s


class Asked:
    """Counts how often the service looked whether it may work."""

    def __init__(self, may_work: Callable[[], bool]) -> None:
        self._may_work, self.count = may_work, 0

    def __call__(self) -> bool:
        self.count += 1
        return self._may_work()

    async def again(self, times: int) -> None:
        wanted = self.count + times
        async with asyncio.timeout(60):
            while self.count < wanted:
                await asyncio.sleep(0.02)


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Connection]:
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    await announce(JetStreamLog(connection, service="bootstrap", instance="bootstrap-1"), appointed(KEY))
    yield connection
    await connection.close()
    broker.kill()


@asynccontextmanager
async def running(name: str, connection: Connection, clock: Clock, data: Path) -> AsyncIterator[Service]:
    """The service, wired as in its process, on a connection of its own."""
    settings = Settings(
        require_sync_always=False,
        data_dir=str(data),
        workspace=str(data / "workspace"),
        s3=S3(endpoint="127.0.0.1:9"),
        verdict=Verdict(seed=SEED, root=ROOT),
    )
    own = await Connection.open(connection.client.connected_url.geturl(), name=name)  # type: ignore[union-attr]
    service = Service(name, settings, own, clock=clock)
    await importlib.import_module(f"services.{name}.service").wire(service)
    task = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        service.stopping.set()
        await task


async def delivered(connection: Connection, durable: str) -> int:
    """How many messages the broker handed to the service's consumer, 0 before there is one."""
    answer = await connection.request(f"$JS.API.CONSUMER.INFO.SWARM.{durable}")
    info = msgspec.json.decode(answer.data)
    return 0 if "error" in info else int(info["delivered"]["consumer_seq"])


@pytest.mark.parametrize("off_s", [HOUR_S, -HOUR_S])
@pytest.mark.parametrize("name", WORK)
async def test_no_work_is_taken_while_the_clock_is_off_and_all_of_it_once_it_is_right(
    connection: Connection, tmp_path: Path, name: str, off_s: float
) -> None:
    clock = Clock(off_s)
    async with running(name, connection, clock, tmp_path) as service:
        service.log.may_work = asked = Asked(service.may_work)
        event_id = fresh_id()
        envelope = Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id)
        await service.log.commit([Message(event=WORK[name], envelope=envelope)])
        await asked.again(2)
        assert 0 == await delivered(connection, name)
        assert "no work is taken until they agree" in (await service.health.problems())["clock"]
        clock.off_s = 0.0
        await service.probe.write()
        async with asyncio.timeout(60):
            while await delivered(connection, name) == 0:
                await asyncio.sleep(0.02)
        assert "clock" not in await service.health.problems()


async def test_a_clock_that_was_set_while_the_service_runs_stops_its_ticks_too(
    connection: Connection, tmp_path: Path
) -> None:
    clock, ticks = Clock(0.0), 0
    own = await Connection.open(connection.client.connected_url.geturl(), name="governor")  # type: ignore[union-attr]
    service = Service("governor", Settings(require_sync_always=False, data_dir=str(tmp_path)), own, clock=clock)
    looked = Asked(service.may_tick)
    service.may_tick = looked  # type: ignore[method-assign]

    async def tick() -> None:
        nonlocal ticks
        ticks += 1

    service.every(0.01, tick, "reconcile")
    task = asyncio.create_task(service.run())
    await looked.again(3)
    assert ticks > 0
    clock.off_s = HOUR_S
    await looked.again(1)
    before = ticks
    await looked.again(5)
    assert ticks == before
    clock.off_s = 0.0
    async with asyncio.timeout(60):
        while ticks == before:
            await looked.again(1)
    service.stopping.set()
    await task
