"""The generated configuration on a real nats-server: what each user can and cannot do, tried out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import nats
import nats.errors
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.micro import add_service
from nats.micro.service import ServiceConfig

from services.persona_runner.hosting.lease import Lease
from services.supervisor.plan import Options
from services.supervisor.secrets.keys import ensure_keys, seed_file
from shared.broker import ROLES, service_of
from shared.contracts.catalog import CLASSES, SHORT_LIVED, class_filter, has_slot
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import (
    CheckRequested,
    CheckResult,
    CognitionStopped,
    Credits,
    GrantRequested,
    HypothesisRaised,
    LogResolve,
)
from shared.contracts.ids import slot_of, utc_now
from shared.contracts.services import SERVICES
from shared.log.kv import JetStreamKeyValue
from shared.log.port import ConsumerSpec, Expect, StaleBoundary
from shared.log.streams import STREAMS
from tests.e2e.users import NAMES, BareBroker, World, answers

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An empty log."""
    async with BareBroker(tmp_path / "data", Options(services=(), s3=False)) as mesh:
        one = World(mesh)
        yield one
        await one.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """For whoever does not look at what is stored."""
    async with BareBroker(tmp_path_factory.mktemp("shared") / "data", Options(services=(), s3=False)) as mesh:
        one = World(mesh)
        yield one
        await one.close()


def message(event: object, event_id: str) -> Message:
    envelope = Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id)
    return Message(event=event, envelope=envelope)  # type: ignore[arg-type]


def hypothesis(number: int) -> Message:
    event = HypothesisRaised(
        swarm="a", persona="p", hypothesis_id=f"h{number}", topic="t", claim="c", confidence=0.5, evidence=(), slot="r1"
    )
    return message(event, f"hypothesis-{number}")


def asking(number: int) -> Message:
    event = GrantRequested(swarm="a", persona=f"child-{number}", need=Credits(tokens=1), slot="r1")
    return message(event, f"grant-{number}")


async def test_every_service_publishes_its_own_classes_and_is_refused_all_others(shared: World) -> None:
    for service in SERVICES:
        name = f"{service}-1"
        client = await shared.client(name)
        slot = "core" if SERVICES[service].trusted else slot_of(name)
        for event_class in CLASSES:
            subject = class_filter(event_class, slot=slot).replace("*", "x")
            if event_class in SERVICES[service].emits:
                ack = json.loads((await client.request(subject, b"{}", timeout=5)).data)
                assert ack["stream"] == ("RECALL" if event_class in SHORT_LIVED else "SWARM")
            else:
                assert await shared.refused(name, subject), f"{service} must not publish {event_class}"


@pytest.mark.parametrize("instance", [name for name in NAMES if name not in ROLES])
async def test_nobody_speaks_in_anothers_slot(shared: World, instance: str) -> None:
    own = "core" if SERVICES[service_of(instance)].trusted else slot_of(instance)
    for event_class in filter(has_slot, CLASSES):
        for slot in {"r1", "r2", "r3", "c1", "c2", "core"} - {own}:
            subject = class_filter(event_class, "a", "p", slot=slot).replace("*", "x")
            assert await shared.refused(instance, subject), f"{instance} must not publish {subject}"


FORBIDDEN = [
    *(f"$JS.API.STREAM.{verb}.{stream}" for verb in ("DELETE", "PURGE", "UPDATE", "MSG.DELETE") for stream in STREAMS),
    *(f"$JS.API.CONSUMER.{verb}.SWARM.other" for verb in ("CREATE", "DELETE", "MSG.NEXT", "PAUSE")),
    *(f"$JS.ACK.SWARM.{service}.1.1.1.1.0" for service in SERVICES),
    *(f"$JS.API.CONSUMER.DELETE.SWARM.{service}" for service in SERVICES),
    "$JS.API.CONSUMER.DURABLE.CREATE.SWARM.other",
    "$JS.CORE.API.STREAM.DELETE.SWARM",
    "$JS.API.STREAM.CREATE.EVIL",
    "$SYS.REQ.SERVER.PING",
    "$SRV.PING",
    *(f"_INBOX_{name}.x" for name in NAMES),
]


@pytest.mark.parametrize("service", SERVICES)
async def test_no_service_may_touch_a_stream_anothers_consumer_or_an_inbox(shared: World, service: str) -> None:
    name = f"{service}-1"
    for subject in FORBIDDEN:
        if subject != f"$JS.ACK.SWARM.{service}.1.1.1.1.0":
            assert await shared.refused(name, subject), subject


