"""The real `swarm` command: every flag of `up` and `run` as far as an executed action, every command that asks a mesh with a token
and from elsewhere, and `scale` under load.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services.supervisor.running.ports import free_port
from services.supervisor.running.state import MeshRecord, read_record
from services.supervisor.secrets.keys import seed_file
from shared.contracts.events import BudgetLimited, ThoughtGenerated
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.policy.bundle import DEFAULT_BUNDLE, Bundle, found
from tests.e2e import test_demo, test_isolated_mesh
from tests.e2e.command import commands, flags, staying, swarm
from tests.e2e.test_mesh import BURST, QUIET, create, observe, propose, until
from tests.e2e.test_policies_reload import forbid

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

TOKEN, ANOTHERS = "let-me-in", "let-her-in"
SERVED = "alpha"
CROWD = 12


def up(root: Path, ports: Mapping[str, int]) -> tuple[str, ...]:
    """What the mesh is started with; `ports` are `api`, `nats`, and `outside`, a server that is not the mesh's."""
    return (
        *("up", "--host", "127.0.0.2", "--api-port", str(ports["api"]), "--nats-port", str(ports["nats"])),
        *(
            "--runners",
            "2",
            "--scale",
            "policy_gate=2",
            "--serve",
            SERVED,
            "--no-sync-always",
            "--quiet",
            "--json",
            "--wait",
            "120",
        ),
        *("--policy-dir", str(root / "policies"), "--http-allow", f"127.0.0.1:{ports['outside']}"),
        *("--http-keys", str(root / "keys.toml"), "--config", str(root / "mesh.toml"), "--data", str(root / "data")),
    )


def run_on_files(root: Path, ports: Mapping[str, int]) -> tuple[str, ...]:
    return (
        *("run", "--observe", str(root / "app.log"), "--swarm", "watched", "--loop-interval", "150ms", "--report"),
        *("--runners", "2", "--api-port", str(ports["api"]), "--nats-port", str(ports["nats"]), "--wait", "120"),
        *("--policy-dir", str(root / "policies"), "--http-allow", f"127.0.0.1:{ports['outside']}"),
        *("--config", str(root / "mesh.toml"), "--token", TOKEN, "--data", str(root / "data")),
    )


def run_on_host(root: Path, ports: Mapping[str, int]) -> tuple[str, ...]:
    return (
        "run",
        "--interval",
        "300ms",
        "--for",
        "10s",
        "--json",
        "--policy",
        "operator",
        "--data",
        str(root / "data"),
    )


async def test_every_flag_of_up_and_run_is_among_those_that_are_tried() -> None:
    ports = dict.fromkeys(("api", "nats", "outside"), 1)
    lines = [up, run_on_files, run_on_host]
    tried = [line(Path("x"), ports) for line in lines] + [test_isolated_mesh.COMMAND, test_demo.COMMAND]
    for command in ("up", "run"):
        said = {word for words in tried if words[0] == command for word in words if word.startswith("--")}
        missing = [name for name, spellings in flags(command).items() if not said & set(spellings)]
        assert [] == missing, f"swarm {command}: no test says {missing}"


GROUPS = ("persona", "intent", "conflicts", "budget", "policy")


