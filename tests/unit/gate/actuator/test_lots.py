"""The actuator's lots, against the real governor's decisions on a log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from services.actuator import lots as module
from services.actuator.lots import Lots
from services.actuator.terms import Allotted
from services.governor.decider import Governor, Limits
from shared.contracts.envelope import Message, enveloped
from shared.contracts.events import BudgetLimited, Credits, LotGranted, LotRequested
from shared.contracts.ids import EVERYONE, fresh_id
from shared.log.memory import MemoryLog
from shared.log.port import ConsumerSpec
from shared.runtime.shell import Shell

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


class Mesh:
    """A log, a clock, and a governor while it runs."""

    def __init__(self, share: int = 8, each: int = 3) -> None:
        self.now = MIDNIGHT
        self.log = MemoryLog(lambda: self.now)
        limited = BudgetLimited(swarm="alpha", persona=EVERYONE, credits=Credits(actions=share), window=0)
        self.log.store_of("SWARM").append(
            [Message(event=limited, envelope=enveloped(fresh_id(), source="governor", time=self.now))]
        )
        limits = Limits(actions_per_minute=each)
        self.shell = Shell(self.log, Governor(limits=limits), service="governor", clock=lambda: self.now)
        self.spec = ConsumerSpec(name="governor", filters=("lot.requested.*.*",))
        self.puller = self.log.pull(self.spec)
        self.governing = asyncio.create_task(self.shell.consume(self.puller, self.spec))

    def lots(self, name: str = "actuator-1") -> Lots:
        return Lots(self.log, name, clock=lambda: self.now)

    async def count(self, kind: type[LotRequested] | type[LotGranted]) -> int:
        return sum(isinstance(r.event, kind) for r in await self.log.read(["lot.*.*.*"]))

    async def end(self) -> None:
        await self.puller.stop()
        self.governing.cancel()
        await asyncio.gather(self.governing, return_exceptions=True)


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    mesh = Mesh()
    yield mesh
    await mesh.end()


async def take(lots: Lots, persona: str, count: int) -> list[Allotted]:
    """For as many actions of the persona."""
    return list(await asyncio.gather(*(lots.take("alpha", persona, fresh_id()) for _ in range(count))))


async def test_no_more_is_done_in_a_minute_than_the_limit_whoever_does_it(mesh: Mesh) -> None:
    one, two = mesh.lots("actuator-1"), mesh.lots("actuator-2")
    taken = [*await take(one, "ada", 2), *await take(two, "ada", 10), *await take(one, "ada", 10)]
    assert sum(a.lot_id is not None for a in taken) == 3
    assert {(a.scope, a.until) for a in taken if a.lot_id is None} == {("persona", MIDNIGHT + timedelta(seconds=60))}
    mesh.now += timedelta(seconds=60)
    assert sum(a.lot_id is not None for a in await take(two, "ada", 10)) == 3


async def test_who_goes_on_acting_asks_ever_more_seldom() -> None:
    mesh = Mesh(share=1000, each=1000)
    try:
        lots = mesh.lots()
        for _ in range(64):
            (taken,) = await take(lots, "ada", 1)
            assert taken.lot_id is not None
        assert 8 >= await mesh.count(LotRequested)
    finally:
        await mesh.end()


async def test_who_goes_on_acting_is_asked_for_before_its_lot_is_spent_and_never_waits_again() -> None:
    mesh = Mesh(share=1000, each=1000)
    try:
        lots, waited = mesh.lots(), []
        for n in range(200):
            taking = asyncio.ensure_future(lots.take("alpha", "ada", fresh_id()))
            await asyncio.sleep(0)
            waited += [] if taking.done() else [n]
            assert (await taking).lot_id is not None
            await asyncio.sleep(0.002)
        assert max(waited) < 64, waited
        assert 24 >= await mesh.count(LotRequested)
        granted = sum(sum(s.actions for s in r.event.shares) for r in await mesh.log.read(["lot.granted.*.*"]))  # type: ignore[union-attr]
        assert granted < 200 + 2 * module.AHEAD, "what was asked for ahead is spent, too"
    finally:
        await mesh.end()


async def test_those_who_wait_ask_together_and_a_held_persona_asks_no_more(mesh: Mesh) -> None:
    lots = mesh.lots()
    await take(lots, "ada", 40)
    asked = await mesh.count(LotRequested)
    await take(lots, "ada", 40)
    assert (await mesh.count(LotRequested), asked <= 2) == (asked, True)


async def test_a_lot_asked_for_ahead_is_spent_without_asking_again(mesh: Mesh) -> None:
    lots = mesh.lots()
    await take(lots, "ada", 1)
    await take(lots, "ada", 1)
    assert await mesh.count(LotRequested) == 1


async def test_what_lapsed_with_its_minute_is_not_spent(mesh: Mesh) -> None:
    lots = mesh.lots()
    (first,) = await take(lots, "ada", 1)
    mesh.now += timedelta(seconds=60)
    (second,) = await take(lots, "ada", 1)
    assert second.lot_id not in (None, first.lot_id)


async def test_two_processes_of_one_name_never_spend_one_lot(mesh: Mesh) -> None:
    first, second = mesh.lots(), mesh.lots()
    taken = [*await take(first, "ada", 5), *await take(second, "ada", 5)]
    assert sum(a.lot_id is not None for a in taken) == 3


async def test_without_a_governor_nobody_gets_anything(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    await mesh.end()
    monkeypatch.setattr(module, "ANSWER_S", 0.05)
    assert await take(mesh.lots(), "ada", 2) == [Allotted(), Allotted()]


async def test_only_so_many_of_a_swarm_wait_for_the_next_minute(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DELAYED", 2)
    lots = mesh.lots()
    taken = await take(lots, "ada", 7)
    assert [a.too_many for a in taken if a.lot_id is None] == [0, 0, 2, 2]
    mesh.now += timedelta(seconds=130)
    assert [a.too_many for a in await take(lots, "bob", 5) if a.lot_id is None] == [0, 0]


async def test_who_waits_is_let_go_when_the_process_ends(mesh: Mesh) -> None:
    await mesh.end()
    lots = mesh.lots()
    waiting = asyncio.create_task(lots.take("alpha", "ada", "k"))
    await asyncio.sleep(0)
    await lots.close()
    (ended,) = await asyncio.gather(waiting, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError)


async def test_an_action_whose_claim_was_refused_spends_one_however_often_it_asks_while_its_lot_is_good(
    mesh: Mesh,
) -> None:
    lots = mesh.lots()
    first = await lots.take("alpha", "ada", "k-1")
    again = [await lots.take("alpha", "ada", "k-1") for _ in range(5)]
    assert first.lot_id is not None and [first] * 5 == again
    others = await take(lots, "ada", 5)
    assert sum(a.lot_id is not None for a in others) == 2  # three a minute, and it has had one
    mesh.now += timedelta(minutes=1)
    later = await lots.take("alpha", "ada", "k-1")
    assert later.lot_id not in (None, first.lot_id)