@pytest.mark.parametrize("service", SERVICES)
async def test_no_service_may_listen_to_others(shared: World, service: str) -> None:
    name = f"{service}-1"
    client = await shared.client(name)
    other = "verifier" if service != "verifier" else "actuator"
    subjects = [">", "$SRV.>", "$JS.>", "$KV.>", "thought.generated.*.*.*", "proposal.>", "dead.>", "_INBOX.>"]
    for subject in (*subjects, f"_INBOX_{other}-1.>", f"$SRV.PING.{other}", f"$SRV.PING.{other}.*"):
        before = len(shared.violations.get(name, []))
        await client.subscribe(subject)
        for _ in range(2):
            await client.flush()
        assert before < len(shared.violations.get(name, [])), subject


async def test_a_runner_cannot_write_elsewhere_through_the_reply_field(world: World) -> None:
    await world.opens_tails()
    runner = await world.client("persona_runner-1")
    await runner.request("thought.generated.a.p.r1", b"{}")
    await runner.publish("thought.generated.a.p.r1", b"{}", reply="proposal.authorized.a.p.q1")
    await runner.publish("$JS.API.DIRECT.GET.SWARM", b'{"seq":1}', reply="approval.granted.a.p.q2")
    await runner.publish("$JS.API.STREAM.INFO.SWARM", b"", reply="persona.spawned.a.p")
    await runner.publish("$SRV.PING", b"", reply="action.claimed.a.p.q3")
    tail = "tail-persona_runner-1"
    config = {"name": tail, "ack_policy": "none", "deliver_policy": "all", "mem_storage": True}
    body = json.dumps({"stream_name": "SWARM", "config": config}).encode()
    await runner.request(f"$JS.API.CONSUMER.CREATE.SWARM.{tail}", body)
    await runner.publish(f"$JS.API.CONSUMER.MSG.NEXT.SWARM.{tail}", b'{"batch": 1}', reply="approval.granted.a.p.q4")
    await runner.request(
        "thought.generated.a.p.r1", b"{}"
    )  # everything before it was handled when this is acknowledged
    assert await world.subjects() == {"thought.generated.a.p.r1": 3}


async def test_a_runner_cannot_have_what_it_reads_pushed_at_anybody(world: World) -> None:
    await world.opens_tails()
    runner, verifier = await world.client("persona_runner-1"), await world.log("verifier-1")
    await world.puller(verifier)
    await runner.request("hypothesis.raised.a.p.r1", b'{"batch": 100}')
    tail = "tail-persona_runner-1"
    targets = (
        "$JS.API.CONSUMER.MSG.NEXT.SWARM.verifier",
        "$JS.API.CONSUMER.DELETE.SWARM.verifier",
        "$KV.checkpoints.governor.x",
    )
    for target in targets:
        config = {
            "name": tail,
            "ack_policy": "explicit",
            "filter_subjects": ["hypothesis.>"],
            "deliver_subject": target,
        }
        body = json.dumps({"stream_name": "SWARM", "config": {**config, "durable_name": tail}}).encode()
        created = json.loads((await runner.request(f"$JS.API.CONSUMER.CREATE.SWARM.{tail}", body)).data)
        assert ("none", ["hypothesis.>"]) == (created["config"]["ack_policy"], created["config"]["filter_subjects"])
        assert created["config"].get("deliver_subject") is None
        await runner.request(f"$JS.API.CONSUMER.DELETE.SWARM.{tail}", b"")
    bootstrap = await world.client("bootstrap")
    stolen = json.loads((await bootstrap.request("$JS.API.CONSUMER.INFO.SWARM.verifier", b"")).data)
    assert 0 == stolen["num_waiting"]
    assert {"hypothesis.raised.a.p.r1"} == set(await world.subjects())


async def test_a_tail_that_asks_for_nothing_readable_is_refused(world: World) -> None:
    await world.opens_tails()
    runner = await world.client("persona_runner-1")
    for body in (
        b"",
        b"[]",
        b'{"config": {"filter_subjects": []}}',
        b'{"config": {"filter_subjects": ["a"], "opt_start_seq": 0}}',
    ):
        answer = json.loads((await runner.request("$JS.API.CONSUMER.CREATE.SWARM.tail-persona_runner-1", body)).data)
        assert 400 == answer["error"]["code"]


async def test_without_a_governor_a_runner_opens_no_tail(shared: World) -> None:
    runner = await shared.client("persona_runner-1")
    with pytest.raises(nats.errors.NoRespondersError):
        await runner.request("$JS.API.CONSUMER.CREATE.SWARM.tail-persona_runner-1", b"{}")


