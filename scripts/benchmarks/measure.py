"""What all benchmarks share: percentiles, progress on standard error, a broker of their own."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from shared.log.streams import ensure
from tests.broker import Broker

logging.getLogger("httpx").setLevel(logging.WARNING)

Figures = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent.parent


class CannotMeasure(Exception):
    """A part cannot be measured here and now; the sentence says why. Never replaced by a made-up number."""


def run_async(work: Coroutine[Any, Any, Figures]) -> Figures:
    """On uvloop, as the services do; the baselines get it too."""
    return uvloop.run(work)


def say(text: str) -> None:
    """Progress, to standard error."""
    print(text, file=sys.stderr, flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile; `share` from 0 to 1. Raises `ValueError` on no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def latency(seconds: Sequence[float]) -> Figures:
    """Count, median and 95th percentile in milliseconds."""
    return {
        "n": len(seconds),
        "p50_ms": round(percentile(seconds, 0.5) * 1e3, 3),
        "p95_ms": round(percentile(seconds, 0.95) * 1e3, 3),
    }


@asynccontextmanager
async def broker(*, sync_always: bool, more: str = "") -> AsyncIterator[Broker]:
    """A real nats-server with the mesh's streams, on a free port, with its store in a folder that goes away; `more` is of its
    configuration."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = Broker(Path(folder), sync_always=sync_always, more=more)
        await server.start()
        try:
            await ensure(server.url, None)
            yield server
        finally:
            await asyncio.to_thread(server.kill)


def show(part: str, figures: Figures, indent: str = "  ") -> None:
    """The figures for people, nested by indentation."""
    print(part)
    for key, value in figures.items():
        if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
            show(f"{indent}{key}", value, indent + "  ")
        else:
            print(f"{indent}{key}: {value}")
