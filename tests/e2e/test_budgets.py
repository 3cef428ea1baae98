"""Two swarms on a real mesh share one budget: a person lowers a limit and raises it again, while who writes and who decides is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from shared.broker import inbox_prefix
from shared.contracts.catalog import LOG_CLASSES, class_filter
from shared.contracts.events import BudgetGranted, BudgetLimited, Credits, LimitsChanged
from shared.invariants import Invariants, Limits
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog

pytestmark = pytest.mark.timeout(600)
TOTAL = 2_000_000
ENV = {"SWARM_GLOBAL_TOKENS_PER_MINUTE": str(TOTAL), "SWARM_GOVERNOR_RECONCILE_EVERY_S": "1"}


async def until(what: Callable[[], Awaitable[bool]], within_s: float = 120) -> None:
    async with asyncio.timeout(within_s):
        while not await what():
            await asyncio.sleep(0.25)


async def test_a_limit_is_lowered_and_raised_while_governor_and_orchestrator_die(tmp_path: Path) -> None:
    async with Mesh(tmp_path, Options(env=ENV, ready_timeout_s=180)) as mesh:
        await mesh.wait_ready()
        connection = await Connection.open(
            mesh.nats_url, name="test", seed_file=mesh.key("bootstrap"), inbox_prefix=inbox_prefix("bootstrap")
        )
        log = JetStreamLog(connection, service="gateway", instance="gateway-1")
        async with httpx.AsyncClient(base_url=mesh.api_url, timeout=60, trust_env=False) as api:

            async def shares() -> dict[str, dict[str, object]]:
                return {row["swarm_id"]: row for row in (await api.get("/v1/budgets")).json()}

            async def grants(swarm: str) -> int:
                return len(await log.read((f"budget.granted.{swarm}.*",)))

            for swarm in ("alpha", "beta"):
                persona = {"persona_id": f"{swarm}-1", "name": "w", "role": "r", "charter": "Watch.", "swarm_id": swarm}
                assert 200 == (await api.post("/v1/swarm/personas", json=persona)).status_code
            assert 200 == (await api.post("/v1/cognition/start", json={"loop_interval_ms": 200})).status_code
            lines = 0

            async def goes_on(swarm: str) -> None:
                """New lines are thought about, so something is granted that was not before."""
                nonlocal lines
                before = await grants(swarm)

                async def granted() -> bool:
                    nonlocal lines
                    lines += 1
                    seen = {"observations": [{"text": f"request {lines} took {lines} ms", "source": "test"}]}
                    assert 200 == (await api.post(f"/v1/swarm/{swarm}/observations", json=seen)).status_code
                    return await grants(swarm) > before

                await until(granted)

            for swarm in ("alpha", "beta"):
                await goes_on(swarm)
            told = await shares()
            assert all(told[swarm]["share"] for swarm in ("alpha", "beta")), told

            await mesh.kill("meta_orchestrator-1")
            await mesh.kill("governor-1")
            answer = await api.put("/v1/budgets/alpha", json={"ceiling": {"tokens": 0, "compute_ms": 0}, "version": 0})
            assert 200 == answer.status_code, answer.text

            async def obeyed() -> bool:
                return bool((await shares())["alpha"]["in_force"])

            await until(obeyed)
            lowered = [r for r in await log.read(("budget.limited.alpha.all",)) if r.event.credits.tokens == 0][-1]  # type: ignore[union-attr]
            await goes_on("beta")
            assert [] == await log.read(("budget.granted.alpha.*",), lowered.seq)

            await mesh.kill("governor-1")
            answer = await api.put("/v1/budgets/alpha", json={"version": 1})
            assert (200, 2) == (answer.status_code, answer.json()["version"])
            assert 409 == (await api.put("/v1/budgets/alpha", json={"version": 1})).status_code
            await goes_on("alpha")

        judged = Limits(
            swarm_per_minute=Credits(),
            actions_per_minute=30,
            lifetime_children=64,
            global_per_minute=Credits(tokens=TOTAL, compute_ms=6_000_000, actions=1200, cost_microusd=10**12),
        )
        invariants, classes = Invariants(judged), set()
        for recorded in await log.read(tuple(class_filter(name) for name in LOG_CLASSES)):
            invariants.absorb(recorded)
            classes.add(type(recorded.event))
        assert {BudgetGranted, BudgetLimited, LimitsChanged} <= classes
        assert [] == invariants.violations
        await connection.close()
