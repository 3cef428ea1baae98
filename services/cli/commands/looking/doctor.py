"""`swarm doctor`: is everything here that the mesh needs, and is the mesh of this data folder well?"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import httpx
import msgspec
import structlog

from services.cli.commands.asking.halting import sentence
from services.cli.commands.looking.quotas import Told, lines
from services.cli.terminal.target import Target
from services.supervisor.mesh import MeshFailed, find_binary
from services.supervisor.plan import S3
from services.supervisor.running.ports import WELL_KNOWN, is_free
from services.supervisor.running.state import Lock, MeshRecord, MeshRunning, identify
from services.supervisor.secrets.keys import seed_file
from services.supervisor.stores.object_store import open_doors
from shared.broker import BOOTSTRAP, inbox_prefix
from shared.log.client.connection import Connection
from shared.log.port import LogUnavailable
from shared.log.streams import drift

MAX_CLOCK_S = 2.0
MIN_FREE_BYTES = 2 * 2**30
PACKAGES = ("nats-py", "msgspec", "litestar", "cedarpy", "qdrant-edge-py", "wordllama")


KINDS = ("orphan", "zombie", "stuck_drain", "expired_grant")
SHOWN = 3
MENDED_WITHIN_S = 60.0
"""Reconciliation comes every few seconds; what it has not mended by then waits for something."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway says of one finding."""

    kind: str
    swarm_id: str
    persona_id: str
    at: datetime
    reason: str


