"""Gateway and governor as real processes over a real broker: what the API promises survives their ends."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from services.supervisor.running.ports import free_port
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import AnyEvent, ObservationRecorded
from shared.contracts.ids import fresh_id, utc_now
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from tests.broker import Broker
from tests.e2e.processes import Mesh, Process, running
from tests.eventsource import EventSource

ROOT = {"persona_id": "root", "name": "Root", "role": "architect", "charter": "watch", "swarm_id": "alpha"}
CHILD = {"persona_id": "kid", "name": "Kid", "role": "reviewer", "charter": "review"}


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with running(tmp_path) as found:
        yield found


def message(event: AnyEvent) -> Message:
    """The event in an envelope of its own."""
    event_id = fresh_id()
    return Message(event=event, envelope=Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id))


def ids(text: str) -> list[int]:
    """The ids of the events in a piece of an event stream."""
    return [int(seq) for seq in re.findall(r"^id: (\d+)\nevent: cognition$", text, re.MULTILINE)]


async def test_personas_live_and_die_by_the_governors_word(mesh: Mesh) -> None:
    created = await mesh.posts("/v1/swarm/personas", ROOT, "k1")
    assert created.status_code == 200, created.text
    child = await mesh.client.post("/v1/swarm/personas/root/spawn", json=CHILD)
    assert child.json()["identity"]["depth"] == 1
    assert (await mesh.client.post("/v1/swarm/personas", json=ROOT)).status_code == 409
    narrow = {"max_spawn_depth": 4, "max_branching_factor": 0}
    await mesh.client.post("/v1/swarm/personas", json={**ROOT, "persona_id": "narrow", "policy": narrow})
    refused = await mesh.client.post("/v1/swarm/personas/narrow/spawn", json={**CHILD, "persona_id": None})
    assert (refused.status_code, refused.json()["reason"]) == (400, "branching_limit")
    reaped = await mesh.client.post("/v1/swarm/personas/root/reap", json={"cascade": True})
    assert reaped.json() == {"reaped_ids": ["root", "kid"], "count": 2}
    assert (await mesh.client.post("/v1/swarm/personas/root/spawn", json=CHILD)).status_code == 409
    assert (await mesh.client.post("/v1/swarm/personas/root/reap")).status_code == 409
    started = await mesh.client.post("/v1/cognition/start")
    assert started.json()["running"] is True


async def test_a_gateway_that_comes_back_knows_what_it_did(mesh: Mesh) -> None:
    first = await mesh.posts("/v1/swarm/personas", ROOT, "k1")
    body = {"observations": [{"text": f"line {n}"} for n in range(50)]}
    stored = (await mesh.posts("/v1/swarm/alpha/observations", body, "k2")).json()
    assert await mesh.gateway.end() == 0
    mesh.gateway.start()
    await mesh.answers("/health/ready", 200)
    again = await mesh.posts("/v1/swarm/personas", ROOT, "k1")
    assert again.json()["identity"] == first.json()["identity"]
    assert (await mesh.posts("/v1/swarm/alpha/observations", body, "k2")).json() == stored


async def test_a_stream_ends_cleanly_and_resumes_where_it_was(mesh: Mesh) -> None:
    path = "/v1/swarm/alpha/observations"
    text = ""
    async with mesh.client.stream("GET", "/v1/cognition/stream?from=beginning") as answer:
        await mesh.client.post(path, json={"observations": [{"text": f"{n}"} for n in range(600)]})
        chunks = answer.aiter_text()
        while len(ids(text)) < 600:
            text += await anext(chunks)
        ending = asyncio.create_task(mesh.gateway.end())
        async for chunk in chunks:
            text += chunk
    assert await ending == 0
    assert text.endswith("retry: 500\n\n")
    seen = ids(text)  # the governor has a word in between
    assert len(seen) >= 600 and seen == list(range(1, len(seen) + 1))
    mesh.gateway.start()
    await mesh.answers("/health/ready", 200)
    rest = ""
    headers = {"Last-Event-ID": "550"}
    async with mesh.client.stream("GET", "/v1/cognition/stream", headers=headers) as answer:
        await mesh.client.post(path, json={"text": "one more"})
        chunks = answer.aiter_text()
        while len(ids(rest)) < len(seen) - 549:
            rest += await anext(chunks)
    assert ids(rest) == list(range(551, len(ids(rest)) + 551))


async def test_event_sources_over_kills_and_ends_of_gateway_and_broker_see_every_event_once(mesh: Mesh) -> None:
    connection = await Connection.open(mesh.broker.url, name="filler")
    log = JetStreamLog(connection, service="gateway", instance="filler-1")
    for _ in range(12):
        await log.commit([message(ObservationRecorded(swarm="alpha", persona="all", text="t")) for _ in range(500)])
    await connection.close()
    path, last = "/v1/swarm/alpha/observations", 6000
    async with AsyncExitStack() as stack:
        url = f"{mesh.client.base_url}/v1/cognition/stream?from=beginning".replace("//v1", "/v1")
        sources = [await stack.enter_async_context(EventSource(url)) for _ in range(5)]
        for end in ("kill", "terminate", "broker", "kill"):
            last = (await mesh.posts(path, {"text": f"before {end} {last}"}, f"{end}{last}")).json()["sequences"][0]
            await asyncio.gather(*(s.has(last) for s in sources))
            if end == "broker":
                mesh.broker.kill()
                await mesh.broker.start()
            else:
                await mesh.gateway.end(signal.SIGKILL if end == "kill" else signal.SIGTERM)
                mesh.gateway.start()
        last = (await mesh.posts(path, {"text": "the last"}, "last")).json()["sequences"][0]
        await asyncio.gather(*(s.has(last) for s in sources))
    for source in sources:
        assert [int(e.last_event_id) for e in source.seen] == list(range(1, last + 1))
        assert source.opens >= 4


async def test_a_message_that_cannot_be_read_costs_a_stream_no_other(mesh: Mesh) -> None:
    connection = await Connection.open(mesh.broker.url, name="filler")
    log = JetStreamLog(connection, service="gateway", instance="filler-1")
    await log.commit([message(ObservationRecorded(swarm="alpha", persona="all", text="first"))])
    bad = json.loads((await connection.request("observation.recorded.alpha.all", b"no event")).data)["seq"]
    for _ in range(3):
        await log.commit([message(ObservationRecorded(swarm="alpha", persona="all", text="t")) for _ in range(500)])
    await connection.close()
    last = (await mesh.posts("/v1/swarm/alpha/observations", {"text": "last"}, "k")).json()["sequences"][0]
    text = ""
    async with mesh.client.stream("GET", "/v1/cognition/stream?from=beginning") as answer:
        chunks = answer.aiter_text()
        while last not in ids(text):
            text += await anext(chunks)
    assert [seq for seq in ids(text) if seq <= last] == [seq for seq in range(1, last + 1) if seq != bad]


async def test_the_bus_away_is_503_and_back_again_is_200_without_a_restart(mesh: Mesh) -> None:
    path = "/v1/swarm/alpha/observations"
    assert (await mesh.client.post(path, json={"text": "before"})).status_code == 200
    mesh.broker.kill()
    away = await mesh.client.post(path, json={"text": "away"}, headers={"Idempotency-Key": "k"})
    assert (away.status_code, away.headers["retry-after"]) == (503, "1")
    assert (await mesh.client.get("/v1/cognition/status")).status_code == 200
    await mesh.broker.start()
    assert (await mesh.posts(path, {"text": "away"}, "k")).status_code == 200
    assert (await mesh.posts("/v1/swarm/personas", ROOT, "p")).status_code == 200
    entries = (await mesh.client.get("/v1/audit?category=observation")).json()
    assert [e["detail"] for e in entries] == ["away", "before"]


async def followed_from(broker: Broker, instance: str = "gateway-1") -> int:
    """The first sequence that the running process's tail has asked for."""
    connection = await Connection.open(broker.url, name="test")
    try:
        answer = await connection.request(f"$JS.API.CONSUMER.INFO.SWARM.tail-{instance}")
    finally:
        await connection.close()
    return int(json.loads(answer.data)["config"]["opt_start_seq"])


