"""Load for a mesh that is being killed: clients that insist until they are answered, and remember what was acknowledged."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from typing import Protocol

import httpx
import msgspec

from shared.contracts.action import Action, action_digest
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import EvidenceRef, ObservationRecorded, PersonaSpawned, ProposalCreated
from shared.contracts.ids import fresh_id, utc_now
from shared.contracts.persona import charter_sha256
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable

SWARM, ROOT = "chaos", "root"
BEATS, BEAT_S = "beats", 0.05
"""The swarm of the commits by which outages are measured, in which nobody lives, and the pause between two of them."""
OPERATOR, APPROVER = "operator-token", "approver-token"


class Hits(Protocol):
    """An HTTP server that counts what really reached it, by path. `url` is where actuators find it."""

    hits: Counter[str]

    @property
    def url(self) -> str: ...


class Sink:
    """One on this machine."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.port = 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Sink:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.hits[head.split(" ", 2)[1]] += 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Load:
    """What was asked for and acknowledged. `stop` ends every client after its present request.

    `beats` are acknowledged commits of `beat`, and `outage_s` the longest time there was none, by the `fault` that began last.
    """

    def __init__(
        self,
        api_url: str,
        log: JetStreamLog,
        sink: Hits,
        seed: int,
        *,
        operator: str = OPERATOR,
        approver: str = APPROVER,
    ) -> None:
        self.dice = random.Random(seed)
        self.stop = asyncio.Event()
        self.observed: dict[str, tuple[str, int]] = {}
        self.proposed: dict[str, Action] = {}
        self.acks: list[float] = []
        self.beats: set[str] = set()
        self.beating = asyncio.Event()
        self.fault = "calm"
        self.outage_s: dict[str, float] = {}
        self._http = httpx.AsyncClient(base_url=api_url, timeout=8, trust_env=False)
        self._log = log
        self._sink = sink
        self._operator, self._approver = operator, approver
        self._charters: dict[tuple[str, str], str] = {}
        self._serial = 0

    async def close(self) -> None:
        await self._http.aclose()

    async def begin(self) -> None:
        """A root persona, and cognition running."""
        await self.root_of(SWARM, ROOT)
        await self.insist("POST", "/v1/cognition/start", {"loop_interval_ms": 500})

    async def root_of(self, swarm: str, name: str) -> None:
        """A root persona that proposals are made for."""
        policy = {
            "max_spawn_depth": 3,
            "max_branching_factor": 3,
            "token_budget_per_minute": 20000,
            "compute_ms_per_minute": 10000,
        }
        root = {
            "persona_id": name,
            "name": name,
            "role": "watcher",
            "charter": "Watch.",
            "swarm_id": swarm,
            "policy": policy,
        }
        answer = await self.insist("POST", "/v1/swarm/personas", root)
        assert answer.status_code == 200, answer.text
        while True:
            try:
                (spawned,) = await self._log.read((f"persona.spawned.{swarm}.{name}",))
                break
            except LogUnavailable:
                await asyncio.sleep(0.1)
        assert isinstance(spawned.event, PersonaSpawned)
        self._charters[swarm, name] = charter_sha256(spawned.event.identity)

    async def insist(self, method: str, path: str, body: object = None, *, token: str | None = None) -> httpx.Response:
        """One command until it has an answer that is not an outage; the same Idempotency-Key each time."""
        key = {"Idempotency-Key": fresh_id(), "Authorization": f"Bearer {token or self._operator}"}
        content = msgspec.json.encode(body)
        while True:
            try:
                answer = await self._http.request(
                    method, path, content=content, headers={**key, "content-type": "application/json"}
                )
            except httpx.HTTPError:
                await asyncio.sleep(0.1)
                continue
            if answer.status_code < 500 and answer.status_code != 429:
                return answer
            await asyncio.sleep(0.2)

    async def observe(self) -> None:
        """Observations in small batches; some repeat a failure, so that there is something to think about."""
        while not self.stop.is_set():
            batch = []
            for _ in range(self.dice.randrange(1, 20)):
                self._serial += 1
                odd = self.dice.random() < 0.3
                what = (
                    "connection to db refused, giving up" if odd else f"request served in {self.dice.randrange(90)} ms"
                )
                batch.append({"text": f"app[{self._serial}]: {what} #{self._serial}#", "source": "chaos"})
            answer = await self.insist("POST", f"/v1/swarm/{SWARM}/observations", {"observations": batch})
            assert answer.status_code == 200, answer.text
            self.acks.append(asyncio.get_running_loop().time())
            sequences = answer.json()["sequences"]
            for item, seq in zip(batch, sequences, strict=True):
                self.observed[item["text"]] = ("", seq)
            await asyncio.sleep(self.dice.random() * 0.2)

    async def beat(self) -> None:
        """One commit after another straight into the log, each until it is acknowledged: how long commits are refused."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while not self.stop.is_set():
            text, event_id = fresh_id(), fresh_id()
            event = ObservationRecorded(swarm=BEATS, persona="all", text=text)
            envelope = Envelope(id=event_id, source="load", time=utc_now(), correlation=event_id)
            fault = self.fault
            await self._insist_to_commit(Message(event=event, envelope=envelope))
            self.beats.add(text)
            self.beating.set()
            gap, last = loop.time() - last, loop.time()
            self.outage_s[fault] = max(self.outage_s.get(fault, 0.0), round(gap, 2))
            await asyncio.sleep(BEAT_S)

    async def _insist_to_commit(self, message: Message) -> None:
        while True:
            try:
                await self._log.commit([message])
            except LogUnavailable:
                await asyncio.sleep(0.1)
                continue
            return

    async def families(self) -> None:
        """Personas come and go."""
        alive = [ROOT]
        while not self.stop.is_set():
            self._serial += 1
            name = f"p{self._serial}"
            if self.dice.random() < 0.7:
                parent = self.dice.choice(alive)
                body = {"persona_id": name, "name": name, "role": "helper", "charter": "Help."}
                answer = await self.insist("POST", f"/v1/swarm/personas/{parent}/spawn", body)
                if answer.status_code == 200:
                    alive.append(name)
            elif len(alive) > 1:
                gone = self.dice.choice(alive[1:])
                answer = await self.insist(
                    "POST", f"/v1/swarm/personas/{gone}/reap", {"cascade": self.dice.random() < 0.5}
                )
                reaped = answer.json().get("reaped_ids", [gone]) if answer.status_code == 200 else [gone]
                alive = [a for a in alive if a not in reaped]
            await asyncio.sleep(0.3 + self.dice.random())

    async def propose(self) -> None:
        """Proposals of the root persona, as a runner commits them: files, files that need people, requests to the sink."""
        while not self.stop.is_set():
            if self.observed:
                self._serial += 1
                await self._propose(f"c{self._serial}")
            await asyncio.sleep(0.05 + self.dice.random() * 0.2)

    async def _propose(self, proposal_id: str) -> None:
        dice = self.dice.random()
        if dice < 0.5:
            content: dict[str, str] = {"content": proposal_id, "mode": "create"}
            action = Action(kind="file.write", target=f"findings/{SWARM}/{ROOT}/{proposal_id}.md", params=dict(content))
        elif dice < 0.6:
            content = {"content": proposal_id, "mode": "create"}
            action = Action(kind="file.write", target=f"asked/{proposal_id}.md", params=dict(content))
        else:
            url = f"{self._sink.url}/{proposal_id}"
            action = Action(kind="http.request", target=url, params={"method": "GET"})
        if await self.propose_action(proposal_id, action):
            self.proposed[proposal_id] = action

    async def propose_action(self, proposal_id: str, action: Action, *, of: tuple[str, str] = (SWARM, ROOT)) -> bool:
        """As a runner commits it for the persona of that swarm; false when there is nothing it could cite now."""
        if not self.observed:
            return False
        (seen,) = [seq for _, seq in [self.dice.choice(list(self.observed.values()))]]
        evidence = await self._evidence(seen)
        if evidence is None:
            return False
        (swarm, persona), charter = of, self._charters[of]
        whose = {"swarm": swarm, "persona": persona, "charter": charter}
        event = ProposalCreated(
            **whose,
            proposal_id=proposal_id,
            title=f"chaos {proposal_id}",
            rationale="load",
            action=action,
            evidence=(evidence,),
            digest=action_digest(**whose, action=action),
            deadline=utc_now() + timedelta(minutes=10),
        )
        event_id = fresh_id()
        envelope = Envelope(id=event_id, source="load", time=utc_now(), correlation=event_id, charter=charter)
        await self._insist_to_commit(Message(event=event, envelope=envelope))
        return True

    async def _evidence(self, seq: int) -> EvidenceRef | None:
        try:
            recorded = await self._log.get(seq)
        except LogUnavailable:
            return None
        return EvidenceRef(id=recorded.id, seq=seq) if recorded else None

    async def approve(self) -> None:
        """A person who answers every request, mostly with yes, until cancelled: a stalled verifier has its requests made late."""
        while True:
            pending = await self.insist("GET", "/v1/approvals?state=pending", token=self._approver)
            for request in pending.json():
                decision = "grant" if self.dice.random() < 0.8 else "deny"
                body = {"decision": decision, "digest": request["digest"], "reason": "chaos"}
                await self.insist("POST", f"/v1/approvals/{request['proposal_id']}", body, token=self._approver)
            await asyncio.sleep(0.5)
