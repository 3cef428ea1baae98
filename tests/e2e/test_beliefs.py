"""Two personas that share, on real processes: one confirms what the other found out, one contests it, over HTTP, whatever dies."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path

import httpx

from services.supervisor.running.ports import free_port
from shared.contracts.envelope import Message, enveloped
from shared.contracts.events import (
    AnyEvent,
    BeliefAsserted,
    CheckResult,
    EvidenceRef,
    HypothesisRaised,
    ObservationVouched,
    PersonaSpawned,
)
from shared.contracts.ids import EVERYONE, fresh_id, utc_now
from shared.contracts.persona import Identity, PersonaPolicy
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from tests.e2e.command import swarm as command
from tests.e2e.processes import Mesh, Process, running

FULL, NOT_FULL = "the disk of db is full", "the disk of db is not full"


class Swarm:
    """What is said on the log in the name of others."""

    def __init__(self, log: JetStreamLog) -> None:
        self.log = log
        self._serial = 0

    async def say(self, event: AnyEvent) -> EvidenceRef:
        event_id = fresh_id()
        envelope = enveloped(event_id, source="test", time=utc_now())
        (seq,) = await self.log.commit([Message(event=event, envelope=envelope)])
        return EvidenceRef(id=event_id, seq=seq)

    async def born(self, *names: str) -> None:
        for name in names:
            identity = Identity(id=name, name=name, role="r", charter="c", swarm_id="alpha", created_at=utc_now())
            policy = PersonaPolicy(share_memory=True)
            await self.say(PersonaSpawned(swarm="alpha", persona=name, identity=identity, policy=policy))

    async def checked(self, persona: str, claim: str, line: str) -> None:
        """A persona had a claim confirmed, on a line of its own."""
        self._serial += 1
        seen = await self.say(ObservationVouched(swarm="alpha", persona=EVERYONE, text=line))
        whose = {"swarm": "alpha", "persona": persona, "hypothesis_id": f"h-{self._serial}"}
        await self.say(HypothesisRaised(**whose, topic="db", claim=claim, confidence=0.8, evidence=(seen,)))
        check = f"c-{self._serial}"
        await self.say(CheckResult(**whose, check_id=check, outcome="confirmed", findings="f", evidence=(seen,)))


async def shown(mesh: Mesh, wanted: dict[str, object]) -> list[dict[str, object]]:
    """The blackboard, once its first belief is as wanted."""
    async with asyncio.timeout(60):
        while True:
            answer = await mesh.client.get("/v1/cognition/beliefs?swarm=alpha")
            found: list[dict[str, object]] = answer.raise_for_status().json()
            first = next((b for b in found if b["claim"] == FULL), {})
            if wanted.items() <= first.items():
                return found
            await asyncio.to_thread(mesh.gateway.settle)


async def test_what_swarms_believe_survives_a_kill_and_is_on_the_blackboard(tmp_path: Path) -> None:
    async with running(tmp_path) as mesh:
        connection = await Connection.open(mesh.broker.url, name="test")
        swarm = Swarm(JetStreamLog(connection, service="test", instance="test-1"))
        # beliefs do not wait for memory, nor memory's for a cold store that is away
        away = {
            "SWARM_S3_ENDPOINT": f"127.0.0.1:{free_port()}",
            "SWARM_S3_ACCESS_KEY": "a",
            "SWARM_S3_SECRET_KEY": "b" * 16,
        }
        ports = {"SWARM_HEALTH_PORT": str(free_port())}
        compactor = Process("memory_compactor", mesh.broker, tmp_path / "memory", **away, **ports)
        try:
            await swarm.born("ada", "bob", "eve")
            await swarm.checked("ada", FULL, "no space left on device")
            await shown(mesh, {"asserted_by": "ada", "status": "active", "confirmed_by": []})
            await compactor.end(signal.SIGKILL)
            await swarm.checked("bob", FULL, "write failed: ENOSPC")
            await swarm.checked("eve", NOT_FULL, "df says 40 % used")
            compactor.start()
            found = await shown(mesh, {"confirmed_by": ["bob"], "contested_by": ["eve"]})
            first, second = sorted(found, key=lambda b: b["claim"] != FULL)
            assert (first["contradicts"], second["contradicts"]) == ([second["id"]], [first["id"]])
            await compactor.end(signal.SIGKILL)
            compactor.start()
            await swarm.checked("bob", "backups of db stopped", "backup skipped")
            async with asyncio.timeout(60):
                while len(await shown(mesh, {})) < 3:
                    await asyncio.to_thread(mesh.gateway.settle)
            asserted = Counter(
                r.event.claim for r in await swarm.log.read(("belief.>",)) if isinstance(r.event, BeliefAsserted)
            )
            assert asserted == {FULL: 1, NOT_FULL: 1, "backups of db stopped": 1}
            kept = {b["id"]: b for b in await shown(mesh, {})}
            assert {b["id"]: b for b in found}.items() <= kept.items()
            (asked,) = [a for a in await items(mesh.client) if a["source_type"] == "contested_belief"]
            assert asked["source_id"] == first["id"] and asked["resolved_at"] is None
            top = (await mesh.client.get("/v1/cognition/workspace?swarm=alpha")).json()["top_beliefs"]
            assert set(top) == set(kept)
            for options, wanted in (
                (("--swarm", "alpha"), list(kept.values())),
                (("--swarm", "alpha", "--status", "any"), list(kept.values())),
                (("--swarm", "alpha", "--status", "stale"), []),
                (("--swarm", "beta"), []),
                ((), list(kept.values())),
            ):
                assert await told(mesh, tmp_path, *options) == wanted, options
        finally:
            compactor.process.kill()
            compactor.process.wait()
            await connection.close()


async def told(mesh: Mesh, folder: Path, *options: str) -> object:
    """What `swarm beliefs --json` prints of this mesh."""
    code, found, err = await command("beliefs", "--url", str(mesh.client.base_url), *options, cwd=folder)
    assert code == 0, err
    return found


async def items(client: httpx.AsyncClient) -> list[dict[str, object]]:
    found: list[dict[str, object]] = (await client.get("/v1/cognition/attention?swarm=alpha")).raise_for_status().json()
    return found
