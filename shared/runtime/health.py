"""`/health/live`, `/health/ready` and `/metrics` of one process, on uvicorn with signals left to the process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

ReadyCheck = Callable[[], Awaitable[str | None]]
"""None when fine, else one sentence saying what is not."""


class Health:
    """Named readiness checks; the process is ready when all of them answer None."""

    def __init__(self) -> None:
        self._checks: dict[str, ReadyCheck] = {}
        self.draining = False

    def check(self, name: str, check: ReadyCheck) -> None:
        """Have readiness depend on `check`."""
        self._checks[name] = check

    async def problems(self) -> dict[str, str]:
        """What is not ready now, by check."""
        found = {"process": "it is shutting down"} if self.draining else {}
        for name, check in self._checks.items():
            if (problem := await check()) is not None:
                found[name] = problem
        return found

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
                return 200, "application/json", b'{"live":true}'
            case "/health/ready":
                problems = await self.problems()
                body = msgspec.json.encode({"ready": not problems, "problems": problems})
                return (503 if problems else 200), "application/json", body
            case "/metrics":
                return 200, CONTENT_TYPE_LATEST, generate_latest()
            case _:
                return 404, "text/plain", b"there is /health/live, /health/ready and /metrics\n"


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process decides when to end."""

    def install_signal_handlers(self) -> None:
        return

    def capture_signals(self) -> Any:
        import contextlib

        return contextlib.nullcontext()


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