async def test_a_checker_takes_checks_and_answers_them_across_the_account(world: World) -> None:
    await world.opens_tails()
    runner, log = await world.client("persona_runner-1"), await world.log("checker-1")
    puller = log.pull(ConsumerSpec(name="checker", filters=(class_filter("check.requested"),)))
    await runner.request("check.requested.a.p.k1.r1", b"unreadable")
    asked = CheckRequested(
        swarm="a", persona="p", check_id="k2", hypothesis_id="h", probe=LogResolve(evidence=()), slot="r1"
    )
    await (await world.log("persona_runner-1")).commit([message(asked, "check-2")])
    seen = []
    async with asyncio.timeout(10):
        async for delivery in puller:
            seen.append(delivery.subject)
            if len(seen) == 1:
                await delivery.dead("bad_body", "it is none")
            else:
                answer = CheckResult(
                    swarm="a",
                    persona="p",
                    check_id="k2",
                    hypothesis_id="h",
                    outcome="confirmed",
                    findings="f",
                    slot="c1",
                )
                guard = Expect("check.result.a.p.k2.*", 0)
                assert (3,) == await log.commit([message(answer, "result-2")], [guard])
                with pytest.raises(StaleBoundary):
                    await log.commit([message(msgspec.structs.replace(answer, findings="g"), "result-3")], [guard])
                delivery.ack()
                await puller.stop()
    assert ["check.requested.a.p.k1.r1", "check.requested.a.p.k2.r1"] == seen
    bootstrap = await world.client("bootstrap")
    for _ in range(100):
        info = json.loads((await bootstrap.request("$JS.API.CONSUMER.INFO.SWARM.checker", b"")).data)
        if info["ack_floor"]["stream_seq"] == 2:
            break
    assert (0, 0, 2) == (info["num_pending"], info["num_ack_pending"], info["ack_floor"]["stream_seq"])
    letters = json.loads((await bootstrap.request("$JS.API.STREAM.INFO.DEAD", b'{"subjects_filter": ">"}')).data)
    assert ["dead.checker.SWARM.1.check.requested.a.p.k1.r1"] == list(letters["state"]["subjects"])


async def test_a_checkers_durable_is_made_for_it_and_takes_no_more_than_checks_to_nobody_else(world: World) -> None:
    config = {
        "durable_name": "checker",
        "filter_subjects": [">"],
        "ack_policy": "none",
        "max_ack_pending": 9,
        "ack_wait": 10**9,
    }
    body = json.dumps(
        {"stream_name": "SWARM", "config": {**config, "deliver_subject": "$KV.checkpoints.governor.x"}}
    ).encode()
    with pytest.raises(nats.errors.NoRespondersError):
        await (await world.client("checker-2")).request("$JS.API.CONSUMER.CREATE.SWARM.checker", body)
    await world.opens_tails()
    checker = await world.client("checker-1")
    created = json.loads((await checker.request("$JS.API.CONSUMER.CREATE.SWARM.checker", body)).data)["config"]
    wanted = {"ack_policy": "explicit", "filter_subjects": [class_filter("check.requested")], "max_ack_pending": 9}
    assert wanted == {key: created[key] for key in wanted} and "deliver_subject" not in created
    answer = json.loads((await checker.request("$JS.API.CONSUMER.CREATE.SWARM.checker", b"{}")).data)
    assert 400 == answer["error"]["code"]


async def test_a_checker_cannot_write_elsewhere_through_the_reply_field(world: World) -> None:
    await world.opens_tails()
    checker, runner = await world.client("checker-1"), await world.client("persona_runner-1")
    await world.puller(await world.log("checker-1"))
    await runner.request("check.requested.a.p.k1.r1", b"{}")
    await checker.publish("check.result.a.p.k1.c1", b"{}", reply="proposal.authorized.a.p.q1")
    await checker.publish("$JS.API.DIRECT.GET.SWARM", b'{"seq":1}', reply="approval.granted.a.p.q2")
    await checker.publish("$JS.API.STREAM.MSG.GET.SWARM", b'{"seq":1}', reply="persona.spawned.a.p")
    await checker.publish("$JS.API.CONSUMER.MSG.NEXT.SWARM.checker", b'{"batch": 1}', reply="approval.granted.a.p.q4")
    found = json.loads((await checker.request("$JS.API.STREAM.MSG.GET.SWARM", b'{"seq":1}')).data)
    assert "check.requested.a.p.k1.r1" == found["message"]["subject"]
    await checker.request("check.result.a.p.k2.c1", b"{}")
    assert {"check.requested.a.p.k1.r1", "check.result.a.p.k1.c1", "check.result.a.p.k2.c1"} == set(
        await world.subjects()
    )


