"""Test writes on a real broker: a clock that is off is told and takes no work; what cannot be stored is not ready."""

from __future__ import annotations

import time

import msgspec
import pytest

from shared.log.client.connection import Connection
from shared.log.client.wire import Raw
from shared.runtime.vitals.probe import FAILURES, Probe


class Clock:
    """A wall clock that is `off_s` wrong."""

    def __init__(self, off_s: float = 0.0) -> None:
        self.off_s = off_s

    def __call__(self) -> float:
        return time.time() + self.off_s


def probe(connection: Connection, instance: str, clock: Clock) -> Probe:
    return Probe(connection, instance, tolerance_s=5.0, wall=clock)


async def test_before_the_first_write_nothing_is_promised_and_after_it_both_are(connection: Connection) -> None:
    one = probe(connection, "verifier-1", Clock())
    assert None not in (one.unstored, one.clock_off)
    await one.write()
    assert (None, None) == (one.unstored, one.clock_off)


async def test_a_service_keeps_one_test_write_however_often_it_tests(connection: Connection) -> None:
    one = probe(connection, "verifier-1", Clock())
    for _ in range(5):
        await one.write()
    answer = await connection.request("$JS.API.STREAM.INFO.PROBE")
    assert 1 == msgspec.json.decode(answer.data)["state"]["messages"]


class Refusing(Connection):
    """Answers every request alike, as a broker would."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self._says = answer

    async def request(self, subject: str, *_: object, **__: object) -> Raw:  # type: ignore[override]
        return Raw("", "", self._says)


@pytest.mark.parametrize(
    ("code", "left"),
    [(10008, 2), (10023, 0)],
    ids=["no leader is known", "the disk of those that are in touch is full"],
)
async def test_a_broker_is_left_when_it_knows_of_no_leader_and_not_when_all_of_them_refuse(
    code: int, left: int
) -> None:
    went = []

    async def elsewhere() -> None:
        went.append(one.unstored)

    said = b'{"error":{"code":503,"err_code":%d,"description":"no"}}' % code
    one = Probe(Refusing(said), "verifier-1", tolerance_s=5.0, elsewhere=elsewhere)
    for _ in range(2 * FAILURES):
        await one.write()
        assert f"no ({code})" in (one.unstored or "")
    assert left == len(went)


@pytest.mark.parametrize(("off_s", "said"), [(3600.0, "ahead of"), (-3600.0, "behind")])
async def test_a_clock_an_hour_off_is_told_and_one_that_was_set_right_is_trusted_again(
    connection: Connection, off_s: float, said: str
) -> None:
    clock = Clock(off_s)
    one = probe(connection, "verifier-1", clock)
    await one.write()
    assert (None, True) == (one.unstored, f"s {said} the broker's (limit 5 s)" in (one.clock_off or ""))
    clock.off_s = 0.5
    await one.write()
    assert one.clock_off is None


async def test_a_clock_that_is_set_while_running_is_distrusted_at_once(connection: Connection) -> None:
    clock = Clock()
    one = probe(connection, "verifier-1", clock)
    await one.write()
    clock.off_s = 3600.0
    assert "was set by 3600.0 s" in (one.clock_off or "")
    await one.write()
    assert "ahead of" in (one.clock_off or "")


async def test_when_most_services_differ_alike_the_brokers_own_clock_is_named(connection: Connection) -> None:
    for instance in ("gateway-1", "governor-1"):
        await probe(connection, instance, Clock(3600.0)).write()
    one = probe(connection, "verifier-1", Clock(3600.0))
    await one.write()
    assert "2 of 2 other services differ alike: the broker's clock may be the one" in (one.clock_off or "")


async def test_when_the_others_agree_with_the_broker_the_clock_here_is_the_odd_one(connection: Connection) -> None:
    for instance in ("gateway-1", "governor-1"):
        await probe(connection, instance, Clock()).write()
    one = probe(connection, "verifier-1", Clock(3600.0))
    await one.write()
    assert (one.clock_off or "").endswith("; 0 of 2 other services differ alike")


async def test_what_the_broker_refuses_is_told_with_its_reason(connection: Connection) -> None:
    answer = await connection.request("$JS.API.STREAM.INFO.PROBE")
    config = msgspec.json.decode(answer.data)["config"]
    await connection.request(
        "$JS.API.STREAM.UPDATE.PROBE", msgspec.json.encode({**config, "max_bytes": 1, "discard": "new"})
    )
    one = probe(connection, "verifier-1", Clock())
    await one.write()
    assert "the broker stores nothing: maximum bytes exceeded (10077)" == one.unstored
