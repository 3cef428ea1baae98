"""What routes are given: the feed, the bus and the settings, and the command a request is."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Annotated

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import HeaderParameter, QueryParameter

from services.gateway.commands.admission import Admission
from services.gateway.commands.bus import Bus, Command
from services.gateway.front.access import Caller
from services.gateway.front.reading import Reader
from services.gateway.front.streaming.stream import EventStream
from services.gateway.projections.feed import Feed
from services.gateway.projections.projection import Projection
from services.gateway.projections.refusals import Refusals
from services.gateway.settings import GatewaySettings, Scope
from services.gateway.wire.pages import Paging
from services.gateway.wire.problems import AnyRequest, Problem
from shared.contracts.ids import EVERYONE, utc_now
from shared.contracts.trace import is_traceparent
from shared.log.port import Log, LogUnavailable
from shared.metrics.table import exposition
from shared.policy.reading import Readings, Verdicts
from shared.signers import Followed, Signers

LIMIT = re.compile(r"0*([1-9][0-9]{0,5})[0-9]*\Z")
"""Six digits of it tell that it is too many."""
MAX_KEY_CHARS = 200


async def own_metrics() -> bytes:
    """Of a gateway that is no process of its own."""
    return exposition("gateway")


async def no_problems() -> dict[str, str]:
    """Ready for everything."""
    return {}


class Gateway:
    """One gateway over one log; it holds nothing that is not in the log.

    `connected` says whether the bus is there now, `problems` what the process is not ready for, by check, and `warnings` what
    should be known; `held` why no observations are taken now, and `clock_off` why no command is. `limits`: of each quota, by its
    setting; `turned_away`: what this process refused for one; `another` why the log
    is not the one it was. Without `readings` reads are as where no policies are in force.
    """

    def __init__(
        self,
        log: Log,
        settings: GatewaySettings,
        clock: Callable[[], datetime] = utc_now,
        connected: Callable[[], bool] = lambda: True,
        problems: Callable[[], Awaitable[dict[str, str]]] = no_problems,
        warnings: Callable[[], dict[str, str]] = dict,
        held: Callable[[], str | None] = lambda: None,
        clock_off: Callable[[], str | None] = lambda: None,
        limits: dict[str, float] | None = None,
        another: Callable[[], str | None] = lambda: None,
        metrics: Callable[[], Awaitable[bytes]] = own_metrics,
        readings: Readings | None = None,
    ) -> None:
        self._readings = readings
        self.settings = settings
        self.limits = limits or {}
        self.turned_away = Refusals()
        self.connected = connected
        self.problems, self.warnings, self.metrics = problems, warnings, metrics
        self.clock_off, self.another = clock_off, another
        self.clock = clock
        self.feed = Feed(log, Projection())
        self.signers = Followed(log, settings.verdict_roots)
        self.bus = Bus(
            log,
            self.feed,
            clock,
            settings.outcome_timeout_s,
            four_eyes=settings.four_eyes and not settings.keyless,  # whoever is at a mesh without keys is one person
            held=held,
            admission=self._admission(),
            max_swarms=settings.max_swarms,
        )
        self.stream = EventStream(
            log,
            self.feed,
            buffer=settings.stream_buffer,
            heartbeat_s=settings.heartbeat_s,
            max_clients=settings.max_streams,
            max_total=settings.max_streams_total,
            another=another,
            refused=lambda reason, detail: self.turned_away.note(reason, EVERYONE, None, detail, clock()),
        )

    def _admission(self) -> Admission:
        return Admission(
            self.turned_away,
            open_requests=self.settings.swarm_open_requests,
            per_minute={
                "observation_rate": self.settings.observations_per_minute,
                "recall_rate": self.settings.recalls_per_minute,
                "spawn_rate": self.settings.spawns_per_minute,
            },
            wall=self.clock,
        )

    async def known_signers(self) -> Signers:
        """Whose verdicts are good, as of now, or as of when the log was last there."""
        with suppress(LogUnavailable):
            await self.signers.look()
        return self.signers.known

    @property
    def ready(self) -> bool:
        """Whether answers are of the present, and of the log there is."""
        return self.feed.ready and self.another() is None

    @property
    def projection(self) -> Projection:
        return self.feed.projection

    async def reader(self, caller: Caller) -> Reader:
        """What the caller may read, by the policies in force now. Raises `LogUnavailable` while they cannot be asked."""
        return Reader(caller, Verdicts(None) if self._readings is None else await self._readings.current())

    async def stop(self) -> None:
        """End every stream and the tails; requests in flight still finish."""
        await self.feed.stop()


def provide_paging(
    limit: Annotated[
        str | None,
        QueryParameter(
            required=False,
            schema_extra={"type": "integer", "minimum": 1},
            description="how many at most; above 1000 is 1000",
        ),
    ] = None,  # as a number that may be null, the framework takes the word "null" for it
    after: Annotated[
        str | None, QueryParameter(required=False, description="the cursor in the Link of the page before")
    ] = None,
) -> Paging:
    """Which page of a list. Raises `Problem` (422) for a limit that is none."""
    if limit is None:
        return Paging(limit=None, after=after)
    found = LIMIT.match(limit)
    if found is None:
        raise Problem(422, f"limit: {limit[:60]!r} is no whole number of 1 or more", reason="bad_limit")
    return Paging(limit=int(found[1]), after=after)


def provide_caller(request: AnyRequest) -> Caller:
    """Who asks."""
    caller: Caller = request.scope["user"]
    return caller


def provide_command(
    request: AnyRequest,
    idempotency_key: Annotated[
        str | None,
        HeaderParameter(
            name="Idempotency-Key",
            required=False,
            min_length=1,
            max_length=MAX_KEY_CHARS,
            description="the same key is the same command, done once",
        ),
    ] = None,
) -> Command:
    """The command this request is."""
    caller = provide_caller(request)
    trace = request.headers.get("traceparent", "")
    return Command(
        principal=caller.principal,
        path=_asked(request),
        key=idempotency_key,
        traceparent=trace if is_traceparent(trace) else None,
    )


def _asked(request: AnyRequest) -> str:
    """What a key is unique for: the path, and what tells two of one id apart."""
    which = [f"{name}={value}" for name in ("swarm", "persona") if (value := request.query_params.get(name))]
    return "?".join((request.scope["path"], *which))


def needs(scope: Scope) -> Callable[[ASGIConnection, BaseRouteHandler], None]:  # type: ignore[type-arg]
    """A guard: raises `Problem` (403) for a key without the scope."""

    def guard(connection: ASGIConnection, _: BaseRouteHandler) -> None:  # type: ignore[type-arg]
        caller: Caller = connection.scope["user"]
        if not caller.may(scope):
            detail = f"the key of {caller.principal} lacks the scope {scope!r}; it has {', '.join(sorted(caller.scopes)) or 'none'}"
            raise Problem(403, detail, reason="missing_scope")

    return guard
