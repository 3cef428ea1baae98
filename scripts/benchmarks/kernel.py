"""Commit and pull of our kernel against bare nats-py, same broker, same messages, rounds in turn.

- `commit_ratio`: one event, ours against `js.publish` with ack of the same subject, headers and body encoded beforehand (we
  encode inside the measurement). The smaller of two ratios, so at least 1 means at least as fast in both: bare p50 / our p50
  one after another, and our events per second / bare with 64 callers at once.
- `pull_ratio`: our puller with ack, decoded events, events per second / bare `fetch(256)` with ack, undecoded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import nats
from nats.js import JetStreamContext

from scripts.benchmarks.measure import Figures, broker, latency, percentile, run_async, say
from shared.contracts.envelope import Envelope, Message, encode
from shared.contracts.events import ThoughtGenerated, Usage
from shared.contracts.ids import fresh_id, utc_now
from shared.log.client.connection import Connection
from shared.log.client.wire import read_headers
from shared.log.jetstream import JetStreamLog
from shared.log.port import ConsumerSpec, Expect
from tests.broker import Broker

KEYS = ("commit_ratio", "pull_ratio")
CALLERS = 64
FETCH = 256
Once = Callable[[int], Awaitable[object]]


def run(*, quick: bool) -> Figures:
    """All figures; both durability modes."""
    return run_async(_run(quick))


async def _run(quick: bool) -> Figures:
    figures: Figures = {}
    for sync_always in (False, True):
        name = "sync_always" if sync_always else "sync_default"
        say(f"kernel: {name}")
        async with broker(sync_always=sync_always) as server:
            figures[name] = await _mode(server, serial=200 if quick else 1500, turn=600 if quick else 3000)
    figures["commit_ratio"] = figures["sync_default"]["commit_1"]["ratio"]
    figures["pull_ratio"] = figures["sync_default"]["pull"]["ratio"]
    figures["durable_commit_ratio"] = figures["sync_always"]["commit_1"]["ratio"]
    return figures


async def _mode(server: Broker, serial: int, turn: int) -> Figures:
    connection = await Connection.open(server.url, name="bench-ours")
    bare = await nats.connect(server.url, name="bench-bare")
    try:
        return await _measure(
            JetStreamLog(connection, service="bench", instance="bench-1"), bare.jetstream(), serial, turn
        )
    finally:
        await connection.close()
        await bare.close()


async def _measure(log: JetStreamLog, js: JetStreamContext, serial: int, turn: int) -> Figures:
    """`turn` calls at once in each of three turns; a fortieth of the batches, and six times as many messages pulled."""
    total = serial + 3 * turn
    ours, bare = _thoughts(total), _publisher(js, _thoughts(total))
    ours_4, bare_4 = _thoughts(4 * total), _publisher(js, _thoughts(4 * total))

    async def commit_4(n: int) -> None:
        await log.commit(ours_4[4 * n : 4 * n + 4])

    async def publish_4(n: int) -> None:
        for index in range(4 * n, 4 * n + 4):
            await bare_4(index)

    figures: Figures = {"commit_1": await _compare(lambda n: log.commit((ours[n],)), bare, serial, turn)}
    figures["commit_1_guarded"] = latency(await _guarded(log, serial))
    figures["commit_4_atomic_vs_4_publishes"] = await _compare(commit_4, publish_4, serial // 4, turn // 40)
    await _fill(log, 6 * turn)
    figures["pull"] = await _pulls(log, js, 6 * turn)
    return figures


def thought(persona: str) -> Message:
    event_id = fresh_id()
    thought = ThoughtGenerated(
        swarm="bench",
        persona=persona,
        phase="observe",
        thinker="rules",
        useful_at=utc_now(),
        step=1,
        cycle=1,
        text="The error rate of the payment service rose from 2 to 41 a minute between 12:03 and 12:07. " * 3,
        digest="0" * 64,
        usage=Usage(tokens_in=812, tokens_out=96, compute_ms=420),
    )
    return Message(event=thought, envelope=Envelope(id=event_id, source="bench", time=utc_now(), correlation=event_id))


def _thoughts(count: int) -> list[Message]:
    return [thought(f"p{n % 8}") for n in range(count)]


def _publisher(js: JetStreamContext, messages: list[Message]) -> Once:
    encoded = [(subject, read_headers(lines.encode()), body) for subject, lines, body in map(encode, messages)]

    async def publish(n: int) -> None:
        subject, headers, body = encoded[n]
        await js.publish(subject, body, headers=headers)

    return publish


async def _compare(ours: Once, bare: Once, serial: int, turn: int) -> Figures:
    """`serial` calls of each, one after another and taking turns; then three turns each of `turn` calls, `CALLERS` at once."""
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    pair = (("ours", ours), ("bare", bare))
    for n in range(serial):
        for name, once in pair:
            began = time.perf_counter()
            await once(n)
            times[name].append(time.perf_counter() - began)
    for first in range(serial, serial + 3 * turn, turn):
        for name, once in pair:
            rates[name].append(await concurrently(once, range(first, first + turn)))
    one = {name: latency(values) for name, values in times.items()}
    rate = {name: percentile(values, 0.5) for name, values in rates.items()}
    by_latency = one["bare"]["p50_ms"] / one["ours"]["p50_ms"]
    by_rate = rate["ours"] / rate["bare"]
    return {
        **{name: {**one[name], "per_s": round(rate[name])} for name in one},
        "latency_ratio": round(by_latency, 2),
        "throughput_ratio": round(by_rate, 2),
        "ratio": round(min(by_latency, by_rate), 2),
    }


async def concurrently(once: Once, indices: range) -> float:
    """Calls per second with `CALLERS` of them under way."""
    left = iter(indices)

    async def caller() -> None:
        for index in left:
            await once(index)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())
    return len(indices) / (time.perf_counter() - began)


async def _guarded(log: JetStreamLog, count: int) -> list[float]:
    """Commit of one event guarded by its own subject, one after another."""
    times, last = [], 0
    for _ in range(count // 2):
        said = thought("guarded")
        began = time.perf_counter()
        (last,) = await log.commit((said,), (Expect(said.subject, last),))
        times.append(time.perf_counter() - began)
    return times


async def _fill(log: JetStreamLog, count: int) -> None:
    for start in range(0, count, 500):
        await log.commit([thought("pulled") for _ in range(start, min(start + 500, count))])


async def _pulls(log: JetStreamLog, js: JetStreamContext, count: int) -> Figures:
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    for turn in range(3):
        rates["ours"].append(await _pull_ours(log, f"ours-{turn}", count))
        rates["bare"].append(await _pull_bare(js, f"bare-{turn}", count))
    rate = {name: sorted(values)[1] for name, values in rates.items()}
    return {
        "n": count,
        "ours_per_s": round(rate["ours"]),
        "bare_per_s": round(rate["bare"]),
        "ratio": round(rate["ours"] / rate["bare"], 2),
    }


async def _pull_ours(log: JetStreamLog, name: str, count: int) -> float:
    puller = log.pull(ConsumerSpec(name=name, filters=("thought.generated.bench.pulled.*",), ack_wait_s=30))
    taken = 0
    began = time.perf_counter()
    async for delivery in puller:
        delivery.ack()
        taken += 1
        if taken == count:
            await log.connection.client.flush()
            elapsed = time.perf_counter() - began
            await puller.stop()
    return count / elapsed


async def _pull_bare(js: JetStreamContext, name: str, count: int) -> float:
    subscription = await js.pull_subscribe("thought.generated.bench.pulled.*", durable=name, stream="SWARM")
    taken = 0
    began = time.perf_counter()
    while taken < count:
        for message in await subscription.fetch(FETCH, timeout=5):
            await message.ack()
            taken += 1
    await js._nc.flush()
    elapsed = time.perf_counter() - began
    await subscription.unsubscribe()
    return count / elapsed
