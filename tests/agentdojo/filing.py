"""A real mesh whose runner says what it is told to: calls of tools, as probes and as proposals, and what the gate made of each.

Nobody thinks: cognition is never started, and what a model would have been talked into is said by the runner's own key, which may say no
more than any runner. People have keys: one makes personas, one gives them their tasks, and a third is asked for approvals.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec

from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from shared.broker import inbox_prefix
from shared.contracts.action import Action, Scalar, action_digest
from shared.contracts.envelope import Envelope, Malformed, Message, Recorded
from shared.contracts.events import (
    ActionExecuted,
    Answer,
    AnyEvent,
    ApprovalRequested,
    CheckRequested,
    CheckResult,
    EvidenceRef,
    OutsideLook,
    PersonaSpawned,
    ProposalCreated,
    ProposalRejected,
)
from shared.contracts.ids import fresh_id, utc_now
from shared.contracts.persona import charter_sha256
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.placement import PLACEMENT
from tests.agentdojo.roles import Role

RUNNER = "persona_runner-1"
SERVICES = ("governor", "verifier", "policy_gate", "actuator", "checker", "persona_runner", "gateway")
PEOPLE = {"ops": ("read", "control"), "emma": ("read", "control", "approve"), "ann": ("read", "approve")}
"""Who makes personas, who gives them their tasks, and who is asked."""
HEARD = ("check.result.>", "proposal.rejected.>", "approval.requested.>", "action.executed.>", "persona.spawned.>")
WITHIN_S = 60.0
TALLY = {
    "SWARM_PERSONA_ACTIONS_PER_MINUTE": "100000",
    "SWARM_SWARM_ACTIONS_PER_MINUTE": "100000",
    "SWARM_GLOBAL_ACTIONS_PER_MINUTE": "100000",
}

How = Literal["alone", "asked", "refused"]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one call. `how`: it passed without anybody, people were asked, or neither. `ran`: the tool was called, as far as
    anybody knows. `why`: of a refusal or failure. `shows`: people were shown that outsiders had a word in it."""

    by: Literal["probe", "proposal"]
    how: How
    ran: bool = False
    ok: bool = False
    why: str = ""
    shows: bool = False
    answer: str = ""
    request: Recorded | None = None


class Persona(msgspec.Struct, frozen=True):
    """One that was made for a trial. `word` is the task it was given by a person."""

    swarm: str
    name: str
    charter: str
    word: EvidenceRef


