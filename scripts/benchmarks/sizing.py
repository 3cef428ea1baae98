"""What each process of a mesh needs: CPU at rest, CPU per thought and memory at work, with rules as the thinker.

The mesh is the real one, on this machine, under `sync_interval: always`. `PERSONAS` roots in four swarms think as fast as every
`LOOP_MS` while lines come in, and what they find goes all the way to an executed report. Thoughts are those in the log;
`cpu_ms_per_thought` is what each process used of a core meanwhile, by that number, and `per_core` how many thoughts a second one core of it
bears. Of a shared machine: the CPU is each process's own, waiting for the core is not in it.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from itertools import cycle, islice
from pathlib import Path

import httpx
import psutil

from scripts.benchmarks.measure import ROOT, CannotMeasure, Figures, run_async, say
from services.supervisor.mesh import Mesh, MeshFailed

KEYS: tuple[str, ...] = ()
PERSONAS, LOOP_MS = 40, 250
LINES_PER_S = 40
SWARMS = ("alpha", "beta", "gamma", "delta")


def run(*, quick: bool) -> Figures:
    """`quick`: 10 s of rest and 20 s of work instead of 30 and 120."""
    return run_async(_run(10, 20) if quick else _run(30, 120))


async def _run(rest_s: int, work_s: int) -> Figures:
    say("sizing: the whole mesh, at rest and at work")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            async with Mesh(Path(folder)) as mesh:
                await mesh.wait_ready()
                resting = await _used(mesh, rest_s)
                async with httpx.AsyncClient(base_url=mesh.api_url, trust_env=False, timeout=20) as api:
                    await _begin(api)
                    feeding = asyncio.create_task(_feed(api))
                    before = await _thoughts(mesh)
                    used = await _used(mesh, work_s)
                    thoughts = await _thoughts(mesh) - before
                    feeding.cancel()
                    await asyncio.gather(feeding, return_exceptions=True)
                memory = {name: _process(mesh, name).memory_info().rss / 2**20 for name in mesh.children}
        except MeshFailed as error:
            raise CannotMeasure(f"the mesh does not come up: {error}") from error
    if thoughts < 100:
        raise CannotMeasure(f"there were {thoughts:g} thoughts in {work_s} s, too few to divide by")
    per_thought = {name: 1e3 * cpu_s / thoughts for name, cpu_s in used.items()}
    return {
        "personas": PERSONAS,
        "thoughts_per_s": round(thoughts / work_s, 1),
        "cpu_percent_at_rest": {name: round(100 * cpu_s / rest_s, 1) for name, cpu_s in resting.items()},
        "cpu_ms_per_thought": {name: round(ms, 2) for name, ms in per_thought.items()},
        "thoughts_per_s_per_core": {name: round(1e3 / ms) for name, ms in per_thought.items() if ms > 0},
        "rss_mb": {name: round(mb, 1) for name, mb in memory.items()},
    }


async def _begin(api: httpx.AsyncClient) -> None:
    for n in range(PERSONAS):
        body = {
            "persona_id": f"p{n}",
            "name": f"p{n}",
            "role": "watcher",
            "charter": "Watch.",
            "swarm_id": SWARMS[n % len(SWARMS)],
        }
        (await api.post("/v1/swarm/personas", json=body)).raise_for_status()
    (await api.post("/v1/cognition/start", json={"loop_interval_ms": LOOP_MS})).raise_for_status()


async def _feed(api: httpx.AsyncClient) -> None:
    """Lines of a log with something to find in it, over and over."""
    lines = cycle((ROOT / "tests" / "logs" / "sshd-bruteforce.log").read_text().splitlines())
    while True:
        for swarm in SWARMS:
            some = [{"text": line, "source": "auth.log"} for line in islice(lines, LINES_PER_S // len(SWARMS))]
            await api.post(f"/v1/swarm/{swarm}/observations", json={"observations": some})
        await asyncio.sleep(1)


async def _thoughts(mesh: Mesh) -> float:
    """In the log until now, as the gateway counts them."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        text = (await client.get(f"{mesh.health_url('gateway-1')}/metrics")).text
    return sum(float(value) for value in re.findall(r"^swarm_thoughts_total\{.*\} (\S+)$", text, re.MULTILINE))


async def _used(mesh: Mesh, for_s: int) -> dict[str, float]:
    """Seconds of a core each process used in so many seconds."""
    before = {name: _cpu_s(_process(mesh, name)) for name in mesh.children}
    await asyncio.sleep(for_s)
    return {name: _cpu_s(_process(mesh, name)) - was for name, was in before.items()}


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _process(mesh: Mesh, name: str) -> psutil.Process:
    if (pid := mesh.pid(name)) is None:
        raise CannotMeasure(f"{name} is down")
    return psutil.Process(pid)
