"""Swarms on a real mesh share one budget, while who writes and who decides is killed: a person lowers a limit and raises it again, and a
persona's child begins a swarm, thinks there, and ends with its parent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import pytest_asyncio

from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from shared.broker import inbox_prefix
from shared.contracts.catalog import LOG_CLASSES, class_filter
from shared.contracts.events import BudgetGranted, BudgetLimited, Credits, LimitsChanged
from shared.invariants import Invariants, Limits
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog

pytestmark = [pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]
TOTAL = 2_000_000
ENV = {"SWARM_GLOBAL_TOKENS_PER_MINUTE": str(TOTAL), "SWARM_GOVERNOR_RECONCILE_EVERY_S": "1"}


async def until(what: Callable[[], Awaitable[bool]], within_s: float = 120) -> None:
    async with asyncio.timeout(within_s):
        while not await what():
            await asyncio.sleep(0.25)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    async with Mesh(tmp_path_factory.mktemp("budgets") / "data", Options(env=ENV, ready_timeout_s=180)) as mesh:
        await mesh.wait_ready()
        yield mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def log(mesh: Mesh) -> AsyncIterator[JetStreamLog]:
    connection = await Connection.open(
        mesh.nats_url, name="test", seed_file=mesh.key("bootstrap"), inbox_prefix=inbox_prefix("bootstrap")
    )
    yield JetStreamLog(connection, service="gateway", instance="gateway-1")
    await connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(mesh: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=mesh.api_url, timeout=60, trust_env=False) as api:
        assert 200 == (await api.post("/v1/cognition/start", json={"loop_interval_ms": 200})).status_code
        yield api


async def judged(log: JetStreamLog) -> Invariants:
    """All that is in the log by now."""
    invariants = Invariants(
        Limits(
            swarm_per_minute=Credits(),
            actions_per_minute=30,
            lifetime_children=64,
            global_per_minute=Credits(tokens=TOTAL, compute_ms=6_000_000, actions=1200, cost_microusd=10**12),
        )
    )
    for recorded in await log.read(tuple(class_filter(name) for name in LOG_CLASSES)):
        invariants.absorb(recorded)
    return invariants


async def test_a_limit_is_lowered_and_raised_while_governor_and_orchestrator_die(
    mesh: Mesh, api: httpx.AsyncClient, log: JetStreamLog
) -> None:
    async def shares() -> dict[str, dict[str, object]]:
        return {row["swarm_id"]: row for row in (await api.get("/v1/budgets")).json()}

    async def grants(swarm: str) -> int:
        return len(await log.read((f"budget.granted.{swarm}.*",)))

    for swarm in ("alpha", "beta"):
        persona = {"persona_id": f"{swarm}-1", "name": "w", "role": "r", "charter": "Watch.", "swarm_id": swarm}
        assert 200 == (await api.post("/v1/swarm/personas", json=persona)).status_code
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

    classes = {type(r.event) for r in await log.read(("budget.>", "limits.>"))}
    assert {BudgetGranted, BudgetLimited, LimitsChanged} <= classes
    assert [] == (await judged(log)).violations


async def test_a_child_begins_a_swarm_and_ends_with_its_parent_although_the_governor_is_killed(
    mesh: Mesh, api: httpx.AsyncClient, log: JetStreamLog
) -> None:
    async def said(subject: str) -> None:
        async with asyncio.timeout(120):
            while not await log.read((subject,)):
                await asyncio.sleep(0.25)

    root = {"persona_id": "root", "name": "w", "role": "r", "charter": "Watch.", "swarm_id": "gamma"}
    assert 200 == (await api.post("/v1/swarm/personas", json=root)).status_code
    await said("budget.limited.gamma.all")
    child = {"persona_id": "kid", "name": "k", "role": "r", "charter": "Watch.", "swarm_id": "delta"}
    answer = await api.post("/v1/swarm/personas/root/spawn", json=child)
    assert 200 == answer.status_code, answer.text
    again = await api.post("/v1/swarm/personas/root/spawn", json={**child, "persona_id": "kid2"})
    assert (422, "other_swarm") == (again.status_code, again.json()["reason"])
    seen = {"observations": [{"text": "request 1 took 5 ms", "source": "test"}]}
    assert 200 == (await api.post("/v1/swarm/delta/observations", json=seen)).status_code
    await said("budget.granted.delta.kid")
    await mesh.kill("governor-1")
    await api.post("/v1/swarm/personas/root/reap", json={"cascade": True})
    await said("persona.parted.gamma.root")
    await said("persona.reaped.delta.kid")
    found = await judged(log)
    assert ([], []) == (found.violations, found.unparted())
