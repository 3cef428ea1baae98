"""`swarm run`: the main job. A mesh, a root persona, something real to perceive, and a view of what comes of it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable
from pathlib import Path

import httpx

from services.cli.commands.running.up import where, with_mesh
from services.cli.observe.follow import Follower
from services.cli.observe.host import readings
from services.cli.observe.sending import Observer
from services.cli.terminal.output import emit, say
from services.cli.terminal.report import Report, Tally, lines
from services.cli.terminal.stream import events
from services.cli.terminal.target import FAILED, OK, Target, call, rows
from services.cli.terminal.view import LiveView, PlainView
from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options

GONE = ("draining", "reaped")
ROOT = {
    "name": "root-thinker",
    "role": "orchestrator",
    "charter": "Watch everything the swarm perceives, find what is out of the ordinary, and propose what would help.",
    "tags": ["orchestration"],
}


async def run(
    target: Target,
    options: Options,
    *,
    files: tuple[Path, ...],
    swarm: str,
    for_s: float | None,
    interval_s: float,
    loop_interval_ms: int,
    report: bool,
) -> int:
    """Exit code: 0 only when the mesh was ready and thought."""
    tally, began, ready = Tally(), time.monotonic(), False
    live = sys.stdout.isatty() and not target.json
    view = LiveView() if live else PlainView(stderr=target.json)

    def on_line(name: str, line: str) -> None:
        if line.startswith("supervisor:"):
            view.note(line)

    async def think(mesh: Mesh) -> None:
        nonlocal ready
        ready = True
        view.note(f"ready after {time.monotonic() - began:.1f} s; " + "; ".join(where(mesh)))
        async with httpx.AsyncClient(
            base_url=mesh.api_url, headers=_authorization(target), timeout=20, trust_env=False
        ) as client:
            try:
                async with asyncio.timeout(for_s), asyncio.TaskGroup() as group:
                    opened = asyncio.Event()
                    group.create_task(_watch(client, tally, view, opened))
                    await opened.wait()
                    await start(client, swarm, loop_interval_ms)
                    if not files:
                        host = Observer(client, swarm, "host", notice=view.note)
                        group.create_task(_done(host.take(readings(interval_s))))
                    for file in files:
                        observer = Observer(client, swarm, file.name, notice=view.note)
                        group.create_task(_done(observer.take(Follower(file, view.note).lines())))
            except TimeoutError:
                return

    say(f"starting a mesh on {target.data}; logs in {target.data / 'logs'}")
    with view:
        mesh = await with_mesh(target.data, options, think, on_line=on_line)
    result = tally.report(
        ready=ready,
        seconds=time.monotonic() - began,
        workspace=str(mesh.workspace),
        data=str(mesh.data),
        api_url=mesh.api_url,
    )
    if report or target.json:
        _print(result, as_json=target.json)
    if not result.ok:
        say("nothing was thought; the logs of the services say why")
    return OK if result.ok else FAILED


async def _watch(client: httpx.AsyncClient, tally: Tally, view: LiveView | PlainView, opened: asyncio.Event) -> None:
    async for event in events(client, opened=opened.set):
        if tally.take(event):
            view.show(event, tally)


async def start(client: httpx.AsyncClient, swarm: str, loop_interval_ms: int, persona_id: str = "root-thinker") -> None:
    """A live persona in the swarm, and the loop running."""
    personas = await rows(client, "/v1/swarm/personas", {"swarm": swarm})
    if not any(p["status"] not in GONE for p in personas):
        await call(
            client,
            "POST",
            "/v1/swarm/personas",
            json={**ROOT, "swarm_id": swarm, "persona_id": None if personas else persona_id},
        )
    await call(client, "POST", "/v1/cognition/start", json={"loop_interval_ms": loop_interval_ms})


async def _done(work: Awaitable[int]) -> None:
    await work


def _authorization(target: Target) -> dict[str, str]:
    return {"Authorization": f"Bearer {target.token}"} if target.token else {}


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        emit(report)
    else:
        sys.stdout.write("\n".join(lines(report)) + "\n")
