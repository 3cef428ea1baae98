"""What routes are given: the feed, the bus and the settings, and the command a request is."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import HeaderParameter, QueryParameter

from services.gateway.commands.admission import Admission
from services.gateway.commands.bus import Bus, Command
from services.gateway.front.access import Caller
from services.gateway.front.stream import EventStream
from services.gateway.projections.feed import Feed
from services.gateway.projections.projection import Projection
from services.gateway.projections.refusals import Refusals
from services.gateway.settings import GatewaySettings, Scope
from services.gateway.wire.pages import Paging
from services.gateway.wire.problems import AnyRequest, Problem
from shared.contracts.ids import EVERYONE, utc_now
from shared.log.port import Log

TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
MAX_KEY_CHARS = 200


async def no_problems() -> dict[str, str]:
    """Ready for everything."""
    return {}


class Gateway:
    """One gateway over one log; it holds nothing that is not in the log.

    `connected` says whether the bus is there now, `problems` what the process is not ready for, by check, and `warnings` what
    should be known; `held` why no observations are taken now, and `clock_off` why no command is. `limits`: of each quota, by its
    setting; `turned_away`: what this process refused for one.
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
    ) -> None:
        self.settings = settings
        self.limits = limits or {}
        self.turned_away = Refusals()
        self.connected = connected
        self.problems, self.warnings = problems, warnings
        self.clock_off = clock_off
        self.clock = clock
        self.feed = Feed(log, Projection())
        self.bus = Bus(
            log,
            self.feed,
            clock,
            settings.outcome_timeout_s,
            four_eyes=settings.four_eyes and not settings.keyless,  # whoever is at a mesh without keys is one person
            held=held,
            admission=self._admission(),
        )
        self.stream = EventStream(
            log,
            self.feed,
            buffer=settings.stream_buffer,
            heartbeat_s=settings.heartbeat_s,
            max_clients=settings.max_streams,
            max_total=settings.max_streams_total,
            refused=lambda reason, detail: self.turned_away.note(reason, EVERYONE, None, detail, clock()),
        )

    def _admission(self) -> Admission:
        return Admission(
            self.turned_away,
            open_requests=self.settings.swarm_open_requests,
            per_minute={
                "observation_rate": self.settings.observations_per_minute,
                "recall_rate": self.settings.recalls_per_minute,
            },
            wall=self.clock,
        )

    @property
    def projection(self) -> Projection:
        return self.feed.projection

    async def stop(self) -> None:
        """End every stream and the tails; requests in flight still finish."""
        await self.feed.stop()


def provide_paging(
    limit: Annotated[
        int | None, QueryParameter(ge=1, required=False, description="how many at most; above 1000 is 1000")
    ] = None,
    after: Annotated[
        str | None, QueryParameter(required=False, description="the cursor in the Link of the page before")
    ] = None,
) -> Paging:
    """Which page of a list."""
    return Paging(limit=limit, after=after)


def provide_caller(request: AnyRequest) -> Caller:
    """Who asks."""
    caller: Caller = request.scope["user"]
    return caller


def provide_command(
    request: AnyRequest,
    idempotency_key: Annotated[
        str | None,
        HeaderParameter(
            name="Idempotency-Key", required=False, description="the same key is the same command, done once"
        ),
    ] = None,
) -> Command:
    """The command this request is. Raises `Problem` (422) for a key that is too long."""
    if idempotency_key is not None and not 1 <= len(idempotency_key) <= MAX_KEY_CHARS:
        raise Problem(422, f"Idempotency-Key has {len(idempotency_key)} characters, 1 to {MAX_KEY_CHARS} are allowed")
    caller = provide_caller(request)
    trace = request.headers.get("traceparent", "")
    return Command(
        principal=caller.principal,
        path=_asked(request),
        key=idempotency_key,
        traceparent=trace if TRACEPARENT.match(trace) else None,
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