class Filing:
    """What a trial is given."""

    def __init__(self, mesh: Mesh, log: JetStreamLog, runner: JetStreamLog) -> None:
        self._mesh, self._log, self._runner = mesh, log, runner
        self._people = {
            name: httpx.AsyncClient(
                base_url=mesh.api_url, timeout=30, trust_env=False, headers={"Authorization": f"Bearer {name}-token"}
            )
            for name in PEOPLE
        }
        self._numbers = itertools.count(1)
        self._heard: defaultdict[str, list[Recorded]] = defaultdict(list)
        self._more = asyncio.Condition()

    async def close(self) -> None:
        for client in self._people.values():
            await client.aclose()

    async def follow(self) -> None:
        """Hear what is said, until cancelled."""
        async for message in self._log.tail(HEARD):
            if isinstance(message, Recorded):
                async with self._more:
                    self._heard[message.subject.split(".")[4] if _has_life(message) else message.subject].append(
                        message
                    )
                    self._more.notify_all()

    async def persona(self, role: Role, task: str) -> Persona:
        """A new one, in the swarm of its suite, that a person has given the task."""
        name = f"{role.suite}-{next(self._numbers)}"
        body = {
            "persona_id": name,
            "name": name,
            "role": "assistant",
            "charter": role.charter,
            "swarm_id": role.suite,
            "policy": {"capabilities": msgspec.to_builtins(role.capabilities)},
        }
        await self._post("ops", "/v1/swarm/personas", body)
        born = await self._hear(f"persona.spawned.{role.suite}.{name}", lambda _: True)
        assert isinstance(born.event, PersonaSpawned)
        word = await self.tell("emma", role.suite, name, task, vouched=True)
        return Persona(role.suite, name, charter_sha256(born.event.identity), word)

    async def tell(self, who: str, swarm: str, persona: str, text: str, *, vouched: bool) -> EvidenceRef:
        """Somebody's words, for one persona: a person's own, or an outsider's that they pass on."""
        one = {"text": text[:8000], "source": "task" if vouched else "tools", "persona": persona, "vouched": vouched}
        said = await self._post(who, f"/v1/swarm/{swarm}/observations", {"observations": [one]})
        found = await self._log.get(said["sequences"][0])
        assert isinstance(found, Recorded)
        return EvidenceRef(id=found.id, seq=found.seq)

    async def look(self, persona: Persona, row: str, arguments: dict[str, Scalar]) -> Done:
        """The call as a check of the persona's, by a row of the file of probes; until it has its result."""
        name = f"c-{next(self._numbers)}"
        probe = OutsideLook(row=row, arguments=arguments)
        whose = {"swarm": persona.swarm, "persona": persona.name}
        check = CheckRequested(**whose, check_id=name, hypothesis_id="h-1", probe=probe, beside=True, slot="r1")
        try:
            await self._say(persona, check)
        except Malformed as error:  # a name that no row has, or more than any takes: nobody could read it
            return Done(by="probe", how="refused", why=str(error))
        said = (await self._hear(name, lambda _: True)).event
        assert isinstance(said, CheckResult)
        if isinstance(said.found, Answer):
            return Done(by="probe", how="alone", ran=True, ok=True, answer=said.found.text)
        return Done(by="probe", how="refused", why=said.findings)

    async def propose(self, persona: Persona, target: str, params: dict[str, Scalar]) -> tuple[str, Done]:
        """The call as an action of the persona's, which cites the person's task alone; until it is over, or people are asked."""
        name, whose = f"p-{next(self._numbers)}", {"swarm": persona.swarm, "persona": persona.name}
        action = Action(kind="mcp.call", target=target, params=params)
        await self._say(
            persona,
            ProposalCreated(
                **whose,
                charter=persona.charter,
                proposal_id=name,
                title=f"call {target}"[:200],
                rationale="it is part of the task",
                action=action,
                evidence=(persona.word,),
                digest=action_digest(**whose, charter=persona.charter, action=action),
                deadline=utc_now() + timedelta(minutes=30),
                slot="r1",
            ),
        )
        said = await self._hear(name, _settles)
        return name, _proposed(said)

    async def grant(self, name: str, asked: Recorded) -> Done:
        """Somebody says yes to exactly what was asked; until it is over."""
        event = asked.event
        assert isinstance(event, ApprovalRequested)
        body = {"decision": "grant", "digest": event.digest, "request_id": asked.id, "reason": "as the task says"}
        await self._post("ann", f"/v1/approvals/{name}", body)
        over = _proposed(await self._hear(name, lambda r: not isinstance(r.event, ApprovalRequested)))
        return msgspec.structs.replace(over, how="asked", shows=_shows(event))

    async def _say(self, persona: Persona, event: AnyEvent) -> None:
        name = fresh_id()
        envelope = Envelope(id=name, source=RUNNER, time=utc_now(), correlation=name, charter=persona.charter)
        await self._runner.commit([Message(event=event, envelope=envelope)])

    async def _hear(self, key: str, fits: Callable[[Recorded], bool]) -> Recorded:
        """The first that is said of it and fits."""
        async with asyncio.timeout(WITHIN_S), self._more:
            while True:
                if found := next((r for r in self._heard[key] if fits(r)), None):
                    return found
                await self._more.wait()

    async def _post(self, who: str, path: str, body: object) -> dict[str, Any]:
        """Until the gateway has read what it is about."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                answer = await self._people[who].post(path, json=body)
                if answer.status_code == 200:
                    return dict(answer.json())
                if answer.status_code not in (404, 409, 429, 503):
                    raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:500]}")
                await asyncio.sleep(0.05)


def _has_life(message: Recorded) -> bool:
    return not isinstance(message.event, PersonaSpawned)


def _settles(recorded: Recorded) -> bool:
    return isinstance(recorded.event, ActionExecuted | ProposalRejected | ApprovalRequested)


def _proposed(said: Recorded) -> Done:
    match said.event:
        case ApprovalRequested() as event:
            return Done(by="proposal", how="asked", shows=_shows(event), request=said)
        case ProposalRejected(reasons=reasons, detail=detail):
            return Done(by="proposal", how="refused", why=f"{', '.join(reasons)}: {detail}")
        case ActionExecuted(outcome=outcome, error=error, summary=summary, output=output):
            ran = outcome != "failure" or error == "tool_error"
            how: How = "alone" if ran else "refused"
            ok = outcome == "success"
            return Done(by="proposal", how=how, ran=ran, ok=ok, why="" if ok else f"{error}: {summary}", answer=output)
        case event:
            raise TypeError(type(event).__name__)


def _shows(event: ApprovalRequested) -> bool:
    return "tainted by outsiders' words" in event.summary and bool(event.outside)


@asynccontextmanager
async def filing(data: Path, servers: Path, probes: Path) -> AsyncIterator[Filing]:
    """A mesh of this machine, ready, with the operator's files and people's keys."""
    keys = data.parent / "keys.toml"
    keys.write_text(
        "\n".join(
            f'[[keys]]\nsha256 = "{hashlib.sha256(f"{name}-token".encode()).hexdigest()}"\n'
            f'principal = "{name}"\nscopes = {list(scopes)}\n'.replace("'", '"')
            for name, scopes in PEOPLE.items()
        )
    )
    env = {"SWARM_MCP_FILE": str(servers), "SWARM_PROBES_FILE": str(probes), **TALLY}
    options = Options(
        services=SERVICES, s3=False, http_keys_file=str(keys), policy="operator", env=env, ready_timeout_s=180
    )
    async with Mesh(data, options) as mesh:
        await mesh.wait_ready()
        log, runner = await _log(mesh, "bootstrap", "agentdojo"), await _log(mesh, RUNNER, "persona_runner")
        found = Filing(mesh, log, runner)
        following = asyncio.create_task(found.follow())
        try:
            await _placed(log)
            yield found
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await found.close()
            for one in (log, runner):
                await one.connection.close()


async def _placed(log: JetStreamLog) -> None:
    """Until the mesh knows which personas are the runner's: what it says of others is nobody's word."""
    async with asyncio.timeout(WITHIN_S):
        while not any("r1" in getattr(r.event, "slots", ()) for r in await log.read((PLACEMENT,))):
            await asyncio.sleep(0.05)


async def _log(mesh: Mesh, name: str, service: str) -> JetStreamLog:
    connection = await Connection.open(
        mesh.nats_url, name=name, seed_file=mesh.key(name), inbox_prefix=inbox_prefix(name)
    )
    return JetStreamLog(connection, service=service, instance=f"{service}-9")
