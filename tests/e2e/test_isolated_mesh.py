"""A whole mesh in which each runner serves swarms of its own: every swarm thinks, and nobody else thinks for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from shared.contracts.events import ThoughtGenerated
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable

SLOTS = {"alpha": "r1", "beta": "r1", "gamma": "r2"}


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
    options = Options(runners=0, serve=(("alpha", "beta"), ("gamma",)), ready_timeout_s=120)
    async with Mesh(tmp_path / "data", options) as mesh, httpx.AsyncClient(base_url=mesh.api_url, timeout=20) as api:
        await mesh.wait_ready()
        await api.post("/v1/cognition/start", json={"loop_interval_ms": 200})
        for swarm in SLOTS:
            body = {
                "persona_id": f"root-{swarm}",
                "name": "root",
                "role": "watcher",
                "charter": "Watch.",
                "swarm_id": swarm,
            }
            answer = await api.post("/v1/swarm/personas", json=body)
            assert 200 == answer.status_code, answer.text

        async def observe(number: int) -> None:
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
            mesh.nats_url, name="t", seed_file=mesh.key("bootstrap"), inbox_prefix="_INBOX_bootstrap"
        )
        log = JetStreamLog(connection, service="test", instance="test-1")
        await observe(0)
        seen = await thought(log, 0)
        for number, killed in enumerate(("nats", "governor-1", "persona_runner-1"), start=1):
            await mesh.kill(killed)
            await observe(number)
            seen = await thought(log, seen)
        await mesh.wait_ready(timeout_s=60)
        assert {"all", *SLOTS} == {r.event.swarm for r in await log.read(("placement.changed.>",))}
        await connection.close()
