"""A real mesh with one runner of its own, and the key of a second one in foreign hands.

The judge holds the bootstrap key and the honest runner's, and reads the log; the attacker holds the stolen key and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import msgspec

from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from services.supervisor.secrets.keys import ensure_keys
from shared.broker import inbox_prefix
from shared.contracts.action import Action, action_digest
from shared.contracts.catalog import LOG_CLASSES, class_filter
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import AnyEvent, EvidenceRef, PersonaSpawned, ProposalCreated
from shared.contracts.ids import fresh_id, slot_of, utc_now
from shared.contracts.persona import charter_sha256
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.placement import LEASES, PLACEMENT, owner_of, shard_of
from shared.settings import Settings
from tests.redteam.attacker import STOLEN, Attacker

HONEST = "persona_runner-1"
HOME = "home"
LEASE_S = 600
PATIENCE_S = 20.0
EVERYTHING = tuple(class_filter(name) for name in LOG_CLASSES)
Fits = Callable[[Recorded], bool]


class Besieged(Mesh):
    """Its broker knows the second runner's key; nobody starts that runner."""

    def _write_config(self, keys: dict[str, str]) -> None:
        super()._write_config({**keys, **ensure_keys(self.places.keys, [STOLEN])})


class Persona(msgspec.Struct, frozen=True):
    """A persona of `HOME`, and whose shard it is in."""

    id: str
    charter: str


class Siege:
    """What the attacks are given. `victim` is the honest runner's, `own` the stolen slot's, `gone` the honest one's and reaped."""

    def __init__(self, mesh: Mesh, attacker: Attacker, judge: JetStreamLog, honest: JetStreamLog) -> None:
        self.mesh = mesh
        self.attacker = attacker
        self.judge = judge
        self.honest = honest
        self.api = httpx.AsyncClient(base_url=mesh.api_url, timeout=30, trust_env=False)
        self.victim = self.own = self.gone = Persona("", "")
        self.seen: EvidenceRef = EvidenceRef(id="none", seq=1)
        """An observation anybody in `HOME` may cite."""
        self._numbers = itertools.count(1)

    # -- the log ----------------------------------------------------------------------------------------------------

    async def first(self, filters: Sequence[str], fits: Fits = lambda _: True, *, after: int = 0) -> Recorded | None:
        """The first event that fits, waiting for it as long as `PATIENCE_S`; None when it never comes."""
        until = time.monotonic() + PATIENCE_S
        while True:
            for recorded in await self.judge.read(tuple(filters), after):
                if fits(recorded):
                    return recorded
            if time.monotonic() > until:
                return None
            await asyncio.sleep(0.1)

    async def thinks(self, persona: Persona, after: int) -> Recorded | None:
        """Its next thought by the honest runner; something new is there to be seen, for who saw nothing new backs off."""
        lines = [{"text": f"request served in {after % 7} ms", "source": "app"}]
        await _post(self, f"/v1/swarm/{HOME}/observations", {"observations": lines})
        return await self.first([class_filter("thought.generated", HOME, persona.id, slot="r1")], after=after)

    async def end(self) -> int:
        """The log's last sequence."""
        return max(await self.judge.ends(EVERYTHING))

    async def persona(self, prefix: str) -> Persona:
        """A new one, which the stolen slot holds."""
        return await _persona(self, prefix, STOLEN)

    async def life(self, persona: Persona, proposal_id: str) -> Recorded | None:
        """How a proposal's life ended: executed or rejected."""
        whose = f"{HOME}.{persona.id}.{proposal_id}"
        return await self.first([f"action.executed.{whose}", f"proposal.rejected.{whose}"])

    async def letter(self, subject: str) -> bool:
        """Whether there is such a dead letter, waiting for it as long as `PATIENCE_S`."""
        until = time.monotonic() + PATIENCE_S
        ask = msgspec.json.encode({"subjects_filter": subject})
        while time.monotonic() < until:
            answer = await self.judge.connection.request("$JS.API.STREAM.INFO.DEAD", ask)
            if msgspec.json.decode(answer.data)["state"].get("subjects"):
                return True
            await asyncio.sleep(0.1)
        return False

    @property
    def root(self) -> str:
        """Whose word counts on who signs verdicts."""
        return (self.mesh.places.keys / "actuator" / "verdict-root").read_text()

    # -- what is said -----------------------------------------------------------------------------------------------

    def proposal_id(self, prefix: str) -> str:
        return f"{prefix}-{next(self._numbers)}"

    def message(
        self, event: AnyEvent, *, charter: str | None = None, event_id: str | None = None, slot: str = "r2"
    ) -> Message:
        """The event under its envelope, in the attacker's slot where it has one."""
        name = event_id or fresh_id()
        if "slot" in event.__struct_fields__:
            event = msgspec.structs.replace(event, slot=slot)
        envelope = Envelope(id=name, source="redteam", time=utc_now(), correlation=name, charter=charter)
        return Message(event=event, envelope=envelope)

    async def propose(self, name: str, *, event_id: str | None = None) -> None:
        """An honest proposal of the victim, by its own runner."""
        event = self.proposal(self.victim, name)
        await self.honest.commit([self.message(event, charter=self.victim.charter, event_id=event_id, slot="r1")])

    def proposal(
        self,
        persona: Persona,
        proposal_id: str,
        *,
        evidence: Sequence[EvidenceRef] | None = None,
        text: str = "ok",
        elsewhere: bool = False,
    ) -> ProposalCreated:
        """A findings report that nothing is wrong with; `elsewhere` it is a file that people are asked about."""
        params = {"content": f"{proposal_id} {text}", "mode": "create"}
        folder = "notes" if elsewhere else f"findings/{HOME}/{persona.id}"
        action = Action(kind="file.write", target=f"{folder}/{proposal_id}.md", params=params)
        whose = {"swarm": HOME, "persona": persona.id, "charter": persona.charter}
        return ProposalCreated(
            **whose,
            proposal_id=proposal_id,
            title=f"report {proposal_id}",
            rationale="seen in the log",
            action=action,
            evidence=(self.seen,) if evidence is None else tuple(evidence),
            digest=action_digest(**whose, action=action),
            deadline=utc_now() + timedelta(minutes=10),
        )


