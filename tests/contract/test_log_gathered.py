"""What many look up at the same time costs the broker one reading, and each gets what it would have got alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.envelope import Recorded, Unreadable
from shared.gathering import MOST, Gathering
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable
from shared.log.reading.direct import DIRECT_GET
from shared.log.reading.routes import Routes, runs
from shared.log.streams import ensure
from tests.broker import Broker
from tests.contract.test_log import observation, reaped

MANY = 200


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[JetStreamLog]:
    broker = Broker(tmp_path)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    yield JetStreamLog(connection, service="test", instance="test-1")
    await connection.close()
    broker.kill()


@pytest.fixture
def asked(log: JetStreamLog, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subjects of all requests."""
    real, subjects = log.connection.ask, []

    def ask(subject: str, *bodies: bytes, **kwargs: Any) -> Any:
        subjects.extend([subject] * len(bodies))
        return real(subject, *bodies, **kwargs)

    monkeypatch.setattr(log.connection, "ask", ask)
    return subjects


async def test_many_single_messages_are_read_in_stretches_and_what_is_not_there_is_not(
    log: JetStreamLog, asked: list[str]
) -> None:
    for number in range(MANY):
        await log.commit([observation(str(number))])
    wrong = await log.connection.request("observation.recorded.alpha.all", b"no event")
    assert b'"seq"' in wrong.data
    del asked[:]
    found = await asyncio.gather(
        *(log.get(seq) for seq in (*range(1, MANY + 1), MANY + 1, MANY + 50, MANY + 51, 2**62))
    )
    assert [str(n) for n in range(MANY)] == [m.event.text for m in found[:MANY] if isinstance(m, Recorded)]  # type: ignore[union-attr]
    assert isinstance(found[MANY], Unreadable) and [None] * 3 == found[MANY + 1 :]
    assert len(asked) <= MANY // MOST + 6 and {DIRECT_GET} == set(asked)


async def test_many_boundaries_are_looked_at_together_and_none_gets_anothers(
    log: JetStreamLog, asked: list[str]
) -> None:
    for number in range(MANY):
        await log.commit([observation(str(number), persona=f"p{number}")])
    for number in range(0, MANY, 2):
        await log.commit([reaped(f"p{number}")])
    del asked[:]
    filters = [f"*.*.alpha.p{number}" for number in range(MANY)]
    nothing_new = await asyncio.gather(*(log.stored((f,), 2 * MANY) for f in filters))
    assert [[]] * MANY == nothing_new
    assert len(asked) <= MANY // MOST + 3
    found = await asyncio.gather(*(log.stored((f,)) for f in filters))
    assert [1 + (number % 2 == 0) for number in range(MANY)] == [len(messages) for messages in found]
    assert all(m.subject.endswith(f".p{number}") for number, messages in enumerate(found) for m in messages)
    del asked[:]
    last = await asyncio.gather(*(log.last((f"persona.reaped.alpha.p{number}",)) for number in range(MANY)))
    assert [number % 2 == 0 for number in range(MANY)] == [len(events) == 1 for events in last]
    assert len(asked) <= MANY // MOST + 3


async def test_a_filter_of_very_many_subjects_is_read_whole_and_spoils_nobody_elses_reading(log: JetStreamLog) -> None:
    for start in range(0, 1500, 500):
        await log.commit([observation(persona=f"p{start + n}") for n in range(500)])
    for _ in range(2):
        wide, one = await asyncio.gather(log.stored(("observation.recorded.alpha.*",)), log.stored(("*.*.alpha.p7",)))
        assert (1500, 1) == (len(wide), len(one))


async def test_a_reading_begins_after_the_question_and_a_failure_is_everybodys() -> None:
    gate, batches = asyncio.Event(), []

    async def ask(questions: list[int]) -> list[int]:
        batches.append(questions)
        await gate.wait()
        if 13 in questions:
            raise LogUnavailable("away")
        return [10 * n for n in questions]

    gathering: Gathering[int, int] = Gathering(ask)
    first = [asyncio.ensure_future(gathering.of(n)) for n in (0, 1)]
    while not batches:
        await asyncio.sleep(0)
    later = [asyncio.ensure_future(gathering.of(n)) for n in (7, 8, 9)]
    later[1].cancel()
    gate.set()
    assert [0, 10, 70, 90] == await asyncio.gather(*first, later[0], later[2])
    assert [7, 9] == sorted(n for batch in batches[1:] for n in batch if n > 1)
    failed = await asyncio.gather(gathering.of(13), gathering.of(14), return_exceptions=True)
    assert all(isinstance(error, LogUnavailable) for error in failed)
    assert 150 == await gathering.of(15)


def test_routes_say_who_matches_and_runs_leave_nothing_out() -> None:
    routes = Routes([("*.*.a.p.1", "x.y"), ("mesh.*.all.all",), ("x.y",), ("*.*.a.p.2",)])
    assert [{0}, {1}, {0, 2}, set()] == [
        routes.of(s) for s in ("proposal.verified.a.p.1", "mesh.halted.all.all", "x.y", "x.y.z")
    ]
    assert [(1, 5), (30, 30)] == runs([5, 1, 30, 3, 3], gap=8, most=64)
    assert [(1, 64), (65, 70)] == runs(range(1, 71), gap=8, most=64)
