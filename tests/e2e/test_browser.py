"""A real browser's `EventSource`, on a page of another origin, over ends of gateway and broker."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from services.supervisor.running.ports import free_port
from shared.runtime.vitals.health import server
from tests.e2e.processes import Mesh, running

CHROMIUM = shutil.which("chromium")
START_S, TURN_S = 40, 60
PAGE = """<!doctype html><script>
const tell = (what, body) => fetch(what, {method: "POST", body: String(body)});
const source = new EventSource("%(api)s/v1/cognition/stream?from=beginning");
source.onopen = () => tell("open", "");
source.onerror = () => tell("error", source.readyState);
source.addEventListener("cognition", event => tell("seen", event.lastEventId));
fetch("%(api)s/v1/swarm/alpha/observations", {
  method: "POST", headers: {"Content-Type": "application/json", "Idempotency-Key": "page"}, body: '{"text": "from the page"}',
}).then(answer => tell("posted", answer.status), failure => tell("posted", failure));
</script>"""


class Page:
    """Serves the page, and takes what it tells."""

    def __init__(self, api: str) -> None:
        self.body = (PAGE % {"api": api}).encode()
        self.told: dict[str, list[str]] = {"open": [], "error": [], "seen": [], "posted": []}
        self._changed = asyncio.Condition()

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        what = scope["path"].lstrip("/")
        if scope["method"] == "POST" and what in self.told:
            body = (await receive()).get("body", b"").decode()
            async with self._changed:
                self.told[what].append(body)
                self._changed.notify_all()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "POST" else self.body})

    async def has(self, what: str, value: str, timeout_s: float = TURN_S) -> None:
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: value in self.told[what])


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[tuple[Mesh, Page]]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    async with running(tmp_path, SWARM_HTTP_ALLOWED_ORIGINS=origin) as mesh:
        page = Page(str(mesh.client.base_url).rstrip("/"))
        http = server(page, "127.0.0.1", port)
        serving = asyncio.create_task(http.serve())
        browser = subprocess.Popen(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--no-proxy-server", "--remote-debugging-port=0", f"--user-data-dir={tmp_path / 'browser'}", origin],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            try:
                await page.has("open", "", START_S)
            except TimeoutError:
                pytest.skip(f"chromium opened no page within {START_S} s (it ended with {browser.poll()})")
            yield mesh, page
        finally:
            browser.terminate()
            await asyncio.to_thread(browser.wait, 20)
            http.should_exit = True
            await serving


async def test_a_browser_sees_every_event_once_over_ends_of_gateway_and_broker(opened: tuple[Mesh, Page]) -> None:
    mesh, page = opened
    await page.has("posted", "200")
    path, last = "/v1/swarm/alpha/observations", 1
    for end in ("kill", "terminate", "broker", "kill"):
        last = (await mesh.posts(path, {"text": f"before {end}"}, f"{end}{last}")).json()["sequences"][0]
        await page.has("seen", str(last))
        if end == "broker":
            mesh.broker.kill()
            await mesh.broker.start()
        else:
            await mesh.gateway.end(signal.SIGKILL if end == "kill" else signal.SIGTERM)
            mesh.gateway.start()
    last = (await mesh.posts(path, {"text": "the last"}, "last")).json()["sequences"][0]
    await page.has("seen", str(last))
    assert page.told["seen"] == [str(n) for n in range(1, last + 1)]
    assert len(page.told["open"]) >= 4
    assert set(page.told["error"]) <= {"0"}
