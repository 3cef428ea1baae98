"""What every service's readiness tests: the promise, not the connection.

Ready means that the broker stores (a test write, `probe`) and says so of itself, that the last commit to the log went in, that
every stream is as declared to the last field, that acknowledged is on disk or with a majority, and that this clock is the broker's. What a
service needs besides (S3, an index, its projection) it adds with `Service.ready`.

Invariants: whoever asks is answered within about `ANSWER_S`, whatever is looked at takes longer, for who asks has patience of
its own and is to hear a cause; and however often it is asked, there is one look at a time.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable

import httpx
import msgspec

from shared.log.client.connection import Connection
from shared.log.client.tls import context
from shared.log.dead import UNREADABLE, buried
from shared.log.identity import Identity
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable
from shared.log.streams import drift
from shared.runtime.vitals.health import Health, ReadyCheck
from shared.runtime.vitals.pressure import Pressure
from shared.runtime.vitals.probe import Probe
from shared.settings import Settings

STREAMS_EVERY_S, BROKER_EVERY_S, LETTERS_EVERY_S = 30.0, 5.0, 10.0
KINDS_NAMED = 3
ANSWER_S = 1.0
QUORUM = 3
"""Brokers with a copy each of the log, of which a majority has what is acknowledged."""
FAILING_S = 30.0
"""A commit that failed counts for so long: what failed is tried again sooner, and then tells anew."""


class _Config(msgspec.Struct, frozen=True):
    num_replicas: int = 1


class _Info(msgspec.Struct, frozen=True):
    config: _Config = _Config()


class Durability:
    """Whether what the broker acknowledges outlives a power failure: it syncs first, or enough brokers have a copy.

    `said` is what is not wrong, and should be known.
    """

    def __init__(self, connection: Connection, url: str, tls: ssl.SSLContext | None = None) -> None:
        self._connection, self._url, self._tls = connection, url, tls
        self.said: str | None = None

    async def look(self) -> str | None:
        answers = [await lax_broker(url, self._tls) for url in self._url.split(",")]
        problem = next((answer for answer in answers if answer is not None), None)
        copies = await self._copies() if problem is not None else 0
        kept = f"what is acknowledged is with {copies // 2 + 1} of {copies} brokers; their disks follow"
        self.said = kept if copies >= QUORUM else None
        return None if self.said else problem

    async def _copies(self) -> int:
        try:
            answer = await self._connection.request("$JS.API.STREAM.INFO.SWARM")
            return msgspec.json.decode(answer.data, type=_Info).config.num_replicas
        except (LogUnavailable, msgspec.DecodeError):
            return 0


class Brokers:
    """What the brokers say of themselves at their monitoring URLs, by commas. `tls`: whom to believe that it is the broker.

    Of several that keep one log one that is well is enough: whether a majority takes what is said here is seen by saying something
    (`Probe`). The others are no reason not to be ready, and `said`.
    """

    def __init__(self, urls: str, tls: ssl.SSLContext | None = None) -> None:
        self._urls, self._tls = urls.split(","), tls
        self.said: str | None = None

    async def look(self) -> str | None:
        """Ask anew."""
        answers = await asyncio.gather(*(unwell_broker(url, self._tls) for url in self._urls))
        problems = [answer for answer in answers if answer is not None]
        told, lost = "; ".join(problems), len(problems) == len(answers)
        self.said = None if lost or not told else f"{len(problems)} of {len(answers)} brokers: {told}"
        return told if lost else None


class Letters:
    """How many messages were buried, which is no reason not to be ready, and is said beside it."""

    def __init__(self, connection: Connection, service: str) -> None:
        self._connection, self._service = connection, service
        self.said: str | None = None

    async def look(self) -> str | None:
        """Count anew; that they cannot be counted now is no problem of its own."""
        told = []
        try:
            for who, what in ((UNREADABLE, "cannot be read by anybody"), (self._service, "could not be handled here")):
                if found := await buried(self._connection, who):
                    kinds = [f"{count} {kind}" for kind, count in found.most_common(KINDS_NAMED)]
                    more = [f"{len(found) - KINDS_NAMED} kinds more"] if len(found) > KINDS_NAMED else []
                    told.append(f"{found.total()} {what} ({', '.join([*kinds, *more])})")
        except LogUnavailable:
            return None
        self.said = f"in the dead letters, stream DEAD: {'; '.join(told)}" if told else None
        return None


def promise(
    health: Health,
    settings: Settings,
    connection: Connection,
    log: JetStreamLog,
    identity: Identity,
    probe: Probe,
    pressure: Pressure,
) -> None:
    """Have readiness test what every service promises."""
    url, tls = settings.nats.monitor_url, context(settings.nats)

    async def streams() -> str | None:
        return await differing_streams(connection, settings.store.bytes, settings.store.replicas)

    health.check("nats", known(lambda: None if connection.client.is_connected else "the connection to NATS is down"))
    health.check("log_identity", known(lambda: identity.sentence))
    health.check("store", known(lambda: probe.unstored))
    health.check("log", known(lambda: failing_commit(log)))
    health.check("clock", known(lambda: probe.clock_off))
    health.check("streams", cached(streams, STREAMS_EVERY_S))
    if url:
        brokers = Brokers(url, tls)
        health.check("broker", cached(brokers.look, BROKER_EVERY_S))
        health.warn("broker", lambda: brokers.said)
    if settings.require_sync_always:
        durability = Durability(connection, settings.nats.monitor, tls)
        health.check("durability", cached(durability.look, STREAMS_EVERY_S))
        health.warn("durability", lambda: durability.said)
    letters = Letters(connection, log.service)
    health.check("letters", cached(letters.look, LETTERS_EVERY_S))
    health.warn("dead_letters", lambda: letters.said)
    health.warn("held_back", lambda: pressure.held)
    health.warn("witness", lambda: identity.unsaved)


def failing_commit(log: JetStreamLog) -> str | None:
    """Why the last commit was not stored; None when it was, or there was none lately."""
    if log.failing is None or time.monotonic() - log.failed_at > FAILING_S:
        return None
    return f"the last commit was not stored: {log.failing}"


async def differing_streams(connection: Connection, store_bytes: int, replicas: int = 1) -> str | None:
    """What of the streams is not as declared."""
    try:
        return "; ".join(await drift(connection, store_bytes, replicas)) or None
    except LogUnavailable as error:
        return f"streams cannot be read: {error}"


async def unwell_broker(url: str, tls: ssl.SSLContext | None = None) -> str | None:
    """What one broker says of itself, when it is not well."""
    try:
        async with httpx.AsyncClient(timeout=2, trust_env=False, verify=tls or True) as client:
            answer = await client.get(f"{url}/healthz")
    except httpx.HTTPError as error:
        return f"{url}/healthz does not answer: {error or type(error).__name__}"
    return None if answer.is_success else f"the broker says of itself: {answer.text[:300]}"


async def lax_broker(url: str, tls: ssl.SSLContext | None = None) -> str | None:
    """Why what the broker acknowledges may not be on disk."""
    try:
        async with httpx.AsyncClient(timeout=2, trust_env=False, verify=tls or True) as client:
            answer = (await client.get(f"{url}/jsz")).json()
    except (httpx.HTTPError, ValueError) as error:
        why = error or type(error).__name__
        return f"{url}/jsz does not answer, so sync_always cannot be seen: {why}; is SWARM_NATS_MONITOR_URL right?"
    if answer.get("config", {}).get("sync_always"):
        return None
    return "the broker acknowledges before it syncs (sync_always is off); set it, or SWARM_REQUIRE_SYNC_ALWAYS=false"


def known(problem: Callable[[], str | None]) -> ReadyCheck:
    """A check of what is known already."""

    async def check() -> str | None:
        return problem()

    return check


def cached(check: ReadyCheck, good_for_s: float) -> ReadyCheck:
    """A check that, once fine, is believed for a while; a problem is looked at anew each time.

    Who asks during a long look hears what was found before it.
    """
    fine_until, said = 0.0, None
    looking: asyncio.Task[str | None] | None = None

    async def answer() -> str | None:
        nonlocal fine_until, said, looking
        clock = asyncio.get_running_loop().time
        if clock() < fine_until:
            return None
        look = looking = looking or asyncio.ensure_future(check())
        done, _ = await asyncio.wait({look}, timeout=ANSWER_S)
        if not done:
            return said or f"it is being looked at, and there is no answer for {ANSWER_S:g} s"
        if looking is look:
            looking = None
        said = look.result()
        if said is None:
            fine_until = clock() + good_for_s
        return said

    return answer
