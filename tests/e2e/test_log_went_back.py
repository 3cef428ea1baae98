"""A whole mesh over a log that is another one than before: an older store put back under it, one grown past the cut again, one
made anew. It is noticed, actions are halted, everything is begun anew, and what was done in what is gone is not done again."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from shared.broker import inbox_prefix
from shared.contracts.events import ActionExecuted, MeshHalted
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from tests.contract.test_log import observation
from tests.e2e.test_mesh import propose, until

pytestmark = pytest.mark.timeout(300)

READERS = ("gateway-1", "governor-1", "memory_compactor-1", "persona_runner-1")
"""Who has seen a persona that was spawned a moment ago; the others know of it when they have looked at the log's end."""
OPTIONS = Options(env={"SWARM_APPROVAL_FOUR_EYES": "false"}, ready_timeout_s=120)
BROKER_ONLY = Options(services=(), s3=False)


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[tuple[Mesh, httpx.AsyncClient, JetStreamLog]]:
    async with (
        Mesh(data, OPTIONS) as mesh,
        httpx.AsyncClient(base_url=mesh.api_url, timeout=20, trust_env=False) as api,
    ):
        await mesh.wait_ready()
        async with opened(mesh) as log:
            yield mesh, api, log


@asynccontextmanager
async def opened(mesh: Mesh) -> AsyncIterator[JetStreamLog]:
    connection = await Connection.open(
        mesh.nats_url, name="test", seed_file=mesh.key("bootstrap"), inbox_prefix=inbox_prefix("bootstrap")
    )
    yield JetStreamLog(connection, service="test", instance="test-1")
    await connection.close()


async def put_back(data: Path, older: Path) -> None:
    """As an operator does who restores a volume."""
    store = data / "nats"
    await asyncio.to_thread(shutil.rmtree, data / "lost", ignore_errors=True)
    await asyncio.to_thread(store.rename, data / "lost")
    await asyncio.to_thread(shutil.copytree, older, store)


async def create(api: httpx.AsyncClient, persona: str, swarm: str = "alpha") -> None:
    body = {"persona_id": persona, "name": persona, "role": "watcher", "charter": "Watch.", "swarm_id": swarm}
    answer = await api.post("/v1/swarm/personas", json=body)
    assert answer.status_code == 200, answer.text


async def personas(api: httpx.AsyncClient) -> set[str]:
    return {persona["identity"]["id"] for persona in (await api.get("/v1/swarm/personas")).json()}


async def lines(api: httpx.AsyncClient) -> AsyncIterator[str]:
    """What an event stream brings."""
    async with api.stream("GET", "/v1/cognition/stream", timeout=120) as answer:
        async for line in answer.aiter_lines():
            yield line


async def swarm(mesh: Mesh, *arguments: str) -> tuple[int, str]:
    """The command as it is typed, in a pipe: its exit code, and all it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli.main", *arguments, "--data", str(mesh.data),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def approve(api: httpx.AsyncClient, proposal: str) -> None:
    (request,) = [a for a in (await api.get("/v1/approvals")).json() if a["proposal_id"] == proposal]
    answer = await api.post(f"/v1/approvals/{proposal}", json={"decision": "grant", "digest": request["digest"]})
    assert answer.status_code == 200, answer.text


async def memories_of(api: httpx.AsyncClient, persona: str, after: int = 0) -> dict[str, int]:
    """Sequences of all that is recalled by id, once something is that was stored after that sequence."""
    async with asyncio.timeout(60):
        while True:
            answer = await api.get(f"/v1/swarm/personas/{persona}/memory", params={"q": "what was seen", "limit": 50})
            found = answer.json()["memories"] if answer.status_code == 200 else []
            if any(memory["seq"] > after for memory in found):
                return {memory["id"]: memory["seq"] for memory in found}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a mesh that ended: one persona waits for people, one has acted. Each test goes on with a copy."""
    data = tmp_path_factory.mktemp("begun") / "data"
    async with running(data) as (mesh, api, log):
        await create(api, "kept")
        await propose(api, log, "alpha", "kept", "asked", "asked/for.md")
        await create(api, "doer", "beta")
        await propose(api, log, "beta", "doer", "done", "findings/beta/doer/done.md")
        await until(api, "swarm=alpha&type=approval_requested", "approval_requested")
        await until(api, "swarm=beta&type=action_executed", "action_executed")
        await asyncio.gather(*(mesh.kill(name, signal.SIGTERM) for name in READERS))
    return data


async def copied(begun: Path, to: Path) -> Path:
    return Path(await asyncio.to_thread(shutil.copytree, begun, to / "data", symlinks=True))


