"""Three brokers as one log under writers, readers and gates, while its leader dies, a node is lost, cut off, or all are restarted in turn.

Of the mesh here are the log's own clients (`JetStreamLog`, reading what the leader has) on connections to all three: observations
without a guard, histories guarded step by step by two writers each, a durable consumer, and pairs of verdicts on one life. The
judge reads the log and knows nothing of what the writers believe: whatever was acknowledged is there once, no history forks, no
life has two verdicts. An outage is the longest time in which no observation was acknowledged.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import nats

from shared.contracts.boundaries import life, thoughts
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    AnyEvent,
    ApprovalDenied,
    ObservationRecorded,
    ProposalRejected,
    ThoughtGenerated,
)
from shared.contracts.ids import fresh_id, utc_now
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import ConsumerSpec, DuplicateEvent, Expect, LogUnavailable, StaleBoundary
from shared.log.streams import ensure
from tests.broker import REPLICAS, Cluster
from tests.chaos.proxy import Proxy

SWARM = "cluster"
HISTORIES = 4
STALL_S = 6.0
FAULTS = ("leader_dies", "follower_dies", "node_hangs", "cut_off", "rolling_restart")
Say = Callable[[str], None]


class ClusterReport(msgspec.Struct, kw_only=True):
    """What happened; everything that must not is 0."""

    seed: int
    minutes: float
    struck: dict[str, int] = {}
    outage_s: dict[str, float] = {}
    """The longest time without an acknowledgement, by the fault that began last before it."""
    events: int = 0
    acked: int = 0
    lost: int = 0
    doubled: int = 0
    steps: int = 0
    forked: int = 0
    lives: int = 0
    two_verdicts: int = 0
    undecided: int = 0
    consumed: int = 0
    unconsumed: int = 0

    @property
    def passed(self) -> bool:
        bad = (self.lost, self.doubled, self.forked, self.two_verdicts, self.undecided, self.unconsumed)
        return not any(bad) and min(self.acked, self.steps, self.lives) > 0


class Storm:
    """One storm on one cluster."""

    def __init__(
        self, cluster: Cluster, doors: list[Proxy], report: ClusterReport, dice: random.Random, say: Say
    ) -> None:
        self.cluster, self.doors, self.report, self.dice, self.say = cluster, doors, report, dice, say
        self.stop = asyncio.Event()
        self.acked: set[str] = set()
        self.stepped: set[str] = set()
        self.lives: set[str] = set()
        self.consumed: set[int] = set()
        self.last_ack = time.monotonic()
        self.fault = "calm"

    # -- the load ----------------------------------------------------------------------------------------------------

    async def observe(self, log: JetStreamLog) -> None:
        """One observation after another, each until it is acknowledged."""
        while not self.stop.is_set():
            text = fresh_id()
            await self._insist(log, ObservationRecorded(swarm=SWARM, persona="all", text=text))
            self.acked.add(text)
            now = time.monotonic()
            gap, self.last_ack = now - self.last_ack, now
            self.report.outage_s[self.fault] = max(self.report.outage_s.get(self.fault, 0.0), round(gap, 2))
            await asyncio.sleep(0.005)

    async def history(self, log: JetStreamLog, persona: str) -> None:
        """Steps of one history, which somebody else writes too."""
        boundary = thoughts(SWARM, persona)
        while not self.stop.is_set():
            try:
                told = await log.read((boundary,))
                step = 1 + max((r.event.step for r in told if isinstance(r.event, ThoughtGenerated)), default=0)
                last = told[-1].seq if told else 0
                event = _thought(persona, step)
                await log.commit([_message(event)], [Expect(boundary, last)])
                self.stepped.add(event.text)
            except (StaleBoundary, DuplicateEvent):
                await asyncio.sleep(self.dice.random() * 0.02)
            except LogUnavailable:
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.02)

    async def verdicts(self, one: JetStreamLog, two: JetStreamLog) -> None:
        """Lives for which one says this and another that at the same time."""
        while not self.stop.is_set():
            proposal = fresh_id()[-12:]
            about = {"swarm": SWARM, "persona": "ada", "proposal_id": proposal}
            await asyncio.gather(
                self._decide(
                    one,
                    life(**_keys(about)),
                    ProposalRejected(**about, stage="approval", reasons=("no",), digest="0" * 64),
                ),
                self._decide(
                    two, life(**_keys(about)), ApprovalDenied(**about, digest="0" * 64, request_id="r", principal="eve")
                ),
            )
            self.lives.add(proposal)

    async def consume(self, log: JetStreamLog) -> None:
        """Whoever takes each observation at least once; it is stopped from outside."""
        puller = log.pull(ConsumerSpec(name="taker", filters=(f"observation.recorded.{SWARM}.*",), ack_wait_s=2.0))
        async for delivery in puller:
            self.consumed.add(delivery.seq)
            delivery.ack()

    async def _decide(self, log: JetStreamLog, boundary: str, event: AnyEvent) -> None:
        while True:
            try:
                if await log.read((boundary,)):
                    return
                await log.commit([_message(event)], [Expect(boundary, 0)])
                return
            except (StaleBoundary, DuplicateEvent):
                continue
            except LogUnavailable:
                await asyncio.sleep(0.1)

    async def _insist(self, log: JetStreamLog, event: AnyEvent) -> None:
        message = _message(event)
        while True:
            try:
                await log.commit([message])
                return
            except LogUnavailable:
                await asyncio.sleep(0.05)

    # -- the faults --------------------------------------------------------------------------------------------------

    async def leader_dies(self) -> None:
        await self._dies(await self._leader())

    async def follower_dies(self) -> None:
        leader = await self._leader()
        await self._dies(self.dice.choice([n for n in range(REPLICAS) if n != leader]))

    async def node_hangs(self) -> None:
        """SIGSTOP, the leader as often as not, and then it goes on as if nothing had been."""
        process = self.cluster.brokers[await self._either()].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(STALL_S)
        process.send_signal(signal.SIGCONT)

    async def cut_off(self) -> None:
        """Nothing passes between one of them and the others; who is connected to it stays so."""
        number = await self._either()
        ids = [await _server_id(broker.url) for broker in self.cluster.brokers]
        others = [n for n in range(REPLICAS) if n != number]
        weathers = [self.doors[number].of(ids[n]) for n in others] + [self.doors[n].of(ids[number]) for n in others]
        for weather in weathers:
            weather.passing.clear()
        try:
            await asyncio.sleep(2 * STALL_S)
        finally:
            for weather in weathers:
                weather.passing.set()

    async def rolling_restart(self) -> None:
        for broker in self.cluster.brokers:
            await asyncio.to_thread(broker.terminate)
            await broker.start()
            await self.cluster.in_step()

    async def _dies(self, number: int) -> None:
        broker = self.cluster.brokers[number]
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(STALL_S * self.dice.random())
        await broker.start()

    async def _leader(self) -> int:
        while (leader := await self.cluster.leader()) is None:
            await asyncio.sleep(0.1)
        return leader

    async def _either(self) -> int:
        leader = await self._leader()
        return leader if self.dice.random() < 0.5 else self.dice.choice([n for n in range(REPLICAS) if n != leader])

    async def strike(self, seconds: float, chosen: Sequence[str]) -> None:
        """The chosen faults in turn in random order until the time is over, one at least; the cluster is whole before each."""
        faults: dict[str, Callable[[], Awaitable[None]]] = {name: getattr(self, name) for name in FAULTS}
        while not (self.acked and self.stepped and self.lives):
            await asyncio.sleep(0.05)
        until = time.monotonic() + seconds
        struck: Counter[str] = Counter()
        pending: list[str] = []
        while not struck or time.monotonic() < until:
            pending = pending or self.dice.sample(sorted(chosen), len(chosen))
            name = self.fault = pending.pop()
            self.say(name)
            await faults[name]()
            struck[name] += 1
            await self.cluster.in_step()
            await asyncio.sleep(1.0)
        self.report.struck = dict(struck)


async def storm(
    folder: Path, *, seed: int, minutes: float, faults: Sequence[str] = FAULTS, say: Say = lambda line: None
) -> ClusterReport:
    """Run the whole of it in `folder`."""
    dice, report = random.Random(seed), ClusterReport(seed=seed, minutes=minutes)
    cluster = Cluster(folder)
    async with AsyncExitStack() as stack:
        doors = [await stack.enter_async_context(Proxy(port)) for port in cluster.routes]
        cluster.configure({number: door.port for number, door in enumerate(doors)})
        stack.callback(cluster.kill)
        await cluster.start()
        await ensure(cluster.url, None, replicas=REPLICAS)
        await cluster.in_step()
        say("three brokers are one log")
        urls = cluster.url.split(",")
        logs = []
        for number in range(6):
            turned = urls[number % REPLICAS :] + urls[: number % REPLICAS]
            connection = await Connection.open(",".join(turned), name=f"client-{number}")
            stack.push_async_callback(connection.close)
            logs.append(JetStreamLog(connection, service="storm", instance=f"storm-{number}", replicated=True))
        it = Storm(cluster, doors, report, dice, say)
        async with asyncio.TaskGroup() as whole:
            taking = whole.create_task(it.consume(logs[5]))
            async with asyncio.TaskGroup() as group:
                for log in logs[:3]:
                    group.create_task(it.observe(log))
                for n in range(HISTORIES):
                    group.create_task(it.history(logs[n % 3], f"p{n}"))
                    group.create_task(it.history(logs[(n + 1) % 3], f"p{n}"))
                group.create_task(it.verdicts(logs[3], logs[4]))
                await it.strike(minutes * 60, faults)
                it.stop.set()
            say("no more faults; the log is read")
            records = await logs[0].read((">",))
            await _taken(it, records)
            taking.cancel()
        await cluster.in_step()
        judge(it, records)
    return report


def judge(storm: Storm, records: list[Recorded]) -> None:
    """Fill in the report from the log."""
    report = storm.report
    texts: Counter[str] = Counter()
    steps: dict[str, list[ThoughtGenerated]] = {}
    lives: Counter[str] = Counter()
    for recorded in records:
        match recorded.event:
            case ObservationRecorded() as event:
                texts[event.text] += 1
            case ThoughtGenerated() as event:
                steps.setdefault(event.persona, []).append(event)
            case ProposalRejected() | ApprovalDenied() as event:
                lives[event.proposal_id] += 1
            case _:
                pass
    said = {thought.text for told in steps.values() for thought in told}
    report.events, report.acked, report.lives = len(records), len(storm.acked), len(storm.lives)
    report.lost = sum(text not in texts for text in storm.acked) + len(storm.stepped - said)
    report.doubled = sum(count > 1 for count in texts.values())
    report.steps = len(storm.stepped)
    report.forked = sum([t.step for t in told] != list(range(1, len(told) + 1)) for told in steps.values())
    report.two_verdicts = sum(count > 1 for count in lives.values())
    report.undecided = sum(proposal not in lives for proposal in storm.lives)
    report.consumed = len(storm.consumed)
    report.unconsumed = len(_observed(records) - storm.consumed)


async def _taken(storm: Storm, records: list[Recorded]) -> None:
    """Returns when the consumer has had every observation, or has had long enough."""
    wanted = _observed(records)
    for _ in range(300):
        if wanted <= storm.consumed:
            return
        await asyncio.sleep(0.1)


def _observed(records: list[Recorded]) -> set[int]:
    return {r.seq for r in records if isinstance(r.event, ObservationRecorded)}


def _keys(about: dict[str, str]) -> dict[str, str]:
    return {"swarm": about["swarm"], "persona": about["persona"], "life_id": about["proposal_id"]}


def _thought(persona: str, step: int) -> ThoughtGenerated:
    return ThoughtGenerated(
        swarm=SWARM,
        persona=persona,
        step=step,
        cycle=1,
        phase="observe",
        text=fresh_id(),
        thinker="rules",
        digest="0" * 64,
        useful_at=utc_now(),
    )


def _message(event: AnyEvent) -> Message:
    event_id = fresh_id()
    return Message(event=event, envelope=Envelope(id=event_id, source="storm", time=utc_now(), correlation=event_id))


async def _server_id(url: str) -> str:
    client = await nats.connect(url, allow_reconnect=False)
    try:
        return str(client._server_info["server_id"])
    finally:
        await client.close()
