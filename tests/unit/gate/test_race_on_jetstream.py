"""The race for a claim on the real broker, also when the loser never hears that it lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.actuator import decider
from services.actuator.effects import ActuatorEffects
from services.actuator.hands.commands import CommandHand
from services.actuator.hands.outbound import Outbound
from services.actuator.hands.table import hands
from services.actuator.hands.workspace import Workspace
from services.actuator.journal import Journal
from services.actuator.terms import Check, Execute, Outcome
from shared.contracts.action import Action, action_digest
from shared.contracts.action_kinds import KINDS
from shared.contracts.capabilities import Capabilities, DailyLimit, Scope
from shared.contracts.events import ActionClaimed, ActionExecuted, MeshHalted, ScopeUse
from shared.contracts.ids import EVERYONE, utc_now
from shared.contracts.persona import PersonaPolicy, charter_sha256
from shared.crypto import sign_verdict
from shared.decider import Delivered
from shared.invariants.allowances import AllowanceInvariants
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable
from shared.log.streams import ensure
from shared.policy.activations import Followed
from shared.runtime.driving import drive
from shared.runtime.halting import Halting
from shared.runtime.handling import Done, Fold, handle
from tests.broker import Broker
from tests.unit.gate.given import (
    CHARTER,
    IDENTITY,
    PROPOSAL,
    SEED,
    WHOSE,
    Plenty,
    activated,
    authorized,
    believing,
    message_of,
    proposed,
    replaced,
    spawned,
    verified,
)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[JetStreamLog]:
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    yield JetStreamLog(connection, service="test", instance="test-1")
    await connection.close()
    broker.kill()


def actuator(log: JetStreamLog, folder: Path, workspace: Workspace, name: str) -> ActuatorEffects:
    """One process of several at one workspace."""
    return ActuatorEffects(
        log=log,
        hands=hands(workspace, Outbound(), CommandHand({}, workspace.receipts)),
        site=workspace.receipts.identity,
        lots=Plenty(),
        journal=Journal(folder / f"claims-{name}.jsonl", utc_now()),
        halting=Halting(log),
        signers=believing(log),
        policies=Followed(log),
        instance=name,
    )


@pytest.mark.parametrize("answer_lost", [False, True])
async def test_of_two_actuators_racing_on_jetstream_exactly_one_acts(
    log: JetStreamLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer_lost: bool
) -> None:
    created = proposed()
    draft = authorized(created, key="", expires_at=utc_now().replace(year=2100))
    key, signature = sign_verdict(SEED, draft)
    await log.commit([message_of(activated(), id="b1", time=utc_now())])
    await log.commit([message_of(created, id="p1", time=utc_now())])
    await log.commit([message_of(verified(created), id="v1", time=utc_now())])
    (seq,) = await log.commit([message_of(replaced(draft, key=key, signature=signature), id="a1", time=utc_now())])
    message = Delivered(recorded=await log.get(seq), now=utc_now())  # type: ignore[arg-type]
    boundary = decider.boundary(message)
    assert boundary is not None
    workspace, done = Workspace(tmp_path / "workspace"), []

    def acting(name: str, meanwhile: Any = None) -> Any:
        effects = actuator(log, tmp_path, workspace, name)

        async def perform(effect: Any) -> Any:
            result = await effects.perform(effect)
            if isinstance(effect, Check) and meanwhile is not None:
                await meanwhile()
            if isinstance(effect, Execute):
                done.append((name, type(result)))
            return result

        return lambda: drive(log, handle(Fold(decider, boundary), message, source=name), perform)

    real, two = log.connection.request, acting("two")

    async def loses_one_answer(subject: str, *args: Any, **kwargs: Any) -> Any:
        answer = await real(subject, *args, **kwargs)
        if subject.startswith("action.claimed"):
            monkeypatch.setattr(log.connection, "request", real)
            raise LogUnavailable("the answer was lost")
        return answer

    async def two_then_trouble() -> None:
        await two()
        if answer_lost:
            monkeypatch.setattr(log.connection, "request", loses_one_answer)

    await acting("one", meanwhile=two_then_trouble)()
    assert [("two", Outcome)] == done
    life = [r.event for r in await log.read([f"*.*.alpha.p01.{PROPOSAL}"])]
    assert 1 == sum(isinstance(e, ActionClaimed) for e in life) == sum(isinstance(e, ActionExecuted) for e in life)
    workspace.close()


MANY = 60


async def test_of_actions_under_way_those_claimed_behind_a_halt_are_not_done(log: JetStreamLog, tmp_path: Path) -> None:
    """Two actuators take all of them at once; the halt is stored while they claim."""
    await log.commit([message_of(activated(), id="b1", time=utc_now())])
    messages = [await _authorized(log, f"p-{number}") for number in range(MANY)]
    workspace = Workspace(tmp_path / "workspace")
    actuators = [actuator(log, tmp_path, workspace, name) for name in ("one", "two")]

    at_once = asyncio.Semaphore(16)

    async def deliver(message: Delivered, effects: ActuatorEffects) -> None:
        boundary = decider.boundary(message)
        assert boundary is not None
        async with at_once:
            await drive(log, handle(Fold(decider, boundary), message, source="test"), effects.perform)

    async def halt() -> int:
        while not await log.read(["action.claimed.>"], limit=1):
            pass
        halted = MeshHalted(swarm=EVERYONE, persona=EVERYONE, cause="person", reason="now", principal="ann")
        (seq,) = await log.commit([message_of(halted, id="halt", time=utc_now())])
        return seq

    halted, *_ = await asyncio.gather(halt(), *(deliver(m, effects) for m in messages for effects in actuators))
    workspace.close()
    claimed = {r.event.proposal_id: r.seq for r in await log.read(["action.claimed.>"])}  # type: ignore[union-attr]
    ended = {r.event.proposal_id: r.event for r in await log.read(["action.executed.>"])}  # type: ignore[union-attr]
    late = {name for name, seq in claimed.items() if seq > halted}
    assert {("failure", "halted")} >= {(ended[name].outcome, ended[name].error) for name in late}  # type: ignore[union-attr]
    done = {name for name, event in ended.items() if event.outcome == "success"}  # type: ignore[union-attr]
    assert done == {path.stem for path in (tmp_path / "workspace/findings/alpha/p01").glob("*.md")}
    assert set(claimed) == set(ended) and len(claimed) < MANY, "it came too late to be a race"


async def test_what_is_said_to_the_mesh_is_said_once_by_two_that_race_on_jetstream(
    log: JetStreamLog, tmp_path: Path
) -> None:
    """All of a day's questions at once, and as many ends: every action twice, by either actuator, one batch each."""
    await log.commit([message_of(activated(), id="b1", time=utc_now())])
    await log.commit([message_of(spawned(), id="s1", time=utc_now())])
    per_day = KINDS["person.ask"].per_day
    asks = [Action(kind="person.ask", target="anyone", params={"question": f"why {n}"}) for n in range(per_day)]
    ends = [Action(kind="persona.reap", target="p01", params={"reason": f"{n}"}) for n in range(per_day)]
    messages = [await _authorized(log, f"p-{n}", action) for n, action in enumerate((*asks, *ends))]
    workspace = Workspace(tmp_path / "workspace")
    actuators = [actuator(log, tmp_path, workspace, name) for name in ("one", "two")]

    async def deliver(message: Delivered, effects: ActuatorEffects) -> None:
        boundary = decider.boundary(message)
        assert boundary is not None
        while not isinstance(
            await drive(log, handle(Fold(decider, boundary), message, source="test"), effects.perform), Done
        ):
            await asyncio.sleep(0)

    await asyncio.gather(*(deliver(m, effects) for m in messages for effects in actuators))
    workspace.close()
    asked = [r.event for r in await log.read(["question.asked.>"])]
    assert per_day == len(asked) == len({event.question_id for event in asked})  # type: ignore[union-attr]
    assert per_day == len(await log.read(["reap.requested.>"]))
    ended = [r.event for r in await log.read(["action.executed.>"])]
    assert ["success"] * 2 * per_day == [event.outcome for event in ended]  # type: ignore[union-attr]


