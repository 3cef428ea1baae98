"""A whole mesh of three brokers in which each runner serves swarms of its own: every swarm thinks, and nobody else thinks for it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from services.supervisor.running.state import MeshRecord, read_record
from services.supervisor.secrets.keys import seed_file
from shared.contracts.events import ThoughtGenerated
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable
from tests.e2e.command import staying
from tests.e2e.test_mesh import BURST, QUIET, create, observe, until

SLOTS = {"alpha": "r1", "beta": "r1", "gamma": "r2"}
COMMAND: tuple[str, ...] = (
    "up",
    "--serve",
    "alpha,beta",
    "--serve",
    "gamma",
    "--isolate",
    "--brokers",
    "3",
    "--policy",
    "reports",
)


async def thought(log: JetStreamLog, after: int) -> int:
    """Waits until a persona of each swarm has thought after a sequence; each by its own runner. The newest sequence."""
    async with asyncio.timeout(90):
        while True:
            try:
                found = await log.read(("thought.generated.>",), after)
            except LogUnavailable:
                found = []
            said = {(r.event.swarm, r.event.slot) for r in found if isinstance(r.event, ThoughtGenerated)}
            assert said <= set(SLOTS.items())
            if {swarm for swarm, _ in said} == set(SLOTS):
                return found[-1].seq
            await asyncio.sleep(0.2)


@pytest.mark.timeout(300)
async def test_every_swarm_is_thought_for_by_its_own_runner_alone_over_the_loss_of_broker_governor_and_runner(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"

    def record() -> MeshRecord:
        record = read_record(data)
        assert record is not None
        return record

    async with staying((*COMMAND, "--data", str(data), "--json"), cwd=tmp_path) as up:
        assert up.stdout is not None
        async with asyncio.timeout(150):
            said = json.loads(await up.stdout.readline() or b"{}")
        assert said.get("ready"), (tmp_path / "stderr").read_text()
        async with httpx.AsyncClient(base_url=said["api_url"], timeout=20, trust_env=False) as api:
            await api.post("/v1/cognition/start", json={"loop_interval_ms": 200})
            for swarm in SLOTS:
                await create(api, f"root-{swarm}", swarm)

            async def perceive(number: int) -> None:
                for swarm in SLOTS:
                    lines = [{"text": f"job {n} failed: no route to host", "source": f"s{number}"} for n in range(20)]
                    while True:
                        try:
                            answer = await api.post(f"/v1/swarm/{swarm}/observations", json={"observations": lines})
                        except httpx.HTTPError:
                            continue
                        if 200 == answer.status_code:
                            break
                        await asyncio.sleep(0.2)

            connection = await Connection.open(
                said["nats_url"],
                name="t",
                seed_file=seed_file(data / "keys", "bootstrap"),
                inbox_prefix="_INBOX_bootstrap",
            )
            log = JetStreamLog(connection, service="test", instance="test-1", replicated=True)
            await perceive(0)
            seen = await thought(log, 0)
            for number, killed in enumerate(("nats", "governor-1", "persona_runner-1"), start=1):
                os.kill(record().processes[killed].pid, signal.SIGKILL)
                await perceive(number)
                seen = await thought(log, seen)
            for name, port in record().ports.items():
                if name.startswith("health_"):
                    async with asyncio.timeout(60):
                        await answers_ready(api, port)
            assert {"nats", "governor-1", "persona_runner-1"} == {n for n, count in record().restarts.items() if count}
            assert {"all", *SLOTS} == {r.event.swarm for r in await log.read(("placement.changed.>",))}
            await observe(api, "gamma", QUIET)
            await observe(api, "gamma", BURST)
            executed = await until(api, "swarm=gamma&type=action_executed", "action_executed")
            assert isinstance(executed["payload"], dict) and "success" == executed["payload"]["outcome"]
            await connection.close()


async def answers_ready(client: httpx.AsyncClient, port: int) -> None:
    while True:
        try:
            if 200 == (await client.get(f"http://127.0.0.1:{port}/health/ready")).status_code:
                return
        except httpx.HTTPError:
            pass
        await asyncio.sleep(0.1)
