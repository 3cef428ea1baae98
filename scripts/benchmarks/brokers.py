"""What it costs to keep the log on one broker, on one that syncs before it acknowledges, and on a cluster of three.

The same commits and readings one after another, and commits of `CALLERS` at once, in each kind on a store of its own; all brokers
share this machine, so the network between them costs next to nothing here. `read_life` is a proposal's life of four events read by
its boundary; on a cluster it is what the leader has. `hops` are those of the real verifier, gate
and actuator (part `hops`). `race`: a denial against an authorisation, by two gates at two brokers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from scripts.benchmarks.hops import services, turns
from scripts.benchmarks.kernel import concurrently, thought
from scripts.benchmarks.measure import Figures, broker, latency, run_async, say
from scripts.benchmarks.pipeline import Side
from shared.contracts.boundaries import life, thoughts
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import ApprovalDenied
from shared.contracts.ids import fresh_id, utc_now
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import Expect
from shared.log.streams import ensure
from tests.broker import REPLICAS, Broker, Cluster
from tests.cluster_race import race

KEYS = ("r3_commit_ratio", "race_both")
KINDS = ("r1_default", "r1_always", "r3_default", "r3_always")
STAGES = 4


def run(*, quick: bool) -> Figures:
    """`quick`: fewer of each, and 200 rounds of the race instead of 10 000."""
    return run_async(_run(quick))


async def _run(quick: bool) -> Figures:
    count, rounds = (200, 200) if quick else (1000, 10_000)
    figures: Figures = {}
    for kind in KINDS:
        say(f"brokers: {kind}")
        always = kind.endswith("always")
        if kind.startswith("r1"):
            async with broker(sync_always=always) as server:
                figures[kind] = await _measure(server.url, count, replicated=False)
                figures[kind]["hops"] = await _hops(server, 1, quick)
        else:
            async with _cluster(sync_always=always) as three:
                figures[kind] = await _measure(three.url, count, replicated=True)
                figures[kind]["hops"] = await _hops(three, REPLICAS, quick)
                if not always:
                    say(f"brokers: {rounds} denials against authorisations")
                    figures["race"] = msgspec.to_builtins(await race(three, rounds))
    figures["r3_commit_ratio"] = round(
        figures["r3_default"]["commit"]["p50_ms"] / figures["r1_always"]["commit"]["p50_ms"], 2
    )
    figures["race_both"] = figures["race"]["both"]
    return figures


async def _hops(server: Broker | Cluster, replicas: int, quick: bool) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        side = Side("services", slower=5)
        workers = services(server.url, Path(folder), replicas=replicas)
        figures: Figures = (await turns(server, (side,), workers, quick))[side.name]
        return figures


@asynccontextmanager
async def _cluster(*, sync_always: bool) -> AsyncIterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        cluster = Cluster(Path(folder), sync_always=sync_always)
        await cluster.start()
        try:
            await ensure(cluster.url, None, replicas=REPLICAS)
            yield cluster
        finally:
            cluster.kill()


async def _measure(url: str, count: int, *, replicated: bool) -> Figures:
    connection = await Connection.open(url, name="bench")
    log = JetStreamLog(connection, service="bench", instance="bench-1", replicated=replicated)
    plain, guarded, batched, read = [], [], [], []
    boundary, last = thoughts("bench", "guarded"), 0
    try:
        for n in range(count):
            plain.append(await _timed(log, [thought(f"p{n % 8}")]))
            began = time.perf_counter()
            (last,) = await log.commit([thought("guarded")], [Expect(boundary, last)])
            guarded.append(time.perf_counter() - began)
        for n in range(count // 8):
            batched.append(await _timed(log, [_word(f"proposal-{n}") for _ in range(STAGES)]))
            began = time.perf_counter()
            found = await log.read((life("bench", "ada", f"proposal-{n}"),))
            read.append(time.perf_counter() - began)
            assert len(found) == STAGES
        many = [thought(f"p{n % 8}") for n in range(4 * count)]
        per_s = await concurrently(lambda n: log.commit((many[n],)), range(len(many)))
    finally:
        await connection.close()
    return {
        "commit": latency(plain),
        "commit_guarded": latency(guarded),
        "batch_of_4": latency(batched),
        "read_life": latency(read),
        "commits_per_s": round(per_s),
    }


async def _timed(log: JetStreamLog, messages: list[Message]) -> float:
    began = time.perf_counter()
    await log.commit(messages)
    return time.perf_counter() - began


def _word(proposal: str) -> Message:
    event_id = fresh_id()
    said = ApprovalDenied(
        swarm="bench", persona="ada", proposal_id=proposal, digest="0" * 64, request_id="r", principal="eve"
    )
    return Message(event=said, envelope=Envelope(id=event_id, source="bench", time=utc_now(), correlation=event_id))
