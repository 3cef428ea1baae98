"""Drives one pipeline: proposals in on a schedule, what comes out of its last hop noted.

It shares the two cores with what it measures. So it uses our connection for all sides: with nats-py's, the headers that only
our events have would cost it three times the CPU, and that would count against our pipeline.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import NamedTuple

import httpx

from scripts.benchmarks.hop_worker import filter_of
from scripts.benchmarks.measure import ROOT, CannotMeasure
from services.supervisor.running.processes import die_with_parent
from shared.contracts.action import Action, action_digest
from shared.contracts.envelope import Envelope, Message, encode
from shared.contracts.events import EvidenceRef, ObservationVouched, PersonaSpawned, ProposalCreated
from shared.contracts.ids import fresh_id, utc_now
from shared.contracts.persona import Identity, PersonaPolicy, charter_sha256
from shared.log.client.connection import Connection
from shared.log.client.wire import Raw
from shared.log.jetstream import JetStreamLog

FOREVER = datetime(2100, 1, 1, tzinfo=UTC)
WAIT_S = 60.0
ADA = Identity(
    id="ada", name="ada", role="watcher", charter="Watch", swarm_id="bench", created_at=datetime(2026, 1, 1, tzinfo=UTC)
)
CHARTER = charter_sha256(ADA)
AT_ONCE = 500
"""Observations of one batch."""


class Side(NamedTuple):
    """A pipeline: what its messages are prefixed with, and the stream they come out on. A prefix means: bare, no headers.

    `slower`: at its peak it is sent so many times fewer proposals, to take about as long as the others.
    """

    name: str
    stream: str = "SWARM"
    prefix: str = ""
    slower: int = 1


class Worker(NamedTuple):
    """A process to run, and where it says that it is ready; without that, its first line says so."""

    arguments: Sequence[str]
    env: Mapping[str, str] = {}
    ready_url: str = ""
    name: str = ""


@asynccontextmanager
async def processes(workers: Sequence[Worker]) -> AsyncIterator[list[int]]:
    """The workers' process ids once all are ready; ended by SIGTERM. Raises `CannotMeasure` when one ends at once."""
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            *worker.arguments,
            cwd=ROOT,
            env={**os.environ, **worker.env},
            stdout=asyncio.subprocess.PIPE if not worker.ready_url else asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=die_with_parent(os.getpid()),
        )
        for worker in workers
    ]
    try:
        for worker, process in zip(workers, running, strict=True):
            await _until_ready(worker, process)
        yield [process.pid for process in running]
    finally:
        for process in running:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        for process in running:
            await process.wait()


async def _until_ready(worker: Worker, process: asyncio.subprocess.Process) -> None:
    name = " ".join(worker.arguments)
    try:
        async with asyncio.timeout(WAIT_S), httpx.AsyncClient(trust_env=False) as http:
            while worker.ready_url:
                if process.returncode is not None:
                    raise CannotMeasure(f"{name} ended with {process.returncode} before it was ready")
                try:
                    if (await http.get(worker.ready_url)).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.05)
            assert process.stdout is not None
            if not (await process.stdout.readline()).startswith(b"ready"):
                raise CannotMeasure(f"{name} ended before it was ready")
    except TimeoutError:
        raise CannotMeasure(f"{name} was not ready within {WAIT_S:.0f} s") from None


