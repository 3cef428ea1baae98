"""What it costs to keep the log on one broker, on one that syncs before it acknowledges, and on three; and on three machines.

Each kind has a store of its own. In each: commits one after another (`CALLERS` at once for `commits_per_s`), a proposal's life of four
events read by its boundary (on a cluster, what the leader has), the four hops of the real verifier, gate and actuator (part `hops`), and
a question to memory (`asking.py`). Beside each stands nats-py alone on the same brokers, in the same minute.

`r3` is three brokers on this machine, so that the network between them costs next to nothing. `r3_N_ms` has a proxy before every broker,
for services and for the other brokers, by which all comes N ms later, each way; `r3_0_ms` is what the proxies themselves cost.
`network_ms` is what a question to a broker and back takes there, without anything stored.

Ratios of latencies are ours by bare, and less is better; `hops_peak_ratio` is of proposals a second, and more is better.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import nats

from scripts.benchmarks.asking import asking
from scripts.benchmarks.hops import BARE_64, Effort, bare, services, turns
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
from tests.broker import REPLICAS, Cluster
from tests.contract.memory.weed import Weed
from tests.doors import doors

STAGES = 4
BARE = "bare.commit"
OURS = Side("services", slower=2)


class Kind(NamedTuple):
    """How the log is kept. `ms` later comes what is said to a broker, and by it; None is without a proxy."""

    name: str
    replicas: int = 1
    sync_always: bool = False
    ms: int | None = None


KINDS = (
    Kind("r1_default"),
    Kind("r1_always", sync_always=True),
    Kind("r3", REPLICAS),
    *(Kind(f"r3_{ms}_ms", REPLICAS, ms=ms) for ms in (0, 1, 5, 20)),
)
KEYS = (
    "commit_p50_ms",
    "commit_p50_ratio",
    "hops_p95_ms",
    "hops_p95_ratio",
    "hops_peak_ratio",
    "recall_p50_ms",
    "recall_p50_ratio",
)


def run(*, quick: bool) -> Figures:
    """All kinds always; `quick` has fewer of each."""
    return run_async(_run(quick))


async def _run(quick: bool) -> Figures:
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        store = Weed(Path(folder))
        store.start()
        try:
            for kind in KINDS:
                say(f"brokers: {kind.name}")
                async with _serving(kind) as url:
                    figures[kind.name] = await _measure(url, kind, store, quick)
        finally:
            store.kill()
    found = {kind.name: figures[kind.name] for kind in KINDS}
    for key in KEYS:
        figures[key] = {name: of[key] for name, of in found.items()}
    return figures


@asynccontextmanager
async def _serving(kind: Kind) -> AsyncIterator[str]:
    """The URL of such brokers, with the mesh's streams."""
    if kind.replicas == 1:
        async with broker(sync_always=kind.sync_always) as server:
            yield server.url
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with AsyncExitStack() as stack:
            if kind.ms is None:
                cluster = Cluster(Path(folder))
                url = cluster.url
                stack.callback(cluster.kill)
            else:
                behind = await stack.enter_async_context(doors(Path(folder), delay_s=kind.ms / 1e3))
                cluster, url = behind.cluster, behind.url
            await cluster.start()
            await ensure(url, None, replicas=REPLICAS)
            yield url


async def _measure(url: str, kind: Kind, store: Weed, quick: bool) -> Figures:
    count = (40 if kind.ms else 160) if quick else (100 if kind.ms else 800)
    figures = await _commits(url, kind.replicas, count)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        workers = [*await services(url, Path(folder), replicas=kind.replicas), *bare(url, BARE_64, 64)]
        effort = Effort(
            rates=((100, 50 if quick else 200),), turns=2, peaks=2 if quick else 3, at_once=200 if quick else 1000
        )
        hops = await turns(url, (OURS, BARE_64), workers, effort, replicas=kind.replicas)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        figures |= await asking(url, store, Path(folder), 20 if quick else 60, kind.replicas)
    ours, theirs = hops[OURS.name], hops[BARE_64.name]
    return {
        **figures,
        "hops": hops,
        "commit_p50_ms": figures["commit"]["p50_ms"],
        "commit_p50_ratio": _ratio(figures["commit"], figures["bare_publish"], "p50_ms"),
        "hops_p95_ms": ours["at_100_per_s"]["p95_ms"],
        "hops_p95_ratio": _ratio(ours["at_100_per_s"], theirs["at_100_per_s"], "p95_ms"),
        "hops_peak_ratio": _ratio(ours, theirs, "peak_per_s"),
        "recall_p50_ms": figures["recall"]["p50_ms"],
        "recall_p50_ratio": _ratio(figures["recall"], figures["bare_question"], "p50_ms"),
    }


def _ratio(ours: Figures, bare: Figures, key: str) -> float:
    return round(ours[key] / bare[key], 2)


async def _commits(url: str, replicas: int, count: int) -> Figures:
    connection = await Connection.open(url, name="bench")
    alone = await nats.connect(url.split(","))
    log = JetStreamLog(connection, service="bench", instance="bench-1", replicated=replicas > 1)
    plain, bare_plain, guarded, batched, read, network = [], [], [], [], [], []
    boundary, last = thoughts("bench", "guarded"), 0
    js, body = alone.jetstream(), b"x" * 700
    try:
        await js.add_stream(name="BARECOMMIT", subjects=[BARE], num_replicas=replicas)
        for n in range(count):
            plain.append(await _timed(log, [thought(f"p{n % 8}")]))
            began = time.perf_counter()
            await js.publish(BARE, body)
            bare_plain.append(time.perf_counter() - began)
            began = time.perf_counter()
            (last,) = await log.commit([thought("guarded")], [Expect(boundary, last)])
            guarded.append(time.perf_counter() - began)
            began = time.perf_counter()
            await alone.flush()
            network.append(time.perf_counter() - began)
        for n in range(count // 8):
            batched.append(await _timed(log, [_word(f"proposal-{n}") for _ in range(STAGES)]))
            began = time.perf_counter()
            found = await log.read((life("bench", "ada", f"proposal-{n}"),))
            read.append(time.perf_counter() - began)
            assert len(found) == STAGES
        many = [thought(f"p{n % 8}") for n in range(4 * count)]
        per_s = await concurrently(lambda n: log.commit((many[n],)), range(len(many)))
    finally:
        await alone.close()
        await connection.close()
    return {
        "network": latency(network),
        "commit": latency(plain),
        "bare_publish": latency(bare_plain),
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
