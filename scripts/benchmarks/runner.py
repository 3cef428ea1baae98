"""One persona runner, the real process with RuleThinker: how fast it thinks, and what a mostly idle persona weighs.

- Thoughts: `ACTIVE` personas with credits, and fresh observations all the time so that none rests; thoughts stored per second.
  Baseline: bare nats-py publishing the same number of messages one after another, with ack, on the same broker.
- Memory: the runner's RSS without personas, with 1 000 and with 10 000; the difference over their number, in KB. All have
  credits and have thought until what they remember of their recent thoughts was full. From then on they have nothing to
  perceive and think ever more rarely, down to once in five minutes.
- Growth: RSS over ten minutes more of that, minute by minute (`--quick`: 2 seconds at 1 000, after one thought each, said as
  `idle_s`); how many thoughts were thought meanwhile is said beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import nats
import psutil

from scripts.benchmarks.measure import CannotMeasure, Figures, broker, run_async, say
from scripts.benchmarks.pipeline import Worker, processes
from services.persona_runner.mind.guard import WINDOW
from services.persona_runner.mind.state import KEPT_NOTES
from services.supervisor.running.ports import free_port
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import (
    AnyEvent,
    BudgetGranted,
    CognitionStarted,
    Credits,
    GrantRequested,
    ObservationRecorded,
    PersonaSpawned,
    PlacementChanged,
)
from shared.contracts.ids import fresh_id, utc_now
from shared.contracts.persona import Identity, PersonaPolicy
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.settings import Settings
from tests.broker import Broker

KEYS = ("thoughts_per_s", "kb_per_persona")
ACTIVE = 200
BATCH = 200
LIMIT_KB = 20
MOMENT_S = 60
HOSTED_WITHIN_S = 600.0
FULL = 2 * max(KEPT_NOTES, WINDOW)
"""Thoughts after which all that a persona remembers of its recent ones is full and has been replaced once."""
PLENTY = Credits(tokens=10**9, compute_ms=10**9, actions=10**6)


class _State(msgspec.Struct, frozen=True):
    subjects: dict[str, int] | None = None


class _Info(msgspec.Struct):
    state: _State = _State()
    total: int = 0


def run(*, quick: bool) -> Figures:
    """`quick`: 1 000 personas at most, and a short look at growth."""
    return run_async(_run(quick))


async def _run(quick: bool) -> Figures:
    async with broker(sync_always=False) as server:
        say("runner: thoughts per second")
        thinking = await _thinking(server, seconds=6 if quick else 60)
    async with broker(sync_always=False) as server:
        say("runner: memory per persona")
        sizes, thoughts, idle_s = ((1000,), 1, 2) if quick else ((1000, 10_000), FULL, 600)
        weight = await _weight(server, sizes, thoughts, idle_s)
    return {
        **thinking,
        **weight,
        "kb_limit": LIMIT_KB,
        **({"not_measured": "10 000 personas, full memories, ten minutes idle: only without --quick"} if quick else {}),
    }


class Bench:
    """A log to speak on as everyone but the runner, and the runner."""

    def __init__(self, server: Broker, log: JetStreamLog) -> None:
        self._server = server
        self.log = log

    async def say(self, events: list[AnyEvent]) -> None:
        """Commit events in batches."""
        for start in range(0, len(events), BATCH):
            await self.log.commit([_message(event) for event in events[start : start + BATCH]])

    async def count(self, event_class: str, times: int = 1) -> tuple[int, int]:
        """How many personas have said something of a class so many times, and how many events of it there are."""
        personas = events = seen = 0
        while True:
            ask = b'{"subjects_filter":"%b.bench.>","offset":%d}' % (event_class.encode(), seen)
            info = msgspec.json.decode(
                (await self.log.connection.request("$JS.API.STREAM.INFO.SWARM", ask)).data, type=_Info
            )
            page = info.state.subjects or {}
            seen += len(page)
            personas += sum(count >= times for count in page.values())
            events += sum(page.values())
            if not page or seen >= info.total:
                return personas, events

    async def until(self, event_class: str, personas: int) -> None:
        """Returns when so many personas have said something of the class. Raises `CannotMeasure`."""
        deadline = time.monotonic() + HOSTED_WITHIN_S
        while (await self.count(event_class))[0] < personas:
            if time.monotonic() > deadline:
                raise CannotMeasure(f"not all of {personas} personas said {event_class} within {HOSTED_WITHIN_S:.0f} s")
            await asyncio.sleep(0.2)

    async def think(self, personas: int, times: int) -> None:
        """Have all think so many times: now and then there is something new to see. Raises `CannotMeasure`."""
        deadline = time.monotonic() + HOSTED_WITHIN_S
        seen = 0
        while (await self.count("thought.generated", times))[0] < personas:
            if time.monotonic() > deadline:
                raise CannotMeasure(f"not all of {personas} personas thought {times} times in {HOSTED_WITHIN_S:.0f} s")
            seen += 1
            text = f"payment took {40 + seen % 50} ms, order {seen}"
            await self.say([ObservationRecorded(swarm="bench", persona="all", text=text, source="bench")])
            await asyncio.sleep(3)

    async def grant(self) -> None:
        """Be the governor: the one runner has every shard, and all who ask get plenty, until cancelled."""
        await self.say(
            [PlacementChanged(swarm="all", persona="all", slots=("r1",), shards=Settings().placement.shards)]
        )
        asked: asyncio.Queue[str] = asyncio.Queue()

        async def listen() -> None:
            async for recorded in self.log.tail(("grant.requested.bench.*.*",)):
                assert isinstance(recorded.event, GrantRequested)
                if recorded.event.need != Credits():
                    asked.put_nowait(recorded.event.persona)

        listening = asyncio.create_task(listen())
        try:
            while True:
                personas = [await asked.get()]
                while not asked.empty() and len(personas) < BATCH:
                    personas.append(asked.get_nowait())
                await self.say(_grants(personas))
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def _thinking(server: Broker, seconds: int) -> Figures:
    connection = await Connection.open(server.url, name="bench")
    bench = Bench(server, JetStreamLog(connection, service="bench", instance="bench-1"))
    try:
        with TemporaryDirectory(prefix="bench-") as folder:
            await bench.say(
                [CognitionStarted(swarm="bench", persona="all", loop_interval_ms=100), *_personas(0, ACTIVE)]
            )
            await bench.say(_grants([f"p{n}" for n in range(ACTIVE)]))
            async with processes([_runner(server.url, Path(folder))]) as (pid,):
                observing = asyncio.create_task(_observe(bench))
                await bench.until("thought.generated", ACTIVE)
                cpu = psutil.Process(pid).cpu_times()
                (_, before), began = await bench.count("thought.generated"), time.perf_counter()
                await asyncio.sleep(seconds)
                (_, after), elapsed = await bench.count("thought.generated"), time.perf_counter() - began
                used = psutil.Process(pid).cpu_times()
                observing.cancel()
                await asyncio.gather(observing, return_exceptions=True)
        rate = (after - before) / elapsed
        return {
            "personas_thinking": ACTIVE,
            "thoughts_per_s": round(rate, 1),
            "thoughts_offered_per_s": ACTIVE * 10,
            "cpu_ms_per_thought": round(
                (used.user + used.system - cpu.user - cpu.system) * 1e3 / max(1, after - before), 2
            ),
            "bare_publishes_per_s": await _bare(server.url, 2000),
        }
    finally:
        await connection.close()


async def _observe(bench: Bench) -> None:
    """Ten lines ten times a second, for everyone."""
    tick = 0
    while True:
        lines = [f"payment-{n} took {40 + (tick * 7 + n) % 50} ms, order {tick * 10 + n}" for n in range(10)]
        await bench.say(
            [ObservationRecorded(swarm="bench", persona="all", text=line, source="bench") for line in lines]
        )
        tick += 1
        await asyncio.sleep(0.1)


async def _bare(url: str, count: int) -> int:
    client = await nats.connect(url)
    js = client.jetstream()
    began = time.perf_counter()
    for n in range(count):
        await js.publish(f"thought.generated.bare.p{n % ACTIVE}.r1", b"x" * 600)
    rate = count / (time.perf_counter() - began)
    await client.close()
    return round(rate)


async def _weight(server: Broker, sizes: tuple[int, ...], thoughts: int, idle_s: int) -> Figures:
    connection = await Connection.open(server.url, name="bench")
    bench = Bench(server, JetStreamLog(connection, service="bench", instance="bench-1"))
    try:
        with TemporaryDirectory(prefix="bench-") as folder:
            await bench.say([CognitionStarted(swarm="bench", persona="all", loop_interval_ms=500)])
            granting = asyncio.create_task(bench.grant())
            async with processes([_runner(server.url, Path(folder))]) as (pid,):
                base = await _settled_kb(pid)
                figures: Figures = {"base_mb": round(base / 1024, 1), "kb_per_persona": {}}
                there = 0
                for size in sizes:
                    await bench.say(_personas(there, size))
                    there = size
                    await bench.think(size, thoughts)
                    rss = await _settled_kb(pid)
                    figures["kb_per_persona"][str(size)] = round((rss - base) / size, 1)
                    say(f"runner: {size} personas, {rss / 1024:.1f} MB")
                return {**figures, **await _growth(bench, pid, idle_s)}
    finally:
        granting.cancel()
        await asyncio.gather(granting, return_exceptions=True)
        await connection.close()


async def _growth(bench: Bench, pid: int, idle_s: int) -> Figures:
    """RSS at moments of idling, a minute apart, and what it has grown by from the first to the last."""
    _, before = await bench.count("thought.generated")
    rss = [await _settled_kb(pid)]
    for moment in range(min(MOMENT_S, idle_s), idle_s + 1, MOMENT_S):
        await asyncio.sleep(min(MOMENT_S, idle_s))
        rss.append(await _settled_kb(pid))
        say(f"runner: idle, {moment} s, {rss[-1] / 1024:.1f} MB")
    _, after = await bench.count("thought.generated")
    return {
        "idle_s": idle_s,
        "thoughts_while_idle": after - before,
        "mb_while_idle": [round(kb / 1024, 1) for kb in rss],
        "grown_kb_while_idle": rss[-1] - rss[0],
    }


async def _settled_kb(pid: int) -> int:
    """RSS in KB once it has not changed by a percent for two seconds."""
    process = psutil.Process(pid)
    rss = 0
    while True:
        await asyncio.sleep(2)
        before, rss = rss, int(process.memory_info().rss) // 1024
        if abs(rss - before) * 100 <= rss:
            return rss


def _runner(url: str, folder: Path) -> Worker:
    port = free_port()
    env = {
        "SWARM_NATS_URL": url,
        "SWARM_REQUIRE_SYNC_ALWAYS": "false",
        "SWARM_DATA_DIR": str(folder),
        "SWARM_HEALTH_PORT": str(port),
    }
    return Worker(("-m", "services.persona_runner"), env, f"http://127.0.0.1:{port}/health/ready")


def _personas(first: int, end: int) -> list[AnyEvent]:
    return [
        PersonaSpawned(
            swarm="bench",
            persona=f"p{n}",
            identity=Identity(
                id=f"p{n}",
                name=f"p{n}",
                role="watcher",
                charter=f"Watch shard {n}",
                swarm_id="bench",
                created_at=utc_now(),
            ),
            policy=PersonaPolicy(),
        )
        for n in range(first, end)
    ]


def _grants(personas: Sequence[str]) -> list[AnyEvent]:
    expires_at = utc_now() + timedelta(hours=2)
    return [
        BudgetGranted(
            swarm="bench", persona=persona, grant_id=fresh_id(), window=1, credits=PLENTY, expires_at=expires_at
        )
        for persona in personas
    ]


def _message(event: AnyEvent) -> Message:
    event_id = fresh_id()
    return Message(event=event, envelope=Envelope(id=event_id, source="bench", time=utc_now(), correlation=event_id))