async def test_a_runner_commits_batches_with_a_boundary_across_the_account(world: World) -> None:
    log = await world.log("persona_runner-1")
    free = Expect("hypothesis.raised.a.p.r1", 0)
    assert await log.commit([hypothesis(1), asking(1), asking(2)], [free]) == (1, 2, 3)
    with pytest.raises(StaleBoundary):
        await log.commit([hypothesis(2), asking(3)], [free])
    wildcard = Expect("grant.*.a.>", 3)
    assert await log.commit([hypothesis(2), asking(3)], [Expect("hypothesis.raised.a.p.r1", 1), wildcard]) == (4, 5)
    assert await log.commit([asking(9)]) == (6,)
    assert len(await world.subjects()) == 5


async def test_a_runner_reads_one_many_and_the_last_of_each_subject(world: World) -> None:
    log = await world.log("persona_runner-1")
    await log.commit([hypothesis(1), asking(1)])
    await log.commit([hypothesis(2)])
    one = await log.get(2)
    assert one is not None
    assert one.subject == "grant.requested.a.child-1.r1"
    assert [r.seq for r in await log.read(("*.*.a.p.*",))] == [1, 3]
    assert [r.seq for r in await log.last(("hypothesis.>", "grant.>"))] == [2, 3]
    runner = await world.client("persona_runner-2")
    batch = b'{"batch": 2, "seq": 1, "next_by_subj": ">"}'
    assert len(await answers(runner, "$JS.API.DIRECT.GET.SWARM", batch)) == 2


async def test_a_runner_tails_the_log_through_its_own_consumer_only(world: World) -> None:
    await world.opens_tails()
    gateway, log = await world.log("gateway-1"), await world.log("persona_runner-1")
    tail = log.tail((class_filter("cognition.stopped"), class_filter("hypothesis.raised")))
    await log.commit([hypothesis(1)])
    seen = []
    async with asyncio.timeout(10):
        async for recorded in tail:
            seen.append(recorded.subject)
            if len(seen) == 1:
                await gateway.commit([message(CognitionStopped(swarm="a", persona="all"), "stop-1")])
            else:
                await tail.stop()
    assert seen == ["hypothesis.raised.a.p.r1", "cognition.stopped.a.all"]
    assert await world.refused("persona_runner-1", "$JS.API.CONSUMER.MSG.NEXT.SWARM.verifier")
    assert await world.refused("persona_runner-1", "$JS.API.CONSUMER.DELETE.SWARM.tail-persona_runner-2")
    assert await world.refused("persona_runner-1", "$JS.API.STREAM.DELETE.SWARM")


async def test_a_runner_writes_its_own_lease_alone_and_the_governor_reads_them(shared: World) -> None:
    for number in (1, 2):
        connection = (await shared.log(f"persona_runner-{number}")).connection
        await Lease(JetStreamKeyValue(connection, "leases"), f"persona_runner-{number}", ttl_s=60).renew()
    leases = JetStreamKeyValue((await shared.log("governor-1")).connection, "leases")
    assert ["runner.persona_runner-1", "runner.persona_runner-2"] == sorted(e.key for e in await leases.entries())
    for key in ("runner.persona_runner-2", "runner.persona_runner-9", "runner", "x"):
        assert await shared.refused("persona_runner-1", f"$KV.leases.{key}")
        assert await shared.refused("governor-1", f"$KV.leases.{key}")
    checkpoints = JetStreamKeyValue((await shared.log("verifier-1")).connection, "checkpoints")
    await checkpoints.put("verifier.x", b"1")
    assert (await checkpoints.get("verifier.x")) is not None
    assert await shared.refused("verifier-1", "$KV.leases.runner.persona_runner-1")
    assert await shared.refused("verifier-1", "$KV.checkpoints.policy_gate.x")
    assert await shared.refused("persona_runner-1", "$KV.checkpoints.policy_gate.x")


async def test_the_gate_alone_stores_policies(shared: World) -> None:
    policies = JetStreamKeyValue((await shared.log("policy_gate-1")).connection, "policies")
    await policies.put("a" * 64, b"bundle")
    assert (await policies.get("a" * 64)) is not None
    await policies.delete("a" * 64)
    for other in ("actuator-1", "gateway-1", "verifier-1", "persona_runner-1", "operator"):
        assert await shared.refused(other, f"$KV.policies.{'a' * 64}")


