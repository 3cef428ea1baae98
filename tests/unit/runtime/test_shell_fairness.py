"""Swarms in the shell: who floods waits behind nobody but itself, is refused beyond its share, and bounds what is held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.governor.decider import Governor, Limits
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    ObservationRecorded,
    PersonaReaped,
    PersonaSpawned,
    SpawnRefused,
    SpawnRequested,
)
from shared.contracts.ids import fresh_id, utc_now
from shared.decider import Boundary, Decision, Delivered, Effect, Input, Performed, Result, Tick
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.memory import MemoryLog
from shared.log.port import ConsumerSpec, Log
from shared.log.streams import ensure
from shared.runtime.shell import IN_FLIGHT_LIMIT, Shell
from shared.runtime.turns import alone
from tests.broker import Broker

FLOOD = {MemoryLog: 300, JetStreamLog: 3000}
SPEC = ConsumerSpec(name="fair", filters=("observation.recorded.*.*", "spawn.requested.*.*"), ack_wait_s=3.0)


class Look(Effect, frozen=True, kw_only=True):
    """Done when it is let."""

    swarm: str


class Seen(Result, frozen=True, kw_only=True):
    """It was done."""


class Seer:
    """Looks at each observation, a lane each, and says that it has."""

    def initial(self) -> None:
        return None

    def boundary(self, message: Delivered | Tick) -> Boundary:
        assert isinstance(message, Delivered)
        return Boundary(reads=(f"*.*.lane.p{message.recorded.seq}",), guards=(), opens=True)

    def decide(self, state: None, message: Input) -> Decision:
        if isinstance(message, Performed):
            assert isinstance(message.effect, Look)
            return Decision(events=(PersonaReaped(swarm=message.effect.swarm, persona="p", reason="seen"),))
        assert isinstance(message, Delivered)
        return Decision(effect=Look(swarm=message.recorded.event.swarm))

    def evolve(self, state: None, recorded: Recorded) -> None:
        return None


class Eyes:
    """Performs `Look`; of the loud swarm only when `open` is set. Counts what began."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.began = {"loud": 0, "quiet": 0}

    async def look(self, effect: Effect) -> Result:
        assert isinstance(effect, Look)
        self.began[effect.swarm] += 1
        if effect.swarm == "loud":
            await self.open.wait()
        return Seen()


def observed(swarm: str) -> Message:
    return _message(ObservationRecorded(swarm=swarm, persona="p", text="a line"))


def wanted(swarm: str, persona: str) -> Message:
    return _message(SpawnRequested(swarm=swarm, persona=persona, name=persona, role="r", charter="c"))


def _message(event: ObservationRecorded | SpawnRequested) -> Message:
    event_id = fresh_id()
    return Message(event=event, envelope=Envelope(id=event_id, source="t", time=utc_now(), correlation=event_id))


@pytest.fixture(params=["memory", "jetstream"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    if request.param == "memory":
        yield MemoryLog()
        return
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    yield JetStreamLog(connection, service="test", instance="test-1")
    await connection.close()
    broker.kill()


async def test_a_flood_that_stands_still_holds_up_no_other_swarm(log: Log) -> None:
    flood = FLOOD[type(log)]
    for _ in range(flood // 300):
        await log.commit([observed("loud") for _ in range(300)])
    eyes = Eyes()
    puller = log.pull(SPEC)
    consuming = asyncio.create_task(Shell(log, Seer(), service="test", perform=eyes.look).consume(puller, SPEC))
    async with asyncio.timeout(30):
        for n in range(3):
            await log.commit([observed("quiet")])
            while len(await log.read(("persona.reaped.quiet.*",))) <= n:
                await asyncio.sleep(0.01)
        assert {"loud": alone(IN_FLIGHT_LIMIT), "quiet": 3} == eyes.began
        await asyncio.sleep(1.5 * SPEC.ack_wait_s)  # what waits is renewed: nothing comes twice
        eyes.open.set()
        while len(await log.read(("persona.reaped.loud.*",))) < flood:
            await asyncio.sleep(0.05)
        await puller.stop()
        await consuming
    assert {"loud": flood, "quiet": 3} == eyes.began


async def test_what_a_swarm_asks_beyond_its_share_is_refused_by_one_event_each_and_at_once(log: Log) -> None:
    governor = Governor(limits=Limits(max_roots=1000, spawns_per_minute=1000))
    shell = Shell(log, governor, service="governor", at_most=20)
    for n in range(100):
        await log.commit([wanted("loud", f"p{n}")])
    await log.commit([wanted("quiet", "p1")])
    puller = log.pull(SPEC)
    consuming = asyncio.create_task(shell.consume(puller, SPEC))
    async with asyncio.timeout(30):
        while len(answers := await log.read(("persona.spawned.*.*", "spawn.refused.*.*"))) < 101:
            await asyncio.sleep(0.02)
        await puller.stop()
        await consuming
    spawned = [r.event for r in answers if isinstance(r.event, PersonaSpawned)]
    refused = [r.event for r in answers if isinstance(r.event, SpawnRefused)]
    assert 1 == sum(event.swarm == "quiet" for event in spawned)
    assert {("loud", "too_many_waiting")} == {(event.swarm, event.reason) for event in refused}
    assert 20 <= 101 - len(refused)  # no fewer than its share
    assert "ask again" in refused[0].detail
    assert 101 == len({event.persona + event.swarm for event in (*spawned, *refused)})


async def test_a_refusal_that_comes_again_is_not_said_twice_and_makes_no_persona(log: Log) -> None:
    governor = Governor(limits=Limits(max_roots=1000, spawns_per_minute=1000))
    request = wanted("loud", "p1")
    await log.commit([request])
    for at_most in (0, 0, 1000):
        puller = log.pull(ConsumerSpec(name=fresh_id(), filters=SPEC.filters))
        shell = Shell(log, governor, service="governor", at_most=at_most)
        consuming = asyncio.create_task(shell.consume(puller, SPEC, stopping=(stopping := asyncio.Event())))
        await asyncio.sleep(0.2)
        stopping.set()
        await puller.stop()
        await consuming
    assert ["spawn.refused.loud.p1"] == [
        r.subject for r in await log.read(("persona.spawned.*.*", "spawn.refused.*.*"))
    ]
