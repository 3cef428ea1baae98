"""Four hops, proposal.created → verified → authorized → executed, each stage its own process: ours against bare nats-py.

A driver sends proposals on a schedule and takes in what comes out of the last hop. Latency counts from the moment a proposal was
due, so a slow pipeline cannot hide by slowing the driver. All sides run on one broker and are measured in turns, because a shared
machine is never twice the same. Peak: all proposals at once; out per second between the first and the last; median of the turns.
The ratio of two peaks is the median of the ratios within each turn. Sides that are five times slower get a fifth of the proposals then.

- `kernel`: our log, shell and handling around deciders that only pass on, guarded as the real ones are, and read nothing.
- `services`: the real verifier, policy gate and actuator (which claims before it acts: one commit more), and the governor that gives it
  lots of actions; in the same turns as the bare ones, on a broker of their own.
- `bare_fetch_1`, `bare_fetch_64`: nats-py as it comes, no headers, nothing decoded, nothing guarded.

- `hops_p95_ratio`: our p95 at 100 per s / that of bare `fetch(1)`, the usual way at low rates.
- `hops_peak_per_s`, `hops_peak_ratio`: our peak, and ours / that of the better of the two bare ones.
The same for the real services as `services_…`, and under `sync_always`, the mesh's default, as `durable_…`. Every proposal has a target,
parameters and evidence of its own. `costs` of a side are those of one proposal at its peak: processor time, which other work on the machine
changes little; requests to the broker by service; how often the policies' answer was known (`memo_hit_rate`).
`services_cpu_ratio`: the processor time of the cheaper bare one / that of the services.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import NamedTuple

from scripts.benchmarks.costs import ON_THE_WAY, Counting, of_each
from scripts.benchmarks.hop_worker import STAGES
from scripts.benchmarks.measure import Figures, broker, latency, percentile, run_async, say
from scripts.benchmarks.pipeline import Driver, Side, Worker, grounds, processes
from services.supervisor.running.ports import free_port
from shared.contracts.events import Signer, SignersChanged
from shared.contracts.ids import EVERYONE
from shared.crypto import new_seed, public_key, sign_signers
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.signers import announce

KEYS = (
    "hops_p95_ratio",
    "hops_peak_per_s",
    "hops_peak_ratio",
    "services_p95_ratio",
    "services_peak_ratio",
    "services_cpu_ratio",
    "services_requests",
    "services_memo_hit_rate",
    "durable_services_p95_ratio",
    "durable_services_peak_ratio",
    "durable_services_cpu_ratio",
)
BARE_1 = Side("bare_fetch_1", "BARE1", "bare1.", slower=5)
BARE_64 = Side("bare_fetch_64", "BARE64", "bare64.")
MODULE = ("-m", "scripts.benchmarks.hop_worker")


class Effort(NamedTuple):
    """How much is measured: `rates` are pairs of proposals a second and how many, `turns` times; `at_once` of them `peaks` times."""

    rates: tuple[tuple[int, int], ...]
    turns: int
    peaks: int
    at_once: int


QUICK = Effort(rates=((1, 1), (100, 70), (1000, 300)), turns=2, peaks=5, at_once=1000)
WHOLE = Effort(rates=((1, 10), (100, 1000), (1000, 3000)), turns=3, peaks=9, at_once=5000)


def run(*, quick: bool) -> Figures:
    """All sides and rates in both durability modes; `quick` has fewer proposals."""
    return run_async(_run(quick))


async def _run(quick: bool) -> Figures:
    figures: Figures = {}
    effort = QUICK if quick else WHOLE
    for sync_always in (False, True):
        mode = "sync_always" if sync_always else "sync_default"
        async with broker(sync_always=sync_always) as server:
            say(f"hops: {mode}, kernel and bare")
            sides = (Side("kernel"), BARE_1, BARE_64)
            figures[mode] = await turns(server.url, sides, _kernel(server.url), effort)
        figures[f"{mode}_services"] = await of_services(sync_always, effort)
    figures |= _ratios(figures["sync_default"], "kernel", "hops")
    figures |= _ratios(figures["sync_default_services"], "services", "services")
    figures |= _ratios(figures["sync_always"], "kernel", "durable_hops")
    return figures | _ratios(figures["sync_always_services"], "services", "durable_services")


async def of_services(sync_always: bool, effort: Effort) -> Figures:
    """The real services and both bare pipelines, with the costs of each."""
    say(f"hops: {'sync_always' if sync_always else 'sync_default'}, services and bare")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with broker(sync_always=sync_always, more=f'http: "127.0.0.1:{port}"') as server:
            assert server.process is not None
            monitor = f"http://127.0.0.1:{port}"
            ours = await services(server.url, Path(folder), monitor=monitor if sync_always else "")
            workers = [*ours, *bare(server.url, BARE_1, 1), *bare(server.url, BARE_64, 64)]
            sides = (Side("services", slower=2), BARE_1, BARE_64)
            return await turns(server.url, sides, workers, effort, broker_pid=server.process.pid, monitor=monitor)


def _ratios(sides: Figures, name: str, prefix: str) -> Figures:
    ours, bare_1, bare_64 = sides[name], sides[BARE_1.name], sides[BARE_64.name]
    pairs = zip(ours["peaks_per_s"], bare_1["peaks_per_s"], bare_64["peaks_per_s"], strict=True)
    ratios = [mine / max(theirs) for mine, *theirs in pairs]
    costs: Figures = {}
    if "costs" in ours:
        cheaper = min(bare_1["costs"]["cpu_us"], bare_64["costs"]["cpu_us"])
        costs = {
            f"{prefix}_cpu_ratio": round(cheaper / ours["costs"]["cpu_us"], 2),
            f"{prefix}_requests": ours["costs"]["requests"],
            f"{prefix}_memo_hit_rate": ours["costs"]["memo_hit_rate"],
        }
    return costs | {
        f"{prefix}_p95_ratio": round(ours["at_100_per_s"]["p95_ms"] / bare_1["at_100_per_s"]["p95_ms"], 2),
        f"{prefix}_peak_per_s": ours["peak_per_s"],
        f"{prefix}_peak_ratio": round(percentile(ratios, 0.5), 2),
    }


async def turns(
    url: str,
    sides: tuple[Side, ...],
    workers: list[Worker],
    effort: Effort,
    *,
    replicas: int = 1,
    broker_pid: int = 0,
    monitor: str = "",
) -> Figures:
    """All sides on one broker, or on three; by side what came out. With `monitor`, also what it cost."""
    connection = await Connection.open(url, name="bench-driver")
    try:
        await grounds(JetStreamLog(connection, service="bench", instance="bench-1"))
        for side in sides:
            if side.prefix:
                config = {
                    "name": side.stream,
                    "subjects": [f"{side.prefix}>"],
                    "storage": "file",
                    "compression": "s2",
                    "num_replicas": replicas,
                }
                await connection.request(f"$JS.API.STREAM.CREATE.{side.stream}", json.dumps(config).encode())
        async with processes(workers) as pids:
            drivers = [await Driver(connection, side).open() for side in sides]
            counting = Counting(workers, pids, broker_pid, monitor) if monitor else None
            return await _measure(drivers, effort, counting)
    finally:
        await connection.close()


async def _measure(drivers: list[Driver], effort: Effort, counting: Counting | None) -> Figures:
    for driver in drivers:
        await driver.at_once(100)  # warm-up
    figures: Figures = {driver.side.name: {} for driver in drivers}
    for per_s, count in effort.rates:
        seconds: dict[str, list[float]] = {driver.side.name: [] for driver in drivers}
        for _ in range(effort.turns):
            for driver in drivers:
                seconds[driver.side.name] += await driver.at_rate(per_s, count)
        for name, values in seconds.items():
            figures[name][f"at_{per_s}_per_s"] = latency(values)
    peaks: dict[str, list[float]] = {driver.side.name: [] for driver in drivers}
    costs: dict[str, list[Figures]] = {driver.side.name: [] for driver in drivers}
    for _ in range(effort.peaks):
        for driver in drivers:
            count, name = effort.at_once // driver.side.slower, driver.side.name
            before = await counting.now() if counting else None
            peaks[name].append(await driver.at_once(count))
            if counting and before:
                costs[name].append(of_each(before, await counting.now(), count, _whose(driver.side)))
    for name, values in peaks.items():
        figures[name]["peak_per_s"] = round(percentile(values, 0.5))
        figures[name]["peaks_per_s"] = [round(value) for value in values]
    for name, each in costs.items():
        if each:
            figures[name]["costs"] = sorted(each, key=lambda cost: cost["cpu_us"])[len(each) // 2]
    return figures


def _whose(side: Side) -> list[str]:
    """The processes a side's proposals go through."""
    if not side.prefix:
        return [*ON_THE_WAY, "governor"]
    return [f"{side.prefix}{stage}" for stage in STAGES]