class Disorder(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway says of reconciliation."""

    open: tuple[Found, ...] = ()
    mended: tuple[Found, ...] = ()


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """What a service says of itself."""

    ready: bool
    problems: dict[str, str] = {}
    warnings: dict[str, str] = {}


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """`ok` None: it could not be looked at, and that is no fault."""

    name: str
    ok: bool | None
    detail: str


async def examine(target: Target) -> list[Check]:
    """Every check of this machine and its mesh, in the order to mend them."""
    checks = [_python(), *[await _binary(name) for name in ("nats-server", "weed")], _packages(), _disk(target.data)]
    record = target.record
    if record is None or not _is_running(target.data):
        checks += [_port(name, port) for name, port in WELL_KNOWN.items()]
        return [*checks, Check(name="mesh", ok=None, detail=f"none runs on {target.data}; `swarm up` starts one")]
    checks += [Check(name="mesh", ok=True, detail=f"runs on {record.data}, pid {record.pid}"), _processes(record)]
    async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
        checks += [await _durability(client, record), await _clock(client, record), *await _readiness(client, record)]
    return [*checks, await _object_store(record), await _streams(record), *await told(target, record.api_url)]


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check(name="python", ok=sys.version_info >= (3, 11), detail=f"{found} (3.11 or newer)")


async def _binary(name: str) -> Check:
    try:
        path = find_binary(name)
        argument = "--version" if name == "nats-server" else "version"
        process = await asyncio.create_subprocess_exec(
            path, argument, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(10):
            out, _ = await process.communicate()
        return Check(
            name=name, ok=process.returncode == 0, detail=f"{out.decode(errors='replace').strip()[:80]} ({path})"
        )
    except (MeshFailed, OSError, TimeoutError) as error:
        return Check(name=name, ok=False, detail=str(error) or "does not answer")


def _packages() -> Check:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check(name="packages", ok=False, detail=f"missing {', '.join(missing)}; install the [local] extra")
    return Check(name="packages", ok=True, detail=", ".join(found))


def _disk(data: Path) -> Check:
    here = next(p for p in (data.absolute(), *data.absolute().parents) if p.exists())
    free = shutil.disk_usage(here).free
    writable = os.access(here, os.W_OK)
    detail = f"{free / 2**30:.1f} GiB free at {here}" + ("" if writable else ", but it cannot be written")
    return Check(name="disk", ok=writable and free >= MIN_FREE_BYTES, detail=detail)


def _port(name: str, port: int) -> Check:
    if is_free("127.0.0.1", port):
        return Check(name=f"port {port}", ok=True, detail=f"free for {name}")
    return Check(name=f"port {port}", ok=None, detail=f"in use; the mesh takes a free one for {name}")


def _is_running(data: Path) -> bool:
    if not data.is_dir():
        return False
    try:
        Lock(data).release()
    except MeshRunning:
        return True
    return False


def _processes(record: MeshRecord) -> Check:
    gone = [name for name, p in record.processes.items() if identify(p.pid) is None]
    restarted = [f"{name} {count}x" for name, count in record.restarts.items() if count]
    detail = f"{len(record.processes)} run" + (f", restarted: {', '.join(restarted)}" if restarted else "")
    return Check(name="processes", ok=not gone, detail=f"gone: {', '.join(gone)}" if gone else detail)


async def _durability(client: httpx.AsyncClient, record: MeshRecord) -> Check:
    try:
        pages = [(await client.get(f"{url}/jsz")).json() for url in record.monitor_url.split(",")]
        always = all(page.get("config", {}).get("sync_always", False) for page in pages)
    except (httpx.HTTPError, ValueError) as error:
        return Check(name="sync_always", ok=False, detail=f"the broker does not answer: {error}")
    said = "every acknowledged message is on disk" if always else "a power failure may lose acknowledged messages"
    return Check(name="sync_always", ok=bool(always), detail=said)


async def _clock(client: httpx.AsyncClient, record: MeshRecord) -> Check:
    try:
        off = 0.0
        for url in record.monitor_url.split(","):
            now = (await client.get(f"{url}/varz")).json()["now"]
            off = max(off, abs((datetime.fromisoformat(now) - datetime.now(UTC)).total_seconds()))
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return Check(name="clock", ok=False, detail=f"the broker does not say: {error}")
    return Check(name="clock", ok=off <= MAX_CLOCK_S, detail=f"{off:.2f} s from the broker's (limit {MAX_CLOCK_S:g} s)")


async def _readiness(client: httpx.AsyncClient, record: MeshRecord) -> list[Check]:
    async def one(name: str, port: int) -> tuple[str, Readiness | str]:
        try:
            answer = await client.get(f"http://127.0.0.1:{port}/health/ready")
            return name, msgspec.json.decode(answer.content, type=Readiness)
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            return name, f"does not answer: {error or type(error).__name__}"

    ports = {name.removeprefix("health_"): p for name, p in record.ports.items() if name.startswith("health_")}
    return readiness(dict(await asyncio.gather(*(one(n, p) for n, p in ports.items() if n in record.processes))))


def readiness(said: Mapping[str, Readiness | str]) -> list[Check]:
    """One check a service, of what it says of itself (or why it says nothing); and one of the store, which is all of theirs."""
    checks, held = [], ""
    for name, one in said.items():
        if isinstance(one, str):
            checks.append(Check(name=name, ok=False, detail=one))
            continue
        held = one.warnings.get("held_back", held)
        told = [f"{about}: {what}" for about, what in one.warnings.items() if about != "held_back"]
        problems = [f"{about}: {what}" for about, what in one.problems.items()]
        checks.append(Check(name=name, ok=one.ready, detail="; ".join([*problems, *told]) or "ready"))
    return [*checks, Check(name="store", ok=not held, detail=held or "has room")]


async def told(target: Target, api_url: str) -> list[Check]:
    """What the gateway tells of the mesh. The governor mends what reconciliation finds by itself, so what is open for long is a fault."""
    headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
    checks: list[Check] = []
    async with httpx.AsyncClient(base_url=api_url, headers=headers, timeout=3, trust_env=False) as client:
        try:
            answer = (await client.get("/v1/swarm/reconciliation")).raise_for_status()
            checks += disorder(msgspec.json.decode(answer.content, type=Disorder), datetime.now(UTC))
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            checks.append(_untold("reconciliation", error))
        try:
            answer = (await client.get("/v1/quotas")).raise_for_status()
            checks.append(refusals(msgspec.json.decode(answer.content, type=tuple[Told, ...])))
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            checks.append(_untold("quotas", error))
        try:
            state = (await client.get("/v1/halt")).raise_for_status().json()
            checks.append(Check(name="actions", ok=not state["halted"], detail=sentence(state)))
        except (httpx.HTTPError, ValueError, KeyError) as error:
            checks.append(_untold("actions", error))
    return checks


def _untold(name: str, error: Exception) -> Check:
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.UNAUTHORIZED:
        return Check(name=name, ok=None, detail="told to who has an API key: give it with --token or SWARM_TOKEN")
    return Check(name=name, ok=None, detail=f"the gateway does not say: {error or type(error).__name__}")


def refusals(told: tuple[Told, ...]) -> Check:
    """What was refused because a quota was reached. That is no fault of the mesh."""
    return Check(name="quotas", ok=True, detail="; ".join(lines(told)) or "nothing was refused")


def disorder(said: Disorder, now: datetime) -> list[Check]:
    """One check a kind: what is open, and what was mended last."""
    checks = []
    for kind in KINDS:
        found = [f for f in said.open if f.kind == kind]
        mended = [f for f in said.mended if f.kind == kind]
        lines = [f"{f.swarm_id}/{f.persona_id}: {f.reason}" for f in found[:SHOWN]]
        lines += [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        lines += [f"last mended {mended[0].swarm_id}/{mended[0].persona_id}: {mended[0].reason}"] if mended else []
        overdue = any((now - f.at).total_seconds() > MENDED_WITHIN_S for f in found)
        detail = f"{len(found)} open" + "".join(f"; {line}" for line in lines)
        checks.append(Check(name=kind.replace("_", " ") + "s", ok=not overdue, detail=detail))
    return checks


async def _object_store(record: MeshRecord) -> Check:
    """Whether the embedded object store's inner ports are closed to other users of this machine."""
    if S3 not in record.processes:
        return Check(name="object store", ok=None, detail="none of this mesh's own")
    opened = await open_doors(record.ports)
    if opened:
        detail = f"{', '.join(opened)} take reads and writes from anybody on this machine; start the mesh anew"
        return Check(name="object store", ok=False, detail=detail)
    return Check(name="object store", ok=True, detail="its inner ports answer nobody without its certificate")


async def _streams(record: MeshRecord) -> Check:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    seed = seed_file(Path(record.operator_seed_file).parents[1], BOOTSTRAP)
    try:
        connection = await Connection.open(
            record.nats_url, name="swarm doctor", seed_file=seed, inbox_prefix=inbox_prefix(BOOTSTRAP), wait_s=2.0
        )
        try:
            differing = await drift(connection, record.store_bytes)
        finally:
            await connection.close()
    except (LogUnavailable, OSError, ValueError) as error:
        return Check(name="streams", ok=False, detail=str(error))
    return Check(name="streams", ok=not differing, detail="; ".join(differing) or "as declared")
