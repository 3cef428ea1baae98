"""A mesh of swarms: 100 of them with 10 000 personas on a real broker that syncs each write, and the real meta-orchestrator.

Latencies are between what the broker stamped as stored: both ends by one clock, and nothing of the driver's in them. `bare` is the least
that any router could be on the same broker in the same run: nats-py that fetches one message and publishes another; `batch` is how long
a commit of two events takes there, as a route is one. Who is measured has folded all personas before; how long that took until the
first intent was routed is `first_route_s`.

- `routing_p95_ms`: intent.submitted → intent.routed, and by `assigned` → intent.assigned of the same batch (at most 50; aim 20).
- `ruling_p95_ms`: the second proposal.verified for a target → conflict.resolved, without people (at most 1000).
- `allocator_windows`: minutes from a burst of five of twenty swarms until everybody has what a fair allocator that knew all appetites would
  give it, the worst of a calm run, one with a liar, and one in which meta-orchestrators die (at most 3; made-up clock).
- `requests_added`: what the other services ask of the broker for a proposal that meets nobody, with the meta-orchestrator and without
  it, one proposal after another (0); `events_added` the same of events in the log.
- `holding_by_plain`: from an authorisation to its outcome with a hold on its target, and without one (aim 2).
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path

import nats

from scripts.benchmarks.hops import MODULE
from scripts.benchmarks.measure import CannotMeasure, Figures, broker, latency, run_async, say
from scripts.benchmarks.meeting import Arrivals, asked, rivals, said, wide
from scripts.benchmarks.pipeline import WAIT_S, Worker, grounds, processes
from scripts.benchmarks.requests import compared
from services.supervisor.running.ports import free_port
from shared.contracts.catalog import class_filter, class_of
from shared.contracts.events import ConflictRaised, ConflictResolved, ObservationRecorded, ProposalVerified
from shared.contracts.events.intents import IntentEvent
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from tests import hold_race
from tests.unit.orchestrator.test_allocation import NAMES, STEP_S, World, bursts, entitled

KEYS = (
    "routing_p95_ms",
    "routing_bare_p95_ms",
    "batch_p95_ms",
    "ruling_p95_ms",
    "allocator_windows",
    "requests_added",
    "events_added",
    "holding_by_plain",
)
SWARMS, PERSONAS = 100, 10_000
PER_S = 10.0
BURST_AT, LIVED = 2, 7
NEARLY = 0.95


def run(*, quick: bool) -> Figures:
    """All of it; with `quick` fewer intents, conflicts and proposals."""
    return run_async(_run(quick))


async def _run(quick: bool) -> Figures:
    figures: Figures = {"swarms": SWARMS, "personas": PERSONAS}
    if quick:
        figures["less"] = (
            "100 intents, 40 conflicts, 50 proposals of each kind instead of 600, 200, 200; the same personas"
        )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with broker(sync_always=True) as server:
            figures |= await _with_many(
                server.url, Path(folder), intents=100 if quick else 600, conflicts=40 if quick else 200
            )
    figures["requests"] = await compared(50 if quick else 200, orchestrator)
    figures["requests_added"] = figures["requests"]["added"]
    figures["events_added"] = figures["requests"]["events_added"]
    async with broker(sync_always=True) as server:
        say("swarms: holds")
        connection = await Connection.open(server.url, name="bench-driver")
        with tempfile.TemporaryDirectory(prefix="bench-") as place:
            log = JetStreamLog(connection, service="bench", instance="bench-1")
            figures["holds"] = await hold_race.cost(log, Path(place))
        await connection.close()
    figures["holding_by_plain"] = figures["holds"]["holding_by_plain"]
    figures["allocator"] = _allocator()
    figures["allocator_windows"] = max(figures["allocator"].values())
    return figures


def orchestrator(url: str, folder: Path) -> Worker:
    """The real one; `folder` is for what it keeps of its own."""
    port = free_port()
    env = {
        "SWARM_NATS_URL": url,
        "SWARM_HEALTH_PORT": str(port),
        "SWARM_REQUIRE_SYNC_ALWAYS": "false",  # it would ask the monitor; the broker does sync
        "SWARM_DATA_DIR": str(folder),
    }
    return Worker(("-m", "services.meta_orchestrator"), env, f"http://127.0.0.1:{port}/health/ready")


# -- routing and ruling -----------------------------------------------------------------------------------------------


async def _with_many(url: str, folder: Path, *, intents: int, conflicts: int) -> Figures:
    connection = await Connection.open(url, name="bench-driver")
    try:
        log = JetStreamLog(connection, service="bench", instance="bench-1")
        say(f"swarms: {PERSONAS} personas")
        await wide(log, SWARMS, PERSONAS)
        evidence = await grounds(log)
        async with processes([orchestrator(url, folder)]):
            began = time.monotonic()
            await _routed(log, connection, 1, 1.0, "first")
            first_s = time.monotonic() - began
            say("swarms: intents")
            figures: Figures = {"bare": await _bare(url, intents), "first_route_s": round(first_s, 1)}
            figures["batch"] = latency(await _batches(log, intents))
            figures["routing"] = await _routed(log, connection, intents, PER_S, "i")
            say("swarms: conflicts")
            ended = Arrivals(connection, class_filter("conflict.resolved"))
            await ended.open()
            for n in range(conflicts):
                due = time.monotonic() + 0.2
                for message in rivals(n, evidence):
                    await log.commit([message])
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await ended.until(conflicts)
            figures["ruling"] = latency(await _rulings(log))
    finally:
        await connection.close()
    figures["routing_p95_ms"] = figures["routing"]["p95_ms"]
    figures["routing_bare_p95_ms"] = figures["bare"]["p95_ms"]
    figures["batch_p95_ms"] = figures["batch"]["p95_ms"]
    figures["ruling_p95_ms"] = figures["ruling"]["p95_ms"]
    return figures


async def _routed(log: JetStreamLog, connection: Connection, count: int, per_s: float, prefix: str) -> Figures:
    """So many intents at that pace: until each is routed, and assigned."""
    routed = Arrivals(connection, class_filter("intent.assigned"))
    await routed.open()
    start = time.monotonic()
    for n in range(count):
        await asyncio.sleep(max(0.0, start + n / per_s - time.monotonic()))
        await log.commit([asked(f"{prefix}-{n}", n, SWARMS)])
    await routed.until(count)
    stamps: dict[str, dict[str, float]] = {}
    for recorded in await log.read(tuple(map(class_filter, ("intent.submitted", "intent.routed", "intent.assigned")))):
        event = recorded.event
        if isinstance(event, IntentEvent) and event.intent_id.startswith(f"{prefix}-"):
            stamps.setdefault(event.intent_id, {})[class_of(event)] = recorded.stored_at.timestamp()
    whole = [one for one in stamps.values() if len(one) == 3]
    if len(whole) != count:
        raise CannotMeasure(f"{len(whole)} of {count} intents were submitted, routed and assigned")
    since = [one["intent.assigned"] - one["intent.submitted"] for one in whole]
    figures = latency([one["intent.routed"] - one["intent.submitted"] for one in whole])
    return {**figures, "per_s": per_s, "assigned": latency(since)}


async def _batches(log: JetStreamLog, count: int) -> list[float]:
    """Seconds that a commit of two events takes, at the same pace."""
    took = []
    start = time.monotonic()
    for n in range(count):
        await asyncio.sleep(max(0.0, start + n / PER_S - time.monotonic()))
        pair = [said(ObservationRecorded(swarm="bench", persona="ada", text=f"{side} {n}")) for side in "ab"]
        began = time.perf_counter()
        await log.commit(pair)
        took.append(time.perf_counter() - began)
    return took


async def _bare(url: str, count: int) -> Figures:
    """nats-py alone at the same pace: fetch one, publish one; by the broker's stamps too."""
    connection = await nats.connect(url, name="bench-bare")
    js = connection.jetstream()
    config = {"name": "BARE", "subjects": ["bare.>"], "storage": "file", "compression": "s2"}
    await connection.request("$JS.API.STREAM.CREATE.BARE", json.dumps(config).encode())
    body = b"x" * 600
    worker = Worker((*MODULE, "bare", "verify", url, "bare.", "1"))
    async with processes([worker]):
        start = time.monotonic()
        for n in range(count):
            await asyncio.sleep(max(0.0, start + n / PER_S - time.monotonic()))
            await js.publish(f"bare.proposal.created.alpha.p.n{n}.core", body)
        said: dict[str, list[float]] = {}
        reading = await js.pull_subscribe("bare.>", stream="BARE")
        until = time.monotonic() + WAIT_S
        while sum(len(ends) == 2 for ends in said.values()) < count:
            if time.monotonic() > until:
                raise CannotMeasure("nats-py alone passed on less than it was sent")
            for message in await reading.fetch(256, timeout=WAIT_S):
                said.setdefault(message.subject.split(".")[5], []).append(message.metadata.timestamp.timestamp())
                await message.ack()
    await connection.close()
    return latency([abs(end - begin) for begin, end in said.values()])


