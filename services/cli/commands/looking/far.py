"""`swarm doctor` of a mesh elsewhere: what its API tells, what its broker tells, and what neither does."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import httpx
import msgspec

from services.cli.commands.looking.doctor import MAX_CLOCK_S, Check, told
from services.cli.terminal.bus import Bus
from services.cli.terminal.login import connect, login
from services.cli.terminal.target import Stop, Target
from shared.contracts.services import SERVICES
from shared.log.client.connection import Connection
from shared.log.client.wire import Raw
from shared.log.port import LogUnavailable
from shared.log.streams import drift
from shared.runtime.vitals.pressure import HELD_FROM

ANSWERS_S, ASKED = 1.0, 5
"""How long services may take to say that they are there, and how often they are asked while one is missing."""
UNSEEN = (
    "disk, processes, object store and whether the broker syncs are seen where the mesh is: run `swarm doctor` there"
)


class _Health(msgspec.Struct, frozen=True):
    """What the gateway says of itself."""

    status: str
    problems: dict[str, str] = {}
    warnings: dict[str, str] = {}


class _Service(msgspec.Struct, frozen=True):
    """What a service says of itself to whoever asks `$SRV.INFO` (NATS ADR-32)."""

    id: str
    name: str
    version: str
    description: str = ""
    metadata: dict[str, str] | None = None

    @property
    def instance(self) -> str:
        return (self.metadata or {}).get("instance") or self.description


class _State(msgspec.Struct, frozen=True):
    messages: int
    bytes: int


class _Config(msgspec.Struct, frozen=True):
    max_bytes: int = -1


class _Info(msgspec.Struct, frozen=True):
    ts: datetime
    state: _State
    config: _Config


async def examine(target: Target, bus: Bus) -> list[Check]:
    """Every check."""
    if target.url:
        checks = [await _api(target), *await told(target, target.api_url)]
    else:
        checks = [Check(name="api", ok=None, detail="not looked at: say --url, and --token where the mesh wants one")]
    return [*checks, *await _broker(target, bus), Check(name="elsewhere", ok=None, detail=UNSEEN)]


async def _api(target: Target) -> Check:
    try:
        async with target.client() as client:
            answer = await client.get("/health/ready")
        said = msgspec.json.decode(answer.content, type=_Health)
    except (httpx.HTTPError, msgspec.MsgspecError) as error:
        return Check(name="api", ok=False, detail=f"{target.api_url} does not answer: {error or type(error).__name__}")
    about = [f"{name}: {what}" for name, what in {**said.problems, **said.warnings}.items()]
    return Check(name="api", ok=answer.is_success, detail="; ".join([f"{target.api_url} says {said.status}", *about]))


async def _broker(target: Target, bus: Bus) -> list[Check]:
    if not bus.named:
        return [
            Check(name="broker", ok=None, detail="not looked at: say --nats-url and --nats-seed, or --nats-context")
        ]
    try:
        to = login(bus, target)
        connection = await connect(to, "swarm doctor")
    except Stop as error:
        return [Check(name="broker", ok=False, detail=str(error))]
    try:
        version = connection.client.connected_server_version
        return [
            Check(name="broker", ok=True, detail=f"nats-server {version} at {to.url} knows the key"),
            services(await _discovered(connection)),
            *await _log(connection),
        ]
    except (LogUnavailable, msgspec.MsgspecError) as error:
        return [Check(name="broker", ok=False, detail=f"it does not say: {error}")]
    finally:
        await connection.close()


async def _discovered(connection: Connection) -> list[_Service]:
    found: dict[str, _Service] = {}
    answers: list[Raw] = []

    def take(answer: Raw) -> bool:
        answers.append(answer)
        return False

    for _ in range(ASKED):
        with suppress(LogUnavailable):  # how many there are nobody knows, so the time tells
            await connection.request_many("$SRV.INFO", b"", is_last=take, timeout_s=ANSWERS_S)
        for answer in answers:
            with suppress(msgspec.MsgspecError):  # anybody on this broker may answer
                service = msgspec.json.decode(answer.data, type=_Service)
                found[service.id] = service
        if services(list(found.values())).ok:
            break
    return list(found.values())


def services(found: list[_Service]) -> Check:
    """Whether each service of the catalog is there, and which."""
    known = [one for one in found if one.name.replace("-", "_") in SERVICES]
    there = sorted(f"{one.instance} {one.version}" for one in known)
    missing = [name for name in SERVICES if name not in {one.name.replace("-", "_") for one in known}]
    detail = f"{len(there)} answer: {', '.join(there)}" if there else "none answers"
    return Check(name="services", ok=not missing, detail=f"no {', no '.join(missing)}; {detail}" if missing else detail)


async def _log(connection: Connection) -> list[Check]:
    differing = await drift(connection, None)
    streams = Check(name="streams", ok=not differing, detail="; ".join(differing) or "as declared")
    if any(line.endswith("is missing") for line in differing):
        return [streams]
    log, dead = await _info(connection, "SWARM"), await _info(connection, "DEAD")
    off = abs((log.ts - datetime.now(UTC)).total_seconds())
    full = log.state.bytes / log.config.max_bytes if log.config.max_bytes > 0 else 0.0
    return [
        streams,
        Check(name="clock", ok=off <= MAX_CLOCK_S, detail=f"{off:.2f} s from the broker's (limit {MAX_CLOCK_S:g} s)"),
        Check(
            name="store", ok=full < HELD_FROM, detail=f"the log has {log.state.messages} events and is {full:.0%} full"
        ),
        Check(name="dead letters", ok=True, detail=f"{dead.state.messages} are buried"),
    ]


async def _info(connection: Connection, stream: str) -> _Info:
    return msgspec.json.decode((await connection.request(f"$JS.API.STREAM.INFO.{stream}")).data, type=_Info)
