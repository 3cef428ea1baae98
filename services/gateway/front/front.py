"""What every request passes before it reaches a route: origin, size, rate, key, content type, readiness. Plain ASGI.

A page in a browser on this machine can reach a loopback port, so without keys a request is taken only when its `Host` is
this machine and its `Origin`, if any, is that same host or allowed: neither DNS rebinding nor a form on another site gets in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from urllib.parse import parse_qs

from services.gateway.front.access import ANYONE_LOCAL, Buckets, Caller, Impatient, authenticate
from services.gateway.front.asgi import App, Event, Receive, Scope, Send
from services.gateway.front.origins import Origins, is_preflight
from services.gateway.front.outgoing import Outgoing
from services.gateway.front.streaming import stream
from services.gateway.front.streaming.frames import later
from services.gateway.settings import GatewaySettings
from services.gateway.wire.problems import RETRY_AFTER_S, Problem
from shared.metrics.table import HTTP_REQUESTS, HTTP_SECONDS

OPEN = frozenset(("/health", "/health/live", "/health/ready"))
UNMATCHED = "unmatched"
"""The route of what has none."""
RATED = "swarm.rated"
"""Where in the scope it is kept who asks, as rates are counted."""
WITH_BODY = frozenset(("POST", "PUT", "PATCH"))
LetIn = Callable[[Scope, Receive], AbstractAsyncContextManager[Receive]]


@asynccontextmanager
async def let_all_in(scope: Scope, receive: Receive) -> AsyncIterator[Receive]:
    """Nobody is turned away."""
    yield receive


class Front:
    """Wraps the application. `ready` says whether the projection is at the present; before, `/v1` answers 503.

    HEAD is GET without the body; the scope says `head`, for what would do more than answer.

    Commands carry this process's time: while `clock_off` says why it is wrong, none is taken. `let_in` may turn a request away.
    """

    def __init__(
        self,
        app: App,
        settings: GatewaySettings,
        ready: Callable[[], bool],
        clock_off: Callable[[], str | None] = lambda: None,
        refused: Callable[[str, str], None] = lambda reason, detail: None,
        let_in: LetIn = let_all_in,
    ) -> None:
        self._app, self._settings, self._ready, self._clock_off = app, settings, ready, clock_off
        self._refused, self._let_in = refused, let_in
        self._buckets = Buckets(settings.rate_per_s, settings.burst)
        self._impatient = Impatient()
        self._origins = Origins(settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        status, began = 500, time.perf_counter()

        async def counted(event: Event) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
                event = {**event, "headers": [*event["headers"], *self._origins.headers(headers.get(b"origin"))]}
            await send(event)

        out: Send = counted
        if scope["method"] in ("GET", "HEAD"):
            head = scope["method"] == "HEAD"
            scope = {**scope, "method": "GET", "head": head}
            out = Outgoing(counted, headers, head=head)
        try:
            if is_preflight(scope["method"], headers):
                await _send(204, self._preflight(headers), b"", out)
                return
            if scope["path"] not in OPEN:
                scope["user"] = self._admit(scope, headers)
            async with self._let_in(scope, receive) as body:
                await self._app(scope, body, out)
        except Problem as problem:
            await self._be_late(problem, scope)
            await (_later if scope["path"] == stream.PATH else respond)(problem, out)
        finally:
            route = scope.get("path_template") or UNMATCHED
            HTTP_REQUESTS.by[route, f"{status // 100}xx"] += 1
            if scope["path"] != stream.PATH:
                HTTP_SECONDS.observe(time.perf_counter() - began, route)

    async def _be_late(self, problem: Problem, scope: Scope) -> None:
        """Make who does not wait wait."""
        if problem.status != HTTPStatus.TOO_MANY_REQUESTS or problem.retry_after_s is None:
            return
        delay_s = self._impatient.delay_s(scope[RATED], time.monotonic(), problem.retry_after_s)
        if delay_s:
            self._impatient.late += 1
            try:
                await asyncio.sleep(delay_s)
            finally:
                self._impatient.late -= 1

    def _preflight(self, headers: dict[bytes, str]) -> dict[str, str]:
        if self._settings.keyless:
            self._origins.assert_same_machine(headers)
        return self._origins.preflight(headers)

    def _admit(self, scope: Scope, headers: dict[bytes, str]) -> Caller:
        """Who asks. Raises `Problem`: 401, 403, 413, 415, 429, 503."""
        address = (scope.get("client") or ("unknown",))[0]
        caller = self._caller(scope, headers)
        scope[RATED] = f"address {address}" if caller in (None, ANYONE_LOCAL) else _name(caller)
        wait_s = self._buckets.take(scope[RATED], time.monotonic())
        if wait_s:
            detail = f"more than {self._settings.rate_per_s:g} requests a second (burst {self._settings.burst})"
            self._refused("rate_limited", detail)
            raise Problem(429, detail, reason="rate_limited", retry_after_s=wait_s)
        if caller is None:
            raise Problem(401, "send Authorization: Bearer <token>, or ?token=<token>", reason="unauthenticated")
        if scope["method"] in WITH_BODY:
            self._check_body(headers)
        path = scope["path"]
        if path.startswith("/v1/") and path != stream.PATH and not self._ready():
            raise Problem(
                503, "the log is still being read, or is read anew", reason="catching_up", retry_after_s=RETRY_AFTER_S
            )
        if scope["method"] in WITH_BODY and (why := self._clock_off()) is not None:
            raise Problem(503, why, reason="clock_off", retry_after_s=RETRY_AFTER_S)
        return caller

    def _caller(self, scope: Scope, headers: dict[bytes, str]) -> Caller | None:
        if self._settings.keyless:
            self._origins.assert_same_machine(headers)
            return ANYONE_LOCAL
        scheme, _, token = headers.get(b"authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return authenticate(self._settings.keys, token.strip()) if token else None

    def _check_body(self, headers: dict[bytes, str]) -> None:
        length = headers.get(b"content-length", "0")
        if length.isdigit() and int(length) > self._settings.max_body_bytes:
            raise Problem(413, f"the body has {length} bytes, the limit is {self._settings.max_body_bytes}")
        media = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        empty = length == "0" and b"transfer-encoding" not in headers
        if not empty and media and media != "application/json" and not media.endswith("+json"):
            raise Problem(415, f"the body is {media[:80]!r}; send application/json")


async def respond(problem: Problem, send: Send) -> None:
    """The problem as a whole response."""
    await _send(problem.status, problem.headers(), problem.body(), send)


async def _later(problem: Problem, send: Send) -> None:
    """The problem as an event stream that says when to come back, if it passes."""
    if problem.retry_after_s is None:
        await respond(problem, send)
        return
    headers = {"Content-Type": "text/event-stream; charset=utf-8", **stream.HEADERS}
    await _send(200, headers, later(problem.details.detail, problem.retry_after_s), send)


async def _send(status: int, headers: dict[str, str], body: bytes, send: Send) -> None:
    encoded = [(k.lower().encode(), v.encode()) for k, v in headers.items()]
    encoded.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def _name(caller: Caller | None) -> str:
    return f"key {caller.principal}" if caller is not None else "unknown"
