"""Whether one memory compactor keeps up with 1 000 active personas, and what a thought costs it: the real process, broker and S3.

What is remembered was thought by the real rules: `ORIGINALS` personas live for a while on a simulated clock, with a new line every
`LINE_EVERY_S`, so that none rests, at the default cadence. Each then stands for as many of the 1 000 as there are, under names and
ids of its own. Their thoughts are said at the rate they were thought at (`PACED_S`); then a backlog of them, at once.

- `produced_per_s`: thoughts of 1 000 such personas. `behind_s`, `behind_events`: the most that memory was behind meanwhile, as whoever
  asks it sees; `recall` is how long they waited for the answer.
- `handled_per_s`: thoughts of the backlog by the time until memory has them all, with everything else on the same cores.
- `cpu_ms_per_thought`: of the whole process, snapshots and recalls included. `floor_cpu_ms_per_thought` is the baseline of the same
  run: as many of the same thoughts embedded and written to the same engine here, neither compared nor linked, no log, no snapshots.
- `ratio`: thoughts a second that one core bears at that cost over those produced; below 1 memory falls behind.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import psutil

from scripts.benchmarks.measure import CannotMeasure, Figures, broker, latency, say
from scripts.benchmarks.pipeline import Worker, processes
from services.supervisor.running.ports import free_port
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import EvidenceRef, RecallAnswered, RecallRequested, ThoughtGenerated
from shared.contracts.ids import caused_id, fresh_id, utc_now
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.memory.fabric import TRANSACTION_EVENTS
from shared.memory.index.edge import EdgeIndex
from shared.memory.index.embeddings import WordLlamaEmbedder
from shared.memory.items import draft
from shared.memory.port import LOG
from shared.runtime.handling import recorded
from tests.contract.memory.weed import ACCESS_KEY, SECRET_KEY, Weed
from tests.simulation.family import Family

ACTIVE, ORIGINALS = 1000, 10
LINE_EVERY_S = 2.0
LIVED_S = 240.0
PACE_S = 0.1
CAUGHT_UP_WITHIN_S = 600.0
MB = 2**20


async def keeping_up(*, quick: bool) -> Figures:
    """`quick`: 20 s at the rate and a backlog of 5 000, instead of 120 s and 50 000. Raises `CannotMeasure`."""
    paced_s, backlog = (20, 5_000) if quick else (120, 50_000)
    thoughts, per_s = await _originals()
    said = _everybodys(thoughts)
    with TemporaryDirectory(prefix="bench-") as folder:
        floor = await _floor(list(islice(_everybodys(thoughts), 5_000)), Path(folder))
        weed = Weed(Path(folder))
        weed.start()
        try:
            async with broker(sync_always=False) as server, processes([_compactor(server.url, weed, folder)]) as (pid,):
                connection = await Connection.open(server.url, name="bench")
                try:
                    mesh = _Mesh(JetStreamLog(connection, service="bench", instance="bench-1"), pid)
                    listening = asyncio.create_task(mesh.listen())
                    say(f"memory: {per_s:.0f} thoughts a second for {paced_s} s")
                    paced = await mesh.paced(said, per_s, paced_s)
                    say(f"memory: a backlog of {backlog} thoughts")
                    burst = await mesh.backlog(list(islice(said, backlog)))
                    listening.cancel()
                finally:
                    await connection.close()
        finally:
            weed.kill()
    cost = paced["cpu_ms_per_thought"]
    return {
        "active_personas": ACTIVE,
        "produced_per_s": round(per_s),
        "paced": paced,
        "backlog": burst,
        "floor_cpu_ms_per_thought": round(floor, 3),
        "cost_over_floor": round(cost / floor, 2),
        "ratio": round(1000 / cost / per_s, 2),
    }


async def _originals() -> tuple[list[Recorded], float]:
    """Thoughts of `ORIGINALS` active personas, in order, and how many a second `ACTIVE` of them have."""
    family = Family([(f"p{n}", None) for n in range(ORIGINALS)])
    await family.live(LIVED_S, line_every_s=LINE_EVERY_S)
    thoughts = [r for r in family.store.records if isinstance(r.event, ThoughtGenerated)]
    return thoughts, len(thoughts) / LIVED_S / ORIGINALS * ACTIVE


def _everybodys(thoughts: Sequence[Recorded]) -> Iterator[Message]:
    """Each thought by everybody it stands for, in order, and when they are through by the same ones in another life."""
    own = {r.id for r in thoughts}
    for life in count():
        for original in thoughts:
            for twin in range(ACTIVE // ORIGINALS):
                yield _twins(original, life, twin, own)


def _twins(original: Recorded, life: int, twin: int, own: set[str]) -> Message:
    event, suffix = original.event, f"{life}-{twin}"
    assert isinstance(event, ThoughtGenerated)
    before = life * round(LIVED_S)  # more than anybody's steps in one life

    def named(name: str) -> str:
        return caused_id(name, suffix) if name in own else name

    said = msgspec.structs.replace(
        event,
        swarm="bench",
        persona=f"{event.persona}-{twin}",
        step=before + event.step,
        cycle=before + event.cycle,
        context_ids=tuple(map(named, event.context_ids)),
        evidence=tuple(EvidenceRef(id=named(ref.id), seq=ref.seq) for ref in event.evidence),
    )
    name = named(original.id)
    return Message(event=said, envelope=Envelope(id=name, source="bench", time=utc_now(), correlation=name))


class _Mesh:
    """Says thoughts, and asks memory how far it is."""

    def __init__(self, log: JetStreamLog, pid: int) -> None:
        self._log = log
        self._process = psutil.Process(pid)
        self._unseen: deque[tuple[int, float]] = deque()
        self._asked: dict[str, asyncio.Future[int]] = {}
        self._said = self._seen = 0
        self._peak = 0
        self.answered: list[float] = []

    async def paced(self, thoughts: Iterator[Message], per_s: float, seconds: float) -> Figures:
        cpu, began, said = self._cpu_s(), time.perf_counter(), 0
        behind_s, behind_events = 0.0, 0
        asking = asyncio.create_task(self._ask_until(began + seconds))
        while (passed := time.perf_counter() - began) < seconds:
            due = int(passed * per_s) - said
            await self._say(list(islice(thoughts, due)))
            said += due
            if self._unseen:
                behind_s = max(behind_s, time.perf_counter() - self._unseen[0][1])
                behind_events = max(behind_events, self._said - self._seen)
            await asyncio.sleep(PACE_S)
        await asking
        caught_up_s = await self._caught_up()
        return {
            "seconds": seconds,
            "thoughts": said,
            "said_per_s": round(said / seconds),
            "behind_s": round(behind_s, 2),
            "behind_events": behind_events,
            "caught_up_after_s": round(caught_up_s, 2),
            "recall": latency(self.answered),
            "cpu_ms_per_thought": round((self._cpu_s() - cpu) / said * 1e3, 3),
            "peak_rss_mb": round(self._peak / MB, 1),
        }

    async def backlog(self, thoughts: list[Message]) -> Figures:
        cpu, began = self._cpu_s(), time.perf_counter()
        await self._say(thoughts)
        said_s = time.perf_counter() - began
        await self._caught_up()
        return {
            "thoughts": len(thoughts),
            "said_within_s": round(said_s, 2),
            "handled_per_s": round(len(thoughts) / (time.perf_counter() - began)),
            "cpu_ms_per_thought": round((self._cpu_s() - cpu) / len(thoughts) * 1e3, 3),
            "peak_rss_mb": round(self._peak / MB, 1),
        }

    async def _say(self, thoughts: list[Message]) -> None:
        for start in range(0, len(thoughts), 200):
            self._said = (await self._log.commit(thoughts[start : start + 200]))[-1]
            self._unseen.append((self._said, time.perf_counter()))

    async def _ask_until(self, end: float) -> None:
        while time.perf_counter() < end:
            began = time.perf_counter()
            await self._ask()
            self.answered.append(time.perf_counter() - began)
            await asyncio.sleep(PACE_S)

    async def _ask(self) -> None:
        """Have memory say what it remembers, and how far it is."""
        name = fresh_id()
        answered = self._asked[name] = asyncio.get_running_loop().create_future()
        question = RecallRequested(swarm="bench", persona="p0-0", query="what is new, and what is open?")
        await self._log.commit(
            [Message(event=question, envelope=Envelope(id=name, source="bench", time=utc_now(), correlation=name))]
        )
        self._seen = max(self._seen, await answered)
        while self._unseen and self._unseen[0][0] <= self._seen:
            self._unseen.popleft()
        self._peak = max(self._peak, self._process.memory_info().rss)

    async def listen(self) -> None:
        """Hear the answers, until cancelled."""
        async for answer in self._log.tail(("recall.answered.bench.*",), stream="RECALL"):
            assert isinstance(answer, Recorded)
            assert isinstance(answer.event, RecallAnswered)
            if (waiting := self._asked.pop(answer.envelope.causation or "", None)) is not None:
                waiting.set_result(answer.event.seq)

    async def _caught_up(self) -> float:
        began = time.perf_counter()
        while self._seen < self._said:
            if time.perf_counter() - began > CAUGHT_UP_WITHIN_S:
                raise CannotMeasure(f"memory did not catch up within {CAUGHT_UP_WITHIN_S:.0f} s")
            await self._ask()
            await asyncio.sleep(PACE_S)
        return time.perf_counter() - began

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def _compactor(url: str, weed: Weed, folder: str) -> Worker:
    port = free_port()
    env = {
        "SWARM_NATS_URL": url,
        "SWARM_REQUIRE_SYNC_ALWAYS": "false",
        "SWARM_DATA_DIR": folder,
        "SWARM_HEALTH_PORT": str(port),
        "SWARM_S3_ENDPOINT": weed.endpoint,
        "SWARM_S3_ACCESS_KEY": ACCESS_KEY,
        "SWARM_S3_SECRET_KEY": SECRET_KEY,
        "SWARM_S3_BUCKET": "bench",
    }
    return Worker(("-m", "services.memory_compactor"), env, f"http://127.0.0.1:{port}/health/ready")


async def _floor(thoughts: Sequence[Message], folder: Path) -> float:
    """CPU ms a thought to embed and write them, in transactions as large as the fabric's."""
    embedder = WordLlamaEmbedder()
    index = await EdgeIndex.open(folder / "floor", embedder.dim)
    try:
        cpu = time.process_time()
        for start in range(0, len(thoughts), TRANSACTION_EVENTS):
            part = thoughts[start : start + TRANSACTION_EVENTS]
            at = [recorded(message, start + n + 1, message.envelope.time) for n, message in enumerate(part)]
            items = [d.item for r in at if (d := draft(r)) is not None]
            vectors = await embedder.embed([item.text for item in items])
            await index.write(list(zip(items, vectors, strict=True)), cursors={LOG: at[-1].seq})
        return (time.process_time() - cpu) / len(thoughts) * 1e3
    finally:
        await index.close()
        await embedder.close()
