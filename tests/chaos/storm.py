"""Kill, stall, cut off and mislead everything in turn under load, let it come to rest, and judge it by the log alone (`judge.py`)."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from services.governor.service import limits_of
from services.supervisor import plan
from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from services.supervisor.running.ports import choose
from shared import configuration
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from tests.chaos import cluster
from tests.chaos.contending import Contending
from tests.chaos.faults import FAULTS, Ground, small_disk, take_away, targets, why_not
from tests.chaos.judge import Report, Say, judge, rest
from tests.chaos.load import APPROVER, OPERATOR, Load, Sink
from tests.chaos.proxy import Proxy
from tests.chaos.rollback import roll_back, settle


def environment(host: str) -> dict[str, str]:
    """Settings under which everything happens often enough to be killed in the middle of; `host` (with port) is the sink's."""
    return {
        "SWARM_OUTBOUND_ALLOW": host,
        "SWARM_OUTBOUND_ALLOW_PRIVATE": host,
        "SWARM_GOVERNOR_DRAIN_S": "5",
        "SWARM_GOVERNOR_GRANT_TTL_S": "20",
        "SWARM_SNAPSHOT_EVERY_THOUGHTS": "5",
        "SWARM_GOVERNOR_RECONCILE_EVERY_S": "2",
        # One persona proposes five a second, and a lot whose holder was killed is charged in full.
        "SWARM_PERSONA_ACTIONS_PER_MINUTE": "900",
        "SWARM_SWARM_ACTIONS_PER_MINUTE": "1200",
        "SWARM_GLOBAL_ACTIONS_PER_MINUTE": "4000",
        "SWARM_INTENTS_LEASE_S": "8",
        # Who always loses is stopped without a conflict, and there would be none left.
        "SWARM_ARBITRATION_LOSSES_PER_HOUR": "10000",
    }


