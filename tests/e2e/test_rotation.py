"""Verdict keys are replaced on a mesh that runs, by the command people have: no process is started anew, and no action fails for it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import redirect_stdout
from datetime import timedelta
from itertools import count
from pathlib import Path

import httpx
import msgspec
import pytest
import pytest_asyncio

from services.cli.main import app
from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from services.supervisor.secrets import keyring
from shared.broker import inbox_prefix
from shared.contracts.envelope import Message, enveloped
from shared.contracts.events import ActionExecuted, ProposalAuthorized, ProposalVerified
from shared.contracts.ids import fresh_id, utc_now
from shared.crypto import public_key, sign_verdict
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.policy.activations import Followed as Policies
from tests.e2e.test_mesh import create, propose, violations
from tests.e2e.test_mesh import log as log

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

SERVICES = ("governor", "verifier", "policy_gate", "actuator", "gateway")
MORE = {"SWARM_SWARM_ACTIONS_PER_MINUTE": "1000", "SWARM_PERSONA_ACTIONS_PER_MINUTE": "1000"}
WHO = ("turning", "watcher")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    options = Options(services=SERVICES, s3=False, replicas=2, env=MORE, ready_timeout_s=120)
    async with Mesh(tmp_path_factory.mktemp("rotation") / "data", options) as mesh:
        await mesh.wait_ready()
        yield mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(mesh: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=mesh.api_url, timeout=20, trust_env=False) as client:
        await create(client, WHO[1], WHO[0])
        yield client


async def swarm(mesh: Mesh, *words: str) -> str:
    """What the command says."""

    def run() -> str:
        said = io.StringIO()
        with redirect_stdout(said):
            assert 0 == app([*words, "--data", str(mesh.data)], result_action="return_value", exit_on_error=False)
        return said.getvalue()

    return await asyncio.to_thread(run)


def seeds(mesh: Mesh) -> list[str]:
    return (mesh.places.keys / keyring.GATE / "verdict-seed").read_text().split()


async def test_actions_go_through_before_during_and_after_and_nothing_is_started_anew(
    api: httpx.AsyncClient, log: JetStreamLog, mesh: Mesh
) -> None:
    numbers, done = count(), asyncio.Event()
    signed: dict[str, tuple[str, str]] = {}
    pids = {name: mesh.pid(name) for name in mesh.children}

    async def load() -> None:
        while not done.is_set():
            name = f"load-{next(numbers)}"
            await propose(api, log, *WHO, name, f"findings/{WHO[0]}/{WHO[1]}/{name}.md")
            life = f"*.*.{WHO[0]}.{WHO[1]}.{name}"
            async with asyncio.timeout(60):
                while not (ends := [r.event for r in await log.read((life,)) if isinstance(r.event, ActionExecuted)]):
                    await asyncio.sleep(0.02)
            (verdict,) = await log.read((f"proposal.authorized.{WHO[0]}.{WHO[1]}.{name}",))
            assert isinstance(verdict.event, ProposalAuthorized)
            signed[name] = (verdict.event.key, ends[0].error or ends[0].outcome)

    async def signed_by(key: str) -> None:
        async with asyncio.timeout(90):
            while sum(by == key for by, _ in signed.values()) < 10:
                await asyncio.sleep(0.05)

    (first,) = seeds(mesh)
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(load())
        await signed_by(public_key(first))
        assert "nothing is to be started anew" in await swarm(mesh, "keys", "rotate", "verdict", "--overlap", "1h")
        second = seeds(mesh)[-1]
        await signed_by(public_key(second))
        await swarm(mesh, "keys", "rotate", "verdict", "--overlap", "1h")
        third = seeds(mesh)[-1]
        await signed_by(public_key(third))
        done.set()
    assert {(public_key(seed), "success") for seed in (first, second, third)} == set(signed.values())
    assert pids == {name: mesh.pid(name) for name in mesh.children}
    life = (await api.get(f"/v1/proposals/{max(signed, key=lambda name: int(name[5:]))}")).json()
    assert (public_key(third), True) == (life["signature"]["key"], life["signature"]["good"])
    assert 3 == (await swarm(mesh, "keys", "show")).count("\nverdict\t")
    assert [] == [line for line in await violations(log) if "is charged" not in line], (
        "but for limits, which are others here"
    )


async def test_what_a_stolen_key_signs_after_it_was_taken_away_is_not_done(
    api: httpx.AsyncClient, log: JetStreamLog, mesh: Mesh
) -> None:
    stolen = seeds(mesh)[-1]
    await swarm(mesh, "keys", "rotate", "verdict", "--overlap", "0s")
    await propose(api, log, *WHO, "forged", "notes/forged.md")
    async with asyncio.timeout(60):
        while not (asked := await log.read((f"approval.requested.{WHO[0]}.{WHO[1]}.forged",))):
            await asyncio.sleep(0.05)
    (verified,) = await log.read((f"proposal.verified.{WHO[0]}.{WHO[1]}.forged",))
    assert isinstance(verified.event, ProposalVerified)
    draft = ProposalAuthorized(
        swarm=WHO[0],
        persona=WHO[1],
        proposal_id="forged",
        digest=verified.event.digest,
        risk=verified.event.risk,
        policy_ids=("file-approved",),
        policy_version=(await Policies(log).look()).active,
        approvals=(asked[0].id,),
        expires_at=utc_now() + timedelta(minutes=5),
        key="",
        signature="",
    )
    key, signature = sign_verdict(stolen, draft)
    event = msgspec.structs.replace(draft, key=key, signature=signature)
    connection = await Connection.open(
        mesh.nats_url,
        name="policy_gate-1",
        seed_file=mesh.key("policy_gate-1"),
        inbox_prefix=inbox_prefix("policy_gate-1"),
    )
    gate = JetStreamLog(connection, service="policy_gate", instance="policy_gate-1")
    await gate.commit([Message(event=event, envelope=enveloped(fresh_id(), source="policy_gate", time=utc_now()))])
    await connection.close()
    async with asyncio.timeout(60):
        while not (ended := await log.read((f"action.executed.{WHO[0]}.{WHO[1]}.forged",))):
            await asyncio.sleep(0.05)
    assert isinstance(ended[0].event, ActionExecuted) and "bad_signature" == ended[0].event.error
    assert not Path(mesh.workspace, "notes/forged.md").exists()
    life = (await api.get("/v1/proposals/forged")).json()
    assert (key, False) == (life["signature"]["key"], life["signature"]["good"])
