"""Edited policies end to end: from the start, and changed while proposals are on their way."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from shared.contracts.events import ActionExecuted, PolicyActivated, ProposalAuthorized, ProposalRejected
from shared.log.jetstream import JetStreamLog
from shared.policy.bundle import DEFAULT_BUNDLE, Bundle
from tests.e2e.test_mesh import create, propose, until
from tests.e2e.test_mesh import log as log

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

MORE = {f"SWARM_{of}_ACTIONS_PER_MINUTE": "1000000" for of in ("GLOBAL", "SWARM", "PERSONA")}
SERVICES = ("governor", "verifier", "policy_gate", "actuator", "gateway")


def forbid(folder: Path, name: str) -> str:
    """Add a policy with a golden decision of its own; the version that results."""
    policies, golden = folder / "gate.cedar", folder / "golden.json"
    path = f"findings/edited/watcher/{name}.md"
    policies.write_text(
        f'{policies.read_text()}\n@id("no-{name}") forbid (principal, action == Action::"file.write", resource)\n'
        f'when {{ resource.path == "{path}" }};\n'
    )
    cases = json.loads(golden.read_text())
    written = next(case["request"] for case in cases if case["request"]["action"] == "file.write")
    request = {**written, "target": path}
    cases.append({"name": name, "request": request, "allow": False, "policy_ids": [f"no-{name}"]})
    golden.write_text(json.dumps(cases))
    return Bundle.load(folder).version


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    root = tmp_path_factory.mktemp("policies")
    folder = Path(shutil.copytree(DEFAULT_BUNDLE, root / "edited"))
    forbid(folder, "first")
    options = Options(services=SERVICES, s3=False, policy_dir=str(folder), env=MORE, ready_timeout_s=120)
    async with Mesh(root / "data", options) as mesh:
        await mesh.wait_ready()
        yield mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(mesh: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=mesh.api_url, timeout=20, trust_env=False) as client:
        await create(client, "watcher", "edited")
        yield client


async def warnings(mesh: Mesh) -> dict[str, str]:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{mesh.health_url('policy_gate-1')}/health/ready")
    assert 200 == answer.status_code, answer.text
    return dict(answer.json()["warnings"])


async def test_with_edited_policies_what_they_permit_is_done_and_what_they_forbid_is_not(
    api: httpx.AsyncClient, log: JetStreamLog, mesh: Mesh
) -> None:
    version = Bundle.load(Path(mesh.options.policy_dir or "")).version
    await propose(api, log, "edited", "watcher", "one-1", "findings/edited/watcher/fine.md")
    await until(api, "swarm=edited&type=action_executed", "action_executed")
    assert "yes" == (mesh.workspace / "findings/edited/watcher/fine.md").read_text()
    await propose(api, log, "edited", "watcher", "one-2", "findings/edited/watcher/first.md")
    rejected = await until(api, "swarm=edited&type=proposal_rejected", "proposal_rejected")
    payload: Any = rejected["payload"]
    assert (["no-first"], version) == (payload["policy_ids"], payload["policy_version"])
    assert version == (await api.get("/v1/cognition/governance")).json()["policy_version"]


async def test_a_reload_under_load_loses_nothing_and_a_bad_bundle_changes_nothing(
    api: httpx.AsyncClient, log: JetStreamLog, mesh: Mesh
) -> None:
    folder = Path(mesh.options.policy_dir or "")
    first, numbers, done = Bundle.load(folder).version, count(), asyncio.Event()
    verdicts: dict[str, tuple[str, str]] = {}

    async def load() -> None:
        while not done.is_set():
            name = f"load-{next(numbers)}"
            await propose(api, log, "edited", "watcher", name, f"findings/edited/watcher/{name}.md")
            life = f"*.*.edited.watcher.{name}"
            async with asyncio.timeout(60):
                while not (ends := [r.event for r in await log.read((life,)) if isinstance(r.event, ActionExecuted)]):
                    rejected = await log.last((f"proposal.rejected.edited.watcher.{name}",))
                    assert not rejected, rejected
            (authorized,) = await log.read((f"proposal.authorized.edited.watcher.{name}",))
            assert isinstance(authorized.event, ProposalAuthorized)
            verdicts[name] = (authorized.event.policy_version, ends[0].error or ends[0].outcome)

    async def judged_under(version: str) -> None:
        async with asyncio.timeout(60):
            while sum(under == version for under, _ in verdicts.values()) < 20:
                await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(load())
        await judged_under(first)
        good = (folder / "gate.cedar").read_bytes()
        (folder / "gate.cedar").write_text("permit (principal, action, resource);")
        async with asyncio.timeout(30):
            while "policies" not in await warnings(mesh):
                await asyncio.sleep(0.1)
        seen = len(verdicts)
        async with asyncio.timeout(30):
            while len(verdicts) < seen + 10:
                await asyncio.sleep(0.05)
        (folder / "gate.cedar").write_bytes(good)
        second = forbid(folder, "second")
        await judged_under(second)
        done.set()
    assert {(first, "success"), (second, "success")} == set(verdicts.values())
    assert {} == await warnings(mesh)
    activations = [r.event for r in await log.read(("policy.activated.*.*",))]
    assert [first, second] == [e.digest for e in activations if isinstance(e, PolicyActivated)]
    await propose(api, log, "edited", "watcher", "last", "findings/edited/watcher/second.md")
    async with asyncio.timeout(30):
        while not (ended := await log.last(("proposal.rejected.edited.watcher.last",))):
            await asyncio.sleep(0.05)
    assert isinstance(ended[0].event, ProposalRejected) and ("no-second",) == ended[0].event.policy_ids