async def test_under_a_living_mesh_everything_is_begun_anew_and_nothing_is_done_twice(
    begun: Path, tmp_path: Path
) -> None:
    data, older = await copied(begun, tmp_path), begun / "nats"
    async with running(data) as (mesh, api, log):
        await create(api, "lost")
        await approve(api, "asked")
        await until(api, "swarm=alpha&type=action_executed", "action_executed")
        written = mesh.workspace / "asked/for.md"
        written.unlink()
        stream = lines(api)
        assert ": open" == await anext(stream)

        await put_back(data, older)
        await mesh.kill("nats")
        told = [line async for line in stream]
        at = told.index("event: gap")
        assert "id: 0" == told[at - 1] and "the log is another one: it ends at" in told[at + 1]
        async with asyncio.timeout(90):
            for name in (*READERS, "actuator-1"):
                await mesh.wait_restarted(name)
        await mesh.wait_ready()
        assert {75} == {mesh.children[name].exit_code for name in (*READERS, "actuator-1")}
        assert {"kept", "doer"} == await personas(api)

        state = (await api.get("/v1/halt")).json()
        assert state["halted"] and "log_went_back" == state["cause"]
        (unknown,) = state["unknown"]
        assert ("asked", "claim", True) == (unknown["proposal_id"], unknown["what"], unknown["in_log"])
        outcome = await until(api, "swarm=alpha&type=action_executed", "action_executed")
        assert isinstance(outcome["payload"], dict) and "claim_lost" == outcome["payload"]["error"]
        assert "halted" in json.loads((await api.get("/health/ready")).text)["warnings"]

        await propose(api, log, "alpha", "kept", "held", "findings/alpha/kept/held.md")
        code, said = await swarm(mesh, "resume")
        assert 2 == code and "asked" in said and "unknown" in said and "--yes" in said, said
        code, said = await swarm(mesh, "doctor")
        assert 1 == code and "halted since" in said, said
        assert 0 == (await swarm(mesh, "status"))[0]
        assert not await log.read(("action.claimed.alpha.>",))
        code, said = await swarm(mesh, "resume", "--yes")
        assert 0 == code and "actions go on" in said, said
        async with asyncio.timeout(60):
            while len(await log.read(("action.executed.alpha.>",))) < 2:
                await asyncio.sleep(0.05)
        outcomes = {r.event.proposal_id: r.event.outcome for r in await log.read(("action.executed.alpha.>",))}  # type: ignore[union-attr]
        assert {"asked": "unknown", "held": "success"} == outcomes
        assert not written.exists()
        await lost_under(mesh, api)


async def lost_under(mesh: Mesh, api: httpx.AsyncClient) -> None:
    """A store that is lost under a living mesh is declared anew, and noticed."""
    before = {name: mesh.children[name].restarts for name in READERS}
    await asyncio.to_thread((mesh.data / "nats").rename, mesh.data / "lost altogether")
    await mesh.kill("nats")
    async with asyncio.timeout(90):
        for name in READERS:
            await mesh.wait_restarted(name, before[name] + 1)
    await mesh.wait_ready()
    state = (await api.get("/v1/halt")).json()
    assert (True, "log_went_back") == (state["halted"], state["cause"])
    assert (
        "claimed in what is gone" in state["reason"] or "it was made at" in state["reason"]
    )  # by who noticed it first
    assert set() == await personas(api)
    assert 0 == (await swarm(mesh, "resume", "--yes"))[0]
    await create(api, "new")


async def test_at_a_start_it_is_noticed_also_when_the_log_has_grown_past_where_it_was(
    begun: Path, tmp_path: Path
) -> None:
    data, older = await copied(begun, tmp_path), begun / "nats"
    async with running(data) as (_, api, log):
        await create(api, "lost")
        kept = (await log.ends(("*.*.*.>",)))[0]
        await api.post("/v1/cognition/start", json={"loop_interval_ms": 200})
        await api.post("/v1/swarm/alpha/observations", json={"text": "the disk of the old log is full"})
        await until(api, "persona=kept&type=thought_generated", "thought_generated")
        old = await memories_of(api, "kept", kept)  # also what it thought, which will be lost
        end = (await log.ends(("*.*.*.>",)))[0]
        witness = data / "services" / "gateway-1" / "witness" / "gateway-1.json"
        async with asyncio.timeout(30):
            while json.loads(witness.read_text())["marks"][0][0] < end:
                await asyncio.sleep(0.1)
    await put_back(data, older)
    async with Mesh(data, BROKER_ONLY) as mesh, opened(mesh) as log:
        while (await log.commit([observation("it has grown again")]))[0] < 3 * end:
            pass
    async with running(data) as (mesh, api, log):
        assert {"kept", "doer"} == await personas(api)
        halts = [r.event for r in await log.read(("mesh.halted.all.all",))]
        assert 1 == len(halts) and isinstance(halts[0], MeshHalted) and "another event" in halts[0].reason
        assert (await api.get("/v1/halt")).json()["halted"]
        now = await memories_of(api, "kept")
        assert set() < set(old) & set(now) < set(old) and {(await log.get(seq)).id for seq in now.values()} == set(now)  # type: ignore[union-attr]
        async with api.stream("GET", "/v1/cognition/stream", headers={"Last-Event-ID": str(end)}) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("event:"):
                    assert "event: gap" == line
                    break
        await asyncio.gather(*(mesh.kill(name, signal.SIGTERM) for name in READERS))
        for name in READERS:
            await mesh.wait_restarted(name)
        await mesh.wait_ready()
        assert 1 == len(await log.read(("mesh.halted.all.all",)))  # it was said once
        assert (await api.get("/v1/halt")).json()["halted"]


async def test_a_log_made_anew_begins_halted_and_goes_on_when_somebody_says_so(begun: Path, tmp_path: Path) -> None:
    data = await copied(begun, tmp_path)
    await asyncio.to_thread(shutil.rmtree, data / "nats")
    async with running(data) as (mesh, api, log):
        assert set() == await personas(api)
        state = (await api.get("/v1/halt")).json()
        assert state["halted"] and ["done"] == [held["proposal_id"] for held in state["unknown"]]
        assert not state["unknown"][0]["in_log"]
        assert 0 == (await swarm(mesh, "resume", "--yes"))[0]
        await create(api, "new")
        await propose(api, log, "alpha", "new", "again", "findings/alpha/new/again.md")
        await until(api, "swarm=alpha&type=action_executed", "action_executed")
        (executed,) = [r.event for r in await log.read(("action.executed.>",))]
        assert isinstance(executed, ActionExecuted) and ("again", "success") == (executed.proposal_id, executed.outcome)
