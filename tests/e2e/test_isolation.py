"""Runners that serve some swarms only, on a real broker: they say and read what is theirs, and reach nothing of another swarm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from nats.aio.client import Client

from services.persona_runner.hosting.loop import filters
from services.supervisor.plan import Options
from shared.broker import TAIL_OPEN, by_door
from shared.contracts.catalog import LOG_CLASSES, SHORT_LIVED, class_filter
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import AnyEvent, CognitionStopped
from shared.contracts.ids import utc_now
from shared.contracts.services import SERVICES
from shared.log.identity import Identity, Witness
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable
from shared.log.streams import STREAMS, drift
from tests.e2e.users import BareBroker, World, answers
from tests.examples import EXAMPLES

RUNNER, OTHER = "persona_runner-1", "persona_runner-2"
PUBLIC_CLASSES = ("cognition.started", "cognition.stopped", "rows.declared")
HOME, AWAY = ("alpha", "beta"), "gamma"
SAYS = SERVICES["persona_runner"].emits
WHERE = "$JS.API.DIRECT.GET.SWARM"


class Isolated(BareBroker):
    serves: ClassVar = {RUNNER: HOME, OTHER: (AWAY,)}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Isolated(tmp_path / "data", Options(services=(), s3=False)) as mesh:
        one = World(mesh)
        await one.opens_tails()
        yield one
        await one.close()


async def say(log: JetStreamLog, name: str, swarm: str, **changed: str) -> int:
    event: AnyEvent = msgspec.structs.replace(EXAMPLES[name], swarm=swarm, **changed)
    event_id = f"{name}-{swarm}"
    envelope = Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id)
    (seq,) = await log.commit([Message(event=event, envelope=envelope)])
    return seq


async def test_every_class_is_said_at_home_and_refused_elsewhere(world: World) -> None:
    client = await world.client(RUNNER)
    for name in SAYS:
        for swarm in HOME:
            subject = class_filter(name, swarm, slot="r1").replace("*", "x")
            ack = json.loads((await client.request(subject, b"{}", timeout=5)).data)
            assert ack["stream"] == ("RECALL" if name in SHORT_LIVED else "SWARM")
        for swarm in (AWAY, "all", "x"):
            assert await world.refused(RUNNER, class_filter(name, swarm, slot="r1").replace("*", "x")), name
    letter = "dead.persona_runner.SWARM.7.thought.generated"
    assert "DEAD" == json.loads((await client.request(f"{letter}.alpha.p.r1", b"{}")).data)["stream"]
    for subject in (f"{letter}.{AWAY}.p.r1", "dead.persona_runner.SWARM.7.x", "dead.unreadable.SWARM.7.a.b.alpha.p"):
        assert await world.refused(RUNNER, subject), subject


async def test_the_broker_is_asked_for_nothing_but_what_is_its_own(world: World) -> None:
    for subject in (
        WHERE,
        *(f"$JS.API.STREAM.INFO.{stream}" for stream in STREAMS),
        *(f"$JS.API.DIRECT.GET.{stream}" for stream in STREAMS),
        f"{WHERE}.thought.generated.{AWAY}.p.r2",
        *(f"$JS.API.STREAM.MSG.GET.{stream}" for stream in STREAMS),
        f"$JS.API.CONSUMER.CREATE.SWARM.tail-{RUNNER}.*.*.{AWAY}.>",
        f"$JS.API.CONSUMER.CREATE.SWARM.tail-{OTHER}",
        f"$JS.API.CONSUMER.MSG.NEXT.SWARM.tail-{OTHER}",
        f"$KV.leases.runner.{OTHER}",
        *by_door(OTHER).values(),
        f"door.get._.{RUNNER}",
        f"door.get.{AWAY}.{RUNNER}",
        f"{TAIL_OPEN}_.SWARM.tail-{RUNNER}",
        f"{TAIL_OPEN}{AWAY}.SWARM.tail-{RUNNER}",
    ):
        assert await world.refused(RUNNER, subject), subject


async def test_nothing_of_another_swarm_is_read_in_any_way(world: World) -> None:
    said, log, runner = await world.log("bootstrap"), await world.log(RUNNER), await world.client(RUNNER)
    for name in LOG_CLASSES:
        seqs = {swarm: await say(said, name, swarm) for swarm in ("alpha", AWAY)}
        assert isinstance(await log.get(seqs["alpha"]), Recorded)
        assert await log.get(seqs[AWAY]) is None, name
        assert [seqs["alpha"]] == [r.seq for r in await log.read((class_filter(name, "alpha"),))]
        assert [seqs["alpha"]] == [r.seq for r in await log.last((class_filter(name, "alpha"),))]
        assert (seqs["alpha"],) == await log.ends((class_filter(name, "alpha"),))
        away = await said.get(seqs[AWAY])
        assert away is not None
        for reach in (class_filter(name), class_filter(name, AWAY), f"{name}.>", away.subject):
            for reading in (log.read, log.last, log.ends):
                with pytest.raises(LogUnavailable):
                    await reading((reach,))
            assert 400 == await opened(runner, [class_filter(name, "alpha"), reach]), reach
    for reach in (">", "*.*.*.>", "*.*.*.*", "*.>", "$KV.>", "alpha", "*.*.alpha", "cognition.started.all.*"):
        assert 400 == await opened(runner, [reach]), reach


async def test_of_what_is_said_to_all_only_what_runners_need_is_read(world: World) -> None:
    said, log = await world.log("bootstrap"), await world.log(RUNNER)
    for name in ("mesh.halted", "policy.activated", "placement.changed", *PUBLIC_CLASSES):
        seq = await say(said, name, "all", persona="all")
        assert (await log.get(seq) is not None) == (name in PUBLIC_CLASSES), name


async def opened(runner: Client, wanted: list[str]) -> int:
    """The code with which a tail is refused; 0 when it is not."""
    body = json.dumps({"stream_name": "SWARM", "config": {"filter_subjects": wanted}}).encode()
    made = json.loads((await runner.request(f"$JS.API.CONSUMER.CREATE.SWARM.tail-{RUNNER}", body)).data)
    return int(made.get("error", {}).get("code", 0))


async def test_what_a_stream_has_in_it_is_not_told(world: World) -> None:
    await say(await world.log("bootstrap"), "persona.spawned", AWAY)
    runner = await world.client(RUNNER)
    for stream in STREAMS:
        door = by_door(RUNNER)[f"$JS.API.STREAM.INFO.{stream}"]
        told = json.loads((await runner.request(door, b'{"subjects_filter": ">", "deleted_details": true}')).data)
        assert stream == told["config"]["name"] and "subjects" not in told["state"]
    assert [] == await drift((await world.log(RUNNER)).connection)


async def test_a_door_takes_nothing_it_does_not_know(world: World) -> None:
    runner = await world.client(RUNNER)
    door = by_door(RUNNER)[WHERE]
    for body in (b"", b"[]", b"{}", b'{"no_hdr": true, "seq": 1}', b'{"batch": 5, "seq": 1}', b'{"multi_last": []}'):
        answer = await runner.request(door, body)
        assert (answer.headers or {}).get("Status") in ("403", "408"), body
    assert [] == await answers(runner, door, b'{"batch": 2, "seq": 1, "next_by_subj": ">"}')


async def test_a_tail_and_the_logs_identity_are_as_everybodys(world: World, tmp_path: Path) -> None:
    said, log = await world.log("bootstrap"), await world.log(RUNNER)
    tail = log.tail(filters(HOME))
    for swarm in ("alpha", AWAY, "beta"):
        await say(said, "persona.spawned", swarm)
    envelope = Envelope(id="stop", source="test", time=utc_now(), correlation="stop")
    await said.commit([Message(event=CognitionStopped(swarm="all", persona="all"), envelope=envelope)])
    seen: list[str] = []
    async with asyncio.timeout(10):
        async for recorded in tail:
            seen.append(recorded.subject.split(".")[2])
            if "all" in seen:
                await tail.stop()
    assert ["alpha", "beta", "all"] == seen
    identity = Identity(log.connection, log.trail, tmp_path / "witness.json")
    assert await identity.begin() is None
    assert await identity.look() and log.trail.newest is not None
    (tmp_path / "old.json").write_bytes(msgspec.json.encode(Witness(created="2001-01-01T00:00:00Z", marks=())))
    assert await Identity(log.connection, log.trail, tmp_path / "old.json").begin() is not None


async def test_a_runner_that_asks_without_end_is_refused_and_delays_itself_alone(world: World) -> None:
    greedy, patient = await world.client(RUNNER), await world.log(OTHER)
    inbox = greedy.new_inbox()
    statuses: list[str] = []

    async def told(message: object) -> None:
        statuses.append((message.headers or {}).get("Status", ""))  # type: ignore[attr-defined]

    await greedy.subscribe(inbox, cb=told)
    for _ in range(2_000):
        await greedy.publish(by_door(RUNNER)[WHERE], b'{"seq": 1}', reply=inbox)
    assert await patient.get(1) is None
    async with asyncio.timeout(20):
        while len(statuses) < 2_000:
            await asyncio.sleep(0.01)
    assert "503" in statuses and "404" in statuses