class Driver:
    """Sends proposals to a side and waits for them at its other end. Each has a target, parameters and evidence of its own."""

    def __init__(self, connection: Connection, side: Side) -> None:
        self.side = side
        self._connection = connection
        self._log = JetStreamLog(connection, service="bench", instance="bench-1")
        self._count = 0
        self._arrived: dict[str, float] = {}
        self._wanted = 0
        self._enough = asyncio.Event()

    async def open(self) -> Driver:
        """Listen at the end of the last hop, by a push consumer without acks."""
        inbox = self._connection.client.new_inbox()
        await self._connection.subscribe(inbox, self._take)
        config = {"deliver_subject": inbox, "filter_subject": filter_of(3, self.side.prefix), "ack_policy": "none"}
        body = json.dumps({"stream_name": self.side.stream, "config": config}).encode()
        answer = await self._connection.request(f"$JS.API.CONSUMER.CREATE.{self.side.stream}", body)
        assert b'"error"' not in answer.data, answer.data
        return self

    async def at_rate(self, per_s: int, count: int) -> list[float]:
        """Seconds from due to done of `count` proposals, due on a fixed schedule, late or not."""
        sends = await self._proposals(count)
        due: dict[str, float] = {}
        start = time.perf_counter() + 0.02
        for n, (name, subject, lines, body) in enumerate(sends):
            due[name] = start + n / per_s
            if (pause := due[name] - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            self._connection.send(subject, body, lines=lines)
        await self._all_of(count)
        return [self._arrived[name] - due[name] for name in due]

    async def at_once(self, count: int) -> float:
        """Proposals out per second, from the first to the last, when `count` come in as fast as they can."""
        for n, (_, subject, lines, body) in enumerate(await self._proposals(count)):
            self._connection.send(subject, body, lines=lines)
            if n % 500 == 499:
                await self._connection.client.flush()
        await self._all_of(count)
        times = sorted(self._arrived.values())
        return (count - 1) / (times[-1] - times[0])

    async def once(self) -> None:
        """Returns when one proposal has come out."""
        ((_, subject, lines, body),) = await self._proposals(1)
        self._connection.send(subject, body, lines=lines)
        await self._all_of(1)

    async def _all_of(self, count: int) -> None:
        self._wanted = count
        if len(self._arrived) < count:
            self._enough.clear()
            try:
                async with asyncio.timeout(WAIT_S):
                    await self._enough.wait()
            except TimeoutError:
                lost = f"{len(self._arrived)} of {count} proposals came out within {WAIT_S:.0f} s"
                raise CannotMeasure(f"{self.side.name}: {lost}") from None

    def _take(self, message: Raw) -> None:
        self._arrived[message.subject.rpartition(".")[2]] = time.perf_counter()
        if len(self._arrived) == self._wanted:
            self._enough.set()

    async def _proposals(self, count: int) -> list[tuple[str, str, str, bytes]]:
        self._arrived = {}
        self._wanted = 0
        sends: list[tuple[str, str, str, bytes]] = []
        for evidence in await observed(self._log, count):
            self._count += 1
            name = f"p-{self._count}"
            subject, lines, body = encode(proposal(name, evidence))
            sends.append((name, self.side.prefix + subject, "" if self.side.prefix else lines, body))
        return sends


def proposal(name: str, evidence: EvidenceRef) -> Message:
    """A proposal to do nothing, such as the gate would let pass."""
    event_id, now = fresh_id(), utc_now()
    action = Action(kind="test.noop", target=f"nothing/{name}", params={"note": f"for {event_id}"})
    event = ProposalCreated(
        swarm="bench",
        persona="ada",
        proposal_id=name,
        title="Do nothing",
        rationale="The error rate of the payment service rose from 2 to 41 a minute. " * 4,
        action=action,
        evidence=(evidence,),
        charter=CHARTER,
        digest=action_digest(swarm="bench", persona="ada", charter=CHARTER, action=action),
        deadline=FOREVER,
    )
    return Message(
        event=event,
        envelope=Envelope(id=event_id, source="bench", time=now, correlation=event_id, charter=CHARTER),
    )


async def grounds(log: JetStreamLog) -> EvidenceRef:
    """Puts the persona and one observation into the log: what proposals rest on."""
    await log.commit([_said(PersonaSpawned(swarm="bench", persona="ada", identity=ADA, policy=PersonaPolicy()))])
    (evidence,) = await observed(log, 1)
    return evidence


async def observed(log: JetStreamLog, count: int) -> list[EvidenceRef]:
    """So many new observations in the log."""
    refs: list[EvidenceRef] = []
    for start in range(0, count, AT_ONCE):
        texts = [f"{number} errors a minute" for number in range(start, min(start + AT_ONCE, count))]
        messages = [_said(ObservationVouched(swarm="bench", persona="all", text=text)) for text in texts]
        seqs = await log.commit(messages)
        refs += [EvidenceRef(id=m.envelope.id, seq=seq) for m, seq in zip(messages, seqs, strict=True)]
    return refs


def _said(event: ObservationVouched | PersonaSpawned) -> Message:
    event_id = fresh_id()
    return Message(event=event, envelope=Envelope(id=event_id, source="bench", time=utc_now(), correlation=event_id))
