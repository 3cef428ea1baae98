"""What memory is asked: about what somebody asked, else about what stands out, else nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from services.memory_compactor.society import Society
from services.persona_runner.hosting.recall import BELIEF, BELIEFS, LIMIT, Recaller
from shared.contracts.envelope import Message, Recorded, enveloped
from shared.contracts.events import BeliefAsserted, EvidenceRef, Memory, RecallAnswered, RecallRequested
from shared.contracts.ids import fresh_id
from shared.log.memory import MemoryLog
from shared.thinker.models.prompt import compose
from shared.thinker.port import Context, Goal, Percept
from shared.thinker.rules import RuleThinker
from tests.unit.runner.runner_model import IDENTITY, PERSONA, START, SWARM, finding

MEMORY = Memory(
    id="m-1",
    seq=3,
    kind="thought",
    text="it was slow",
    at=START,
    score=1,
    semantic=1,
    recency=1,
    importance=1,
    persona=PERSONA,
)


def context(goal: str | None = None, *topics: str) -> Context:
    asked = None
    if goal is not None:
        asked = Goal(ref=EvidenceRef(id="a", seq=9), intent_id="i-1", text=goal, asked_at=START)
    percept = Percept(findings=tuple(finding(topic, 5) for topic in topics))
    return Context(identity=IDENTITY, phase="reflect", cycle=1, step=2, now=START, percept=percept, goal=asked)


@pytest.mark.parametrize(
    ("given", "query"),
    [
        (context("What do you know about the database?"), "database"),
        (context('How often did "disk full" occur?', "login"), "disk full"),
        (context("Why is it slow?"), "Why is it slow?"),
        (context(None, "disk", "login"), "login happens too often"),
    ],
)
async def test_memory_is_asked_about_the_matter_and_its_answer_comes_back(
    given: Context, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.persona_runner.hosting.recall.TIMEOUT_S", 30)
    log = MemoryLog()
    recaller = Recaller(log, source="persona_runner", slot="r1")
    asked: list[RecallRequested] = []

    async def remember() -> None:
        tail = log.tail(["recall.requested.*.*.*"], stream="RECALL")
        async for recorded in tail:
            assert isinstance(recorded, Recorded) and isinstance(recorded.event, RecallRequested)
            asked.append(recorded.event)
            answer = RecallAnswered(swarm=SWARM, persona=PERSONA, memories=(MEMORY,))
            envelope = enveloped(fresh_id(), source="memory", time=START, cause=recorded.envelope)
            await log.commit([Message(event=answer, envelope=envelope)])

    tasks = [asyncio.create_task(recaller.follow()), asyncio.create_task(remember())]
    try:
        assert (MEMORY,) == await recaller.recall(given)
        assert [query] == [question.query for question in asked]
    finally:
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def asked(
    log: MemoryLog, answer: Callable[[str], tuple[Memory, ...]], *, always_beliefs: bool = False
) -> AsyncIterator[Recaller]:
    """One who asks, where memory answers a query so."""
    recaller = Recaller(log, source="persona_runner", slot="r1", always_beliefs=always_beliefs)

    async def remember() -> None:
        async for recorded in log.tail(["recall.requested.*.*.*"], stream="RECALL"):
            assert isinstance(recorded, Recorded) and isinstance(recorded.event, RecallRequested)
            said = RecallAnswered(swarm=SWARM, persona=PERSONA, memories=answer(recorded.event.query))
            envelope = enveloped(fresh_id(), source="memory", time=START, cause=recorded.envelope)
            await log.commit([Message(event=said, envelope=envelope)])

    tasks = [asyncio.create_task(recaller.follow()), asyncio.create_task(remember())]
    try:
        yield recaller
    finally:
        for task in tasks:
            task.cancel()


@pytest.mark.parametrize(("own", "beliefs"), [(0, 0), (0, 6), (6, 0), (2, 1), (9, 9)])
async def test_what_is_believed_comes_beside_what_is_remembered_and_takes_none_of_its_places(
    own: int, beliefs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.persona_runner.hosting.recall.TIMEOUT_S", 30)
    remembered = [msgspec.structs.replace(MEMORY, id=f"m-{n}") for n in range(own)]
    believed = [msgspec.structs.replace(MEMORY, id=f"b-{n}", kind=BELIEF) for n in range(beliefs)]
    async with asked(MemoryLog(), lambda _: (*believed, *remembered)) as recaller:
        found = await recaller.recall(context(None, "disk"))
    assert found == (*remembered[:LIMIT], *believed[:BELIEFS])


@pytest.mark.parametrize("says", [True, False])
async def test_who_is_asked_what_it_knows_answers_with_what_its_swarm_believes(
    says: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.persona_runner.hosting.recall.TIMEOUT_S", 30)
    society = Society()
    belief = BeliefAsserted(
        swarm=SWARM, persona="bob", by="bob", key_id="k", belief_id="b-1", belief_key="db",
        claim="the database is full" if says else "logins fail", confidence=0.9, valid_from=START, review_after=START,
    )  # fmt: skip
    envelope = enveloped("e-7", source="memory_compactor", time=START)
    society.add(Recorded(event=belief, envelope=envelope, seq=7, stored_at=START, subject=""))
    given = context("What do you know about the database?")
    async with asked(MemoryLog(), lambda query: tuple(society.believed((SWARM,), query))) as recaller:
        memories = await recaller.recall(given)
    thought = await RuleThinker().think(msgspec.structs.replace(given, memories=memories))
    assert thought.answer is not None and thought.answer.declined is not says
    if says:
        assert belief.claim in thought.answer.text and "believed by 1 of alpha" in thought.answer.text
        assert thought.answer.evidence == (EvidenceRef(id="e-7", seq=7),)


@pytest.mark.parametrize("lines", [(), ("replica lags by 3 s", "replica lags by 9 s")])
async def test_a_model_before_which_nothing_stands_out_is_told_what_is_believed_what_is_about_what_it_sees_first(
    lines: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.persona_runner.hosting.recall.TIMEOUT_S", 30)
    log, society = MemoryLog(), Society()
    claims = {"disks": ("the disk is full", 0.9), "replica": ("the replica lags", 0.4), "logins": ("logins fail", 0.2)}
    for seq, (key, (claim, confidence)) in enumerate(claims.items(), 1):
        belief = BeliefAsserted(
            swarm=SWARM, persona="bob", by="bob", key_id=key, belief_id=f"b-{key}", belief_key=key, claim=claim,
            confidence=confidence, valid_from=START, review_after=START,
        )  # fmt: skip
        envelope = enveloped(f"e-{seq}", source="memory_compactor", time=START)
        society.add(Recorded(event=belief, envelope=envelope, seq=seq, stored_at=START, subject=""))
    samples = tuple((EvidenceRef(id=f"o-{n}", seq=n), line) for n, line in enumerate(lines, 1))
    given = msgspec.structs.replace(context(), percept=Percept(new=len(lines), samples=samples))

    def answer(query: str) -> tuple[Memory, ...]:
        return tuple(society.believed((SWARM,), query, also_surest=True))

    async with asked(log, answer, always_beliefs=True) as recaller:
        found = await recaller.recall(given)
    question = await anext(aiter(log.tail(["recall.requested.>"], stream="RECALL")))
    assert isinstance(question, Recorded) and isinstance(question.event, RecallRequested)
    assert "beliefs" == question.event.wanted
    assert ([2, 1, 3] if lines else [1, 2, 3]) == [memory.seq for memory in found]
    prompt = compose(msgspec.structs.replace(given, memories=found))
    assert all(claim in prompt.user for claim, _ in claims.values())


async def test_without_a_question_or_a_finding_memory_is_left_alone() -> None:
    log = MemoryLog()
    assert () == await Recaller(log, source="persona_runner", slot="r1").recall(context())
    assert [] == await log.read(["recall.requested.*.*.*"])
