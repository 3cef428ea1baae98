"""Readiness tests the promise and names what is not kept; liveness asks whether the loop turns, and nothing else."""

from __future__ import annotations

import asyncio
import http.server
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest

from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import ObservationRecorded
from shared.contracts.ids import fresh_id, utc_now
from shared.log.client.connection import Connection
from shared.log.client.wire import Raw
from shared.log.port import LogUnavailable
from shared.runtime.service import Service
from shared.runtime.vitals.health import BEAT_S, LONGEST_LAG_S, Health, address
from shared.runtime.vitals.readiness import ANSWER_S, Brokers, Durability, cached, lax_broker, unwell_broker
from shared.settings import Nats, Settings
from tests.broker import Broker


async def asked(health: Health, path: str) -> tuple[int, dict[str, object]]:
    """Status and body of one GET."""
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    await health.app({"type": "http", "path": path}, None, send)
    body, status = sent[1]["body"], sent[0]["status"]
    assert isinstance(body, bytes) and isinstance(status, int)
    return status, msgspec.json.decode(body)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_what_answers_on_every_address_is_known_by_its_hosts_name(host: str) -> None:
    assert f"http://{socket.gethostname()}:8080" == address(host, 8080)


def test_where_health_is_answered_is_a_url_and_nothing_where_it_is_not() -> None:
    assert ("http://127.0.0.1:1", "http://[::1]:1", "") == (
        address("127.0.0.1", 1),
        address("::1", 1),
        address("::1", 0),
    )


# -- live -----------------------------------------------------------------------------------------------------------------


async def test_a_check_that_fails_is_not_passed_and_told_beside_the_others() -> None:
    health = Health()

    async def broken() -> str | None:
        raise KeyError("replicas")

    async def fine() -> str | None:
        return None

    def unsaid() -> str | None:
        raise OSError("gone")

    health.check("broker", broken)
    health.check("log", fine)
    health.warn("disk", unsaid)
    health.warn("held", lambda: "two are")
    assert await health.problems() == {"broker": "it cannot be told: KeyError"}
    assert health.warnings() == {"disk": "it cannot be told: OSError", "held": "two are"}


async def test_live_says_how_late_the_loop_is_and_no_when_it_is_stuck() -> None:
    now = 100.0
    health = Health(lambda: now)
    beat = asyncio.create_task(health.beat())
    await asyncio.sleep(0)
    assert (200, {"live": True, "lag_s": 0.0}) == await asked(health, "/health/live")
    now += BEAT_S + LONGEST_LAG_S
    assert (200, {"live": True, "lag_s": LONGEST_LAG_S}) == await asked(health, "/health/live")
    now += 1.0
    assert (503, {"live": False, "lag_s": LONGEST_LAG_S + 1.0}) == await asked(health, "/health/live")
    beat.cancel()


async def test_a_check_that_is_added_while_others_are_looked_at_does_no_harm() -> None:
    health = Health()

    async def adds() -> str | None:
        health.check("added", adds)
        return "it is away"

    health.check("adds", adds)
    assert {"adds": "it is away"} == await health.problems()


async def test_who_starts_says_what_it_waits_for() -> None:
    health = Health()
    health.starting, health.waits = True, lambda: None
    assert "it is starting" in (await health.problems())["process"]
    health.waits = lambda: "it waits for the broker"
    assert {"process": "it waits for the broker"} == await health.problems()


async def test_live_does_not_ask_what_ready_asks() -> None:
    health = Health()

    async def away() -> str | None:
        return "S3 is away"

    health.check("cold", away)
    assert 200 == (await asked(health, "/health/live"))[0]


# -- ready ----------------------------------------------------------------------------------------------------------------


async def test_ready_names_every_cause_and_tells_warnings_without_a_503() -> None:
    health = Health()
    causes: dict[str, str | None] = {"cold": "S3 is away", "store": "no space left"}

    async def cold() -> str | None:
        return causes["cold"]

    async def store() -> str | None:
        return causes["store"]

    health.check("cold", cold)
    health.check("store", store)
    health.warn("held_back", lambda: "the log is full")
    health.progress = lambda: 7
    warnings = {"held_back": "the log is full"}
    status, said = await asked(health, "/health/ready")
    assert (503, {"ready": False, "problems": causes, "warnings": warnings, "progress": 7}) == (status, said)
    causes.update(cold=None, store=None)
    status, said = await asked(health, "/health/ready")
    assert (200, {"ready": True, "problems": {}, "warnings": warnings, "progress": 7}) == (status, said)


