"""What a cluster does now and then, done by one broker each time: a replica that lags, a guard on which something is in flight."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from shared.contracts.envelope import Recorded
from shared.contracts.events import PlacementChanged
from shared.contracts.ids import EVERYONE
from shared.log.client.connection import BEING_WRITTEN, Connection, is_status
from shared.log.client.wire import Raw
from shared.log.jetstream import JetStreamLog
from shared.log.port import Expect, LogUnavailable
from shared.log.reading import leader as leader_module
from shared.log.reading.direct import DIRECT_GET
from shared.log.streams import ensure
from shared.runtime.hearing import Hearing
from tests.broker import Broker
from tests.contract.test_log import message, observation, reaped
from tests.unit.runtime.test_placement import BOTH, OTHER, SHARDS, by

LAST = "persona.reaped.alpha.p2"


class Lagging(Connection):
    """A connection whose direct gets are answered as by a replica that has come to `reach`, `times` more times."""

    reach = times = 0

    async def request(self, subject: str, body: bytes = b"", **more: object) -> Raw:
        answer = await super().request(subject, body, **more)  # type: ignore[arg-type]
        return self._missing() if subject == DIRECT_GET and self._lags() and self._beyond(answer) else answer

    async def request_many(
        self, subject: str, *bodies: bytes, is_last: Callable[[Raw], bool], timeout_s: float = 5.0
    ) -> list[Raw]:
        answers = await super().request_many(subject, *bodies, is_last=is_last, timeout_s=timeout_s)
        if subject != DIRECT_GET or not self._lags():
            return answers
        end = answers[-1] if is_status(answers[-1]) else self._missing()
        reached = re.sub(rb"(UpTo-Sequence): \d+", rb"\1: %d" % self.reach, end.head)
        seen = [answer for answer in answers if not is_status(answer) and not self._beyond(answer)]
        return [*seen, Raw("", "", b"", reached)] if seen else [self._missing()]

    def _lags(self) -> bool:
        self.times -= 1
        return self.times >= 0

    def _beyond(self, answer: Raw) -> bool:
        return int(answer.headers.get("Nats-Sequence", 0)) > self.reach

    def _missing(self) -> Raw:
        return Raw("", "", b"", b"NATS/1.0 404 Message Not Found\r\n\r\n")


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        await ensure(broker.url, None)
        yield broker.url
    finally:
        broker.kill()


@pytest.fixture
async def connection(url: str) -> AsyncIterator[Lagging]:
    connection = await Lagging.open(url, name="test")
    assert isinstance(connection, Lagging)
    yield connection
    connection.times = 0
    await connection.close()


@pytest.mark.parametrize(
    "filters", [(LAST,), ("persona.*.alpha.p2",), ("persona.reaped.*.*",), ("*.*.alpha.>", "audit.>")]
)
async def test_a_replica_that_lags_is_asked_again_until_it_has_what_the_leader_has(
    connection: Lagging, filters: tuple[str, ...]
) -> None:
    log = JetStreamLog(connection, service="test", instance="test-1", replicated=True)
    stale = JetStreamLog(connection, service="test", instance="test-1")
    (first,) = await log.commit([reaped("p1")])
    (last,) = await log.commit([reaped("p2")])
    reads: list[Callable[[JetStreamLog], object]] = [
        lambda log: log.read(filters),
        lambda log: log.last(filters[:1]),
        lambda log: log.ends(filters[:1]),
        lambda log: log.get(last),
    ]
    for read in reads:
        connection.reach, connection.times = first, 3
        assert not await _has(last, read(stale)), "the double does not lag"
        connection.reach, connection.times = first, 3
        assert await _has(last, read(log))


async def test_a_replica_that_stays_behind_is_no_answer(connection: Lagging, monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.log.reading import reader as reader_module

    monkeypatch.setattr(reader_module, "BEHIND_S", 0.1)
    log = JetStreamLog(connection, service="test", instance="test-1", replicated=True)
    (first,) = await log.commit([reaped("p1")])
    await log.commit([reaped("p2")])
    connection.reach, connection.times = first, 10_000
    with pytest.raises(LogUnavailable, match="a replica has not reached"):
        await log.read((LAST,))


async def test_a_leader_that_has_not_reached_what_was_seen_is_waited_for(
    connection: Lagging, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = JetStreamLog(connection, service="test", instance="test-1")
    (seq,) = await log.commit([observation()])
    leader = leader_module.Leader(connection, "SWARM")
    waiting = asyncio.create_task(leader.ends((">",), seen=seq + 1))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await log.commit([observation()])
    assert (seq + 1,) == await waiting
    monkeypatch.setattr(leader_module, "BEHIND_S", 0.05)
    with pytest.raises(leader_module.Behind, match=f"not yet {seq + 2}"):
        await leader.ends((">",), seen=seq + 2)


async def test_what_a_leader_said_before_it_reached_what_was_seen_is_not_its_answer(
    connection: Lagging, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = JetStreamLog(connection, service="test", instance="test-1")
    (seen,) = await log.commit([observation()])
    request, others = connection.request, list[asyncio.Future[Raw]]()

    async def reaching(subject: str, body: bytes = b"", **more: object) -> Raw:
        if b'">"' not in body:
            others.append(asyncio.ensure_future(request(subject, body, **more)))
            return await others[-1]
        await asyncio.gather(*others)
        await log.commit([reaped("p1")])  # asked how far it is, it gets there
        return await request(subject, body, **more)

    monkeypatch.setattr(connection, "request", reaching)
    assert (seen + 1,) == await leader_module.Leader(connection, "SWARM").ends(("persona.>",), seen=seen + 1)


async def test_a_guard_on_which_something_is_in_flight_decides_nothing(
    connection: Lagging, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = JetStreamLog(connection, service="test", instance="test-1")
    real, refusals = connection.ask, 0

    def ask(subject: str, *bodies: bytes, **more: object) -> asyncio.Future[Raw]:
        nonlocal refusals
        if not subject.startswith("persona.reaped") or refusals == 3:
            return real(subject, *bodies, **more)  # type: ignore[arg-type]
        refusals += 1
        refused: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
        body = b'{"error":{"code":400,"err_code":%d,"description":"wrong last sequence"}}' % BEING_WRITTEN
        refused.set_result(Raw("", "", body))
        return refused

    monkeypatch.setattr(connection, "ask", ask)
    (seq,) = await log.commit([reaped("p1")], [Expect("persona.*.alpha.>", 0)])
    assert (3, [seq]) == (refusals, [r.seq for r in await log.read(("persona.*.alpha.>",))])


async def _has(seq: int, reading: object) -> bool:
    found = await reading  # type: ignore[misc]
    if isinstance(found, Recorded):
        return found.seq == seq
    return any(seq == (one.seq if isinstance(one, Recorded) else one) for one in found or ())


async def test_nobody_is_believed_because_a_replica_has_not_heard_who_holds_the_persona(connection: Lagging) -> None:
    log = JetStreamLog(connection, service="test", instance="test-1", replicated=True)
    await log.commit([message(PlacementChanged(swarm=EVERYONE, persona=EVERYONE, slots=BOTH, shards=SHARDS))])
    (seq,) = await log.commit([message(by(OTHER, "thought.generated"))])
    said = await log.get(seq)
    assert isinstance(said, Recorded)
    stale = JetStreamLog(connection, service="test", instance="test-1")
    judged = []
    for reading in (stale, log):
        connection.reach, connection.times = 0, 3
        judged.append(await Hearing(reading).why_not(said))
    assert [None, f"{OTHER} does not hold alpha.p01"] == judged