async def test_what_a_day_may_have_and_cost_holds_with_two_actuators_racing_and_dying_on_jetstream(
    log: JetStreamLog, tmp_path: Path
) -> None:
    """Sixteen notes under two scopes' limits; whoever is told that its claim may not be stored looks again, and some die at any step."""
    await log.commit([message_of(activated(), id="b1", time=utc_now())])
    can = Capabilities(scopes=(Scope(kinds=("file.write",), targets=("notes/**",), per_day=7),))
    family = replaced(IDENTITY, id="root"), replaced(IDENTITY, parent_id="root")
    for identity in family:
        born = spawned(identity=identity, policy=PersonaPolicy(capabilities=can))
        await log.commit([message_of(born, id=f"s-{identity.id}", charter=charter_sha256(identity), time=utc_now())])
    limits = (
        DailyLimit(swarm="alpha", persona="p01", scope=0, per_day=7),
        DailyLimit(swarm="alpha", persona="root", scope=0, per_day=7, microusd_per_day=50),
    )
    notes = [Action(kind="file.write", target=f"notes/{n}.md", params={"content": "x"}) for n in range(16)]
    said: dict[str, Any] = {"scope": "free", "cost_microusd": 10, "limits": limits, "risk": "medium"}
    messages = [await _authorized(log, f"p-{n}", note, **said) for n, note in enumerate(notes)]
    workspace, dice = Workspace(tmp_path / "workspace"), random.Random(7)
    actuators = [actuator(log, tmp_path, workspace, name) for name in ("one", "two")]

    async def deliver(message: Delivered, effects: ActuatorEffects) -> None:
        boundary = decider.boundary(message)
        assert boundary is not None

        async def dying(effect: Any) -> Any:
            if dice.random() < 0.2 and not isinstance(effect, Execute):
                raise LogUnavailable("it died")
            return await effects.perform(effect)

        for attempt in range(1, 30):
            with contextlib.suppress(LogUnavailable):
                again = replaced(message, attempt=attempt)
                if isinstance(await drive(log, handle(Fold(decider, boundary), again, source="test"), dying), Done):
                    return

    await asyncio.gather(*(deliver(m, effects) for m in messages for effects in actuators))
    workspace.close()
    ended = {r.event.proposal_id: r.event for r in await log.read(["action.executed.>"])}  # type: ignore[union-attr]
    assert Counter(e.error for e in ended.values()) == {None: 5, "limit_of_day": 11}  # type: ignore[union-attr]
    assert 5 == len(list((tmp_path / "workspace/notes").glob("*.md"))) == len(await log.read(["action.claimed.>"]))
    for persona in ("p01", "root"):
        counted = [r.event.used for r in await log.read([f"allowance.used.alpha.{persona}"])]  # type: ignore[union-attr]
        assert [(ScopeUse(scope=0, actions=n, microusd=10 * n),) for n in range(1, 6)] == counted
    broken: list[str] = []
    invariants = AllowanceInvariants(lambda recorded, what: broken.append(f"{recorded.seq}: {what}"))
    for recorded in await log.read([">"]):
        invariants.absorb(recorded)
    assert [] == broken


async def _authorized(log: JetStreamLog, name: str, action: Action | None = None, **said: Any) -> Delivered:
    action = action or Action(kind="file.write", target=f"findings/alpha/p01/{name}.md", params={"content": "x"})
    digest = action_digest(**WHOSE, charter=CHARTER, action=action)
    deadline = utc_now().replace(year=2100)
    created = proposed(action, proposal_id=name, digest=digest, deadline=deadline)
    await log.commit([message_of(created, id=f"c-{name}", time=utc_now())])
    await log.commit([message_of(verified(created, proposal_id=name, **said), id=f"v-{name}", time=utc_now())])
    draft = authorized(created, proposal_id=name, key="", expires_at=deadline)
    key, signature = sign_verdict(SEED, draft)
    verdict = replaced(draft, key=key, signature=signature)
    (seq,) = await log.commit([message_of(verdict, id=f"a-{name}", time=utc_now())])
    return Delivered(recorded=await log.get(seq), now=utc_now())  # type: ignore[arg-type]
