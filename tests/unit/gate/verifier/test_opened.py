"""How many proposals of one persona are open, from the log: counted over restarts, in a burst, and by nobody's word but CORE's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from services.verifier import decider
from services.verifier.decider import Resolve, Resolved
from services.verifier.hearing import Hearing
from services.verifier.opened import MARGIN_S, Opened
from shared.contracts.events import ActionExecuted, ProposalRejected
from shared.contracts.ids import fresh_id, utc_now
from shared.decider import Performed
from shared.log.memory import MemoryLog
from tests.unit.gate.given import FINDING, T0, WHOSE, delivered, folded, message_of, proposed, verified

CREATED = proposed(FINDING)


class Clock:
    """The log's and the verifier's."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self):  # type: ignore[no-untyped-def]
        return self.now


@asynccontextmanager
async def counting(log: MemoryLog, clock: Clock, limit: int = 2) -> AsyncIterator[Opened]:
    opened = Opened(log, limit=limit, longest_s=3600, clock=clock)
    hearing = Hearing(log, opened)
    following = asyncio.create_task(hearing.follow())
    try:
        yield opened
    finally:
        await hearing.stop()
        await following


async def say(log: MemoryLog, *events: object) -> None:
    for event in events:
        await log.commit([message_of(event, id=fresh_id())])  # type: ignore[arg-type]
    await asyncio.sleep(0)


async def place(opened: Opened, name: str, persona: str = "p01") -> int:
    return await opened.place(WHOSE["swarm"], persona, name)


def accepted(name: str):  # type: ignore[no-untyped-def]
    return verified(CREATED, proposal_id=name)


async def settled(opened: Opened) -> None:
    """What was said is taken in: by now the verifier has nothing else to do."""
    await opened._caught_up.wait()
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_burst_that_is_judged_side_by_side_gets_no_more_places_than_there_are() -> None:
    log, clock = MemoryLog(), Clock()
    async with counting(log, clock) as opened:
        assert [0, 0, 2, 2] == list(await asyncio.gather(*(place(opened, f"x{n}") for n in range(4))))
        assert 0 == await place(opened, "x0")  # the same one again
        assert 0 == await place(opened, "y", persona="p02")


@pytest.mark.parametrize("how", ["rejected", "executed"])
async def test_whose_proposal_has_its_last_word_may_propose_again(how: str) -> None:
    log, clock = MemoryLog(), Clock()
    whose = {**WHOSE, "proposal_id": "x0", "digest": CREATED.digest}
    last: dict[str, object] = {
        "rejected": ProposalRejected(**whose, stage="policy", reasons=("no",)),
        "executed": ActionExecuted(**whose, outcome="success", summary="done"),
    }
    async with counting(log, clock) as opened:
        assert [0, 0, 2] == [await place(opened, f"x{n}") for n in range(3)]
        await say(log, accepted("x0"), accepted("x1"), last[how])
        await settled(opened)
        assert [0, 2] == [await place(opened, f"x{n}") for n in (3, 4)]


async def test_a_verifier_that_starts_counts_what_is_open_and_no_created_ones() -> None:
    log, clock = MemoryLog(), Clock()
    await say(log, accepted("x0"), proposed(FINDING, proposal_id="forged"), accepted("x1"))
    async with counting(log, clock) as opened:
        assert 2 == await place(opened, "x2")


async def test_what_can_be_open_no_more_is_not_even_looked_at() -> None:
    clock = Clock()
    log = MemoryLog(clock)
    await say(log, *(accepted(f"old{n}") for n in range(50)))
    clock.now += timedelta(seconds=3600 + MARGIN_S + 1)
    await say(log, accepted("x0"))
    async with counting(log, clock) as opened:
        assert 0 == await place(opened, "x1")
        assert 50 == await opened.begin()
        clock.now += timedelta(seconds=3600 + MARGIN_S + 1)
        assert 0 == await place(opened, "x2")  # nobody ever said a last word


def test_beyond_the_limit_it_is_rejected_by_one_event_that_says_it() -> None:
    message = delivered(CREATED, 1)
    resolve = Resolve(**WHOSE, proposal_id="p-1", action=CREATED.action, evidence=CREATED.evidence)
    performed = Performed(cause=message, effect=resolve, result=Resolved(open=64), now=T0)
    (said,) = decider.decide(folded(decider), performed).events
    assert isinstance(said, ProposalRejected)
    assert (("too_many_open",), True) == (said.reasons, "64 proposals" in said.detail)
