"""Kill, stall and cut off the containers of a mesh under load; the log is judged as after any storm.

Faults come from inside a container or from the engine's network, so that the restart policy is what brings back who was killed
(`docker kill` would be taken for a person's wish).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from services.governor.service import limits_of
from services.supervisor.secrets.keys import write_private
from shared import configuration
from shared.contracts.services import SERVICES
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from tests.chaos.containers import STALL_S, Compose, ComposeFailed, ContainerSink
from tests.chaos.contending import Contending
from tests.chaos.judge import Report, Say, judge, rest
from tests.chaos.load import Load
from tests.chaos.storm import environment

BACK_S = 180.0


async def open_log(compose: Compose) -> JetStreamLog:
    """A connection for the judge and the load, with the key that declares streams."""
    seed = compose.folder / "bootstrap.nk"
    write_private(seed, await compose.held("bootstrap", "bootstrap.nk"))
    connection = await Connection.open(compose.nats_url, name="judge", seed_file=seed, inbox_prefix="_INBOX_bootstrap")
    # where several keep the log, one of them may lag: what its leader has is read
    return JetStreamLog(connection, service="judge", instance="judge-1", replicated=len(compose.brokers) > 1)


async def container_storm(
    compose: Compose, *, seed: int, minutes: float, say: Say, scale: Mapping[str, int] | None = None
) -> Report:
    """The whole storm on a mesh that is up, with the settings of `environment`; at half time services are scaled."""
    dice = random.Random(seed)
    report = Report(seed=seed, minutes=minutes)
    sink, log = ContainerSink(compose), await open_log(compose)
    tokens = {name: await compose.held("cli", f"{name}-token") for name in ("operator", "approver")}
    load = Load(compose.api_url, log, sink, seed, **tokens)
    await load.begin()
    contending = Contending(load)
    await contending.begin()
    before = await compose.state()
    async with asyncio.TaskGroup() as always:
        person = always.create_task(load.approve())
        async with asyncio.TaskGroup() as group:
            clients = (load.observe, load.families, load.propose)
            for client in (*clients, contending.ask, contending.contend, contending.limit):
                group.create_task(client())
            report.struck = await _strike(compose, dice, minutes * 30, say)
            for service, count in (scale or {}).items():
                say(f"{service} scaled to {count}")
                await compose.scale(service, count)
            for fault, times in (await _strike(compose, dice, minutes * 30, say)).items():
                report.struck[fault] = report.struck.get(fault, 0) + times
            load.stop.set()
        say("no more faults; waiting until everything has come to rest")
        began = time.monotonic()
        records = await rest(log, say)
        report.rest_s = round(time.monotonic() - began, 1)
        person.cancel()
    after = await compose.state()
    for name, state in after.items():
        ended = state.restarts - (before[name].restarts if name in before else 0) - _killed(report, compose.name, name)
        if ended > 0:
            report.died[name] = ended
    workspace = compose.folder / "workspace"
    await compose.run("cp", "actuator:/workspace", str(workspace))
    await sink.look()
    limits = limits_of(configuration.load(environment("sink"), process="governor"))
    judge(report, records, load, contending, sink, Path(workspace), limits, replicated=len(compose.brokers) > 1)
    await load.close()
    await log.connection.close()
    return report


def _killed(report: Report, project: str, container: str) -> int:
    return report.struck.get(f"kill {container.removeprefix(f'{project}-')}", 0)


async def kill(compose: Compose, service: str, index: int) -> bool:
    """kill -9 of all in the container; its init ends with it, and the restart policy starts it anew."""
    return await compose.signal(service, "KILL", index=index)


async def stall(compose: Compose, service: str, index: int) -> bool:
    """SIGSTOP for longer than a lease or an acknowledgement lasts."""
    if not await compose.signal(service, "STOP", index=index):
        return False
    await asyncio.sleep(STALL_S)
    return await compose.signal(service, "CONT", index=index)


async def cut(compose: Compose, service: str, index: int) -> bool:
    """Off the bus, and on it again: nothing passes, and nobody is told."""
    container, network = f"{compose.name}-{service}-{index}", f"{compose.name}_bus"
    if not await _docker("network", "disconnect", "--force", network, container):
        return False
    await asyncio.sleep(STALL_S)
    return await _docker("network", "connect", "--alias", service, network, container)


FAULTS = {"kill": kill, "stall": stall, "cut": cut}


async def _docker(*words: str) -> bool:
    process = await asyncio.create_subprocess_exec(
        "docker", *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0


async def _strike(compose: Compose, dice: random.Random, seconds: float, say: Say) -> dict[str, int]:
    """Every fault on every container in random order, at random moments; how often each struck. All healthy afterwards."""
    struck: Counter[str] = Counter()
    until = time.monotonic() + seconds
    pending: list[tuple[str, str, int]] = []
    while time.monotonic() < until:
        await asyncio.sleep(min(0.5 + dice.random() * 3.0, max(0.0, until - time.monotonic())))
        if not pending:
            pending = [
                (fault, name, index)
                for fault in FAULTS
                for name in (*SERVICES, *(() if fault == "cut" else ("minio", *compose.brokers)))
                for index in range(1, compose.counts.get(name, 1) + 1)
            ]
            dice.shuffle(pending)
        fault, name, index = pending.pop()
        if await FAULTS[fault](compose, name, index):
            struck[f"{fault} {name}-{index}"] += 1
            say(f"{fault} {name}-{index}")
    await healthy(compose)
    return dict(struck)


async def healthy(compose: Compose, *, within_s: float = BACK_S) -> None:
    """Returns when every container that stays is healthy. Raises `ComposeFailed`, naming those that are not."""
    deadline = time.monotonic() + within_s
    while True:
        late = [name for name, found in (await compose.state()).items() if not found.well]
        if not late:
            return
        if time.monotonic() > deadline:
            raise ComposeFailed(f"not healthy after {within_s:g} s: {', '.join(late)}")
        await asyncio.sleep(1)
