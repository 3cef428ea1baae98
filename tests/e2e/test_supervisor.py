"""A mesh of real servers: it comes up, keeps what it was given, mends what dies, and goes down whole."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from services.supervisor.mesh import Mesh, MeshFailed
from services.supervisor.plan import Options
from services.supervisor.running.state import MeshRunning, read_record
from services.supervisor.stores.object_store import open_doors
from shared.broker import OPERATOR, inbox_prefix
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import CognitionStopped
from shared.contracts.ids import utc_now
from shared.contracts.services import SERVICES
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog

ROOT = Path(__file__).parents[2]
BROKER_ONLY = Options(services=(), s3=False)


async def open_log(mesh: Mesh, user: str) -> JetStreamLog:
    connection = await Connection.open(
        mesh.nats_url, name="test", seed_file=mesh.key(user), inbox_prefix=inbox_prefix(user)
    )
    return JetStreamLog(connection, service="gateway", instance="gateway-1")


def stopped(number: int) -> Message:
    envelope = Envelope(id=f"stop-{number}", source="test", time=utc_now(), correlation=f"stop-{number}")
    return Message(event=CognitionStopped(swarm="alpha", persona="all"), envelope=envelope)


async def test_what_was_acknowledged_survives_a_killed_broker_and_the_next_run(tmp_path: Path) -> None:
    async with Mesh(tmp_path, BROKER_ONLY) as mesh:
        log = await open_log(mesh, "bootstrap")
        await log.commit([stopped(1)])
        killed = await mesh.kill("nats")
        await mesh.wait_restarted("nats")
        await mesh.wait_ready("nats")
        assert mesh.pid("nats") not in (None, killed)
        await log.connection.close()
        ports = mesh.ports
    async with Mesh(tmp_path, BROKER_ONLY) as mesh:
        log = await open_log(mesh, "bootstrap")
        assert [r.id for r in await log.read(("cognition.stopped.>",))] == ["stop-1"]
        await log.connection.close()
        assert mesh.ports == ports
    record = read_record(tmp_path)
    assert record is not None
    assert (record.pid, record.ready, record.processes) == (None, False, {})


async def test_the_broker_syncs_always_and_only_listens_on_loopback(tmp_path: Path) -> None:
    async with Mesh(tmp_path, BROKER_ONLY) as mesh, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{mesh.monitor_url}/jsz")).json()["config"]["sync_always"] is True
        pid = mesh.pid("nats")
        assert pid is not None
        listening = await asyncio.to_thread(
            lambda: {c.laddr.ip for c in psutil.Process(pid).net_connections("inet") if c.status == "LISTEN"}
        )
        assert listening == {"127.0.0.1"}


async def test_the_object_store_comes_up_with_the_mesh_and_again_after_a_kill(tmp_path: Path) -> None:
    async with Mesh(tmp_path, Options(services=())) as mesh:
        await mesh.wait_ready()
        await mesh.kill("s3")
        await mesh.wait_restarted("s3")
        await mesh.wait_ready("s3")
        assert (tmp_path / "keys" / "s3" / "s3.json").stat().st_mode & 0o777 == 0o600
        assert [] == await open_doors(mesh.ports)


async def test_what_the_mesh_keeps_is_its_owners_alone_also_in_folders_of_an_older_one(tmp_path: Path) -> None:
    for name in ("logs", "nats", "services"):
        (tmp_path / name).mkdir(mode=0o755)
    async with Mesh(tmp_path, Options(services=("verifier",))) as mesh:
        await mesh.wait_ready()
        own = [path for path in tmp_path.iterdir() if path.is_dir() and not path.is_symlink()]  # policies are linked to
        folders = {path.name: oct(path.stat().st_mode & 0o777) for path in own}
        assert dict.fromkeys(("keys", "logs", "nats", "s3", "services", "workspace"), "0o700") == folders
        files = [path for path in (*tmp_path.iterdir(), *(tmp_path / "keys").iterdir()) if path.is_file()]
        assert [] == [path.name for path in files if path.stat().st_mode & 0o077]


async def test_a_second_mesh_on_the_same_data_is_refused(tmp_path: Path) -> None:
    async with Mesh(tmp_path, BROKER_ONLY):
        with pytest.raises(MeshRunning, match="already runs"):
            async with Mesh(tmp_path, BROKER_ONLY):
                raise AssertionError("it must not come up")


async def test_what_does_not_come_up_is_named_with_its_last_words(tmp_path: Path) -> None:
    options = Options(services=("actuator",), s3=False, env={"SWARM_GRACE_S": "soon"}, ready_timeout_s=4)
    async with Mesh(tmp_path, options) as mesh:
        with pytest.raises(MeshFailed, match="actuator-1") as failed:
            await mesh.wait_ready()
    assert "grace_s" in str(failed.value)


UP = "import sys; from services.cli.main import main; sys.argv[0] = 'swarm'; main()"


def swarm(*arguments: str) -> list[str]:
    return [sys.executable, "-c", UP, *arguments]


async def test_swarm_up_says_where_everything_is_and_a_signal_ends_all_of_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    up = await asyncio.create_subprocess_exec(
        *swarm("up", "--data", str(data), "--json", "--quiet"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert up.stdout is not None
    try:
        async with asyncio.timeout(100):
            said = json.loads(await up.stdout.readline())
        record = read_record(data)
        assert record is not None
        assert (said["ready"], said["api_url"], record.pid) == (True, record.api_url, up.pid)
        children = [psutil.Process(p.pid) for p in record.processes.values()]
        assert len(children) == len(SERVICES) + 2, "and the broker and the object store"
        await _asks_the_mesh(data, record.operator_seed_file)
        up.send_signal(signal.SIGTERM)
        async with asyncio.timeout(40):
            assert await up.wait() == 0
        assert not any(child.is_running() for child in children)
    finally:
        if up.returncode is None:
            up.kill()
            await up.wait()


async def _asks_the_mesh(data: Path, operator_seed: str) -> None:
    """The commands a person would try next."""
    assert Path(operator_seed).name == f"{OPERATOR}.nk"
    created = await ask(data, "persona", "create", "watcher", "--role", "r", "--charter", "c", "--id", "w1")
    assert created["identity"]["id"] == "w1"
    assert [p["identity"]["id"] for p in await ask(data, "persona", "list")] == ["w1"]
    file = data / "a.log"
    await asyncio.to_thread(file.write_text, "one\ntwo\n")
    assert (await ask(data, "observe", str(file)))["sent"] == 2
    tapped = await ask(data, "tap", "observation.>", "--since", "1h", "--count", "1")
    assert tapped["data"]["text"] == "one"
    assert (await ask(data, "status"))["cognition"]["persona_count"] == 1
    assert all(check["ok"] is not False for check in await ask(data, "doctor"))
    code, refused = await tell(data, "persona", "show", "nobody")
    assert code == 1
    assert "nobody" in refused["error"]


async def ask(data: Path, *arguments: str):  # type: ignore[no-untyped-def]
    code, answer = await tell(data, *arguments)
    assert code == 0, answer
    return answer


async def tell(data: Path, *arguments: str):  # type: ignore[no-untyped-def]
    """Exit code and JSON of a command."""
    done = await asyncio.to_thread(
        subprocess.run,
        swarm(*arguments, "--data", str(data), "--json"),
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    return done.returncode, json.loads(done.stdout or b"null")


async def test_commands_without_a_mesh_say_so_and_exit_3(tmp_path: Path) -> None:
    code, answer = await tell(tmp_path, "status", "--url", "http://127.0.0.1:1")
    assert (code, answer["code"]) == (3, 3)
    code, answer = await tell(tmp_path, "tap")
    assert code == 3
    assert "swarm up" in answer["error"]
    code, _ = await tell(tmp_path, "observe", str(tmp_path / "nothing.log"))
    assert code == 2
