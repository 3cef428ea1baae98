"""`/health/live`, `/health/ready` and `/metrics` of one process, on uvicorn with signals left to the process.

Ready asks whether the process can keep its promises now; live, whether it is worth keeping. An answer to `/health/live` shows
that the event loop turns and how late it is, and asks nothing and nobody else: whoever gets none may kill the process.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST

from shared.metrics.table import LOOP_LAG, NOT_READY, READY, WARNED, exposition

log = structlog.get_logger()

BEAT_S = 1.0
LONGEST_LAG_S = 15.0
"""A loop that was this late at its last beat answers, but is stuck most of the time."""

ReadyCheck = Callable[[], Awaitable[str | None]]
"""None when fine, else one sentence saying what is not."""


class Health:
    """Named readiness checks; the process is ready when all of them answer None. Warnings are told and leave it ready.

    `clock` is in seconds, and nobody sets it. The metrics it answers are those of `service`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, service: str = "") -> None:
        self._clock, self._service = clock, service
        self._checks: dict[str, ReadyCheck] = {}
        self._warnings: dict[str, Callable[[], str | None]] = {}
        self._beat_at: float | None = None
        self._lag_s = 0.0
        self.progress: Callable[[], int] = lambda: 0
        """How far the process has read what it must know to be ready; who waits for it has patience while this grows."""
        self.waits: Callable[[], str | None] = lambda: None
        """What the process cannot start without and does not have yet."""
        self.starting = False
        self.draining = False

    async def beat(self) -> None:
        """Measure how late the loop is, until cancelled."""
        while True:
            self._beat_at = self._clock()
            await asyncio.sleep(BEAT_S)
            self._lag_s = max(0.0, self._clock() - self._beat_at - BEAT_S)
            LOOP_LAG.set(self._lag_s)

    def lag_s(self) -> float:
        """How late the loop was at its last beat, or is by now."""
        if self._beat_at is None:
            return 0.0
        return max(self._lag_s, self._clock() - self._beat_at - BEAT_S)

    def warn(self, name: str, warning: Callable[[], str | None]) -> None:
        """Have readiness tell what does not stop the process, but should be known."""
        self._warnings[name] = warning

    def warnings(self) -> dict[str, str]:
        """What should be known now, by name; of one that cannot be told, that."""
        found: dict[str, str] = {}
        for name, warning in self._warnings.items():
            try:
                said = warning()
            except Exception as error:
                said = _untold(name, error)
            if said is not None:
                found[name] = said
        return found

    def check(self, name: str, check: ReadyCheck) -> None:
        """Have readiness depend on `check`. Each name once: a second would silence the first."""
        if name in self._checks:
            raise ValueError(f"readiness tests {name!r} already")
        self._checks[name] = check

    async def problems(self) -> dict[str, str]:
        """What is not ready now, by check; a check that fails is one that is not passed."""
        found = {"process": "it is shutting down"} if self.draining else {}
        if self.starting:
            found["process"] = self.waits() or "it is starting: what it knows is being read"
        checks = dict(self._checks)  # while they are looked at, one that starts may add more
        said = await asyncio.gather(*(_asked(name, check) for name, check in checks.items()))
        return found | {name: problem for name, problem in zip(checks, said, strict=True) if problem is not None}

    async def metrics(self) -> bytes:
        """In the text format of Prometheus, readiness and warnings among them as they are now."""
        problems, warnings = await self.problems(), self.warnings()
        READY.set(not problems)
        for name in ("process", *self._checks):
            NOT_READY.set(name in problems, name)
        for name in self._warnings:
            WARNED.set(name in warnings, name)
        return exposition(self._service)

    async def app(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            return
        status, kind, body = await self._answer(scope["path"])
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind.encode())]})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, path: str) -> tuple[int, str, bytes]:
        match path:
            case "/health/live":
                lag_s = self.lag_s()
                live = lag_s <= LONGEST_LAG_S
                return (200 if live else 503), "application/json", msgspec.json.encode({"live": live, "lag_s": lag_s})
            case "/health/ready":
                problems = await self.problems()
                said = {"ready": not problems, "problems": problems, "warnings": self.warnings()}
                body = msgspec.json.encode({**said, "progress": self.progress()})
                return (503 if problems else 200), "application/json", body
            case "/metrics":
                return 200, CONTENT_TYPE_LATEST, await self.metrics()
            case _:
                return 404, "text/plain", b"there is /health/live, /health/ready and /metrics\n"


async def _asked(name: str, check: ReadyCheck) -> str | None:
    try:
        return await check()
    except Exception as error:
        return _untold(name, error)


def _untold(name: str, error: Exception) -> str:
    log.warning("readiness_check_failed", check=name, exc_info=error)
    return f"it cannot be told: {type(error).__name__}"


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process decides when to end."""

    def install_signal_handlers(self) -> None:
        return

    def capture_signals(self) -> Any:
        import contextlib

        return contextlib.nullcontext()


@asynccontextmanager
async def served(health: Health, host: str, port: int) -> AsyncIterator[None]:
    """Answers from here on, also while the process still reads what it needs; with port 0 nowhere."""
    http = server(health.app, host, port)
    tasks = [asyncio.create_task(health.beat(), name="beat")]
    if port:
        tasks.append(asyncio.create_task(http.serve(), name="health"))
    try:
        yield
    finally:
        http.should_exit = True
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def address(host: str, port: int) -> str:
    """Where others ask: what answers on every address of its host is known by the host's name. Empty where nothing answers."""
    if not port:
        return ""
    name = socket.gethostname() if host in ("", "0.0.0.0", "::") else host  # noqa: S104 (compared, not bound)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


def server(app: Any, host: str, port: int) -> Server:
    """A server for an ASGI app; run it with `serve()`, end it with `should_exit`."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="none",
        interface="asgi3",
        proxy_headers=False,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=30,
    )
    return Server(config)
