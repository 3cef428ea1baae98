"""A mesh mends what hangs and what a full disk broke, by itself, and loses nothing it acknowledged."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from shared.broker import inbox_prefix
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import ObservationRecorded
from shared.contracts.ids import utc_now
from shared.contracts.services import SERVICES
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable

BROKER_ONLY = Options(services=(), s3=False, env={"SWARM_UP_LIVENESS_S": "5"})
DISK_BYTES = 64 * 2**20
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MiB for the broker's store, where one can be mounted."""
    folder = tmp_path / "data" / "nats"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("a small disk needs root and a kernel that mounts tmpfs here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def opened(mesh: Mesh) -> AsyncIterator[JetStreamLog]:
    connection = await Connection.open(
        mesh.nats_url, name="test", seed_file=mesh.key("bootstrap"), inbox_prefix=inbox_prefix("bootstrap")
    )
    yield JetStreamLog(connection, service="gateway", instance="gateway-1")
    await connection.close()


def observation(number: int) -> Message:
    envelope = Envelope(id=f"o-{number}", source="test", time=utc_now(), correlation=f"o-{number}")
    event = ObservationRecorded(swarm="alpha", persona="all", text=os.urandom(3000).hex())
    return Message(event=event, envelope=envelope)


async def test_a_broker_that_hangs_is_started_again(tmp_path: Path) -> None:
    async with Mesh(tmp_path, BROKER_ONLY) as mesh:
        hung = await mesh.kill("nats", signal.SIGSTOP)
        async with asyncio.timeout(60):
            await mesh.wait_restarted("nats")
            await mesh.wait_ready("nats")
        assert hung != mesh.pid("nats")


async def test_every_process_that_hangs_is_started_again_and_the_mesh_is_ready_again(tmp_path: Path) -> None:
    async with Mesh(tmp_path, Options(env={"SWARM_UP_LIVENESS_S": "5"}, ready_timeout_s=120)) as mesh:
        await mesh.wait_ready()
        hung = {name: await mesh.kill(name, signal.SIGSTOP) for name in mesh.children if name != "nats"}
        assert len(hung) == len(SERVICES) + 1 and None not in hung.values()
        async with asyncio.timeout(120):
            await asyncio.gather(*(mesh.wait_restarted(name) for name in hung))
        await mesh.wait_ready()
        assert set() == {name for name, pid in hung.items() if mesh.pid(name) == pid}


async def test_a_disk_that_was_full_loses_nothing_and_the_mesh_goes_on_when_there_is_room(small_disk: Path) -> None:
    async with Mesh(small_disk.parent, BROKER_ONLY) as mesh:
        async for log in opened(mesh):
            ballast = small_disk / "ballast"
            await asyncio.to_thread(ballast.write_bytes, bytes(DISK_BYTES - 16 * 2**20))
            kept: set[str] = set()
            for number in range(20_000):
                try:
                    async with asyncio.timeout(8):
                        await log.commit([observation(number)])
                except (LogUnavailable, TimeoutError):
                    break
                kept.add(f"o-{number}")
            assert "o-100" in kept
            await asyncio.to_thread(ballast.unlink)
            async with asyncio.timeout(120):
                await _committed(log)
            await mesh.wait_ready("nats")
            there = {recorded.id for recorded in await log.read(("observation.recorded.alpha.all",))}
            assert set() == kept - there
            assert "o-99999" in there


async def _committed(log: JetStreamLog) -> None:
    """Returns once the log takes an event again."""
    while True:
        try:
            await log.commit([observation(99_999)])
            return
        except LogUnavailable:
            continue
