"""Whole runners on one log: they share the personas, survive refusals, and leave one history."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from services.governor.places import Places
from services.persona_runner.effects import performer, think
from services.persona_runner.hosting.host import ELSEWHERE, Host
from services.persona_runner.hosting.lease import Lease
from services.persona_runner.hosting.loop import Loop
from services.persona_runner.mind.steps import Think, Thoughtful, Thoughtless, Unaffordable
from services.persona_runner.service import thinker_of
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    AnyEvent,
    BudgetGranted,
    CheckRequested,
    CheckResult,
    CognitionStarted,
    Credits,
    GrantRequested,
    ObservationRecorded,
    PersonaDraining,
    PersonaSpawned,
    PlacementChanged,
    ProposalCreated,
    ThoughtGenerated,
    Usage,
)
from shared.contracts.ids import fresh_id, utc_now
from shared.contracts.persona import Identity, PersonaPolicy
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.memory import MemoryKeyValue, MemoryLog
from shared.log.port import Log
from shared.log.streams import ensure
from shared.placement import PLACEMENT, groups_of, owner_of, shard_of, share_of
from shared.settings import Model, Settings, SettingsError
from shared.thinker.port import Context, ThinkerFailed, ThinkerUnavailable, Thought
from shared.thinker.rules import RuleThinker
from tests.broker import Broker
from tests.unit.gate.given import message_of
from tests.unit.runner.runner_model import IDENTITY, START

SHARDS = 16


class Mesh:
    """A log, and the services a runner needs answers from. Each reader of a tail has its own name."""

    def __init__(self, log_of: Callable[[str], Log]) -> None:
        self.log_of = log_of
        self.log = log_of("test-1")

    async def put(self, event: AnyEvent) -> None:
        event_id = fresh_id()
        envelope = Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id)
        await self.log.commit([Message(event=event, envelope=envelope)])

    async def spawn(self, persona: str) -> None:
        identity = Identity(id=persona, name="n", role="r", charter="c", swarm_id="alpha", created_at=utc_now())
        await self.put(PersonaSpawned(swarm="alpha", persona=persona, identity=identity, policy=PersonaPolicy()))

    async def answer(self) -> None:
        """Grant every request and confirm every check."""
        async for recorded in self.log_of("answers-1").tail(["grant.requested.*.*.*", "check.requested.*.*.*.*"]):
            match recorded.event:
                case GrantRequested(swarm=swarm, persona=persona, need=need) if need != Credits():
                    await self.put(
                        BudgetGranted(
                            swarm=swarm,
                            persona=persona,
                            grant_id=recorded.id,
                            window=1,
                            credits=Credits(tokens=10_000, compute_ms=2_500),
                            expires_at=utc_now() + timedelta(seconds=90),
                        )
                    )
                case CheckRequested() as check:
                    await self.put(
                        CheckResult(
                            swarm=check.swarm,
                            persona=check.persona,
                            check_id=check.check_id,
                            hypothesis_id=check.hypothesis_id,
                            outcome="confirmed",
                            findings="counted again",
                        )
                    )
                case _:
                    pass

    async def until(self, done: Callable[[list[ThoughtGenerated]], bool]) -> list[ThoughtGenerated]:
        """The thoughts, as soon as they are such."""
        thoughts: list[ThoughtGenerated] = []
        async with asyncio.timeout(20):
            tail = self.log.tail(["thought.generated.*.*.*"])
            async for recorded in tail:
                assert isinstance(recorded.event, ThoughtGenerated)
                thoughts.append(recorded.event)
                if done(thoughts):
                    break
            await tail.stop()
        return thoughts

    @asynccontextmanager
    async def runner(
        self, name: str, shards: set[int], held: Callable[[], str | None] = lambda: None
    ) -> AsyncIterator[Loop]:
        thinker = RuleThinker()
        host = Host(shards=SHARDS, thinker=thinker.name, runner=name)
        loop = Loop(self.log_of(name), host, performer(thinker), held=held)
        stopping = asyncio.Event()
        await loop.own(shards)
        async with asyncio.TaskGroup() as group:
            group.create_task(loop.follow())
            await loop.caught_up()
            group.create_task(loop.run(stopping))
            try:
                yield loop
            finally:
                stopping.set()
                await loop.stop()

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.answer())
        try:
            await self.put(CognitionStarted(swarm="all", persona="all", loop_interval_ms=100))
            yield
        finally:
            task.cancel()


@pytest.fixture(params=["memory", "jetstream"])
async def mesh(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Mesh]:
    if request.param == "memory":
        log = MemoryLog()
        yield Mesh(lambda name: log)
        return
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    yield Mesh(lambda name: JetStreamLog(connection, service="persona_runner", instance=name))
    await connection.close()
    broker.kill()


def histories(thoughts: list[ThoughtGenerated]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for thought in thoughts:
        found.setdefault(thought.persona, []).append(thought.step)
    return found


async def test_two_runners_of_the_same_personas_leave_one_history_each(mesh: Mesh) -> None:
    names = [f"p{i}" for i in range(5)]
    for name in names:
        await mesh.spawn(name)
    both = set(range(SHARDS))
    async with mesh.answering(), mesh.runner("runner-1", both), mesh.runner("runner-2", both):
        for n in range(3):
            await mesh.put(ObservationRecorded(swarm="alpha", persona="all", text=f"line {n}"))
        thoughts = await mesh.until(lambda seen: len(seen) >= 30)
    for steps in histories(thoughts).values():
        assert steps == list(range(1, len(steps) + 1))
    assert set(histories(thoughts)) == set(names)


async def test_a_burst_in_the_input_becomes_a_cited_proposal(mesh: Mesh) -> None:
    await mesh.spawn("ada")
    async with mesh.answering(), mesh.runner("runner-1", set(range(SHARDS))):
        at = START
        for n in range(400):
            at += timedelta(seconds=3)
            text = f"GET /items/{n} 200 in {n % 7} ms"
            await mesh.put(ObservationRecorded(swarm="alpha", persona="all", text=text, observed_at=at))
        for n in range(60):
            at += timedelta(seconds=1)
            text = f"ERROR payment service refused order {n}: connection timed out"
            await mesh.put(ObservationRecorded(swarm="alpha", persona="all", text=text, observed_at=at))
        async with asyncio.timeout(20):
            tail = mesh.log.tail(["proposal.created.*.*.*.*"])
            async for recorded in tail:
                proposal = recorded.event
                break
            await tail.stop()
    assert isinstance(proposal, ProposalCreated)
    assert proposal.evidence
    for cited in proposal.evidence:
        observed = await mesh.log.get(cited.seq)
        assert observed is not None
        assert observed.id == cited.id
        assert isinstance(observed.event, ObservationRecorded)


async def test_while_it_is_held_back_nobody_thinks_and_then_everybody_does(mesh: Mesh) -> None:
    why: str | None = "the log has 90 of 100 MiB"
    looks = asyncio.Queue[None]()

    def held() -> str | None:
        looks.put_nowait(None)
        return why

    await mesh.spawn("ada")
    async with mesh.answering(), mesh.runner("runner-1", set(range(SHARDS)), held):
        await mesh.put(ObservationRecorded(swarm="alpha", persona="all", text="a line"))
        async with asyncio.timeout(20):
            for _ in range(3):
                await looks.get()
        assert [] == await mesh.log.read(("thought.generated.>", "grant.requested.>"))
        why = None
        assert [1] == [thought.step for thought in await mesh.until(lambda seen: len(seen) == 1)]


async def test_a_shard_that_moves_goes_on_where_it_was(mesh: Mesh) -> None:
    await mesh.spawn("ada")
    mine = {shard_of("alpha", "ada", SHARDS)}
    async with mesh.answering(), mesh.runner("runner-1", mine) as one, mesh.runner("runner-2", set()) as two:
        await mesh.put(ObservationRecorded(swarm="alpha", persona="all", text="a line"))
        await mesh.until(lambda seen: len(seen) >= 2)
        await one.own(set())
        await two.own(mine)
        await mesh.put(ObservationRecorded(swarm="alpha", persona="all", text="another line"))
        thoughts = await mesh.until(lambda seen: seen[-1].runner == "runner-2" and len(seen) >= 5)
    steps = [t.step for t in thoughts]
    assert steps == list(range(1, len(steps) + 1))


async def test_a_drained_persona_has_a_last_thought(mesh: Mesh) -> None:
    await mesh.spawn("ada")
    async with mesh.answering(), mesh.runner("runner-1", set(range(SHARDS))):
        await mesh.until(lambda seen: len(seen) >= 1)
        deadline = utc_now() + timedelta(seconds=10)
        await mesh.put(PersonaDraining(swarm="alpha", persona="ada", reason="test", deadline=deadline))
        thoughts = await mesh.until(lambda seen: seen[-1].final)
    assert thoughts[-1].phase == "compress"


# -- placement -------------------------------------------------------------------------------------------------------


def test_every_shard_has_one_owner_and_a_newcomer_takes_only_its_share() -> None:
    before = {s: owner_of(s, ("a", "b", "c")) for s in range(256)}
    after = {s: owner_of(s, ("a", "b", "c", "d")) for s in range(256)}
    assert {after[s] for s in before if after[s] != before[s]} == {"d"}
    shares = [len(share_of(r, ["a", "b", "c", "d"], 256)) for r in "abcd"]
    assert sum(shares) == 256
    assert min(shares) > 40


async def test_who_is_alive_is_placed_and_who_is_gone_is_replaced() -> None:
    now = [START]
    log, bucket = MemoryLog(lambda: now[0]), MemoryKeyValue(lambda: now[0])
    one, two = Lease(bucket, "persona_runner-1", ttl_s=3), Lease(bucket, "persona_runner-2", ttl_s=3)
    places = Places(log, bucket, shards=64, clock=lambda: now[0])

    async def word(seconds: int = 0) -> tuple[str, ...]:
        now[0] += timedelta(seconds=seconds)
        await places.look()
        (recorded,) = await log.last((PLACEMENT,))
        assert isinstance(recorded.event, PlacementChanged) and recorded.event.shards == 64
        return recorded.event.slots

    assert () == await word()
    await one.renew()
    assert ("r1",) == await word()
    await two.renew()
    assert ("r1",) == await word(1)
    await one.renew()
    await two.renew()
    assert ("r1",) == await word(2)
    await one.renew()
    await two.renew()
    assert ("r1", "r2") == await word(2)
    await two.renew()
    assert ("r2",) == await word(2)
    assert ("r2",) == await word(60)
    await one.renew()
    assert ("r1",) == await word()
    await one.release()
    assert ("r1",) == await word(5)
    assert 5 == len(await log.read((PLACEMENT,)))


async def test_swarms_of_their_own_runners_are_theirs_alone_and_come_back_when_nobody_is_named_for_them() -> None:
    now = [START]
    log, bucket = MemoryLog(lambda: now[0]), MemoryKeyValue(lambda: now[0])
    leases = [Lease(bucket, f"persona_runner-{n}", ttl_s=600) for n in (1, 2, 3)]
    groups = groups_of("persona_runner-2=alpha+beta,persona_runner-3=alpha+beta")

    async def words(groups: Mapping[tuple[str, ...], frozenset[str]]) -> dict[str, tuple[str, ...]]:
        now[0] += timedelta(seconds=10)
        await Places(log, bucket, shards=64, groups=groups, clock=lambda: now[0]).look()
        return {r.event.swarm: r.event.slots for r in await log.last((PLACEMENT,))}  # type: ignore[union-attr]

    assert {"all": (), "alpha": ("r2", "r3"), "beta": ("r2", "r3")} == await words(groups)
    await leases[0].renew()
    await leases[1].renew()
    assert {"all": ("r1",), "alpha": ("r2",), "beta": ("r2",)} == await words(groups)
    await leases[1].release()
    assert {"all": ("r1",), "alpha": ("r2",), "beta": ("r2",)} == await words(groups)
    await leases[2].renew()
    assert {"all": ("r1",), "alpha": ("r3",), "beta": ("r3",)} == await words(groups)
    assert {"all": ("r1",), "alpha": ("r3",), "beta": ()} == await words(groups_of("persona_runner-3=alpha"))
    assert {"all": ("r1", "r3"), "alpha": (), "beta": ()} == await words({})
    places = Places(log, bucket, shards=64, groups=groups, clock=lambda: now[0])
    await leases[0].release()
    now[0] += timedelta(seconds=700)
    await places.look()
    assert places.unserved(["alpha", "gamma"]) is None, "whose runners are gone keep what is theirs"
    never = Places(MemoryLog(lambda: now[0]), bucket, shards=64, groups=groups, clock=lambda: now[0])
    for _ in range(2):
        await never.look()
    assert str(never.unserved(["alpha", "gamma"])).startswith("no runner serves gamma:")
    await words({})
    count = len(await log.read((PLACEMENT,)))
    await words({})
    assert count == len(await log.read((PLACEMENT,)))


def test_a_runner_hosts_what_it_serves_and_loads_anew_when_that_changes() -> None:
    log = MemoryLog(lambda: START)

    def word(swarm: str, *slots: str) -> Recorded:
        event = PlacementChanged(swarm=swarm, persona="all", slots=slots, shards=SHARDS)
        (seq,) = log.store.append([message_of(event, id=f"w{len(log.store.records)}")])
        return log.store.records[seq - 1]

    free = Host(shards=SHARDS, thinker="rules", runner="persona_runner-1")
    bound = Host(shards=SHARDS, thinker="rules", runner="persona_runner-2", serves=("alpha",))
    for said in (word("all", "r1"), word("alpha", "r2")):
        free.feed(said)
        bound.feed(said)
    free.regroup()
    assert frozenset(range(SHARDS)) == free.share() == bound.share()
    assert ELSEWHERE == free.shard(("alpha", "ada")) == bound.shard(("beta", "ada"))
    assert shard_of("beta", "ada", SHARDS) == free.shard(("beta", "ada"))
    assert shard_of("alpha", "ada", SHARDS) == bound.shard(("alpha", "ada"))
    free.shards = {1, 2}
    free.feed(word("gamma", "r9"))
    assert {1, 2} == free.shards
    free.regroup()
    assert set() == free.shards and ELSEWHERE == free.shard(("gamma", "ada"))


# -- effects ---------------------------------------------------------------------------------------------------------


class Scripted:
    """A thinker that does what it is told."""

    name = "scripted"

    def __init__(self, ending: Thought | Exception, worst: Usage) -> None:
        self.ending = ending
        self.worst = worst
        self.calls = 0

    def worst_case(self, context: Context) -> Usage:
        return self.worst

    async def think(self, context: Context) -> Thought:
        self.calls += 1
        if isinstance(self.ending, Exception):
            raise self.ending
        return self.ending

    async def close(self) -> None:
        return


def effect(limit: Credits, grant_id: str | None = "g") -> Think:
    context = Context(identity=IDENTITY, phase="test", cycle=1, step=1, now=START)
    return Think(context=context, grant_id=grant_id, limit=limit)


async def test_what_cannot_be_paid_is_not_called() -> None:
    thinker = Scripted(Thought(text="x"), Usage(tokens_in=5, tokens_out=5, compute_ms=100))
    plenty = Credits(tokens=10, compute_ms=100)
    for asked in (
        effect(Credits(tokens=9, compute_ms=100)),
        effect(Credits(tokens=10, compute_ms=99)),
        effect(plenty, grant_id=None),
    ):
        assert isinstance(await think(thinker, asked), Unaffordable)
    assert thinker.calls == 0
    assert isinstance(await think(thinker, effect(plenty)), Thoughtful)


async def test_every_ending_of_a_thinker_is_a_result() -> None:
    worst = Usage(compute_ms=100)
    limit = Credits(compute_ms=100)
    away = await think(
        Scripted(ThinkerUnavailable("away", retry_after_s=9, usage=Usage(tokens_in=3)), worst), effect(limit)
    )
    assert away == Thoughtless(
        status="model_error", detail="away", usage=Usage(tokens_in=3), worst=worst, retry_after_s=9
    )
    failed = await think(Scripted(ThinkerFailed("garbage"), worst), effect(limit))
    assert failed == Thoughtless(status="empty", detail="garbage", worst=worst)
    overran = await think(Scripted(TimeoutError(), worst), effect(limit))
    assert isinstance(overran, Thoughtless)
    assert overran.usage == worst


async def test_a_long_backlog_lets_others_run_while_it_is_taken_in() -> None:
    class Slow(Host):
        def feed(self, recorded: Recorded) -> None:
            time.sleep(0.001)
            super().feed(recorded)

    memory = MemoryLog()
    mesh = Mesh(lambda name: memory)
    for n in range(200):
        await mesh.put(ObservationRecorded(swarm="alpha", persona="all", text=f"line {n}"))
    host = Slow(shards=1, thinker="rules", runner="runner-1")
    loop = Loop(mesh.log, host, performer(RuleThinker()))
    feeding = asyncio.create_task(loop.follow())
    turns = 0
    while host.position < 200:
        await asyncio.sleep(0)
        turns += 1
    await loop.stop()
    await feeding
    assert turns >= 5


def test_a_model_that_cannot_be_asked_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(SettingsError, match=r"SWARM_MODEL_.*api_key"):
        thinker_of(Settings(thinker="model", model=Model(url="http://h/v1", name="m", api_key="a b")))
