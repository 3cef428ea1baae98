"""What anybody may have stored where a target's hold is said, through the real shell: it frees nothing and stops nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from services.actuator import decider
from services.actuator.decider import Allot, Allotted, Check, Checked, Execute, Outcome
from shared.contracts.action import Action, action_digest
from shared.contracts.catalog import class_of
from shared.contracts.events import ActionClaimed, ActionExecuted
from shared.contracts.ids import fresh_id, utc_now
from shared.contracts.targets import target_id
from shared.decider import Effect, Result
from shared.holds import holder_of
from shared.log.memory import MemoryLog
from shared.log.port import ConsumerSpec
from shared.runtime.shell import Shell
from tests.unit.gate.given import CHARTER, NOTE, WHOSE, authorized, message_of, proposed, verified

TARGET = target_id(f"file:{NOTE.target}")
SPEC = ConsumerSpec(name="actuator", filters=("proposal.authorized.*.*.*",))
WITHIN_S = 10.0


class Actuator:
    """The shell over the decider; what an action does lasts until `go`."""

    def __init__(self) -> None:
        self.log = MemoryLog(utc_now)
        self.began: asyncio.Queue[str] = asyncio.Queue()
        self.go: dict[str, asyncio.Event] = {}
        self.shell = Shell(self.log, decider, service="actuator", perform=self.perform)
        self.puller = self.log.pull(SPEC)
        self.running = asyncio.create_task(self.shell.consume(self.puller, SPEC))

    async def perform(self, effect: Effect) -> Result:
        match effect:
            case Check(target=target):
                holder, seq = await holder_of(self.log, target or "")
                return Checked(actuator=fresh_id(), holder=holder.proposal_id if holder else "", hold_seq=seq)
            case Allot():
                return Allotted(lot_id="lot-1")
            case Execute(job=job):
                self.began.put_nowait(job.proposal_id)
                await self.go.setdefault(job.proposal_id, asyncio.Event()).wait()
                return Outcome(outcome="success", summary="done")
            case _:
                raise TypeError(type(effect).__name__)

    def litter(self) -> None:
        """What cannot be read, under each name a hold is told by."""
        for verb in ("held", "freed"):
            for body in (b"not json", b"{}", b""):
                self.log.store.publish(f"target.{verb}.all.{TARGET}", body)

    async def permit(self, name: str) -> None:
        action = Action(kind="file.write", target=NOTE.target, params={"content": name})
        created = proposed(action, proposal_id=name, digest=action_digest(**WHOSE, charter=CHARTER, action=action))
        expires = utc_now() + timedelta(minutes=5)
        said = authorized(created, proposal_id=name, approvals=("a",), expires_at=expires)
        for event in (verified(created, "medium", proposal_id=name), said):
            await self.log.commit([message_of(event, id=fresh_id(), time=utc_now())])

    async def said(self, count: int) -> list[str]:
        """What is said of actions and of the target, once there is so much of it."""
        async with asyncio.timeout(WITHIN_S):
            while len(found := await self.log.read(("action.>", "target.>"))) < count:
                await asyncio.sleep(0.005)
        return [class_of(recorded.event) for recorded in found]

    async def end(self) -> None:
        await self.puller.stop()
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@pytest.fixture
async def actuator() -> AsyncIterator[Actuator]:
    actuator = Actuator()
    yield actuator
    await actuator.end()


async def test_what_is_stored_on_a_held_target_frees_nothing_and_stops_neither_outcome_nor_the_next(
    actuator: Actuator,
) -> None:
    actuator.litter()
    await actuator.permit("p-1")
    assert "p-1" == await asyncio.wait_for(actuator.began.get(), WITHIN_S)
    actuator.litter()
    await actuator.permit("p-2")
    assert ["action.claimed", "target.held", "action.delayed"] == await actuator.said(3)
    assert actuator.began.empty()
    holder, _ = await holder_of(actuator.log, TARGET)
    assert holder is not None and "p-1" == holder.proposal_id
    actuator.litter()
    actuator.go["p-1"].set()
    assert "action.executed" == (await actuator.said(4))[3]
    actuator.litter()
    assert "p-2" == await asyncio.wait_for(actuator.began.get(), WITHIN_S)
    actuator.go["p-2"].set()
    await actuator.said(7)
    events = [r.event for r in await actuator.log.read(("action.claimed.>", "action.executed.>"))]
    told = [(type(e), e.proposal_id) for e in events if isinstance(e, ActionClaimed | ActionExecuted)]
    wanted = [(kind, name) for name in ("p-1", "p-2") for kind in (ActionClaimed, ActionExecuted)]
    assert wanted == told and [] == actuator.log.dead
    assert (await holder_of(actuator.log, TARGET))[0] is None
