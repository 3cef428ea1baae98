"""What it takes to ask the real memory over the bus and to hear its answer, against the same way with nats-py alone.

`recall`: `recall.requested` is committed, memory (its own process, `REMEMBERED` thoughts of one persona in the embedded index) takes it,
looks, and commits `recall.answered`, which is heard. `bare`: a message is stored, taken by `fetch(1)`, answered by another that is stored
and pushed; nobody looks anything up.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import nats
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from scripts.benchmarks.kernel import thought
from scripts.benchmarks.measure import CannotMeasure, Figures, latency
from scripts.benchmarks.pipeline import Worker, processes
from services.supervisor.running.ports import free_port
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import RecallAnswered, RecallRequested
from shared.contracts.ids import fresh_id, utc_now
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from tests.contract.memory.weed import ACCESS_KEY, SECRET_KEY, Weed

REMEMBERED, PERSONA = 500, "asked"
WITHIN_S = 60.0
ASKED, ANSWERED = "bareask.q", "bareask.a"


async def asking(url: str, store: Weed, folder: Path, count: int, replicas: int) -> Figures:
    """So many questions, one after another, of each kind. Raises `CannotMeasure`."""
    ours = await _recalls(url, _memory(url, store, folder, replicas), count, replicas)
    bare = await _bare(url, count, replicas)
    return {"recall": latency(ours), "bare_question": latency(bare)}


async def _recalls(url: str, memory: Worker, count: int, replicas: int) -> list[float]:
    connection = await Connection.open(url, name="bench-asking")
    log = JetStreamLog(connection, service="bench", instance="bench-asking", replicated=replicas > 1)
    waiting: dict[str, asyncio.Future[int]] = {}

    async def hear() -> None:
        async for answer in log.tail((f"recall.answered.bench.{PERSONA}",), stream="RECALL"):
            asked = waiting.pop(answer.envelope.causation or "", None) if isinstance(answer, Recorded) else None
            if asked is not None and isinstance(answer, Recorded) and isinstance(answer.event, RecallAnswered):
                asked.set_result(answer.event.seq)

    async def ask() -> int:
        name = fresh_id()
        answer = waiting[name] = asyncio.get_running_loop().create_future()
        question = RecallRequested(swarm="bench", persona=PERSONA, query="which error rate rose, and when?")
        envelope = Envelope(id=name, source="bench", time=utc_now(), correlation=name)
        await log.commit([Message(event=question, envelope=envelope)])
        return await answer

    hearing = asyncio.create_task(hear())
    try:
        async with processes([memory]):
            said = 0
            for _ in range(REMEMBERED // 100):
                said = (await log.commit([thought(PERSONA) for _ in range(100)]))[-1]
            async with asyncio.timeout(WITHIN_S):
                while await ask() < said:
                    await asyncio.sleep(0.1)
            times = []
            for _ in range(count):
                began = time.perf_counter()
                await ask()
                times.append(time.perf_counter() - began)
            return times
    except TimeoutError:
        raise CannotMeasure(f"memory had not read {REMEMBERED} thoughts within {WITHIN_S:.0f} s") from None
    finally:
        hearing.cancel()
        await connection.close()


async def _bare(url: str, count: int, replicas: int) -> list[float]:
    servers = url.split(",")
    client, worker = await nats.connect(servers), await nats.connect(servers)
    try:
        js = client.jetstream()
        await js.add_stream(name="BAREASK", subjects=[ASKED, ANSWERED], num_replicas=replicas)
        heard: asyncio.Queue[float] = asyncio.Queue()

        async def hear(message: Msg) -> None:
            heard.put_nowait(time.perf_counter())

        await js.subscribe(ANSWERED, cb=hear, config=ConsumerConfig(ack_policy="none"), manual_ack=True)
        questions = await worker.jetstream().pull_subscribe(ASKED, durable="memory", stream="BAREASK")

        async def answer() -> None:
            for _ in range(count):
                (message,) = await questions.fetch(1, timeout=WITHIN_S)
                await worker.jetstream().publish(ANSWERED, message.data)
                await message.ack()

        answering = asyncio.create_task(answer())
        times = []
        for _ in range(count):
            began = time.perf_counter()
            await js.publish(ASKED, b"which error rate rose, and when?")
            times.append(await heard.get() - began)
        await answering
        return times
    finally:
        await client.close()
        await worker.close()


def _memory(url: str, store: Weed, folder: Path, replicas: int) -> Worker:
    port = free_port()
    env = {
        "SWARM_NATS_URL": url,
        "SWARM_STORE_REPLICAS": str(replicas),
        "SWARM_REQUIRE_SYNC_ALWAYS": "false",
        "SWARM_DATA_DIR": str(folder),
        "SWARM_HEALTH_PORT": str(port),
        "SWARM_S3_ENDPOINT": store.endpoint,
        "SWARM_S3_ACCESS_KEY": ACCESS_KEY,
        "SWARM_S3_SECRET_KEY": SECRET_KEY,
        "SWARM_S3_BUCKET": "bench",
    }
    return Worker(("-m", "services.memory_compactor"), env, f"http://127.0.0.1:{port}/health/ready")