def _kernel(url: str) -> list[Worker]:
    """Three processes each for our kernel and for the two bare ones."""
    ours = [Worker((*MODULE, "kernel", stage, url, "", "0")) for stage in STAGES]
    return ours + bare(url, BARE_1, 1) + bare(url, BARE_64, 64)


def bare(url: str, side: Side, batch: int) -> list[Worker]:
    """Three processes of nats-py as it comes."""
    return [
        Worker((*MODULE, "bare", stage, url, side.prefix, str(batch)), name=f"{side.prefix}{stage}") for stage in STAGES
    ]


async def services(url: str, folder: Path, *, replicas: int = 1, monitor: str = "") -> list[Worker]:
    """The real three, with a verdict key of their own that the log says is good, and the governor that gives the actuator its lots.

    With `monitor`, the broker's monitoring pages, as where each write is synced."""
    seed, root = new_seed(), new_seed()
    draft = SignersChanged(
        swarm=EVERYONE, persona=EVERYONE, number=1, signers=(Signer(key=public_key(seed)),), root="", signature=""
    )
    connection = await Connection.open(url, name="bench-bootstrap")
    await announce(JetStreamLog(connection, service="bootstrap", instance="bootstrap-1"), sign_signers(root, draft))
    await connection.close()
    (folder / "verdict.seed").write_text(seed)
    env = {
        "SWARM_NATS_URL": url,
        "SWARM_STORE_REPLICAS": str(replicas),
        "SWARM_REQUIRE_SYNC_ALWAYS": "true" if monitor else "false",
        "SWARM_NATS_MONITOR_URL": monitor,
        "SWARM_POLICY_ENVIRONMENT": "bench",
        **{f"SWARM_{scope}_ACTIONS_PER_MINUTE": str(10**8) for scope in ("PERSONA", "SWARM", "GLOBAL")},
        "SWARM_PERSONA_OPEN_PROPOSALS": str(10**6),
        "SWARM_VERDICT_SEED_FILE": str(folder / "verdict.seed"),
        "SWARM_VERDICT_ROOT": public_key(root),
        "SWARM_DATA_DIR": str(folder),
        "SWARM_WORKSPACE": str(folder / "workspace"),
    }
    workers = []
    for name in ("governor", "verifier", "policy_gate", "actuator"):
        port = free_port()
        ready = f"http://127.0.0.1:{port}/health/ready"
        workers.append(Worker(("-m", f"services.{name}"), {**env, "SWARM_HEALTH_PORT": str(port)}, ready, name))
    return workers