async def _rulings(log: JetStreamLog) -> list[float]:
    """From the second side to the ruling, by target."""
    at: dict[str, float] = {}
    sides: dict[str, list[str]] = {}
    took: list[float] = []
    wanted = ("proposal.verified", "conflict.raised", "conflict.resolved")
    for recorded in await log.read(tuple(map(class_filter, wanted))):
        match recorded.event:
            case ProposalVerified(proposal_id=name):
                at[name] = recorded.stored_at.timestamp()
            case ConflictRaised(target_id=target, sides=there):
                sides[target] = [side.proposal_id for side in there]
            case ConflictResolved(target_id=target):
                took.append(recorded.stored_at.timestamp() - max(at[name] for name in sides[target]))
            case _:
                pass
    return took


# -- sharing ----------------------------------------------------------------------------------------------------------


def _allocator() -> dict[str, int]:
    """Windows until a burst has what is due to it: calm, with a liar, and with meta-orchestrators that die."""
    say("swarms: a burst")
    liar = NAMES[7]
    return {
        "calm": _windows(None, dying=False),
        "with_a_liar": _windows(liar, dying=False),
        "dying": _windows(None, dying=True),
    }


def _windows(liar: str | None, *, dying: bool) -> int:
    world = World(bursts, lies=liar)
    world.live(BURST_AT, dying=dying)
    for window in range(BURST_AT, LIVED):
        world.live(1, dying=dying)
        if broken := world.violations():
            raise CannotMeasure(f"the shares are not conserved: {broken[0]}")
        due = entitled(bursts, window, liar)
        piece = {name: bursts(name, window) * STEP_S // 60 for name in NAMES}  # nobody spends less than a grant
        if all(world.spent[window][name] >= NEARLY * (due[name] - piece[name]) for name in due):
            return window - BURST_AT + 1
    raise CannotMeasure(f"the burst has not what is due to it after {LIVED - BURST_AT} windows")
