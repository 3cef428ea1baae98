"""The runner as a process: it starts, thinks, survives the broker's restart, and ends cleanly on SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import httpx
import psutil

from services.supervisor.running.ports import free_port
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import (
    AnyEvent,
    BudgetGranted,
    CognitionStarted,
    Credits,
    ObservationRecorded,
    PersonaSpawned,
    PlacementChanged,
    ThoughtGenerated,
)
from shared.contracts.ids import fresh_id, utc_now
from shared.contracts.persona import Identity, PersonaPolicy
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable
from shared.log.streams import ensure
from tests.broker import Broker

MAX_RSS_MB = 80
T = TypeVar("T")


async def put(log: JetStreamLog, event: AnyEvent) -> None:
    event_id = fresh_id()
    envelope = Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id)
    await log.commit([Message(event=event, envelope=envelope)])


async def patient(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, once the log is back."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await ask()
            except LogUnavailable:
                await asyncio.sleep(0.05)


async def ready(port: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(20):
        while True:
            try:
                answer = await client.get(f"http://127.0.0.1:{port}/health/ready")
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            if answer.status_code == 200:
                return
            await asyncio.sleep(0.05)


async def thought(log: JetStreamLog, step: int) -> ThoughtGenerated:
    """The thought of this step, as soon as it is there."""
    tail = log.tail(["thought.generated.*.*.*"])
    async with asyncio.timeout(30):
        async for recorded in tail:
            event = recorded.event
            if isinstance(event, ThoughtGenerated) and event.step == step:
                await tail.stop()
                return event
    raise AssertionError("the tail ended")


async def test_the_process_thinks_through_a_restart_of_the_broker_and_ends_cleanly(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    port = free_port()
    environ = {
        **os.environ,
        "SWARM_NATS_URL": broker.url,
        "SWARM_HEALTH_PORT": str(port),
        "SWARM_REQUIRE_SYNC_ALWAYS": "false",
        "SWARM_DATA_DIR": str(tmp_path),
    }
    process = subprocess.Popen([sys.executable, "-m", "services.persona_runner"], env=environ)
    connection = await Connection.open(broker.url, name="test")
    log = JetStreamLog(connection, service="test", instance="test-1")
    try:
        await put(log, PlacementChanged(swarm="all", persona="all", slots=("r1",), shards=64))
        await ready(port)
        identity = Identity(id="ada", name="n", role="r", charter="c", swarm_id="alpha", created_at=utc_now())
        await put(log, PersonaSpawned(swarm="alpha", persona="ada", identity=identity, policy=PersonaPolicy()))
        grant = Credits(tokens=10_000, compute_ms=100_000)
        until = utc_now() + timedelta(minutes=5)
        await put(
            log,
            BudgetGranted(swarm="alpha", persona="ada", grant_id="g", window=1, credits=grant, expires_at=until),
        )
        await put(log, ObservationRecorded(swarm="alpha", persona="all", text="a line"))
        await put(log, CognitionStarted(swarm="all", persona="all", loop_interval_ms=100))
        assert (await thought(log, 1)).phase == "observe"
        rss_mb = psutil.Process(process.pid).memory_info().rss / 2**20
        print(f"RSS {rss_mb:.0f} MB")
        assert rss_mb < MAX_RSS_MB
        broker.kill()
        await broker.start()
        step = (await patient(lambda: log.read(["thought.generated.alpha.ada.*"])))[-1].event
        assert isinstance(step, ThoughtGenerated)
        await put(log, ObservationRecorded(swarm="alpha", persona="all", text="another line"))
        assert (await thought(log, step.step + 1)).runner == "persona_runner-1"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 10) == 0
    finally:
        process.kill()
        process.wait()
        await connection.close()
        broker.kill()
