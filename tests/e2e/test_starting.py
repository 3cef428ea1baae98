"""Real processes: what a service cannot start without is waited for and said once, and whoever ends it is obeyed at any time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from services.supervisor.running.ports import free_port
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import ObservationRecorded
from shared.contracts.ids import fresh_id, utc_now
from shared.log.client.connection import Connection
from shared.log.client.tls import context
from shared.log.jetstream import JetStreamLog
from shared.log.streams import ensure, reconcile
from shared.settings import Nats
from tests.broker import Broker
from tests.tls import pair

END_S = 9.0
"""Before the kill -9 of whoever ends containers, which waits 10 s."""


class Process:
    """One service; `before` is what starts it."""

    def __init__(self, name: str, folder: Path, url: str, *, before: tuple[str, ...] = (), **env: str) -> None:
        self.port = free_port()
        self.output = folder / f"{name}.log"
        said = {
            "SWARM_NATS_URL": url,
            "SWARM_DATA_DIR": str(folder / "data"),
            "SWARM_HEALTH_PORT": str(self.port),
            "SWARM_REQUIRE_SYNC_ALWAYS": "false",
            "SWARM_HTTP_PORT": str(free_port()),
        }
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "services", name],
                env={**os.environ, **said, **env},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    async def says(self, wanted: str) -> None:
        """Returns when readiness has this in it."""
        async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(40):
            while True:
                try:
                    if wanted in (await client.get(f"http://127.0.0.1:{self.port}/health/ready")).text:
                        return
                except httpx.TransportError:
                    assert self.process.poll() is None, self.output.read_text()
                await asyncio.sleep(0.05)

    async def lives(self) -> bool:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(f"http://127.0.0.1:{self.port}/health/live")).status_code == 200

    async def end(self, pid: int | None = None) -> int:
        """Its exit code on SIGTERM. Raises `TimeoutExpired` when there is none in time."""
        os.kill(pid or self.process.pid, signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, END_S)

    def waited_for(self) -> list[str]:
        """What the lines say that it waits for, in order."""
        lines = [json.loads(line) for line in self.output.read_text().splitlines()]  # a traceback is no JSON
        return [line["what"] for line in lines if line["event"] == "waiting"]


@contextmanager
def started(name: str, folder: Path, url: str, *, before: tuple[str, ...] = (), **env: str) -> Iterator[Process]:
    process = Process(name, folder, url, before=before, **env)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait()


async def test_a_broker_that_is_away_and_streams_that_are_not_declared_are_waited_for_in_one_line_each(
    tmp_path: Path,
) -> None:
    broker = Broker(tmp_path)
    with started("verifier", tmp_path, broker.url) as verifier:
        await verifier.says(f"it waits for the broker: no NATS server answers at {broker.url}")
        assert await verifier.lives()
        await broker.start()
        try:
            await verifier.says("it waits for the streams: SWARM, HOT")
            await ensure(broker.url, None)
            await verifier.says('"ready":true')
            waited_for = verifier.waited_for()
            assert {"the broker": 1, "the streams": 1} == dict.fromkeys(waited_for, 1) and waited_for.count(
                "the broker"
            ) == 1
            broker.kill()
            await verifier.says("the connection to NATS is down")
            until = time.monotonic() + 2
            while time.monotonic() < until:
                await verifier.says("the connection to NATS is down")
            assert await verifier.end() == 0
            assert verifier.waited_for().count("the broker") <= 3  # it went, and is not there
        finally:
            broker.kill()


async def test_who_waits_for_a_broker_ends_when_told_also_as_the_first_process_of_a_container(tmp_path: Path) -> None:
    nowhere = f"nats://127.0.0.1:{free_port()}"
    space = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    if subprocess.run([*space, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no process namespaces here")
    with started("governor", tmp_path, nowhere, before=space) as first:
        await first.says("it waits for the broker")
        (child,) = Path(f"/proc/{first.process.pid}/task/{first.process.pid}/children").read_text().split()
        assert await first.end(int(child)) == 0


async def test_sigterm_is_obeyed_before_anything_is_imported_that_takes_its_time(tmp_path: Path) -> None:
    with started("memory_compactor", tmp_path, f"nats://127.0.0.1:{free_port()}", SWARM_S3_ENDPOINT="s3:9000") as one:
        status = Path(f"/proc/{one.process.pid}/status")
        async with asyncio.timeout(20):
            while not catches_sigterm(status.read_text()):
                await asyncio.sleep(0.001)
        began = time.monotonic()
        assert await one.end() == 0
        assert "shared.runtime.service" not in one.output.read_text() and time.monotonic() - began < END_S


def catches_sigterm(status: str) -> bool:
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


async def test_who_folds_a_long_log_ends_when_told(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    await broker.start()
    try:
        await ensure(broker.url, None)
        connection = await Connection.open(broker.url, name="test")
        log = JetStreamLog(connection, service="test", instance="test-1")
        event = ObservationRecorded(swarm="alpha", persona="all", text="a line")
        for _ in range(40):
            ids = [fresh_id() for _ in range(500)]
            await log.commit(
                [
                    Message(event=event, envelope=Envelope(id=i, source="test", time=utc_now(), correlation=i))
                    for i in ids
                ]
            )
        await connection.close()
        with started("gateway", tmp_path, broker.url) as gateway:
            await gateway.says("the log is being read, at")
            assert await gateway.end() == 0
    finally:
        broker.kill()


async def test_a_folder_that_cannot_be_written_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, no folder")
    with started("verifier", tmp_path, f"nats://127.0.0.1:{free_port()}") as verifier:
        await verifier.says(f"SWARM_DATA_DIR={tmp_path / 'data'} cannot be written: File exists")
        (tmp_path / "data").unlink()
        await verifier.says("it waits for the broker")
        assert ["its folder", "the broker"] == verifier.waited_for()
        assert await verifier.end() == 0


async def test_a_service_is_ready_on_a_broker_that_speaks_tls(tmp_path: Path) -> None:
    shown, key = pair(tmp_path, "broker")
    pages = free_port()
    tls = f'tls {{\n cert_file: "{shown}"\n key_file: "{key}"\n}}\nhttps: "127.0.0.1:{pages}"'
    broker = Broker(tmp_path, sync_always=True, more=tls)
    await broker.start()
    url = f"tls://127.0.0.1:{free_port()},{broker.url.replace('nats', 'tls')}"
    try:
        connection = await Connection.open(url, name="test", tls=context(Nats(ca_file=str(shown))))
        await reconcile(connection)
        await connection.close()
        strict = {"SWARM_NATS_MONITOR_URL": f"https://127.0.0.1:{pages}", "SWARM_REQUIRE_SYNC_ALWAYS": "true"}
        with started("verifier", tmp_path, url, SWARM_NATS_CA_FILE=str(shown), **strict) as verifier:
            await verifier.says('"ready":true')
            broker.kill()
            await verifier.says("the connection to NATS is down")
            await broker.start()
            await verifier.says('"ready":true')
            assert await verifier.end() == 0
    finally:
        broker.kill()
