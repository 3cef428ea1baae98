"""What is said to the mesh through the actuator's own effects on a log: kin, the day's ids, and two that race for one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.actuator import decider
from services.actuator.terms import Check
from shared.contracts.action import Action
from shared.contracts.action_kinds import KINDS
from shared.contracts.events import ActionExecuted, MeshHalted, QuestionAsked, ReapRequested, WatchAdded
from shared.contracts.ids import EVERYONE
from shared.contracts.kinds.perceiving import MAX_WATCHES
from shared.contracts.persona import Identity
from shared.crypto import sign_verdict
from shared.runtime.handling import Again, Done
from tests.unit.gate.actuator.test_actuator_effects import Act
from tests.unit.gate.given import IDENTITY, SEED, T0, activated, authorized, proposed, replaced, spawned, verified


@pytest.fixture
def act(tmp_path: Path) -> Iterator[Act]:
    act = Act(tmp_path / "workspace")
    yield act
    for workspace in act.opened:
        workspace.close()


def ask(n: int) -> Action:
    return Action(kind="person.ask", target="anyone", params={"question": f"why {n}"})


async def permitted(act: Act, action: Action, name: str) -> Any:
    """The authorisation of a proposal of its own."""
    created = proposed(action, proposal_id=name)
    key = {"proposal_id": name}
    await act.say(created, f"{name}-c")
    await act.say(verified(created, **key), f"{name}-v")
    draft = authorized(created, key="", **key)
    signer, signature = sign_verdict(SEED, draft)
    return await act.say(replaced(draft, key=signer, signature=signature), f"{name}-a")


async def family(act: Act) -> None:
    """p01 with a child c1, whose child is c2; and a stranger."""
    await act.say(activated(), "b1")
    await act.say(spawned(), "s0")
    for name, parent in (("c1", "p01"), ("c2", "c1"), ("stranger", None)):
        identity = Identity(
            id=name, name=name, role="r", charter="c", swarm_id="alpha", parent_id=parent, depth=1, created_at=T0
        )
        await act.say(spawned(identity=replaced(identity, parent_id=parent)), f"s-{name}")


@pytest.mark.parametrize(
    ("target", "ends"), [("c1", True), ("c2", True), (IDENTITY.id, True), ("stranger", False), ("nobody", False)]
)
async def test_only_oneself_and_those_below_are_ended(act: Act, target: str, ends: bool) -> None:
    await family(act)
    message = await permitted(act, Action(kind="persona.reap", target=target), "p-r")
    assert isinstance(await act.deliver(message, act.actuator()), Done)
    assert [target] * ends == [event.persona for event in act.events(ReapRequested)]
    (executed,) = act.events(ActionExecuted)
    assert (None if ends else "not_descendant") == executed.error


async def test_a_family_asks_so_many_questions_a_day_and_more_on_the_next(act: Act) -> None:
    await family(act)
    actuator, per_day = act.actuator(), KINDS["person.ask"].per_day
    for n in range(per_day + 1):
        await act.deliver(await permitted(act, ask(n), f"p-{n}"), actuator)
    assert per_day == len({event.question_id for event in act.events(QuestionAsked)})
    assert ["limit_of_day"] == [event.error for event in act.events(ActionExecuted) if event.error]
    act.now += timedelta(days=1)
    later = proposed(ask(99), proposal_id="p-later", deadline=act.now + timedelta(hours=1))
    for event, name in ((later, "l-c"), (verified(later, proposal_id="p-later"), "l-v")):
        await act.say(event, name)
    draft = authorized(later, key="", proposal_id="p-later", expires_at=act.now + timedelta(hours=1))
    signer, signature = sign_verdict(SEED, draft)
    await act.deliver(await act.say(replaced(draft, key=signer, signature=signature), "l-a"), actuator)
    assert per_day + 1 == len(act.events(QuestionAsked))


async def test_of_two_who_race_for_one_of_the_days_ids_each_gets_its_own(act: Act) -> None:
    """Both have looked before either commits: the second is refused, looks again, and takes the next."""
    await family(act)
    first, second = await permitted(act, ask(1), "p-1"), await permitted(act, ask(2), "p-2")
    one, two = act.actuator("one"), act.actuator("two")
    perform, raced = two.perform, []

    async def slow(effect: Any) -> Any:
        result = await perform(effect)
        if isinstance(effect, Check) and not raced:
            raced.append(effect)
            await act.deliver(first, one)
        return result

    assert isinstance(await act.handle(decider, slow, second), Done)
    asked = act.events(QuestionAsked)
    assert 2 == len({event.question_id for event in asked}) == len(asked) and 1 == len(raced)
    assert {"success"} == {event.outcome for event in act.events(ActionExecuted)}


async def test_what_is_said_is_never_stored_behind_a_halt(act: Act) -> None:
    """The mesh is halted after the look, before the commit: it is refused, looked at again, and waits."""
    await family(act)
    message, actuator = await permitted(act, ask(1), "p-1"), act.actuator()
    halts = [MeshHalted(swarm=EVERYONE, persona=EVERYONE, cause="person", principal="ann")]

    async def slow(effect: Any) -> Any:
        result = await actuator.perform(effect)
        if isinstance(effect, Check) and halts:
            await act.say(halts.pop(), "h1")
        return result

    assert isinstance(await act.handle(decider, slow, message), Again)
    assert [] == act.events(QuestionAsked) == act.events(ActionExecuted)


async def test_a_persona_has_so_many_rules_at_a_time_and_one_that_is_over_makes_room(act: Act) -> None:
    await family(act)
    actuator = act.actuator()

    async def add(n: int, name: str) -> None:
        params = {"pattern": f"line {n} <*>", "for_s": 300 if n else 60}
        await act.deliver(
            await permitted(act, Action(kind="watch.add", target=name, params=params), f"p-{n}"), actuator
        )

    for n in range(MAX_WATCHES + 1):
        await add(n, f"w{n}")
    assert [f"w{n}" for n in range(MAX_WATCHES)] == [event.name for event in act.events(WatchAdded)]
    assert ["too_many_watches"] == [event.error for event in act.events(ActionExecuted) if event.error]
    act.now += timedelta(seconds=61)
    await add(20, "later")
    assert "later" == act.events(WatchAdded)[-1].name