async def test_the_operator_reads_everything_discovers_every_service_and_says_nothing(world: World) -> None:
    named = ("persona-runner", "checker", "verifier")
    clients = [await world.client(f"{name.replace('-', '_')}-1") for name in named]
    runner = clients[0]
    pairs = zip(clients, named, strict=True)
    services = [await add_service(client, ServiceConfig(name=name, version="0.1.0")) for client, name in pairs]
    for client in clients:
        await client.flush()
    operator = await world.client("operator")
    inbox = operator.new_inbox()
    subscription = await operator.subscribe(inbox)
    await operator.publish("$SRV.PING", b"", reply=inbox)
    assert set(named) == {json.loads((await subscription.next_msg(timeout=5)).data)["name"] for _ in services}
    await runner.request("thought.generated.a.p.r1", b"{}")
    stream = operator.jetstream()
    pull = await stream.pull_subscribe("thought.>", stream="SWARM")
    assert [m.subject for m in await pull.fetch(1)] == ["thought.generated.a.p.r1"]
    assert await world.refused("operator", "approval.granted.a.p.q")
    for consumer in ("verifier", "tail-gateway-1", "tail-persona_runner-2"):
        for verb in ("CREATE", "DELETE", "MSG.NEXT"):
            assert await world.refused("operator", f"$JS.API.CONSUMER.{verb}.SWARM.{consumer}"), f"{verb} {consumer}"
    for service in services:
        await service.stop()


async def test_the_operator_acknowledges_what_was_delivered_to_it_and_nothing_of_a_services(world: World) -> None:
    verifier, operator = await world.log("verifier-1"), await world.client("operator")
    await world.puller(verifier)
    runner = await world.client("persona_runner-1")
    await runner.request("proposal.created.a.p.q.r1", b"{}")
    pull = await operator.jetstream().pull_subscribe("proposal.>", "mine", stream="SWARM")
    (delivery,) = await pull.fetch(1)
    await delivery.ack_sync()
    assert 0 == (await pull.consumer_info()).num_ack_pending
    inbox = operator.new_inbox()
    echo = await operator.subscribe(inbox)
    await operator.publish(inbox, b"to myself")
    assert b"to myself" == (await echo.next_msg(timeout=5)).data
    bootstrap = await world.client("bootstrap")
    theirs = await bootstrap.subscribe("taken")
    await bootstrap.publish("$JS.API.CONSUMER.MSG.NEXT.SWARM.verifier", b'{"batch": 1}', reply="taken")
    ack = (await theirs.next_msg(timeout=5)).reply
    assert ack.startswith("$JS.ACK.SWARM.verifier.")
    for subject in (ack, ack.replace("$JS.ACK.", "$JS.ACK._.HASH."), ack.replace("verifier", "tail-persona_runner-2")):
        assert await world.refused("operator", subject), subject
    left = json.loads((await bootstrap.request("$JS.API.CONSUMER.INFO.SWARM.verifier", b"")).data)
    assert 1 == left["num_ack_pending"]


async def test_the_operator_says_no_event_and_is_told_which_by_name(shared: World) -> None:
    for event_class in CLASSES:
        subject = class_filter(event_class, slot="core").replace("*", "x")
        assert await shared.refused("operator", subject), subject
        assert f'"{subject}"' in shared.violations["operator"][-1]


async def test_dead_letters_go_under_the_name_of_who_gave_up(shared: World) -> None:
    verifier = await shared.client("verifier-1")
    ack = await verifier.request("dead.verifier.proposal.created.a.p.q", b"{}")
    assert json.loads(ack.data)["stream"] == "DEAD"
    runner = await shared.client("persona_runner-1")
    ack = await runner.request("dead.persona_runner.observation.recorded.a.all", b"{}")
    assert json.loads(ack.data)["stream"] == "DEAD"
    assert await shared.refused("verifier-1", "dead.policy_gate.x")


async def test_a_strangers_key_is_not_let_in(shared: World, tmp_path: Path) -> None:
    ensure_keys(tmp_path / "other", ["verifier-1"])
    stranger = Client()
    try:
        with pytest.raises(nats.errors.Error):
            await stranger.connect(
                shared.mesh.nats_url,
                nkeys_seed=str(seed_file(tmp_path / "other", "verifier-1")),
                allow_reconnect=False,
                error_cb=ignore,
            )
    finally:
        await stranger.close()


async def ignore(error: Exception) -> None:
    """The failure is raised as well."""