class Outside:
    """A server whose requests are counted by their path."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split()[1].decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()


class Up:
    """A mesh of `swarm up` (or `run`), and what a test asks of it."""

    def __init__(self, root: Path, ports: dict[str, int], outside: Outside) -> None:
        self.root, self.ports, self.outside, self.data = root, ports, outside, root / "data"

    @property
    def record(self) -> MeshRecord:
        record = read_record(self.data)
        assert record is not None
        return record

    def api(self, host: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"http://{host}:{self.ports['api']}"
        return httpx.AsyncClient(base_url=url, headers=headers, timeout=20, trust_env=False)

    async def log(self) -> JetStreamLog:
        seed = seed_file(self.data / "keys", "bootstrap")
        connection = await Connection.open(
            f"nats://127.0.0.1:{self.ports['nats']}", name="t", seed_file=seed, inbox_prefix="_INBOX_bootstrap"
        )
        return JetStreamLog(connection, service="test", instance="test-1")


@asynccontextmanager
async def prepared(root: Path) -> AsyncIterator[Up]:
    """Files that a command names, and a server that it may ask."""
    shutil.copytree(DEFAULT_BUNDLE, root / "policies")
    forbid(root / "policies", "first")
    outside = Outside()
    server = await asyncio.start_server(outside.answer, "127.0.0.1", 0)
    ports = {"api": free_port(), "nats": free_port(), "outside": server.sockets[0].getsockname()[1]}
    scopes = 'scopes = ["read", "control", "approve", "admin"]'
    keys = [(hashlib.sha256(token.encode()).hexdigest(), whose) for token, whose in ((TOKEN, "ada"), (ANOTHERS, "eve"))]
    (root / "keys.toml").write_text(
        "".join(f'[[keys]]\nsha256 = "{digest}"\nprincipal = "{whose}"\n{scopes}\n' for digest, whose in keys)
    )
    private = f'[outbound]\nallow_private = "127.0.0.1:{ports["outside"]}"\n'
    (root / "mesh.toml").write_text(f'{private}[http]\nkeys_file = "{root / "keys.toml"}"\n')
    (root / "app.log").write_text("".join(f"{line}\n" for line in QUIET + BURST))
    async with server:
        yield Up(root, ports, outside)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    async with prepared(tmp_path_factory.mktemp("up")) as mesh, staying(up(mesh.root, mesh.ports), cwd=mesh.root) as at:
        assert at.stdout is not None
        async with asyncio.timeout(150):
            said = json.loads(await at.stdout.readline() or b"{}")
        expected = {"api_url": f"http://127.0.0.2:{mesh.ports['api']}", "nats_url": mesh.record.nats_url, "ready": True}
        assert expected == {name: said.get(name) for name in expected}, (mesh.root / "stderr").read_text()
        yield mesh
        at.send_signal(signal.SIGINT)
        async with asyncio.timeout(40):
            assert 0 == await at.wait()
        assert not re.search(r"^\S+ +\| ", (mesh.root / "stderr").read_text(), re.MULTILINE)  # it was told --quiet


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def log(mesh: Up) -> AsyncIterator[JetStreamLog]:
    log = await mesh.log()
    yield log
    await log.connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(mesh: Up) -> AsyncIterator[httpx.AsyncClient]:
    async with mesh.api("127.0.0.2") as client:
        assert 200 == (await client.post("/v1/cognition/start", json={"loop_interval_ms": 150})).status_code
        yield client


async def ready(mesh: Up) -> None:
    async with asyncio.timeout(120):
        while not (record := read_record(mesh.data)) or not record.ready:
            await asyncio.sleep(0.1)


async def judged(api: httpx.AsyncClient, log: JetStreamLog, mesh: Up) -> None:
    """What hosts and policies the command named holds for both who permit and who act."""
    await create(api, "watcher", "edited")
    assert (
        Bundle.load(mesh.root / "policies").version
        == (await api.get("/v1/cognition/governance")).json()["policy_version"]
    )
    await propose(api, log, "edited", "watcher", "no", "findings/edited/watcher/first.md")
    rejected: Any = (await until(api, "swarm=edited&type=proposal_rejected", "proposal_rejected"))["payload"]
    assert ["no-first"] == rejected["policy_ids"]
    url = f"http://127.0.0.1:{mesh.ports['outside']}/asked"
    await propose(api, log, "edited", "watcher", "ask", url, kind="http.request", params={"method": "GET"})
    requested: Any = (await until(api, "swarm=edited&type=approval_requested", "approval_requested"))["payload"]
    yes = {
        "decision": "grant",
        "digest": requested["digest"],
    }  # the line it cites is nobody's word, and who made it may not
    granted = await api.post("/v1/approvals/ask", json=yes, headers={"Authorization": f"Bearer {ANOTHERS}"})
    assert 200 == granted.status_code, granted.text
    executed: Any = (await until(api, "swarm=edited&type=action_executed", "action_executed"))["payload"]
    assert ("success", ["/asked"]) == (executed["outcome"], mesh.outside.asked), executed


async def test_a_patience_that_is_too_short_ends_the_start_and_is_told(tmp_path: Path) -> None:
    code, said, _ = await swarm("up", "--wait", "0.001", "--quiet", "--data", str(tmp_path / "data"), cwd=tmp_path)
    assert 1 == code and "0.001 s" in said["error"]


async def test_run_on_files_with_all_its_flags_acts_as_they_say(tmp_path: Path) -> None:
    async with prepared(tmp_path) as mesh, staying(run_on_files(tmp_path, mesh.ports), cwd=tmp_path) as at:
        await ready(mesh)
        assert {f"persona_runner-{n}" for n in (1, 2)} <= set(mesh.record.processes)
        log = await mesh.log()
        async with mesh.api("127.0.0.1") as api:
            await judged(api, log, mesh)
            executed: Any = (await until(api, "swarm=watched&type=action_executed", "action_executed"))["payload"]
            state = (await api.get("/v1/cognition/status")).json()
        await log.connection.close()
        assert ("success", 150) == (executed["outcome"], state["loop_interval_ms"])
        at.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            out, _ = await at.communicate()
        assert 0 == at.returncode
        assert b"  actions       2 (2 success)" in out, out


async def test_run_on_this_machine_reads_it_as_often_and_as_long_as_it_was_told(tmp_path: Path) -> None:
    async with prepared(tmp_path) as mesh, staying(run_on_host(tmp_path, mesh.ports), cwd=tmp_path) as at:
        await ready(mesh)
        ports = mesh.record.ports
        mesh.ports.update(api=ports["api"], nats=ports["nats"])
        log = await mesh.log()
        async with mesh.api("127.0.0.1") as api:
            while not await log.read(("persona.spawned.swarm-core.root-thinker",)):
                await asyncio.sleep(0.05)
            await propose(api, log, "swarm-core", "root-thinker", "note", "findings/swarm-core/root-thinker/a.md")
            in_force = (await api.get("/v1/cognition/governance")).json()["policy_version"]
            assert Bundle.load(found("operator")).version == in_force
        await log.connection.close()
        async with asyncio.timeout(60):
            out, _ = await at.communicate()
        report = json.loads(out)
        assert (0, True, {"success": 1}) == (at.returncode, report["ready"], report["actions_by_outcome"])
        assert report["observations"] > 8  # with the default of 2 s there would be 4


async def test_up_with_all_its_flags_acts_as_they_say(api: httpx.AsyncClient, log: JetStreamLog, mesh: Up) -> None:
    assert 401 == (await api.get("/v1/cognition/status", headers={"Authorization": ""})).status_code
    jetstream = (await api.get(f"{mesh.record.monitor_url}/jsz")).json()
    assert not jetstream["config"].get("sync_always")
    assert {f"persona_runner-{n}" for n in (1, 2, 3)} == {n for n in mesh.record.processes if n.startswith("persona_r")}
    assert "policy_gate-2" in mesh.record.processes
    await judged(api, log, mesh)
    await create(api, "served", SERVED)
    await observe(api, SERVED, QUIET)
    await observe(api, SERVED, BURST)
    executed: Any = (await until(api, f"swarm={SERVED}&type=action_executed", "action_executed"))["payload"]
    assert "success" == executed["outcome"]
    thoughts = [r.event for r in await log.read((f"thought.generated.{SERVED}.>",))]
    assert {"r3"} == {event.slot for event in thoughts if isinstance(event, ThoughtGenerated)}


async def test_every_command_asks_a_mesh_elsewhere_with_a_token_and_a_context(
    api: httpx.AsyncClient, log: JetStreamLog, mesh: Up, tmp_path: Path
) -> None:
    contexts = tmp_path / "nats" / "context"
    contexts.mkdir(parents=True)
    seed = str(seed_file(mesh.data / "keys", "operator"))
    (contexts / "far.json").write_text(json.dumps({"url": f"nats://127.0.0.1:{mesh.ports['nats']}", "nkey": seed}))
    (tmp_path / "a.log").write_text("one\ntwo\n")
    url = f"http://127.0.0.2:{mesh.ports['api']}"
    env = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "SWARM_URL": url}
    tried: set[tuple[str, ...]] = set()

    async def say(*words: str, token: str = TOKEN) -> tuple[int, Any]:
        told = env | ({"SWARM_TOKEN": token} if token else {})
        code, answer, err = await swarm(*words, cwd=tmp_path, env=told)
        if token:
            nobodys = any("nobodys" in word for word in words) and code == 1 and "nobodys" in answer["error"]
            assert 0 == code or words == ("slo",) or nobodys, (words, answer, err)  # slo is 1 where one is not met
            tried.add(words[:2] if words[0] in GROUPS else words[:1])
        return code, answer

    assert (1, True) == ((refused := await say("status", token=""))[0], "--token" in refused[1]["error"])
    about = ("--role", "r", "--charter", "c", "--id")
    await say("persona", "create", "far", *about, "far", "--swarm", "far")
    await say("persona", "spawn", "far", "kid", *about, "far-kid")
    while not await log.read(("budget.limited.far.all",)):  # of which a new swarm gets a part
        await asyncio.sleep(0.05)
    _, born = await say("persona", "spawn", "far", "scout", *about, "scout", "--swarm", "farther")
    assert ("farther", "far", 1) == tuple(born["identity"][name] for name in ("swarm_id", "parent_id", "depth"))
    given = (await log.read(("budget.limited.farther.all",)))[0].event  # the allocator may have written another since
    assert isinstance(given, BudgetLimited) and "far" == given.source
    await say("persona", "reap", "far-kid")
    _, found = await say("persona", "list", "--swarm", "far")
    assert {"far", "far-kid"} == {one["identity"]["id"] for one in found}
    await say("persona", "show", "far")
    await say("status")
    await say("start", "--loop-interval", "150ms")
    await say("stop")
    assert isinstance((await say("slo"))[1], list)
    _, intent = await say("intent", "submit", "Write me a poem.", "--swarm", "far")
    assert intent["id"] in {one["id"] for one in (await say("intent", "list", "--swarm", "far"))[1]}
    await say("intent", "show", intent["id"])
    assert "cancelled" == (await say("intent", "cancel", intent["id"]))[1]["state"]
    assert [] == (await say("conflicts", "list"))[1] == (await say("conflicts", "unknown"))[1]
    await say("conflicts", "show", "nobodys")
    await say("conflicts", "rule", "nobodys", "p")
    await say("conflicts", "resolve", "nobodys", "success", "--reason", "seen")
    assert {"file.write", "persona.spawn", "person.ask"} <= {one["kind"] for one in (await say("actions"))[1]}
    filed = ("propose", "file.write", "notes/a.md", "--param", "content=a note", "--persona", "far", "--swarm", "far")
    assert None is (await say(*filed, "--dry-run"))[1]["proposal_id"]
    _, proposed = await say(*filed)
    assert "medium" == proposed["risk"] and proposed["proposal_id"] in {
        one["id"] for one in (await say("proposals"))[1]
    }
    given = ("--param", "name=c", "--param", "role=r", "--param", "charter=c")
    await say("propose", "persona.spawn", "far-proposed", *given, "--persona", "far", "--swarm", "far")
    await say("propose", "person.ask", "anyone", "--param", "question=why?", "--persona", "far", "--swarm", "far")
    async with asyncio.timeout(60):  # said to the mesh by the actuator, and answered by the governor and by a person
        while not await log.read(("persona.spawned.far.far-proposed",)):
            await asyncio.sleep(0.05)
        while not (waits := (await api.get("/v1/questions?state=open")).json()):
            await asyncio.sleep(0.05)
        assert "answered" == (await say("answer", waits[0]["id"], "because"))[1]["state"]
        while not [r for r in await log.read(("action.executed.far.far.*",)) if "lives" in r.event.summary]:
            await asyncio.sleep(0.05)
    assert await log.read(("observation.vouched.far.far",))
    assert 1 == (await say("answer", "nobodys", "yes"))[0]
    assert [] == (await say("beliefs"))[1]
    assert "far" in {one["swarm_id"] for one in (await say("top", "--count", "1"))[1]["swarms"]}
    await say("budget", "set", "far", "--weight", "2")
    assert 2 == next(one for one in (await say("budget", "show"))[1] if one["swarm_id"] == "far")["weight"]
    await policies_are_picked(api, log, say)
    await say("halt", "--reason", "a look")
    _, checks = await swarm_doctor(tmp_path, env, "--nats-context", "far")
    assert ["actions"] == [c["name"] for c in checks if c["ok"] is False], checks
    assert "halted since" in (await say("top", "--count", "1"))[1]["mesh"][0]["actions"]
    (mesh.data / "STOP").touch()
    assert (1, True) == ((still := await swarm("resume", "--yes", cwd=tmp_path, env=env | {"SWARM_TOKEN": TOKEN}))[0],
                         still[1]["after"]["kill_switch"])  # fmt: skip
    (mesh.data / "STOP").unlink()
    await say("resume", "--yes")
    for name in ("yes", "no"):
        await propose(api, log, "far", "far", name, f"asked/{name}.md")
    for _ in range(2):
        await until(api, "swarm=far&type=approval_requested", "approval_requested")
    async with asyncio.timeout(30):
        while len((await say("proposals", "--waiting"))[1]) < 2:
            pass
    digest = next(one["digest"] for one in (await say("proposals", "--waiting"))[1] if one["proposal_id"] == "yes")
    assert "proposal.verified" in {one["type"] for one in (await say("why", "yes"))[1]["events"]}
    await say("approve", "yes", "--digest", digest, token=ANOTHERS)  # who made the persona may not
    await say("deny", "no")
    await until(api, "swarm=far&type=action_executed", "action_executed")
    assert 2 == (await say("observe", str(tmp_path / "a.log"), "--swarm", "far"))[1]["sent"]
    _, event = await say("tap", "observation.recorded.far.>", "--since", "1h", "--count", "4", "--nats-context", "far")
    assert "two" == event["data"]["text"]
    code, checks = await swarm_doctor(tmp_path, env, "--nats-context", "far")
    said = {check["name"]: check for check in checks}
    assert 0 == code and {"api", "actions", "broker", "services", "streams", "clock", "store"} <= {
        name for name, check in said.items() if check["ok"]
    }, checks
    assert "persona_runner-3" in said["services"]["detail"] and said["elsewhere"]["ok"] is None
    tried.add(("doctor",))
    asking = {words for words in commands() if "--url" in flags(*words)}
    assert asking == tried
    assert {("tap",), ("doctor",)} == {words for words in commands() if "--nats-context" in flags(*words)}
    nobody = await swarm_doctor(
        tmp_path, {**env, "SWARM_URL": "http://127.0.0.1:1"}, "--nats-url", "nats://127.0.0.1:1"
    )
    assert 1 == nobody[0] and {"api", "broker"} == {c["name"] for c in nobody[1] if c["ok"] is False}


async def policies_are_picked(api: httpx.AsyncClient, log: JetStreamLog, say: Any) -> None:
    """By who may do everything; the newest word wins, whatever the folder holds, and decides from then on."""

    async def in_force(principal: str, name: str = "", version: str = "") -> dict[str, Any]:
        async with asyncio.timeout(60):
            while (state := (await api.get("/v1/policies")).json())[key := "version" if version else "name"] != (
                version or name
            ):
                await asyncio.sleep(0.1)
        assert principal == state["principal"], key
        return dict(state)

    async def verdict(proposal: str, word: str) -> Any:
        await propose(api, log, "picked", "picky", proposal, f"findings/picked/picky/{proposal}.md")
        async with asyncio.timeout(60):
            while not (said := await log.last((f"proposal.{word}.picked.picky.{proposal}",))):
                await asyncio.sleep(0.05)
        return said[0].event

    await create(api, "picky", "picked")
    before = await in_force("")
    assert "developer" == (await say("policy", "shadow", "developer"))[1]["shadow"]["policy"]
    picked = (await say("policy", "activate", "observe-only", "--reason", "a look"))[1]["picked"]
    assert ("observe-only", "ada", "a look") == tuple(picked[name] for name in ("policy", "principal", "reason"))
    state = await in_force("ada", "observe-only")
    assert before["version"] in state["earlier"]
    rejected = await verdict("while-observing", "rejected")
    assert (state["version"], ("no_matching_permit",)) == (rejected.policy_version, rejected.reasons)
    assert None is (await say("policy", "shadow"))[1]["shadow"]
    await say("policy", "activate", before["version"])
    await in_force("ada", version=before["version"])
    assert before["version"] == (await verdict("after-observing", "authorized")).policy_version


async def swarm_doctor(folder: Path, env: Mapping[str, str], *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    code, checks, err = await swarm("doctor", *arguments, cwd=folder, env={**env, "SWARM_TOKEN": TOKEN})
    assert isinstance(checks, list), err
    return code, checks


async def test_services_are_scaled_up_and_down_under_load_and_nobody_is_dropped(
    api: httpx.AsyncClient, log: JetStreamLog, mesh: Up
) -> None:
    def runners() -> set[str]:
        return {name for name in mesh.record.processes if name.startswith("persona_runner")}

    async def scaled(*counts: str) -> list[str]:
        code, answer, err = await swarm("scale", *counts, "--data", str(mesh.data), cwd=mesh.root)
        assert (0, True) == (code, answer.get("ok")), (answer, err)
        return list(answer["said"])

    async def connections() -> dict[int, str]:
        found = (await api.get(f"{mesh.record.monitor_url}/connz?limit=1000")).json()["connections"]
        return {one["cid"]: one.get("name", "") for one in found}

    async def observed() -> None:
        while not done.is_set():
            sent.extend(await observe(api, "crowd", [f"job {len(sent)} failed: no route to host"]))
            await asyncio.sleep(0.1)  # under load, and not so that nobody else gets a turn on two cores

    async def steps() -> dict[str, list[tuple[int, str]]]:
        found: dict[str, list[tuple[int, str]]] = {}
        for event in [r.event for r in await log.read(("thought.generated.crowd.>",))]:
            assert isinstance(event, ThoughtGenerated)
            found.setdefault(event.persona, []).append((event.step, event.slot))
        return found

    async def all_went_on(among: set[str]) -> None:
        """Every persona took a step more, and each of these runners one."""
        before = {persona: len(taken) for persona, taken in (await steps()).items()}
        async with asyncio.timeout(60):
            while True:
                now = {persona: taken[before.get(persona, 0) :] for persona, taken in (await steps()).items()}
                if len(now) == CROWD and all(now.values()) and among <= {s for t in now.values() for _, s in t}:
                    return
                await asyncio.sleep(0.1)

    sent: list[int] = []
    done = asyncio.Event()
    await api.post("/v1/cognition/start", json={"loop_interval_ms": 400})
    for n in range(CROWD):
        await create(api, f"many{n}", "crowd")
    async with asyncio.TaskGroup() as group:
        group.create_task(observed())
        await scaled("persona_runner=1")
        assert {"persona_runner-1", "persona_runner-3"} == runners()  # -3 is the one of --serve
        await all_went_on({"r1"})
        there = await connections()
        said = await scaled("persona_runner=3", "verifier=2")
        assert {f"persona_runner-{n}" for n in (1, 2, 3, 4)} == runners(), said
        assert there.items() <= (await connections()).items()  # nobody had to connect anew
        await all_went_on({"r1", "r2", "r4"})
        said = await scaled("persona_runner=1", "verifier=1")
        gone = ("persona_runner-2", "persona_runner-4", "verifier-2")
        assert {f"{name} has drained and ended" for name in gone} == {line for line in said if "drain" in line}
        assert {"persona_runner-1", "persona_runner-3"} == runners()
        await all_went_on({"r1"})
        done.set()
    for persona, taken in (await steps()).items():
        assert list(range(1, len(taken) + 1)) == [step for step, _ in taken], persona
    assert set(sent) <= {r.seq for r in await log.read(("observation.recorded.crowd.>",))}
    assert 0 == json.loads((await log.connection.request("$JS.API.STREAM.INFO.DEAD")).data)["state"]["messages"]
    assert {} == {name: count for name, count in mesh.record.restarts.items() if count}
    code, refused, _ = await swarm("scale", "memory_compactor=2", "--data", str(mesh.data), cwd=mesh.root)
    assert 1 == code and ["of memory_compactor there is one: its index folds the log in order"] == refused["said"]