async def test_a_gateway_starts_from_its_checkpoint_and_does_not_read_the_log_again(mesh: Mesh, tmp_path: Path) -> None:
    connection = await Connection.open(mesh.broker.url, name="filler")
    log = JetStreamLog(connection, service="gateway", instance="filler-1")
    for first in range(0, 20_000, 500):
        texts = [ObservationRecorded(swarm="alpha", persona="all", text=f"line {first + n}") for n in range(500)]
        await log.commit([message(text) for text in texts])
    await connection.close()
    created = await mesh.posts("/v1/swarm/personas", ROOT, "k1")
    body = {"observations": [{"text": "kept"}]}
    stored = (await mesh.posts("/v1/swarm/alpha/observations", body, "k2")).json()
    (last,) = stored["sequences"]
    assert last > 20_000
    audit = (await mesh.client.get("/v1/audit?limit=1000")).json()
    assert await followed_from(mesh.broker) == 1
    assert await mesh.gateway.end() == 0
    for how in (signal.SIGKILL, signal.SIGTERM):
        mesh.gateway.start()
        await mesh.answers("/health/ready", 200)
        assert await followed_from(mesh.broker) == last + 1
        assert (await mesh.client.get("/v1/audit?limit=1000")).json() == audit
        assert (await mesh.posts("/v1/swarm/personas", ROOT, "k1")).json()["identity"] == created.json()["identity"]
        assert (await mesh.posts("/v1/swarm/alpha/observations", body, "k2")).json() == stored
        text, headers = "", {"Last-Event-ID": str(last - 700)}
        async with mesh.client.stream("GET", "/v1/cognition/stream", headers=headers) as answer:
            chunks = answer.aiter_text()
            while len(ids(text)) < 700:
                text += await anext(chunks)
        assert ids(text) == list(range(last - 699, last + 1))
        await mesh.gateway.end(how)
    (tmp_path / "checkpoints" / "gateway-1.zst").write_bytes(b"damaged")
    mesh.gateway.start()
    await mesh.answers("/health/ready", 200)
    assert await followed_from(mesh.broker) == 1
    assert (await mesh.client.get("/v1/audit?limit=1000")).json() == audit


async def test_it_is_not_ready_where_a_broker_may_lose_what_it_acknowledged(mesh: Mesh, tmp_path: Path) -> None:
    strict = {"SWARM_REQUIRE_SYNC_ALWAYS": "true", "SWARM_INSTANCE": "gateway-2", "SWARM_HTTP_PORT": str(free_port())}
    await mesh.gateway.end(signal.SIGKILL)
    mesh.gateway = Process("gateway", mesh.broker, tmp_path, **strict)
    mesh.client.base_url = httpx.URL(f"http://127.0.0.1:{strict['SWARM_HTTP_PORT']}")
    await mesh.answers("/v1/cognition/status", 200)
    refused = (await mesh.client.get("/health/ready")).json()
    assert (refused["status"], list(refused["problems"])) == ("not_ready", ["durability"])
    assert (await mesh.client.get("/health")).json()["status"] == "ok"


async def test_without_a_key_it_does_not_start_where_others_could_reach_it(mesh: Mesh, tmp_path: Path) -> None:
    exposed = Process("gateway", mesh.broker, tmp_path, SWARM_HTTP_HOST="0.0.0.0", SWARM_INSTANCE="gateway-2")
    assert await asyncio.to_thread(exposed.process.wait, 20) == 2
