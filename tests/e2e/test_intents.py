"""Real processes: an intent submitted over HTTP is routed, worked on by a persona on a real log, and closed once, whatever is killed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.supervisor.running.ports import free_port
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    CognitionStarted,
    IntentAssigned,
    IntentClosed,
    IntentReleased,
    ObservationRecorded,
    ReapRequested,
    SpawnRequested,
)
from shared.invariants.intents import IntentInvariants
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.streams import ensure
from tests.broker import Broker
from tests.e2e.processes import Process
from tests.e2e.test_gateway import message

pytestmark = pytest.mark.timeout(240)

LOG = Path(__file__).resolve().parents[1] / "logs" / "sshd-bruteforce.log"
COUNT = 'How often did "Failed password" occur in sshd-bruteforce.log?'


class Mesh:
    """All that an intent needs, twice the meta-orchestrator; ada and bob watch a log."""

    def __init__(self, log: JetStreamLog, broker: Broker, folder: Path) -> None:
        self.log = log
        port = free_port()
        self.gateway = Process("gateway", broker, folder, SWARM_HTTP_PORT=str(port))
        self.others = [Process(name, broker, folder) for name in ("governor", "verifier", "checker")]
        self.runner = Process("persona_runner", broker, folder, SWARM_INSTANCE="persona_runner-1")
        self.routing = [
            Process("meta_orchestrator", broker, folder, SWARM_INSTANCE=f"meta_orchestrator-{n}") for n in (1, 2)
        ]
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False, timeout=30)

    @property
    def processes(self) -> list[Process]:
        return [self.gateway, *self.others, self.runner, *self.routing]

    async def first(self, subject_filter: str) -> Recorded:
        """The first event there, as soon as there is one."""
        tail = self.log.tail([subject_filter])
        async with asyncio.timeout(90):
            async for recorded in tail:
                if isinstance(recorded, Recorded):
                    await tail.stop()
                    return recorded
        raise AssertionError("the tail ended")

    async def submit(self, goal: str, **fields: object) -> str:
        """The id of the intent, under a key of its own: the gateway may still be starting."""
        async with asyncio.timeout(60):
            while True:
                try:
                    body = {"goal": goal, "swarm_id": "alpha", **fields}
                    answer = await self.http.post(
                        "/v1/intents", json=body, headers={"Idempotency-Key": goal + str(fields)}
                    )
                    if answer.status_code != 503:
                        found: dict[str, Any] = answer.raise_for_status().json()
                        return str(found["id"])
                except httpx.TransportError:
                    pass
                await asyncio.to_thread(self.gateway.settle)

    async def closed(self, intent_id: str) -> IntentClosed:
        event = (await self.first(f"intent.closed.alpha.all.{intent_id}")).event
        assert isinstance(event, IntentClosed)
        return event

    async def kill_routing(self) -> None:
        for process in self.routing:
            await process.end(signal.SIGKILL)

    def start_routing(self) -> None:
        for process in self.routing:
            process.start()

    async def violations(self) -> list[str]:
        found: list[str] = []
        judge = IntentInvariants(lambda recorded, what: found.append(f"{recorded.seq} {recorded.subject}: {what}"))
        for recorded in await self.log.read(["*.*.*.>"]):
            judge.absorb(recorded)
        return [*found, *(f"{name} has no end" for name in judge.open())]


@asynccontextmanager
async def mesh(folder: Path) -> AsyncIterator[Mesh]:
    broker = Broker(folder)
    await broker.start()
    await ensure(broker.url, None)
    connection = await Connection.open(broker.url, name="test")
    log = JetStreamLog(connection, service="test", instance="test-1")
    up = Mesh(log, broker, folder)
    try:
        await log.commit([message(CognitionStarted(swarm="all", persona="all", loop_interval_ms=200))])
        for name, charter in (("ada", "Watch ssh logins and failed passwords."), ("bob", "Watch whatever there is.")):
            spawn = SpawnRequested(swarm="alpha", persona=name, name=name, role="r", charter=charter, principal="al")
            await log.commit([message(spawn)])
            await up.first(f"persona.spawned.alpha.{name}")
        lines = LOG.read_text(encoding="utf-8").splitlines()
        for begin in range(0, len(lines), 400):
            said = [
                ObservationRecorded(swarm="alpha", persona="all", text=x, source=LOG.name)
                for x in lines[begin : begin + 400]
            ]
            await log.commit([message(event) for event in said])
        yield up
    finally:
        await up.http.aclose()
        for process in up.processes:
            process.process.kill()
            process.process.wait()
        await connection.close()
        broker.kill()


async def test_an_intent_is_routed_worked_on_and_closed_once_whoever_is_killed_in_between(tmp_path: Path) -> None:
    async with mesh(tmp_path) as up:
        first = await up.submit(COUNT)
        closed = await up.closed(first)
        assert "said 404 times" in closed.result and closed.outcome == "answered"
        for ref in closed.evidence:
            recorded = await up.log.get(ref.seq)
            assert isinstance(recorded, Recorded) and recorded.id == ref.id
        shown = (await up.http.get(f"/v1/intents/{first}?wait_s=1")).raise_for_status().json()["intent"]
        assert (shown["state"], shown["contributors"][0]["swarm_id"]) == ("answered", "alpha") and shown["considered"]

        # nobody routes: it is submitted all the same, and routed when somebody is back
        await up.kill_routing()
        second = await up.submit(COUNT, fan_out=2, merge="combine")
        up.start_routing()
        assigned = await up.first(f"intent.assigned.alpha.ada.{second}")
        # killed in the middle of its routes: the answers come while nobody hears them
        await up.kill_routing()
        assert isinstance(assigned.event, IntentAssigned)
        await up.first(f"intent.answered.alpha.ada.{second}.*")
        up.start_routing()
        closed = await up.closed(second)
        assert {"ada", "bob"} == {one.persona for one in (*closed.contributors, *closed.dissent)}

        # who has it is reaped while nobody routes: released, and the next best has it
        await up.runner.end(signal.SIGKILL)
        third = await up.submit(COUNT, wanted_swarm="alpha")
        routed = await up.first(f"intent.routed.alpha.all.{third}")
        who = routed.event.to[0].persona  # type: ignore[attr-defined]
        other = {"ada": "bob", "bob": "ada"}[who]
        await up.kill_routing()
        await up.log.commit([message(ReapRequested(swarm="alpha", persona=who, reason="test", principal="al"))])
        await up.first(f"persona.draining.alpha.{who}")
        up.start_routing()
        released = await up.first(f"intent.released.alpha.{who}.{third}")
        assert isinstance(released.event, IntentReleased)
        await up.first(f"intent.assigned.alpha.{other}.{third}")
        up.runner.start()
        closed = await up.closed(third)
        assert [other] == [one.persona for one in closed.contributors]

        # a family ends at once
        parent = await up.submit("what nobody knows", wanted_persona=other, budget={"tokens": 1000, "compute_ms": 1000})
        child = await up.submit("part of it", parent_id=parent, budget={"tokens": 100, "compute_ms": 100})
        answer = await up.http.post(f"/v1/intents/{parent}/cancel", json={"reason": "enough"})
        if answer.status_code == 200:  # else a rule has declined it already
            await up.first(f"intent.cancelled.alpha.all.{child}")
        else:
            await up.http.post(f"/v1/intents/{child}/cancel", json={})
            await up.closed(parent)
        assert [] == await up.violations()
