"""What a storm does to a mesh: each fault is one coroutine on one process, which undoes what it did before it returns.

A fault that cannot be had on this machine says why, once, and the storm goes on without it.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from services.supervisor import plan
from services.supervisor.mesh import Mesh
from shared.contracts.catalog import LOG_CLASSES, class_filter
from shared.contracts.ids import fresh_id
from shared.log.client.wire import write_headers
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable
from tests.chaos.load import ROOT, SWARM
from tests.chaos.proxy import Proxy

DISK_BYTES = 2**30
CLOCK_OFF_S = 3600
LATENCY_S = 0.5


class Ground(msgspec.Struct, kw_only=True):
    """What faults act on. `proxies` stand between the services and each broker; `stall_s` is twice the time after which others take
    a process for gone."""

    mesh: Mesh
    proxies: tuple[Proxy, ...]
    log: JetStreamLog
    dice: random.Random
    stall_s: float
    poisoned: int = 0


Strike = Callable[[Ground, str], Awaitable[bool]]
"""Does it to the process of that name; false when it was not there to be hit."""


async def kill(ground: Ground, name: str) -> bool:
    """kill -9."""
    return await ground.mesh.kill(name) is not None


async def stall(ground: Ground, name: str) -> bool:
    """SIGSTOP for longer than its lease or acknowledgement lasts, then go on as if nothing had been."""
    stopped = await ground.mesh.kill(name, signal.SIGSTOP)
    if stopped is None:
        return False
    await asyncio.sleep(ground.stall_s)
    if ground.mesh.pid(name) == stopped:
        await ground.mesh.kill(name, signal.SIGCONT)
    return True


async def partition(ground: Ground, name: str) -> bool:
    """Nothing passes between a service and the broker, then either the connections are gone or all of it arrives late."""
    for proxy in ground.proxies:
        proxy.of(name).passing.clear()
    try:
        await asyncio.sleep(ground.stall_s * ground.dice.random())
        if ground.dice.random() < 0.5:
            for proxy in ground.proxies:
                proxy.cut(name)
    finally:
        for proxy in ground.proxies:
            proxy.of(name).passing.set()
    return True


async def latency(ground: Ground, name: str) -> bool:
    """Half a second each way between a service and the broker."""
    for proxy in ground.proxies:
        proxy.of(name).delay_s = LATENCY_S
    try:
        await asyncio.sleep(ground.stall_s)
    finally:
        for proxy in ground.proxies:
            proxy.of(name).delay_s = 0.0
    return True


async def clock(ground: Ground, name: str) -> bool:
    """The process is started with a clock an hour off, and after a while with the right one."""
    child = ground.mesh.children[name]
    right = child.spec
    sign = ground.dice.choice("+-")
    wrong = {"LD_PRELOAD": _faketime(), "FAKETIME": f"{sign}{CLOCK_OFF_S}s", "DONT_FAKE_MONOTONIC": "1"}
    child.spec = msgspec.structs.replace(right, env={**right.env, **wrong})
    try:
        child.send(signal.SIGKILL)
        await asyncio.sleep(ground.stall_s)
    finally:
        child.spec = right
        child.send(signal.SIGKILL)
    return True


async def disk(ground: Ground, _: str) -> bool:
    """The broker's disk is full for a while."""
    folder = ground.mesh.data / "nats"
    ballast = folder / "ballast"
    try:
        await asyncio.to_thread(_fill, ballast)
        await asyncio.sleep(ground.stall_s)
    finally:
        await asyncio.to_thread(ballast.unlink, True)
    return True


async def poison(ground: Ground, _: str) -> bool:
    """One event of every class that no service of this version can read, where they all look: bytes, types, times, versions."""
    for name in LOG_CLASSES:
        body, changed = ground.dice.choice(_POISONS)
        event_id = fresh_id()
        headers = {
            "ce-specversion": "1.0",
            "ce-id": event_id,
            "ce-type": name,
            "ce-source": "poison",
            "ce-time": "2026-01-01T00:00:00Z",
            "ce-correlationid": event_id,
            "Nats-Msg-Id": event_id,
            **changed,
        }
        with suppress(LogUnavailable):
            ground.log.connection.send(_subject(name), body, lines=write_headers(headers))
            ground.poisoned += 1
    return True


_POISONS: list[tuple[bytes, dict[str, str]]] = [
    (b"{}", {}),
    (b"\xff\xfe\x00", {}),
    (b"", {}),
    (b"[" * 2000, {}),
    (b'{"swarm": "chaos", "persona": {"of": "a later release"}}', {"ce-dataschema": "urn:later"}),
    (b"{}", {"ce-time": "0001-01-01T00:00:00+23:59"}),
    (b"{}", {"ce-id": "i" * 500}),
    (b"{}", {"ce-type": "class.later", "ce-specversion": "2.0"}),
]


def _subject(name: str) -> str:
    """A subject of that class the storm's own services look at."""
    filled = class_filter(name).replace("*", SWARM, 1).replace("*", ROOT, 1)
    return filled.replace("*", "poison")


FAULTS: dict[str, Strike] = {
    "kill": kill,
    "stall": stall,
    "partition": partition,
    "latency": latency,
    "clock": clock,
    "disk": disk,
    "poison": poison,
}


EVERYTHING = (*FAULTS, "rollback")
"""All that can be asked of a storm; an older store is put back at its end."""


def targets(fault: str, names: Iterable[str]) -> list[str]:
    """Whom of the processes a fault can hit."""
    brokers = [name for name in names if plan.is_broker(name)]
    services = [name for name in names if name not in (*brokers, plan.S3)]
    match fault:
        case "disk" | "poison":
            return [plan.NATS]
        case "partition" | "latency" | "clock":
            return services
        case _:
            # Of several brokers one at a time: tests/chaos/cluster.py.
            return [*services, plan.S3, *(brokers if len(brokers) == 1 else [])]


def why_not(fault: str, brokers: int = 1) -> str:
    """Why a fault cannot be had here; empty when it can."""
    if fault == "clock" and not _faketime():
        return "no libfaketime here (Debian: apt-get install faketime)"
    if fault == "disk" and (os.geteuid() != 0 or shutil.which("mount") is None):
        return "a small disk needs root and mount"
    if fault in ("disk", "rollback") and brokers > 1:
        return "it is done to one broker that keeps the log alone"
    return ""


def small_disk(folder: Path) -> bool:
    """Put the folder on a disk of its own of `DISK_BYTES`; false where that cannot be done."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    return subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode == 0


def take_away(folder: Path) -> None:
    """Undo `small_disk`, and leave what is on it where it was."""
    kept = folder.with_name(f"{folder.name}-kept")
    shutil.copytree(folder, kept)
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()
    kept.rename(folder)


def _faketime() -> str:
    return next((str(file) for file in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "")


def _fill(ballast: Path) -> None:
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(2**20)):
            pass
