"""What memory is asked: about what somebody asked, else about what stands out, else nothing."""

from __future__ import annotations

import asyncio

import pytest

from services.persona_runner.hosting.recall import Recaller
from shared.contracts.envelope import Message, Recorded, enveloped
from shared.contracts.events import EvidenceRef, Memory, RecallAnswered, RecallRequested
from shared.contracts.ids import fresh_id
from shared.log.memory import MemoryLog
from shared.thinker.port import Context, Goal, Percept
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


async def test_without_a_question_or_a_finding_memory_is_left_alone() -> None:
    log = MemoryLog()
    assert () == await Recaller(log, source="persona_runner", slot="r1").recall(context())
    assert [] == await log.read(["recall.requested.*.*.*"])
