"""A denial against an authorisation of one proposal on three brokers, by two gates at two of them: never both (`tests/cluster_race.py`)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from scripts.benchmarks.measure import Figures, run_async, say
from shared.log.streams import ensure
from tests.broker import REPLICAS, Cluster
from tests.cluster_race import race

KEYS = ("race_both",)


def run(*, quick: bool) -> Figures:
    """10 000 rounds, 200 when `quick`."""
    return run_async(_run(200 if quick else 10_000))


async def _run(rounds: int) -> Figures:
    say(f"race: {rounds} denials against authorisations")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        cluster = Cluster(Path(folder))
        await cluster.start()
        try:
            await ensure(cluster.url, None, replicas=REPLICAS)
            outcome = await race(cluster, rounds)
        finally:
            cluster.kill()
    return {**msgspec.to_builtins(outcome), "race_both": outcome.both}
