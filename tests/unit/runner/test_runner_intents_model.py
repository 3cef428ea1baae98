"""A persona that thinks with a model is asked something: the endpoint is real and does as it likes, the log stays right."""

from __future__ import annotations

from typing import Any

import pytest

from services.persona_runner.effects import think
from services.persona_runner.mind.goals import MAX_THOUGHTS
from shared.contracts.events import Credits, IntentAnswered
from shared.thinker.models.model import ModelThinker
from tests.unit.runner.runner_model import LOOP_MS, Runner, World, ref
from tests.unit.thinker.test_model import Model, Reply, thinking

PLENTY = Credits(tokens=10**7, compute_ms=10**6, cost_microusd=10**9)
YES = {"text": "The disk is full.", "declined": False, "choice": "", "confidence": 0.8, "evidence": [2]}


def thought(answer: object = None, **more: object) -> Reply:
    return Reply({"text": "I think.", "hypotheses": [], "answer": answer, **more})


async def asked(thinker: ModelThinker, looks: int, budget: Credits = PLENTY) -> World:
    """A persona that saw one line is asked something, and looked at so many times."""
    world = World(grant=PLENTY)
    world.observe()
    runner = Runner(world)
    while not (runner.state.resting and runner.state.step):
        runner.think()
    world.assign(budget=budget)
    for _ in range(looks):
        world.pass_time(LOOP_MS / 1000)
        runner.catch_up()
        decision = runner.begin()
        if runner.pending is not None:
            result = await think(thinker, runner.pending[1])
            decision = runner.finish(lambda _, result=result: result)  # type: ignore[misc]
        runner.commit(decision)
        world.govern()
        if world.answers():
            break
    return world


async def test_it_answers_in_words_and_cites_what_it_was_shown() -> None:
    async with thinking(Model(thought(), thought(YES))) as thinker:
        world = await asked(thinker, 10)
    (answer,) = world.answers()
    assert (answer.answer, answer.evidence, answer.tainted) == ("The disk is full.", (ref(world.heard),), True)
    assert answer.spent.tokens == 240  # two calls of 120, as the endpoint said


@pytest.mark.parametrize(
    "answer",
    [
        {**YES, "evidence": [77, -1, 0]},
        {**YES, "evidence": [1]},
        {**YES, "text": " "},
    ],
)
async def test_what_rests_on_nothing_is_no_answer_and_it_is_given_up_in_the_end(answer: dict[str, Any]) -> None:
    async with thinking(Model(thought(answer))) as thinker:
        world = await asked(thinker, 3 * MAX_THOUGHTS)
    (said,) = world.answers()
    assert said.declined and f"{MAX_THOUGHTS} thoughts" in said.answer
    assert all(isinstance(e, IntentAnswered) and e.intent_id == "i-1" for e in world.answers())


async def test_what_its_budget_does_not_cover_is_never_asked_of_the_endpoint() -> None:
    model = Model(thought(YES))
    async with thinking(model) as thinker:
        world = await asked(thinker, 10, Credits(tokens=500, compute_ms=10**6))
    (answer,) = world.answers()
    assert answer.declined and "budget" in answer.answer and answer.spent == Credits()
    assert model.asked == []


async def test_an_endpoint_that_talks_nonsense_ends_as_a_no() -> None:
    async with thinking(Model(Reply("I am a teapot"))) as thinker:
        world = await asked(thinker, 20_000)
    (answer,) = world.answers()
    assert answer.declined and answer.spent.tokens > 0