async def storm(
    data: Path,
    *,
    seed: int,
    minutes: float,
    faults: Sequence[str] = ("kill",),
    replicas: int = 1,
    brokers: int = 1,
    sync_always: bool = True,
    say: Say = lambda line: None,
) -> Report:
    """Run the whole storm on a fresh mesh in `data`, with `replicas` instances of every service, two meta-orchestrators at least, and so
    many brokers."""
    dice = random.Random(seed)
    keys = data / "http-keys.toml"
    data.mkdir(parents=True, exist_ok=True)
    keys.write_text(_key(OPERATOR, "operator", ["read", "control"]) + _key(APPROVER, "ann", ["read", "approve"]))
    report = Report(seed=seed, minutes=minutes, left_out={n: why for n in faults if (why := why_not(n, brokers))})
    possible = [name for name in faults if name in FAULTS and name not in report.left_out]
    of_brokers = [name for name in faults if name in cluster.FAULTS and name not in report.left_out]
    mounted = "disk" in faults and "disk" not in report.left_out and small_disk(data / "nats")
    if "disk" in faults and not mounted:
        report.left_out.setdefault("disk", "no tmpfs can be mounted here")
    for name, why in report.left_out.items():
        say(f"without {name}: {why}")
    died: Counter[str] = Counter()
    gave_up: Counter[str] = Counter()
    says_away: set[str] = set()

    def hear(name: str, line: str) -> None:
        """Ends nobody brought about; one that said in its last words that the broker is away gave up, and starts again."""
        if '"event": "service_failed"' in line:
            says_away.add(name)
        if plan.is_broker(name) or name == plan.S3 or not line.startswith(f"supervisor: {name} ended ("):
            return
        if "SIGKILL" not in line:
            (gave_up if name in says_away else died)[name] += 1
            say(line)
        says_away.discard(name)

    names = plan.brokers(Options(brokers=brokers))
    ports = choose((*names, *(f"route_{name}" for name in names)), host="127.0.0.1")
    try:
        async with AsyncExitStack() as stack:
            sink = await stack.enter_async_context(Sink())
            proxies = [await stack.enter_async_context(Proxy(ports[name])) for name in names]
            doors = {name: await stack.enter_async_context(Proxy(ports[f"route_{name}"])) for name in names}
            url = ",".join(f"nats://127.0.0.1:{proxy.port}" for proxy in proxies)
            options = Options(
                runners=2,
                replicas=replicas,
                scale={"meta_orchestrator": max(2, replicas)},
                brokers=brokers,
                doors={name: door.port for name, door in doors.items()},
                sync_always=sync_always,
                ports=ports,
                http_keys_file=str(keys),
                env=environment(f"127.0.0.1:{sink.port}") | {"SWARM_NATS_URL": url},
                ready_timeout_s=120,
            )
            settings = configuration.load(options.env)
            async with Mesh(data, options, on_line=hear) as mesh:
                await mesh.wait_ready()
                say(f"ready at {mesh.api_url}")
                log = await _open(mesh)
                load = Load(mesh.api_url, log, sink, seed)
                await load.begin()
                contending = Contending(load)
                await contending.begin()
                ground = Ground(
                    mesh=mesh, proxies=tuple(proxies), log=log, dice=dice, stall_s=2.0 * settings.placement.lease_ttl_s
                )
                async with asyncio.TaskGroup() as always:
                    person = always.create_task(load.approve())
                    async with asyncio.TaskGroup() as group:
                        clients = (load.observe, load.families, load.propose)
                        for client in (*clients, contending.ask, contending.contend, contending.limit):
                            group.create_task(client())
                        striking = group.create_task(_strike(ground, possible, minutes * 60, say))
                        if of_brokers:
                            group.create_task(load.beat())
                            nodes = cluster.Nodes(ground, doors)
                            report.struck = await cluster.strike(nodes, load, of_brokers, minutes * 60, say)
                        report.struck |= await striking
                        await mesh.wait_ready(timeout_s=120)
                        say("no more faults; waiting until everything has come to rest")
                        load.stop.set()
                    began = time.monotonic()
                    records = await rest(log, say)
                    report.rest_s = round(time.monotonic() - began, 1)
                    report.poisoned, report.died, report.gave_up = ground.poisoned, dict(died), dict(gave_up)
                    limits = limits_of(settings)
                    judge(report, records, load, contending, sink, mesh.workspace, limits, replicated=brokers > 1)
                    if "rollback" in faults and "rollback" not in report.left_out:
                        say("an older store is put back under load")
                        report.rolled_back = await roll_back(ground, load)
                        await rest(log, say)
                        await settle(report.rolled_back, ground, load, sink)
                    person.cancel()
                await load.close()
                await log.connection.close()
    finally:
        if mounted:
            await asyncio.to_thread(take_away, data / "nats")
    return report


async def _open(mesh: Mesh) -> JetStreamLog:
    connection = await Connection.open(
        mesh.nats_url, name="judge", seed_file=mesh.key("bootstrap"), inbox_prefix="_INBOX_bootstrap"
    )
    return JetStreamLog(connection, service="judge", instance="judge-1", replicated=mesh.options.brokers > 1)


async def _strike(ground: Ground, faults: Sequence[str], seconds: float, say: Say) -> dict[str, int]:
    """Rounds over all faults on all processes in random order, at random moments; how often each struck."""
    struck: Counter[str] = Counter()
    until = time.monotonic() + seconds
    pending: list[tuple[str, str]] = []

    async def one(fault: str, name: str) -> None:
        if await FAULTS[fault](ground, name):
            struck[f"{fault} {name}"] += 1

    async with asyncio.TaskGroup() as group:
        while faults and time.monotonic() < until:
            await asyncio.sleep(min(0.5 + ground.dice.random() * 3.0, max(0.0, until - time.monotonic())))
            if not pending:
                pending = [(fault, name) for fault in faults for name in targets(fault, ground.mesh.children)]
                ground.dice.shuffle(pending)
            fault, name = pending.pop()
            say(f"{fault} {name}")
            group.create_task(one(fault, name))
    return dict(struck)


def _key(token: str, principal: str, scopes: list[str]) -> str:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f'[[keys]]\nsha256 = "{digest}"\nprincipal = "{principal}"\nscopes = {scopes!r}\n'
