"""Real processes of one service on one broker: each is an instance of its own, or says whose it is and waits."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.supervisor.secrets.keys import seed_file
from shared.broker import SLOTS, inbox_prefix
from shared.log.client.connection import Connection
from shared.log.kv import JetStreamKeyValue
from tests.e2e.test_starting import started
from tests.keyed import Keyed


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Keyed]:
    broker = Keyed(tmp_path)
    broker.key_command("init", *broker.places())
    await broker.start()
    await broker.bootstrap("--nats-seed", str(seed_file(broker.keys, "bootstrap")))
    yield broker
    broker.end()


def said(output: Path, event: str) -> list[dict[str, str]]:
    return [line for line in map(json.loads, output.read_text().splitlines()) if line["event"] == event]


async def test_replicas_take_slots_by_themselves_and_one_too_many_waits_for_whom_it_names(
    broker: Keyed, tmp_path: Path
) -> None:
    keys = {"SWARM_NATS_KEYS_DIR": str(broker.keys / "verifier")}
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    with started("verifier", folders[0], broker.url, **keys) as first:
        await first.says('"ready":true')
        with started("verifier", folders[1], broker.url, **keys) as second:
            await second.says('"ready":true')
            assert ["verifier-1", "verifier-2"] == [
                said(p.output, "service_started")[0]["instance"] for p in (first, second)
            ]
            with started("verifier", folders[2], broker.url, SWARM_INSTANCE="verifier-1", **keys) as third:
                await third.says(f"verifier-1 is held by process {first.process.pid} on {socket.gethostname()}")
                assert await third.lives()
                assert await first.end() == 0
                await third.says('"ready":true')
                assert "verifier-1" == said(third.output, "service_started")[0]["instance"]
                second.process.kill()
                second.process.wait()
                with started("verifier", folders[1], broker.url, **keys, SWARM_INSTANCE="verifier-2") as again:
                    await again.says('"ready":true')
                    assert "a slot" not in again.waited_for(), "what it held when it died is its own"


async def test_who_lost_its_slot_ends(broker: Keyed, tmp_path: Path) -> None:
    runner = {"SWARM_NATS_KEYS_DIR": str(broker.keys / "persona_runner")}
    with started("persona_runner", tmp_path, broker.url, **runner) as process:
        await process.says('"ready":')
        async with asyncio.timeout(30):
            while not said(process.output, "service_started"):
                await asyncio.sleep(0.05)
        connection = await Connection.open(
            broker.url,
            name="test",
            seed_file=seed_file(broker.keys, "bootstrap"),
            inbox_prefix=inbox_prefix("bootstrap"),
        )
        leases = JetStreamKeyValue(connection, "leases")
        held = await leases.get(f"{SLOTS}persona_runner-1")
        assert held is not None and json.loads(held.value)["pid"] == process.process.pid
        await leases.put(
            f"{SLOTS}persona_runner-1", b'{"place":"x","host":"elsewhere","pid":7,"since":"2026-01-01T00:00:00Z"}'
        )
        await connection.close()
        assert 1 == await asyncio.to_thread(process.process.wait, 20)
        (lost,) = said(process.output, "slot_lost")
        assert "process 7 on elsewhere since 2026-01-01" in lost["holder"]
