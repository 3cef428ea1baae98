"""Memory of every process of a whole mesh at rest, and how long `swarm up` takes until it is ready.

The mesh is the real one, started by the supervisor on a fresh data folder and free ports; `ready_s` is from the command until
every process says it is ready, keys and streams made on the way. Limits: 80 MB a service, 250 MB the memory compactor, 10 s.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import psutil

from scripts.benchmarks.measure import CannotMeasure, Figures, run_async, say
from services.supervisor.mesh import Mesh, MeshFailed
from services.supervisor.plan import NATS, S3

KEYS = ("ready_s", "rss_mb")
LIMIT_MB = 80
LIMITS_MB = {"memory_compactor-1": 250}
READY_LIMIT_S = 10


def run(*, quick: bool) -> Figures:
    """`quick` looks after 5 s of rest instead of 60."""
    return run_async(_run(5 if quick else 60))


async def _run(rest_s: int) -> Figures:
    say("rss: the whole mesh")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        began = time.perf_counter()
        try:
            async with Mesh(Path(folder)) as mesh:
                await mesh.wait_ready()
                ready_s = time.perf_counter() - began
                await asyncio.sleep(rest_s)
                rss = {name: _rss_mb(mesh.pid(name)) for name in mesh.children}
        except MeshFailed as error:
            raise CannotMeasure(f"the mesh does not come up: {error}") from error
    services = {name: mb for name, mb in rss.items() if name not in (NATS, S3)}
    over = {name: mb for name, mb in services.items() if mb > LIMITS_MB.get(name, LIMIT_MB)}
    return {
        "ready_s": round(ready_s, 2),
        "ready_limit_s": READY_LIMIT_S,
        "rest_s": rest_s,
        "rss_mb": rss,
        "limits_mb": {"service": LIMIT_MB, **LIMITS_MB},
        "over_the_limit": over,
    }


def _rss_mb(pid: int | None) -> float:
    if pid is None:
        raise CannotMeasure("a process of the mesh is down")
    return float(round(psutil.Process(pid).memory_info().rss / 2**20, 1))
