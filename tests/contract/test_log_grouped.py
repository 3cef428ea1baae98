"""Where each write is synced, many commits of one event go together, and each is answered as if it had gone alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.events import RecallRequested
from shared.log.client.connection import Connection
from shared.log.grouping import ALONE, TOGETHER, Grouping
from shared.log.jetstream import JetStreamLog
from shared.log.port import DuplicateEvent, Expect, LogUnavailable, StaleBoundary
from shared.log.streams import ensure
from tests.broker import Broker
from tests.contract.test_log import message, observation, reaped

MANY = 200


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[JetStreamLog]:
    broker = Broker(tmp_path, sync_always=True)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    yield JetStreamLog(connection, service="test", instance="test-1", groups=True)
    await connection.close()
    broker.kill()


@pytest.fixture
def asked(log: JetStreamLog, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subjects of all requests; the events of a batch but its last are none."""
    real, subjects = log.connection.ask, []

    def ask(subject: str, *bodies: bytes, **kwargs: Any) -> Any:
        subjects.append(subject)
        return real(subject, *bodies, **kwargs)

    monkeypatch.setattr(log.connection, "ask", ask)
    return subjects


async def test_many_at_once_are_few_batches_each_with_its_own_sequence_and_guard(
    log: JetStreamLog, asked: list[str]
) -> None:
    events = [reaped(f"p{number}") for number in range(MANY)]
    seqs = await asyncio.gather(*(log.commit([e], [Expect(f"*.*.alpha.p{n}", 0)]) for n, e in enumerate(events)))
    assert set(range(1, MANY + 1)) == {seq for (seq,) in seqs}
    assert len(asked) < MANY / 4
    stored = await log.read(("persona.reaped.>",))
    assert {(r.id, r.seq) for r in stored} == {(e.envelope.id, seq) for e, (seq,) in zip(events, seqs, strict=True)}


async def test_of_many_at_once_a_stale_one_and_one_said_before_are_refused_and_the_others_are_stored(
    log: JetStreamLog,
) -> None:
    said = observation("said before")
    await log.commit([said])
    commits = [log.commit([reaped(f"p{n}")], [Expect(f"*.*.alpha.p{n}", 7 if n == 40 else 0)]) for n in range(MANY)]
    other = message(reaped("other").event, said.envelope.id)
    answers = await asyncio.gather(*commits, log.commit([other]), return_exceptions=True)
    assert isinstance(answers[40], StaleBoundary) and isinstance(answers[-1], DuplicateEvent)
    assert MANY - 1 == sum(isinstance(answer, tuple) for answer in answers)
    assert MANY == len(await log.read((">",)))


async def test_of_many_that_rest_on_one_guard_one_is_stored(log: JetStreamLog) -> None:
    commits = [log.commit([reaped(f"p{n}")], [Expect("persona.*.alpha.>", 0)]) for n in range(MANY)]
    answers = await asyncio.gather(*commits, return_exceptions=True)
    assert 1 == sum(isinstance(answer, tuple) for answer in answers)
    assert MANY - 1 == sum(isinstance(answer, StaleBoundary) for answer in answers)


async def test_what_is_of_another_stream_goes_by_itself(log: JetStreamLog) -> None:
    asks = [
        message(RecallRequested(swarm="alpha", persona="p1", query="q", limit=1, principal="t")) for _ in range(MANY)
    ]
    mixed = [log.commit([ask]) for ask in asks] + [log.commit([reaped(f"p{n}")]) for n in range(MANY)]
    assert 2 * MANY == len(await asyncio.gather(*mixed))


async def test_an_answer_that_was_lost_is_found_again_one_by_one(
    log: JetStreamLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lost = log._publish_batch, []

    async def losing(encoded: Any) -> Any:
        answer = await real(encoded)
        if not lost:
            lost.append(len(encoded))
            raise LogUnavailable("the answer was lost")
        return answer

    monkeypatch.setattr(log, "_publish_batch", losing)
    seqs = await asyncio.gather(*(log.commit([reaped(f"p{n}")], [Expect(f"*.*.alpha.p{n}", 0)]) for n in range(MANY)))
    assert lost and MANY == len({seq for (seq,) in seqs}) == len(await log.read((">",)))


async def test_few_go_by_themselves_and_who_gives_up_takes_no_place() -> None:
    gate, alone, batches = asyncio.Event(), [], []

    async def one(event: int) -> int:
        alone.append(event)
        await gate.wait()
        return event

    async def many(events: Any) -> Any:
        batches.append(list(events))
        return None if len(batches) == 1 else list(events)

    grouping: Grouping[int, int] = Grouping(one, many)
    few = [asyncio.ensure_future(grouping.send(n, "")) for n in range(ALONE + 5)]
    await asyncio.sleep(0.01)
    assert (list(range(ALONE)), []) == (alone, batches)
    few[-1].cancel()
    gate.set()
    assert list(range(ALONE + 4)) == await asyncio.gather(*few[:-1])
    gate.clear()
    crowd = [asyncio.ensure_future(grouping.send(n, "")) for n in range(ALONE + 3 * TOGETHER)]
    await asyncio.sleep(0.01)
    gate.set()
    assert list(range(ALONE + 3 * TOGETHER)) == await asyncio.gather(*crowd)
    assert batches and all(TOGETHER <= len(batch) for batch in batches)
    assert 0 == grouping._alone and [] == grouping._waiting