async def test_metrics_tell_readiness_as_it_is_when_they_are_read() -> None:
    health = Health(service="verifier")
    causes: dict[str, str | None] = {"cold": "S3 is away"}

    async def cold() -> str | None:
        return causes["cold"]

    health.check("cold", cold)
    health.warn("halted", lambda: causes["cold"])
    told = (await health.metrics()).decode()
    assert 'swarm_not_ready{check="cold"} 1.0' in told
    assert 'swarm_warned{warning="halted"} 1.0' in told
    assert "swarm_ready 0.0" in told
    causes["cold"] = None
    told = (await health.metrics()).decode()
    assert 'swarm_not_ready{check="cold"} 0.0' in told
    assert 'swarm_warned{warning="halted"} 0.0' in told
    assert "swarm_ready 1.0" in told
    assert "swarm_http" not in told


async def test_a_second_check_of_a_name_would_silence_the_first_and_is_refused() -> None:
    health = Health()
    health.check("log", cached(_fine, 1.0))
    with pytest.raises(ValueError, match="readiness tests 'log' already"):
        health.check("log", cached(_fine, 1.0))


async def _fine() -> str | None:
    return None


async def test_who_asks_during_a_long_look_is_answered_and_there_is_one_look_at_a_time() -> None:
    looks = 0
    seen: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    async def look() -> str | None:
        nonlocal looks
        looks += 1
        return await seen

    check = cached(look, 60.0)
    waiting = f"it is being looked at, and there is no answer for {ANSWER_S:g} s"
    async with asyncio.timeout(60):
        assert [waiting] * 3 == await asyncio.gather(check(), check(), check())
        seen.set_result("S3 is away")
        assert ("S3 is away", 1) == (await check(), looks)
        seen = asyncio.get_running_loop().create_future()
        assert ("S3 is away", 2) == (await check(), looks)  # what was found before
        seen.set_result(None)
        assert [None, None, 2] == [await check(), await check(), looks]


async def test_a_look_that_failed_is_not_the_last_one() -> None:
    answers: list[Exception | None] = [OSError("broken"), None]

    async def look() -> str | None:
        if (answer := answers.pop(0)) is not None:
            raise answer
        return None

    check = cached(look, 60.0)
    with pytest.raises(OSError, match="broken"):
        await check()
    assert await check() is None


async def test_checks_that_take_long_are_looked_at_beside_each_other() -> None:
    health = Health()
    together = asyncio.Barrier(3)

    async def both() -> str | None:
        await together.wait()
        return None

    for name in ("cold", "broker", "streams"):
        health.check(name, cached(both, 1.0))
    async with asyncio.timeout(60):
        assert {} == await health.problems()


# -- what every service promises --------------------------------------------------------------------------------------------


def service(connection: Connection) -> Service:
    return Service("verifier", Settings(require_sync_always=False), connection)


def observation() -> Message:
    event_id = fresh_id()
    envelope = Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id)
    return Message(event=ObservationRecorded(swarm="alpha", persona="all", text="t"), envelope=envelope)


async def test_a_service_is_ready_once_a_test_write_is_stored_and_the_clock_was_compared(
    connection: Connection,
) -> None:
    one = service(connection)
    assert {"store", "clock"} == (await one.health.problems()).keys()
    await one.probe.write()
    assert {} == await one.health.problems()


async def test_a_broker_that_went_away_is_named_and_so_is_what_cannot_be_seen_without_it(
    connection: Connection, broker: Broker
) -> None:
    one = service(connection)
    await one.probe.write()
    broker.kill()
    async with asyncio.timeout(30):
        while connection.is_connected:
            await asyncio.sleep(0)
    await one.probe.write()
    said = await one.health.problems()
    assert {"nats", "store", "streams"} == said.keys()
    assert "the connection to NATS is down" == said["nats"]
    assert said["store"].startswith("the broker stores nothing: ")


async def test_a_commit_the_broker_refused_is_told_with_its_words_until_one_went_in(connection: Connection) -> None:
    one = service(connection)
    await one.probe.write()
    config = msgspec.json.decode((await connection.request("$JS.API.STREAM.INFO.SWARM")).data)["config"]

    async def room(max_bytes: int) -> None:
        update = msgspec.json.encode({**config, "max_bytes": max_bytes})
        await connection.request("$JS.API.STREAM.UPDATE.SWARM", update)

    await one.log.commit([observation()])
    await room(1)
    with pytest.raises(LogUnavailable):
        await one.log.commit([observation()])
    said = await one.health.problems()
    assert "maximum bytes exceeded" in said["log"]
    await room(config["max_bytes"])
    await one.log.commit([observation()])
    assert "log" not in await one.health.problems()


