"""A whole mesh on a small disk that fills and is freed: nothing acknowledged is lost, and it goes on by itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from shared.broker import inbox_prefix
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import HypothesisRaised
from shared.contracts.ids import fresh_id, utc_now
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable

pytestmark = pytest.mark.timeout(400)

MIB = 2**20
DISK_BYTES, STORE_BYTES = 768 * MIB, 256 * MIB
HELD_BELOW = int(0.15 * STORE_BYTES)
ENV = {"SWARM_STORE_BYTES": str(STORE_BYTES), "SWARM_UP_LIVENESS_S": "10"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk for the mesh's data, where one can be mounted."""
    folder = tmp_path / "data"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("a small disk needs root and a kernel that mounts tmpfs here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def leave(disk: Path, free: int) -> None:
    """Fill the disk but for so many bytes."""
    with (disk / "ballast").open("ab") as out:
        while (more := shutil.disk_usage(disk).free - free) > 0:
            try:
                out.write(bytes(min(more, MIB)))
                out.flush()
            except OSError:
                return


def noise() -> Message:
    """Something memory keeps and nobody thinks about, of 2 kB."""
    event_id = fresh_id()
    event = HypothesisRaised(
        swarm="noise",
        persona="nobody",
        hypothesis_id=f"h-{event_id[-12:]}",
        topic=event_id,
        claim=os.urandom(950).hex(),
        confidence=0.5,
        evidence=(),
    )
    return Message(event=event, envelope=Envelope(id=event_id, source="test", time=utc_now(), correlation=event_id))


async def test_a_mesh_whose_disk_was_full_loses_nothing_and_goes_on_by_itself(disk: Path) -> None:
    async with Mesh(disk, Options(env=ENV, ready_timeout_s=120)) as mesh:
        await mesh.wait_ready()
        connection = await Connection.open(
            mesh.nats_url, name="test", seed_file=mesh.key("bootstrap"), inbox_prefix=inbox_prefix("bootstrap")
        )
        log = JetStreamLog(connection, service="test", instance="test-1")
        async with httpx.AsyncClient(base_url=mesh.api_url, timeout=20, trust_env=False) as api:
            await _done(api, "/v1/cognition/start", {"loop_interval_ms": 100})
            await _spawned(api, "ada")
            await _observed(api, 200)
            await _thought(api, "ada", 1)

            await asyncio.to_thread(leave, disk, HELD_BELOW - 8 * MIB)
            why = await _until_status(api, 507)
            assert why["reason"] == "held_back" and "the disk of" in why["detail"], why
            await _spawned(api, "bob")  # what is decided goes on
            ready = (await api.get("/health/ready")).json()
            assert "the disk of" in ready["warnings"]["held_back"], ready

            await asyncio.to_thread(leave, disk, 4 * MIB)
            kept = await _filled(log)
            await asyncio.to_thread(leave, disk, 0)
            assert kept

            await asyncio.to_thread((disk / "ballast").unlink)
            await mesh.wait_ready()
            await _until_status(api, 200)
            there = {stored.id for stored in await log.read(("hypothesis.raised.noise.>",))}
            assert set() == kept - there
            assert {"ada", "bob"} <= {p["identity"]["id"] for p in (await api.get("/v1/swarm/personas")).json()}
            steps = await _thought(api, "bob", 1)
            await _observed(api, 200)
            await _thought(api, "bob", steps + 1)
            answer = await api.get("/v1/swarm/personas/ada/memory", params={"q": "Accepted password"})
            assert answer.status_code == 200, answer.text
        await connection.close()


async def _done(api: httpx.AsyncClient, path: str, body: object) -> None:
    answer = await api.post(path, json=body)
    assert answer.status_code == 200, answer.text


async def _spawned(api: httpx.AsyncClient, persona: str) -> None:
    body = {"persona_id": persona, "name": persona, "role": "watcher", "charter": "Watch.", "swarm_id": "alpha"}
    await _done(api, "/v1/swarm/personas", body)


async def _observed(api: httpx.AsyncClient, count: int) -> None:
    lines = [f"Nov 22 13:00:{n % 60:02d} web sshd[{n}]: Accepted password for user{n}" for n in range(count)]
    await _done(api, "/v1/swarm/alpha/observations", {"observations": [{"text": line} for line in lines]})


async def _until_status(api: httpx.AsyncClient, status: int) -> dict[str, str]:
    """What the API says to an observation, once it says it with this status."""
    async with asyncio.timeout(120):
        while True:
            try:
                answer = await api.post("/v1/swarm/alpha/observations", json={"text": "one more line"})
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == status:
                return dict(answer.json())
            await asyncio.sleep(0.2)


async def _thought(api: httpx.AsyncClient, persona: str, least: int) -> int:
    """How many thoughts the persona had, once these are so many."""
    async with asyncio.timeout(120):
        while True:
            found = (await api.get("/v1/swarm/personas")).json()
            count = next(int(p["thought_count"]) for p in found if p["identity"]["id"] == persona)
            if count >= least:
                return count
            await asyncio.sleep(0.2)


async def _filled(log: JetStreamLog) -> set[str]:
    """The ids of what the broker acknowledged before it could store no more."""
    kept: set[str] = set()
    async with asyncio.timeout(120):
        while True:
            message = noise()
            try:
                async with asyncio.timeout(20):
                    await log.commit([message])
            except (LogUnavailable, TimeoutError):
                return kept
            kept.add(message.envelope.id)