async def _log(mesh: Mesh, name: str, service: str) -> JetStreamLog:
    connection = await Connection.open(
        mesh.nats_url, name=name, seed_file=mesh.key(name), inbox_prefix=inbox_prefix(name)
    )
    return JetStreamLog(connection, service=service, instance=f"{service}-9")


@asynccontextmanager
async def siege(data: Path, *, services: tuple[str, ...] | None = None, s3: bool = True) -> AsyncIterator[Siege]:
    """A mesh that is ready, with its personas, and the attacker at the door with a lease of its own."""
    env = {
        "SWARM_GOVERNOR_DRAIN_S": "2",
        "SWARM_GOVERNOR_RECONCILE_EVERY_S": "1",
        "SWARM_APPROVAL_FOUR_EYES": "false",
        "SWARM_PERSONA_ACTIONS_PER_MINUTE": "100000",
        "SWARM_SWARM_ACTIONS_PER_MINUTE": "100000",
        "SWARM_GLOBAL_ACTIONS_PER_MINUTE": "100000",
    }
    options = Options(runners=1, services=services, s3=s3, env=env, ready_timeout_s=120)
    async with Besieged(data, options) as mesh:
        await mesh.wait_ready()
        attacker = await Attacker.open(mesh.nats_url, mesh.key(STOLEN))
        judge, honest = await _log(mesh, "bootstrap", "judge"), await _log(mesh, HONEST, "persona_runner")
        found = Siege(mesh, attacker, judge, honest)
        try:
            await _people(found)
            yield found
        finally:
            await found.api.aclose()
            await attacker.close()
            for log in (judge, honest):
                await log.connection.close()


async def _people(found: Siege) -> None:
    """The stolen slot takes its lease as a runner does, and so has half of the shards; personas on either side of that."""
    lease = f"$KV.leases.{LEASES}{STOLEN}"
    answer = await found.attacker.ask(lease, b"", Nats_TTL=f"{LEASE_S}s")
    assert "error" not in answer, answer
    assert await found.first([PLACEMENT], lambda r: getattr(r.event, "slots", ()) == ("r1", "r2")), "it is never placed"
    await _post(found, "/v1/cognition/start", {"loop_interval_ms": 300})
    lines = [{"text": f"request {n} served in {n % 7} ms", "source": "app"} for n in range(40)]
    seqs = (await _post(found, f"/v1/swarm/{HOME}/observations", {"observations": lines})).json()["sequences"]
    seen = await found.judge.get(seqs[0])
    assert isinstance(seen, Recorded)
    found.seen = EvidenceRef(id=seen.id, seq=seen.seq)
    found.victim = await _persona(found, "victim", HONEST)
    found.gone = await _persona(found, "gone", HONEST)
    found.own = await _persona(found, "own", STOLEN)
    assert await found.first([f"budget.granted.{HOME}.{found.victim.id}"]), "the victim never thinks"
    await _post(found, f"/v1/swarm/personas/{found.gone.id}/reap", {"reason": "done"})
    assert await found.first([f"persona.reaped.{HOME}.{found.gone.id}"]), "it is never reaped"


async def _persona(found: Siege, prefix: str, runner: str) -> Persona:
    """One whose shard is the runner's when both are alive."""
    shards = Settings().placement.shards
    ids = (f"{prefix}-{n}" for n in itertools.count(1))
    name = next(i for i in ids if owner_of(shard_of(HOME, i, shards), ("r1", "r2")) == slot_of(runner))
    body = {"persona_id": name, "name": name, "role": "watcher", "charter": "Watch.", "swarm_id": HOME}
    await _post(found, "/v1/swarm/personas", body)
    spawned = await found.first([f"persona.spawned.{HOME}.{name}"])
    assert spawned is not None and isinstance(spawned.event, PersonaSpawned)
    return Persona(name, charter_sha256(spawned.event.identity))


async def _post(found: Siege, path: str, body: object) -> httpx.Response:
    answer = await found.api.post(path, json=body)
    assert answer.status_code == 200, f"{path}: {answer.text}"
    return answer