async def test_a_log_that_would_forget_by_age_is_not_ready(connection: Connection) -> None:
    one = service(connection)
    await one.probe.write()
    config = msgspec.json.decode((await connection.request("$JS.API.STREAM.INFO.SWARM")).data)["config"]
    await connection.request("$JS.API.STREAM.UPDATE.SWARM", msgspec.json.encode({**config, "max_age": 3600 * 10**9}))
    assert {"streams": "SWARM differs in max_age (3600000000000 instead of 0)"} == await one.health.problems()


@pytest.fixture
def monitor() -> Iterator[tuple[str, dict[str, tuple[int, bytes]]]]:
    """The monitoring door of a broker that says what it is told to, by path."""
    says: dict[str, tuple[int, bytes]] = {}

    class Door(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = says[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", says
    server.shutdown()
    server.server_close()


async def test_the_brokers_own_word_counts_and_is_repeated(monitor: tuple[str, dict[str, tuple[int, bytes]]]) -> None:
    url, says = monitor
    says["/healthz"] = (503, b'{"status":"unavailable","error":"JetStream is not current"}')
    assert "JetStream is not current" in (await unwell_broker(url) or "")
    says["/healthz"] = (200, b'{"status":"ok"}')
    assert await unwell_broker(url) is None
    assert "does not answer" in (await unwell_broker("http://127.0.0.1:9") or "")


async def test_of_several_brokers_one_that_is_well_is_enough_and_who_is_not_is_said(
    monitor: tuple[str, dict[str, tuple[int, bytes]]],
) -> None:
    url, says = monitor
    away = "http://127.0.0.1:9"
    says["/healthz"] = (200, b'{"status":"ok"}')
    brokers = Brokers(f"{away},{url},{away}")
    assert await brokers.look() is None
    assert (brokers.said or "").startswith(f"2 of 3 brokers: {away}")
    says["/healthz"] = (503, b'{"error":"JetStream is not current"}')
    assert "JetStream is not current" in (await brokers.look() or "")
    assert brokers.said is None
    says["/jsz"] = (200, b'{"config":{"sync_always":true}}')
    assert "does not answer" in (await Durability(Connection(), f"{url},{away}").look() or "")


async def test_a_broker_that_acknowledges_before_it_syncs_is_told_with_the_remedy(
    monitor: tuple[str, dict[str, tuple[int, bytes]]],
) -> None:
    url, says = monitor
    says["/jsz"] = (200, b'{"config":{"sync_always":false}}')
    assert "SWARM_REQUIRE_SYNC_ALWAYS=false" in (await lax_broker(url) or "")
    says["/jsz"] = (200, b'{"config":{"sync_always":true}}')
    assert await lax_broker(url) is None
    assert "SWARM_NATS_MONITOR_URL" in (await lax_broker("http://127.0.0.1:9") or "")


@pytest.mark.parametrize(
    ("answer", "ready", "said"),
    [
        (b'{"config":{"num_replicas":3}}', True, "with 2 of 3 brokers"),
        (b'{"config":{"num_replicas":5}}', True, "with 3 of 5 brokers"),
        (b'{"config":{"num_replicas":1}}', False, ""),
        (b'{"error":{"code":404}}', False, ""),
        (b"", False, ""),
    ],
)
async def test_a_majority_of_brokers_stands_in_for_the_disk_of_one_and_that_is_said(
    monitor: tuple[str, dict[str, tuple[int, bytes]]], answer: bytes, ready: bool, said: str
) -> None:
    class Answers(Connection):
        async def request(self, subject: str, *_: object, **__: object) -> Raw:  # type: ignore[override]
            return Raw("", "", answer)

    url, says = monitor
    says["/jsz"] = (200, b'{"config":{"sync_always":false}}')
    durability = Durability(Answers(), url)
    assert ready is (await durability.look() is None)
    assert said in (durability.said or "") and bool(said) is bool(durability.said)
    says["/jsz"] = (200, b'{"config":{"sync_always":true}}')
    assert await durability.look() is None and durability.said is None


@pytest.mark.parametrize(
    ("nats", "expected"),
    [
        (Nats(), "http://127.0.0.1:8222"),
        (Nats(url="nats://nats:4222"), "http://nats:8222"),
        (Nats(url="tls://u:p@one:4222, nats://two:4222"), "http://one:8222"),
        (Nats(url="nats://[::1]:4222"), "http://[::1]:8222"),
        (Nats(url="broker:4222"), "http://broker:8222"),
        (Nats(url="nats://nats:4222", monitor_url="http://other:1"), "http://other:1"),
    ],
)
def test_the_broker_is_asked_about_itself_where_it_is_unless_told_otherwise(nats: Nats, expected: str) -> None:
    assert expected == nats.monitor
