"""Who gets credits: a root with 340 descendants (four below each, four levels deep) and 1 000 roots, all on the default limits.

Simulated: real governor, runner and rules on the in-memory log, on a made-up clock (`tests/simulation/family.py`): who may think
when does not depend on how busy this machine is, and ten minutes pass in less. A thought costs what it really takes of the
processor. One line comes for everybody every `LINE_EVERY_S`; shares are counted by windows of two minutes.

`mesh_flat_*`: the same of roots on a whole mesh of real processes with a real broker, born and fed over HTTP, a line every
`MESH_LINE_EVERY_S`; shares are read from its log. All of them share this machine's cores, so it says what those allow too.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import httpx
import msgspec

from scripts.benchmarks.measure import CannotMeasure, Figures, run_async, say
from services.governor.service import limits_of
from services.supervisor.mesh import Mesh, MeshFailed
from services.supervisor.plan import Options
from shared.contracts.envelope import Recorded
from shared.contracts.ids import utc_now
from shared.invariants import Limits
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.settings import Settings
from tests.simulation.family import Family, flat, shared, tree

KEYS = ("ledger_events_per_thought", "min_over_median", "fewest_cycles_in_two_minutes")
LINE_EVERY_S = 10.0
MESH_LINE_EVERY_S = 60.0
WINDOW_S = 120.0
MESH_ROOTS = 1000
AT_ONCE = 16
HOSTED_WITHIN_S = 300.0
SWARM = "flat"


def run(*, quick: bool) -> Figures:
    """Ten minutes of each; with `quick` two, and only what is simulated."""
    return run_async(_run(WINDOW_S if quick else 600.0, quick=quick))


async def _run(seconds: float, *, quick: bool) -> Figures:
    figures: Figures = {"clock": "simulated", "seconds": seconds, "line_every_s": LINE_EVERY_S}
    shapes = {"tree_341": tree(4, 4), "flat_1000": flat(1000)}
    for name, personas in shapes.items():
        say(f"grants: {name}")
        began = time.process_time()
        family = Family(list(personas))
        await family.live(seconds, line_every_s=LINE_EVERY_S)
        figures[name] = msgspec.to_builtins(family.measure(window_s=WINDOW_S))
        figures[name]["simulated_in_cpu_s"] = round(time.process_time() - began, 1)
    if quick:
        figures["not_measured"] = f"{MESH_ROOTS} roots on a real mesh: only without --quick"
    else:
        figures[f"mesh_flat_{MESH_ROOTS}"] = await on_a_mesh(MESH_ROOTS, seconds)
    shares = [figures[name] for name in shapes]
    figures["ledger_events_per_thought"] = max(s["ledger_events_per_thought"] for s in shares)
    figures["min_over_median"] = min(s["min_over_median"] for s in shares)
    figures["fewest_cycles_in_two_minutes"] = min(s["fewest_cycles_in_a_window"] for s in shares)
    return figures


async def on_a_mesh(roots: int, seconds: float) -> Figures:
    """So many roots on a whole mesh for so long. Raises `CannotMeasure`."""
    say(f"grants: {roots} roots on a real mesh")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            async with Mesh(Path(folder), Options(ready_timeout_s=120)) as mesh:
                await mesh.wait_ready()
                connection = await Connection.open(
                    mesh.nats_url, name="bench", seed_file=mesh.key("bootstrap"), inbox_prefix="_INBOX_bootstrap"
                )
                async with httpx.AsyncClient(base_url=mesh.api_url, timeout=60, trust_env=False) as http:
                    try:
                        return await _lived(
                            http, JetStreamLog(connection, service="bench", instance="bench-1"), roots, seconds
                        )
                    finally:
                        await connection.close()
        except MeshFailed as error:
            raise CannotMeasure(f"the mesh does not come up: {error}") from error


async def _lived(http: httpx.AsyncClient, log: JetStreamLog, roots: int, seconds: float) -> Figures:
    names = [f"p{n}" for n in range(roots)]
    await _born(http, names)
    await _said(http, "/v1/cognition/start", {})
    say("grants: everybody is born")
    began = utc_now()
    until = began + timedelta(seconds=seconds)
    line = 0
    while (now := utc_now()) < until:
        line += 1
        text = f"request {line} took 5 ms"
        await _said(http, f"/v1/swarm/{SWARM}/observations", {"observations": [{"text": text, "source": "bench"}]})
        await asyncio.sleep(min(MESH_LINE_EVERY_S, (until - now).total_seconds()))
    recorded: Sequence[Recorded] = await log.read((">",))
    defaults = limits_of(Settings())
    limits = Limits(
        swarm_per_minute=defaults.swarm_per_minute,
        actions_per_minute=defaults.actions_per_minute,
        lifetime_children=defaults.max_lifetime_children,
    )
    share = shared(recorded, names, began, until, window_s=WINDOW_S, limits=limits)
    return {"seconds": seconds, "line_every_s": MESH_LINE_EVERY_S, **msgspec.to_builtins(share)}


async def _born(http: httpx.AsyncClient, names: list[str]) -> None:
    """All of them, some at once, as fast as the quota of spawns lets them."""
    left = list(reversed(names))

    async def create() -> None:
        while left:
            name = left.pop()
            body = {"persona_id": name, "name": name, "role": "watcher", "charter": "Watch.", "swarm_id": SWARM}
            await _said(http, "/v1/swarm/personas", body)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(create())


async def _said(http: httpx.AsyncClient, path: str, body: object) -> None:
    """Until it is accepted or the time is over. Raises `CannotMeasure`."""
    deadline = time.monotonic() + HOSTED_WITHIN_S
    while (answer := await http.post(path, json=body)).status_code == 429 and time.monotonic() < deadline:
        await asyncio.sleep(float(answer.headers.get("Retry-After", 1)))
    if answer.status_code != 200:
        raise CannotMeasure(f"{path} answered {answer.status_code}: {answer.text[:300]}")
