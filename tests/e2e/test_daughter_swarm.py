"""On a real mesh a persona's child begins a swarm, thinks there, and ends with its parent although the governor is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from shared.broker import inbox_prefix
from shared.contracts.catalog import LOG_CLASSES, class_filter
from shared.contracts.events import Credits
from shared.invariants import Invariants, Limits
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog

pytestmark = pytest.mark.timeout(600)
MOST = Credits(tokens=2**53, compute_ms=2**53, actions=2**53, cost_microusd=2**53)


async def test_a_child_begins_a_swarm_and_ends_with_its_parent(tmp_path: Path) -> None:
    env = {"SWARM_GOVERNOR_RECONCILE_EVERY_S": "1"}
    async with Mesh(tmp_path, Options(env=env, ready_timeout_s=180)) as mesh:
        await mesh.wait_ready()
        connection = await Connection.open(
            mesh.nats_url, name="test", seed_file=mesh.key("bootstrap"), inbox_prefix=inbox_prefix("bootstrap")
        )
        log = JetStreamLog(connection, service="gateway", instance="gateway-1")

        async def said(subject: str) -> None:
            async with asyncio.timeout(120):
                while not await log.read((subject,)):
                    await asyncio.sleep(0.25)

        async with httpx.AsyncClient(base_url=mesh.api_url, timeout=60, trust_env=False) as api:
            root = {"persona_id": "root", "name": "w", "role": "r", "charter": "Watch.", "swarm_id": "alpha"}
            assert 200 == (await api.post("/v1/swarm/personas", json=root)).status_code
            await said("budget.limited.alpha.all")
            child = {"persona_id": "kid", "name": "k", "role": "r", "charter": "Watch.", "swarm_id": "beta"}
            answer = await api.post("/v1/swarm/personas/root/spawn", json=child)
            assert 200 == answer.status_code, answer.text
            again = await api.post("/v1/swarm/personas/root/spawn", json={**child, "persona_id": "kid2"})
            assert (422, "other_swarm") == (again.status_code, again.json()["reason"])
            assert 200 == (await api.post("/v1/cognition/start", json={"loop_interval_ms": 200})).status_code
            seen = {"observations": [{"text": "request 1 took 5 ms", "source": "test"}]}
            assert 200 == (await api.post("/v1/swarm/beta/observations", json=seen)).status_code
            await said("budget.granted.beta.kid")
            await mesh.kill("governor-1")
            await api.post("/v1/swarm/personas/root/reap", json={"cascade": True})
            await said("persona.parted.alpha.root")
            await said("persona.reaped.beta.kid")

        judged = Invariants(Limits(swarm_per_minute=MOST, actions_per_minute=2**53, lifetime_children=64))
        for recorded in await log.read(tuple(class_filter(name) for name in LOG_CLASSES)):
            judged.absorb(recorded)
        assert ([], []) == (judged.violations, judged.unparted())
        await connection.close()
