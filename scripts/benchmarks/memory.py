"""Whether memory keeps up (`remembering.py`), and recall at 10 000 and 100 000 thoughts: embedding the question, Qdrant Edge, ranking.

The thoughts belong to `PERSONAS` personas in equal parts, and a recall sees only its persona's. They are made, embedded and
written as the fabric would write them, but without folding duplicates, so that the number is exact. Baseline: the same vectors
and the same ranking by brute force in numpy, in memory, over that persona's thoughts alone.
"""

from __future__ import annotations

import random
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from scripts.benchmarks.measure import Figures, latency, run_async, say
from scripts.benchmarks.remembering import keeping_up
from shared.contracts.envelope import Envelope, Recorded
from shared.contracts.events import ThoughtGenerated
from shared.memory.fabric import Fabric
from shared.memory.index.edge import EdgeIndex
from shared.memory.index.embeddings import WordLlamaEmbedder
from shared.memory.items import draft
from shared.memory.port import owner_of

KEYS = ("recall_p95_ms", "memory_keeps_up_ratio")
PERSONAS = 10
SEED = 7
START = datetime(2026, 1, 1, tzinfo=UTC)
_WHAT = (
    "latency",
    "errors",
    "queue",
    "disk",
    "memory",
    "login",
    "payment",
    "cache",
    "replica",
    "certificate",
    "backup",
)
_HOW = ("rises", "falls", "doubles", "stalls", "recovers", "drifts", "flaps", "saturates", "leaks", "skips")


def run(*, quick: bool) -> Figures:
    """10 000 always, 100 000 not when `quick`."""
    return run_async(_run(quick))


async def _run(quick: bool) -> Figures:
    figures: Figures = {"keeping_up": await keeping_up(quick=quick), "seed": SEED, "personas": PERSONAS}
    figures["memory_keeps_up_ratio"] = figures["keeping_up"]["ratio"]
    for count in (10_000,) if quick else (10_000, 100_000):
        say(f"memory: {count} thoughts")
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            figures[f"at_{count}"] = await _at(count, Path(folder), recalls=100 if quick else 500)
    if quick:
        figures["not_measured"] = "100 000 thoughts: only without --quick"
    figures["recall_p95_ms"] = {name: value["recall"]["p95_ms"] for name, value in figures.items() if "at_" in name}
    return figures


async def _at(count: int, folder: Path, recalls: int) -> Figures:
    chance = random.Random(SEED)
    embedder = WordLlamaEmbedder()
    index = await EdgeIndex.open(folder / "memory", embedder.dim)
    try:
        began = time.perf_counter()
        rows: list[np.ndarray] = []
        for start in range(0, count, 1000):
            items = [d.item for n in range(start, start + 1000) if (d := draft(_thought(n, chance))) is not None]
            vectors = await embedder.embed([item.text for item in items])
            await index.write(list(zip(items, vectors, strict=True)), cursors={"log": start + 1000})
            rows.append(vectors[::PERSONAS])
        written_s = time.perf_counter() - began
        stored = sum([await index.count(owner_of("bench", f"p{n}")) for n in range(PERSONAS)])
        assert stored == count, f"{stored} of {count} thoughts are in the index"
        fabric = await Fabric.open(index, embedder)
        now = START + timedelta(seconds=count)
        ours, brute = [], []
        everything = np.concatenate(rows)
        for n in range(recalls):
            question = _words(chance)
            began = time.perf_counter()
            found = await fabric.recall("bench", f"p{n % PERSONAS}", question, 8, now)
            ours.append(time.perf_counter() - began)
            assert len(found) == 8
            began = time.perf_counter()
            scores = everything @ (await embedder.embed([question]))[0]
            np.argsort(scores)[-8:]
            brute.append(time.perf_counter() - began)
        return {
            "recall": latency(ours),
            "brute_force_in_memory": latency(brute),
            "write_per_s": round(count / written_s),
        }
    finally:
        await index.close()
        await embedder.close()


def _words(chance: random.Random) -> str:
    host = chance.randrange(200)
    return f"{chance.choice(_WHAT)} on host-{host} {chance.choice(_HOW)} after {chance.choice(_WHAT)} {chance.randrange(10_000)}"


def _thought(n: int, chance: random.Random) -> Recorded:
    at = START + timedelta(seconds=n)
    thought = ThoughtGenerated(
        swarm="bench",
        persona=f"p{n % PERSONAS}",
        step=n + 1,
        cycle=n // 4,
        phase="reflect",
        text=f"{_words(chance)}; {_words(chance)}",
        thinker="rules",
        digest="0" * 64,
        useful_at=at,
    )
    envelope = Envelope(id=f"t-{n}", source="bench", time=at, correlation=f"t-{n}")
    return Recorded(event=thought, envelope=envelope, seq=n + 1, stored_at=at, subject="")
