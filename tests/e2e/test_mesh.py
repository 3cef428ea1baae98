"""The whole mesh as real processes on a real broker, S3 server and index, driven as its users drive it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from shared.contracts.action import Action, Params, action_digest
from shared.contracts.catalog import LOG_CLASSES, class_filter, class_of
from shared.contracts.envelope import Message, Recorded, enveloped
from shared.contracts.events import EvidenceRef, ProposalCreated, SnapshotCompressed, TargetHeld, ThoughtGenerated
from shared.contracts.ids import fresh_id, utc_now
from shared.contracts.services import SERVICES
from shared.holds import holder_of
from shared.invariants import Invariants, Limits
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.reading.direct import DIRECT_GET, decode_direct

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

QUIET = [
    f"Nov 22 13:{n // 60:02d}:{n % 60:02d} web sshd[{n}]: Accepted password for user{n % 5} from 10.0.0.{n % 9} port {3000 + n}"
    for n in range(900)
]
BURST = [
    f"Nov 22 13:16:{n // 10:02d} web sshd[{n}]: Failed password for root from 203.0.113.{n % 9} port {3000 + n}"
    for n in range(300)
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    env = {
        "SWARM_GOVERNOR_DRAIN_S": "5",
        "SWARM_SNAPSHOT_EVERY_THOUGHTS": "3",
        "SWARM_ARBITRATION_STRATEGY": "person",
        "SWARM_ARBITRATION_PERSON_S": "20",
    }
    options = Options(runners=2, env=env, ready_timeout_s=120)
    async with Mesh(tmp_path_factory.mktemp("mesh") / "data", options) as mesh:
        await mesh.wait_ready()
        yield mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(mesh: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=mesh.api_url, timeout=20, trust_env=False) as client:
        answer = await client.post("/v1/cognition/start", json={"loop_interval_ms": 200})
        assert answer.status_code == 200, answer.text
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def log(mesh: Mesh) -> AsyncIterator[JetStreamLog]:
    seed_file = mesh.key("bootstrap")
    connection = await Connection.open(mesh.nats_url, name="t", seed_file=seed_file, inbox_prefix="_INBOX_bootstrap")
    yield JetStreamLog(connection, service="test", instance="test-1")
    await connection.close()


async def events(client: httpx.AsyncClient, query: str) -> AsyncIterator[dict[str, object]]:
    """The event stream, decoded."""
    async with client.stream("GET", f"/v1/cognition/stream?{query}", timeout=120) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                yield json.loads(line[6:])


async def until(client: httpx.AsyncClient, query: str, event_type: str) -> dict[str, object]:
    async with asyncio.timeout(90):
        async for event in events(client, f"from=beginning&{query}"):
            if event["event_type"] == event_type:
                return event
    raise AssertionError(f"no {event_type}")


async def create(api: httpx.AsyncClient, persona: str, swarm: str) -> dict[str, object]:
    body = {"persona_id": persona, "name": persona, "role": "watcher", "charter": "Watch.", "swarm_id": swarm}
    answer = await api.post("/v1/swarm/personas", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def observe(api: httpx.AsyncClient, swarm: str, lines: list[str]) -> list[int]:
    body = {"observations": [{"text": line, "source": "auth.log"} for line in lines]}
    answer = await api.post(f"/v1/swarm/{swarm}/observations", json=body)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["sequences"])


async def test_a_burst_in_a_log_ends_as_a_report_that_cites_it(api: httpx.AsyncClient, mesh: Mesh) -> None:
    await create(api, "watch1", "burst")
    await observe(api, "burst", QUIET)
    cited = set(await observe(api, "burst", BURST))
    executed = await until(api, "swarm=burst&type=action_executed", "action_executed")
    payload = executed["payload"]
    assert isinstance(payload, dict) and "success" == payload["outcome"]
    life = (await api.get(f"/v1/proposals/{payload['proposal_id']}")).json()
    stages = [event["type"] for event in life["events"]]
    assert [
        "proposal.created",
        "proposal.verified",
        "proposal.authorized",
        "action.claimed",
        "action.executed",
    ] == stages
    created = life["events"][0]["data"]
    assert {ref["seq"] for ref in created["evidence"]} <= cited
    report = (mesh.workspace / created["action"]["target"]).read_text()
    assert "Failed password for root" in report and "300" in report


async def test_a_quiet_log_ends_in_no_proposal(api: httpx.AsyncClient) -> None:
    await create(api, "watch2", "quiet")
    await observe(api, "quiet", QUIET)
    async with asyncio.timeout(60):
        async for event in events(api, "from=beginning&swarm=quiet"):
            assert event["event_type"] != "proposal_created"
            if event["event_type"] == "thought_generated" and event["payload"]["cycle"] >= 2:  # type: ignore[index]
                break


async def test_a_reaped_persona_leaves_a_final_snapshot_first(api: httpx.AsyncClient, log: JetStreamLog) -> None:
    await create(api, "brief", "ending")
    await until(api, "persona=brief&type=thought_generated", "thought_generated")
    answer = await api.post("/v1/swarm/personas/brief/reap", json={"reason": "done"})
    assert (200, ["brief"]) == (answer.status_code, answer.json()["reaped_ids"])
    await until(api, "persona=brief&type=persona_reaped", "persona_reaped")
    life = await log.read(("*.*.ending.brief",))
    order = [r.subject.rsplit(".", 2)[0] for r in life]
    final = next(r.event for r in life if isinstance(r.event, SnapshotCompressed) and r.event.final)
    assert final.sha256 and order.index("persona.draining") < len(order) - 1 - order[::-1].index("snapshot.compressed")
    assert "persona.reaped" == [name for name in order if name != "thought.sealed"][-1]
    assert 409 == (await api.post("/v1/swarm/personas/brief/reap")).status_code


async def test_a_persona_that_thinks_is_remembered(api: httpx.AsyncClient) -> None:
    await create(api, "rememberer", "memory")
    await observe(api, "memory", QUIET[:50])
    await until(api, "persona=rememberer&type=thought_generated", "thought_generated")
    async with asyncio.timeout(30):
        while not (
            found := (await api.get("/v1/swarm/personas/rememberer/memory", params={"q": "observations"})).json()
        ):
            await asyncio.sleep(0)
    assert found


async def propose(
    api: httpx.AsyncClient,
    log: JetStreamLog,
    swarm: str,
    persona: str,
    name: str,
    target: str,
    *,
    kind: str = "file.write",
    params: Params | None = None,
) -> None:
    """As the persona would, citing something it was told."""
    (seq,) = await observe(api, swarm, ["something to cite"])
    spawned = (await log.read((f"persona.spawned.{swarm}.{persona}",)))[0]
    seen = await log.get(seq)
    assert seen is not None
    action = Action(kind=kind, target=target, params=params or {"content": "yes", "mode": "create"})
    whose = {"swarm": swarm, "persona": persona, "charter": spawned.envelope.charter or ""}
    event = ProposalCreated(
        **whose,
        proposal_id=name,
        title="ask",
        rationale="people decide",
        action=action,
        evidence=(EvidenceRef(id=seen.id, seq=seq),),
        digest=action_digest(**whose, action=action),
        deadline=utc_now() + timedelta(minutes=5),
    )
    event_id = fresh_id()
    envelope = enveloped(event_id, source="test", time=utc_now(), charter=whose["charter"])
    await log.commit([Message(event=event, envelope=envelope)])


async def test_the_kill_switch_stops_what_needs_nobody_until_it_is_gone(
    api: httpx.AsyncClient, log: JetStreamLog, mesh: Mesh
) -> None:
    await create(api, "halter", "halted")
    switch = mesh.data / "STOP"
    switch.touch()
    await propose(api, log, "halted", "halter", "halt-1", "findings/halted/halter/one.md")
    await until(api, "swarm=halted&type=proposal_verified", "proposal_verified")
    assert (await api.get("/v1/halt")).json()["kill_switch"]
    assert (await api.post("/v1/resume", json={"reason": "go on"})).json()["halted"], "no resume lifts the file"
    said = (await api.get("/v1/proposals/halt-1")).json()
    assert not any(word in str(said) for word in ("proposal.rejected", "action.executed")), said
    switch.unlink()
    await until(api, "swarm=halted&type=action_executed", "action_executed")
    assert ["one.md"] == [path.name for path in (mesh.workspace / "findings/halted/halter").iterdir()]


async def test_what_needs_people_waits_for_them_and_is_then_done_once(
    api: httpx.AsyncClient, log: JetStreamLog, mesh: Mesh
) -> None:
    await create(api, "asker", "people")
    await propose(api, log, "people", "asker", "ask-1", "asked/for.md")
    await until(api, "swarm=people&type=approval_requested", "approval_requested")
    (request,) = [a for a in (await api.get("/v1/approvals")).json() if a["proposal_id"] == "ask-1"]
    wrong = await api.post("/v1/approvals/ask-1", json={"decision": "grant", "digest": "0" * 64})
    assert 409 == wrong.status_code
    right = await api.post("/v1/approvals/ask-1", json={"decision": "grant", "digest": request["digest"]})
    assert 200 == right.status_code, right.text
    await until(api, "swarm=people&type=action_executed", "action_executed")
    assert "yes" == (mesh.workspace / "asked/for.md").read_text()


async def test_of_two_swarms_proposals_for_one_file_one_is_done_and_the_other_is_told_why(
    api: httpx.AsyncClient, log: JetStreamLog, mesh: Mesh
) -> None:
    """The orchestrator is killed between raising and ruling; nobody says anything, so the order rules when the time is over."""
    await create(api, "one", "early")
    await create(api, "two", "late")
    await propose(api, log, "early", "one", "wants-1", "shared/plan.md", params={"content": "first", "mode": "create"})
    await until(api, "swarm=early&type=approval_requested", "approval_requested")
    await propose(api, log, "late", "two", "wants-2", "shared/plan.md")
    raised = await until(api, "type=conflict_raised", "conflict_raised")
    assert await mesh.kill("meta_orchestrator-1") is not None
    payload = raised["payload"]
    assert isinstance(payload, dict) and ["early", "late"] == sorted(side["swarm"] for side in payload["sides"])
    (waiting,) = (await api.get("/v1/conflicts?state=open")).json()
    assert ["waits", "waits"] == [side["place"] for side in waiting["sides"]]
    rejected = await until(api, "swarm=late&type=proposal_rejected", "proposal_rejected")
    assert isinstance(rejected["payload"], dict)
    assert ["conflict_lost"] == rejected["payload"]["reasons"] and "wants-1" in rejected["payload"]["detail"]
    (request,) = [a for a in (await api.get("/v1/approvals")).json() if a["proposal_id"] == "wants-1"]
    yes = {"decision": "grant", "digest": request["digest"], "request_id": request["request_id"]}
    assert 200 == (await api.post("/v1/approvals/wants-1", json=yes)).status_code
    await until(api, "swarm=early&type=action_executed", "action_executed")
    assert "first" == (mesh.workspace / "shared/plan.md").read_text()
    held = [r.event for r in await log.read(("target.held.>",)) if isinstance(r.event, TargetHeld)]
    (target,) = [event.persona for event in held if event.holder.proposal_id == "wants-1"]
    assert (await holder_of(log, target))[0] is None
    assert 1 == len(await log.read(("conflict.raised.>",)))
    (over,) = (await api.get("/v1/conflicts?state=resolved")).json()
    assert "order" == over["resolution"]


async def test_a_killed_runner_is_taken_over_and_no_history_forks(
    api: httpx.AsyncClient, log: JetStreamLog, mesh: Mesh
) -> None:
    for n in range(12):
        await create(api, f"many{n}", "takeover")
    await until(api, "persona=many11&type=thought_generated", "thought_generated")
    before = {r.event.persona: r.event.step for r in await log.last(("thought.generated.takeover.*.*",))}  # type: ignore[union-attr]
    await mesh.kill("persona_runner-1")
    await observe(api, "takeover", ["wake up, all of you"])
    async with asyncio.timeout(60):
        while True:
            last = {r.event.persona: r.event.step for r in await log.last(("thought.generated.takeover.*.*",))}  # type: ignore[union-attr]
            if len(last) == 12 and all(step > before.get(persona, 0) for persona, step in last.items()):
                break
    steps: dict[str, int] = {}
    for recorded in await log.read(("thought.generated.takeover.*.*",)):
        thought = recorded.event
        assert isinstance(thought, ThoughtGenerated)
        assert steps.get(thought.persona, 0) + 1 == thought.step
        steps[thought.persona] = thought.step


async def test_a_malformed_message_ends_in_the_dead_letters_and_the_mesh_goes_on(
    api: httpx.AsyncClient, log: JetStreamLog
) -> None:
    await log.connection.request("proposal.created.burst.watch1.bad.r1", b"{", headers={"ce-type": "proposal.created"})
    async with asyncio.timeout(30):
        while True:
            answer = await log.connection.request(
                "$JS.API.STREAM.INFO.DEAD", b'{"subjects_filter":"dead.unreadable.>"}'
            )
            if b"proposal.created.burst.watch1.bad.r1" in answer.data:
                break
    assert 200 == (await api.get("/v1/cognition/status")).status_code


async def violations(log: JetStreamLog) -> list[str]:
    """What is not as it must be in a whole log."""
    from services.governor.service import limits_of
    from shared.settings import Settings

    governor = limits_of(Settings())
    limits = Limits(
        swarm_per_minute=governor.swarm_per_minute,
        actions_per_minute=governor.actions_per_minute,
        lifetime_children=governor.max_lifetime_children,
    )
    invariants = Invariants(limits)
    for recorded in await log.read(tuple(class_filter(name) for name in LOG_CLASSES)):
        invariants.absorb(recorded)
    return invariants.violations


async def test_every_invariant_holds_over_all_of_it(log: JetStreamLog) -> None:
    assert [] == await violations(log)


async def test_every_process_tells_its_metrics_and_the_gateways_are_what_the_log_says(
    mesh: Mesh, log: JetStreamLog
) -> None:
    told: Counter[str] = Counter()
    for instance in (name for name in mesh.ports if name.startswith("health_")):
        async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
            answer = await client.get(f"{mesh.health_url(instance.removeprefix('health_'))}/metrics")
        told["swarm_processes"] += 1
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                told[f"{sample.name}{{{labels}}}" if labels else sample.name] += sample.value
    assert told["swarm_processes"] == told["swarm_ready"] == len(SERVICES) + 1  # a second runner
    assert told['swarm_dead_letters_total{reason="bad_body"}'] >= 1
    assert told['swarm_s3_seconds_count{call="put"}'] >= told['swarm_snapshots_total{smaller="yes"}']
    assert told['swarm_unsafe_actions_total{fate="done"}'] == 0
    upto = int(told["swarm_log_position"])
    said = Counter(class_of(r.event) for r in await log.read(tuple(map(class_filter, LOG_CLASSES)), upto=upto))
    for event_class, series in (
        ("proposal.created", "swarm_proposals_total"),
        ("proposal.verified", 'swarm_verified_total{verdict="passed"}'),
        ("action.executed", "swarm_action_seconds_count"),
        ("persona.spawned", "swarm_personas_spawned_total"),
        ("thought.generated", 'swarm_thoughts_total{status="ok"}'),
        ("observation.recorded", "swarm_observations_total"),
        ("budget.granted", "swarm_grants_total"),
    ):
        assert (event_class, said[event_class]) == (event_class, told[series])
    assert said["action.executed"] > 0


async def test_every_event_is_a_cloudevent_to_the_cncf_and_a_correlation_is_one_trace(log: JetStreamLog) -> None:
    from tests.sdk import parsed

    info = json.loads((await log.connection.request("$JS.API.STREAM.INFO.SWARM")).data)
    seqs = range(info["state"]["first_seq"], info["state"]["last_seq"] + 1)
    messages = [await log.connection.request(DIRECT_GET, b'{"seq":%d}' % seq) for seq in seqs]
    stored = [message for message in messages if isinstance(decode_direct(message), Recorded)]
    others = [message.headers["Nats-Subject"] for message in messages if message not in stored]
    traces: dict[str, set[str]] = {}
    for message in stored:
        attributes, data = parsed(message.headers, message.data)
        assert (message.headers["Nats-Subject"], json.loads(message.data)) == (attributes["subject"], data)
        traces.setdefault(attributes["correlationid"], set()).add(message.headers["ce-traceparent"].split("-")[1])
    assert others in ([], ["proposal.created.burst.watch1.bad.r1"])  # what another test puts there
    assert stored
    assert {} == {correlation: found for correlation, found in traces.items() if len(found) > 1}
    assert len(stored) == len({message.headers["ce-traceparent"].split("-")[2] for message in stored})


async def test_a_tap_shows_what_comes_from_now_on_and_a_pipe_is_perceived_as_it_is_written(mesh: Mesh) -> None:
    def swarm(*arguments: str) -> Awaitable[asyncio.subprocess.Process]:
        command = ("-c", "from services.cli.main import main; main()", *arguments, "--data", str(mesh.data), "--json")
        pipe = asyncio.subprocess.PIPE
        return asyncio.create_subprocess_exec(sys.executable, *command, cwd=mesh.places.root, stdin=pipe, stdout=pipe)

    tap = await swarm("tap", "observation.recorded.piped.>", "--count", "1")
    pipe = await swarm("observe", "-", "--swarm", "piped")
    assert tap.stdout is not None and pipe.stdin is not None
    tapped = asyncio.create_task(tap.stdout.readline())
    async with asyncio.timeout(60):
        while not tapped.done():  # the first lines may come before the tap looks
            pipe.stdin.write(b"a line\n")
            await asyncio.wait([tapped], timeout=0.2)
        said, _ = await pipe.communicate(b"")
    assert "a line" == json.loads(tapped.result())["data"]["text"]
    assert (0, 0) == (await tap.wait(), pipe.returncode)
    assert json.loads(said)["sent"] >= 1


async def test_the_nats_cli_user_may_read_and_may_not_speak(mesh: Mesh) -> None:
    connection = await Connection.open(
        mesh.nats_url, name="cli", seed_file=mesh.key("operator"), inbox_prefix="_INBOX_operator"
    )
    answer = await connection.request("$JS.API.STREAM.INFO.SWARM")
    assert b'"name":"SWARM"' in answer.data
    about: dict[str, dict[str, str]] = {}
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client, asyncio.timeout(30):
        inbox: asyncio.Queue[bytes] = asyncio.Queue()
        await connection.subscribe("_INBOX_operator.info", lambda message: inbox.put_nowait(message.data))
        connection.send("$SRV.INFO", reply="_INBOX_operator.info")
        while len(about) < len(mesh.children) - 2:  # all but the broker and S3
            info = json.loads(await inbox.get())
            about[info["metadata"]["instance"]] = info["metadata"]
            assert info["version"] == info["metadata"]["version"]
        assert set(mesh.children) - {"nats", "s3"} == set(about)
        for metadata in about.values():
            assert 200 == (await client.get(f"{metadata['health']}/health/live")).status_code
    with pytest.raises(Exception, match="no answer"):
        await connection.request("action.claimed.a.b.c", b"{}", timeout_s=0.5)
    await connection.close()


async def test_secrets_are_in_no_log(mesh: Mesh) -> None:
    secrets = [
        path.read_text().strip()
        for path in (mesh.data / "keys").rglob("*")
        if path.suffix == ".nk" or "secret" in path.name
    ]
    for file in Path(mesh.data / "logs").iterdir():
        text = file.read_text(errors="replace")
        assert not any(secret in text for secret in secrets), file.name
