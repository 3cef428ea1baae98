"""A mesh is backed up as it runs and put back elsewhere: the same log, lineage, proposals and objects; nothing acts until a
person says so."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import httpx
import msgspec
import pytest

from services.supervisor.mesh import Mesh
from services.supervisor.stores.backup import MANIFEST, BackupRefused, Manifest, cold_of, read
from shared.contracts.envelope import Recorded
from shared.log.jetstream import JetStreamLog
from tests.e2e.test_log_went_back import approve, create, personas, running
from tests.e2e.test_mesh import propose, until, violations

pytestmark = pytest.mark.timeout(300)


async def swarm(data: Path, *arguments: str) -> tuple[int, str]:
    """The command as it is typed: its exit code, and all it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli.main", *arguments, "--data", str(data),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    return process.returncode or 0, (out + errors).decode()


async def known(api: httpx.AsyncClient) -> list[object]:
    """What people are shown of lineage, proposals and what was done."""
    paths = ("/v1/swarm/lineage", "/v1/cognition/proposals", "/v1/cognition/receipts")
    lineage, *others = [(await api.get(path)).raise_for_status().json() for path in paths]
    for node in lineage["nodes"]:
        node["status"] = node["status"] == "reaped"  # idle is who has not thought for a while, by the clock
    return [lineage, *others]


async def everything(log: JetStreamLog, last_seq: int) -> list[Recorded]:
    return [r for r in await log.read(("*.*.*.>",)) if isinstance(r, Recorded) and r.seq <= last_seq]


async def done(api: httpx.AsyncClient, proposal: str) -> None:
    async with asyncio.timeout(60):
        while True:
            receipts = (await api.get("/v1/cognition/receipts")).json()
            if proposal in str(receipts):
                return
            await asyncio.sleep(0.1)


async def lived(api: httpx.AsyncClient, log: JetStreamLog) -> None:
    """Something of everything: a family, a death with its snapshot, an action that was done and one that waits for people."""
    await create(api, "kept")
    kid = {"persona_id": "kid", "name": "kid", "role": "watcher", "charter": "Watch."}
    assert 200 == (await api.post("/v1/swarm/personas/kept/spawn", json=kid)).status_code
    await create(api, "brief")
    await api.post("/v1/cognition/start", json={"loop_interval_ms": 200})
    await until(api, "persona=brief&type=thought_generated", "thought_generated")
    await api.post("/v1/swarm/personas/brief/reap", json={"reason": "done"})
    await until(api, "persona=brief&type=persona_reaped", "persona_reaped")
    await api.post("/v1/cognition/stop")
    await propose(api, log, "alpha", "kept", "did", "findings/alpha/kept/did.md")
    await done(api, "did")
    await propose(api, log, "alpha", "kept", "asked", "asked/for.md")
    await until(api, "swarm=alpha&type=approval_requested", "approval_requested")


async def test_what_is_put_back_is_the_same_mesh_halted_and_does_nothing_twice(tmp_path: Path) -> None:
    data, other, to, keys = (tmp_path / name for name in ("data", "other", "backup", "keys"))
    async with running(data) as (_, api, log):
        await lived(api, log)
        before = await known(api)
        code, said = await swarm(data, "backup", str(to), "--keys", str(keys))
        assert 0 == code, said
        manifest = read(to)
        taken = await everything(log, manifest.log.last_seq)
        await create(api, "lost")
        await approve(api, "asked")
        await done(api, "asked")
        code, said = await swarm(data, "backup", str(to))
        assert 1 == code and "already" in said, said
        code, said = await swarm(data, "restore", str(to))
        assert 1 == code and "already runs" in said, said
    assert manifest.objects and not private(to) and "keys" not in {path.name for path in to.iterdir()}
    code, said = await swarm(data, "restore", str(to))
    assert 1 == code and "move it away" in said, said

    (other / ".restoring" / "nats" / "jetstream").mkdir(parents=True)  # as a restore leaves it that was killed
    code, said = await swarm(other, "restore", str(to), "--keys", str(keys), "--json")
    assert 0 == code, said
    told, _ = json.JSONDecoder().raw_decode(said)
    assert (manifest.log.last_seq, len(manifest.objects)) == (told["last_seq"], told["objects"])
    assert {"keys", "nats", "s3", "lock"} == {path.name for path in other.iterdir()}
    async with running(other) as (mesh, api, log):
        assert taken == await everything(log, manifest.log.last_seq)
        assert {"kept", "kid"} <= await personas(api) and "lost" not in await personas(api)
        assert before == await known(api)
        assert await objects(mesh) == set(manifest.objects)
        state = (await api.get("/v1/halt")).json()
        assert state["halted"] and "restored from a backup" in state["reason"], state
        await propose(api, log, "alpha", "kept", "held", "findings/alpha/kept/held.md")
        assert ["asked"] == [row["proposal_id"] for row in state["void"]]
        code, said = await swarm(other, "resume", "--yes")
        assert 0 == code, said
        await done(api, "held")
        executed = [r.event.proposal_id for r in await log.read(("action.executed.>",))]  # type: ignore[union-attr]
        assert ["did", "held"] == executed
        assert [] == await violations(log)
        written = {path.name for path in mesh.workspace.rglob("*.md")}
        assert {"held.md"} == written  # what the log says was done is not done once more


async def objects(mesh: Mesh) -> set[str]:
    cold = cold_of(mesh.data / "keys", f"127.0.0.1:{mesh.ports['s3_s3']}")
    try:
        return set(await cold.keys(""))
    finally:
        await cold.close()


def private(folder: Path) -> list[Path]:
    """What others than its owner may read."""
    return [path for path in (folder, *folder.rglob("*")) if os.stat(path).st_mode & 0o077]


def test_a_backup_that_was_changed_or_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackupRefused, match="no whole backup"):
        read(tmp_path)
    manifest = {
        "taken_at": "2026-11-28T00:00:00Z",
        "objects": {},
        "streams": [
            {"stream": name, "config": {}, "state": {}, "sha256": "0" * 64, "size": 1}
            for name in ("SWARM", "DEAD", "KV_policies")
        ],
    }
    (tmp_path / MANIFEST).write_bytes(msgspec.json.encode(msgspec.convert(manifest, Manifest)))
    with pytest.raises(BackupRefused, match="no whole backup"):
        read(tmp_path)
    (tmp_path / "streams").mkdir()
    (tmp_path / "streams" / "SWARM").write_bytes(b"other")
    with pytest.raises(BackupRefused, match="another one"):
        read(tmp_path)
    (tmp_path / MANIFEST).write_bytes(msgspec.json.encode({**manifest, "version": 2}))
    with pytest.raises(BackupRefused, match="another release"):
        read(tmp_path)
