"""The race for a claim on the real broker, also when the loser never hears that it lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.actuator import decider
from services.actuator.decider import Check, Execute, Outcome
from services.actuator.effects import ActuatorEffects
from services.actuator.hands.outbound import Outbound
from services.actuator.hands.table import hands
from services.actuator.hands.workspace import Workspace
from services.actuator.journal import Journal
from shared.contracts.events import ActionClaimed, ActionExecuted
from shared.contracts.ids import utc_now
from shared.crypto import sign_verdict
from shared.decider import Delivered
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable
from shared.log.streams import ensure
from shared.policy.activations import Followed
from shared.runtime.driving import drive
from shared.runtime.halting import Halting
from shared.runtime.handling import Fold, handle
from tests.broker import Broker
from tests.unit.gate.given import (
    PROPOSAL,
    SEED,
    Plenty,
    activated,
    authorized,
    believing,
    message_of,
    proposed,
    replaced,
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

    def actuator(name: str, meanwhile: Any = None) -> Any:
        effects = ActuatorEffects(
            log=log,
            hands=hands(workspace, Outbound()),
            site=workspace.receipts.identity,
            lots=Plenty(),
            journal=Journal(tmp_path / f"claims-{name}.jsonl", utc_now()),
            halting=Halting(log),
            signers=believing(log),
            policies=Followed(log),
            instance=name,
        )

        async def perform(effect: Any) -> Any:
            result = await effects.perform(effect)
            if isinstance(effect, Check) and meanwhile is not None:
                await meanwhile()
            if isinstance(effect, Execute):
                done.append((name, type(result)))
            return result

        return lambda: drive(log, handle(Fold(decider, boundary), message, source=name), perform)

    real, two = log.connection.request, actuator("two")

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

    await actuator("one", meanwhile=two_then_trouble)()
    assert [("two", Outcome)] == done
    life = [r.event for r in await log.read([f"*.*.alpha.p01.{PROPOSAL}"])]
    assert 1 == sum(isinstance(e, ActionClaimed) for e in life) == sum(isinstance(e, ActionExecuted) for e in life)
    workspace.close()
