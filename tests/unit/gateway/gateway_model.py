"""Events to fold, and a small mesh to ask over HTTP: the in-memory log, a scripted governor and memory, a real server."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx

from services.gateway.app import create_app
from services.gateway.context import Gateway
from services.gateway.settings import GatewaySettings, Key, Scope
from shared.contracts.action import Action, action_digest
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    ActionClaimed,
    ActionExecuted,
    AnyEvent,
    ApprovalRequested,
    ConflictRaised,
    EvidenceRef,
    Memory,
    PersonaDraining,
    PersonaSpawned,
    ProposalAuthorized,
    ProposalCreated,
    ProposalVerified,
    ReapRequested,
    RecallAnswered,
    RecallRequested,
    Side,
    SpawnRefused,
    SpawnRequested,
    SwarmRequested,
    ThoughtGenerated,
    Usage,
)
from shared.contracts.ids import caused_id, fresh_id
from shared.contracts.persona import Identity, PersonaPolicy, clamp
from shared.log.memory import MemoryLog
from shared.runtime.vitals.health import server

NOW = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
SHA = "ab" * 32
ACTION = Action(kind="file.write", target="findings/a.md", params={"content": "burst"})


def recorded(
    event: AnyEvent, seq: int, *, at: datetime = NOW, cause: str | None = None, source: str = "test"
) -> Recorded:
    envelope = Envelope(id=f"e-{seq}", source=source, time=at, correlation=cause or f"e-{seq}", causation=cause)
    return Recorded(event=event, envelope=envelope, seq=seq, stored_at=at, subject="unused")


def message(
    event: AnyEvent, *, cause: Recorded | None = None, source: str = "test", event_id: str | None = None
) -> Message:
    own = event_id or fresh_id()
    correlation, causation = (own, None) if cause is None else (cause.envelope.correlation, cause.id)
    now = datetime.now(UTC)
    return Message(
        event=event, envelope=Envelope(id=own, source=source, time=now, correlation=correlation, causation=causation)
    )


def spawned(
    persona: str, *, swarm: str = "s", parent: str | None = None, depth: int = 0, at: datetime = NOW
) -> PersonaSpawned:
    identity = Identity(
        id=persona,
        name=persona,
        role="r",
        charter="watch",
        swarm_id=swarm,
        parent_id=parent,
        depth=depth,
        created_at=at,
    )
    return PersonaSpawned(swarm=swarm, persona=persona, identity=identity, policy=PersonaPolicy())


def thought(
    persona: str,
    step: int,
    *,
    swarm: str = "s",
    at: datetime = NOW,
    status: str = "ok",
    progress: bool = True,
    next_in_ms: int = 0,
    tokens: int = 10,
    useful_at: datetime | None = None,
) -> ThoughtGenerated:
    return ThoughtGenerated(
        swarm=swarm, persona=persona, step=step, cycle=0, phase="observe", text=f"thought {step}", status=status,  # type: ignore[arg-type]
        thinker="rules", usage=Usage(tokens_in=tokens, compute_ms=3), digest=SHA, progress=progress,
        useful_at=useful_at or at, next_in_ms=next_in_ms,
    )  # fmt: skip


def created(
    proposal: str, *, swarm: str = "s", persona: str = "p", deadline: datetime | None = None
) -> ProposalCreated:
    return ProposalCreated(
        swarm=swarm, persona=persona, proposal_id=proposal, title="write the findings", rationale="a burst of errors",
        action=ACTION, evidence=(EvidenceRef(id="e-1", seq=1),), charter=SHA,
        digest=action_digest(swarm=swarm, persona=persona, charter=SHA, action=ACTION),
        deadline=deadline or NOW + timedelta(days=3650),
    )  # fmt: skip


def raised(n: int) -> ConflictRaised:
    """A conflict between two, over the n-th target."""
    sides = tuple(
        Side(
            swarm=swarm, persona="p", proposal_id=f"c-{n}", seq=k, exact=SHA, effect=SHA, risk="medium",
            deadline=NOW + timedelta(days=3650),
        )
        for k, swarm in enumerate(("s", "t"))
    )  # fmt: skip
    return ConflictRaised(
        target_id=f"t-{n}", generation=1, target=f"file:notes/{n}.md", sides=sides, strategy="person", until=NOW
    )


def verified(c: ProposalCreated, risk: str = "high") -> ProposalVerified:
    return ProposalVerified(swarm=c.swarm, persona=c.persona, proposal_id=c.proposal_id, digest=c.digest, risk=risk)  # type: ignore[arg-type]


def asked(c: ProposalCreated, *, quorum: int = 1, expires_at: datetime | None = None) -> ApprovalRequested:
    return ApprovalRequested(
        swarm=c.swarm, persona=c.persona, proposal_id=c.proposal_id, digest=c.digest, risk="high", policy_version="v1",
        policy_ids=("high-needs-people",), quorum=quorum, expires_at=expires_at or NOW + timedelta(days=3650),
        summary="write findings/a.md",
    )  # fmt: skip


def authorized(c: ProposalCreated) -> ProposalAuthorized:
    return ProposalAuthorized(
        swarm=c.swarm, persona=c.persona, proposal_id=c.proposal_id, digest=c.digest, risk="low", policy_ids=("allow",),
        policy_version="v1", expires_at=NOW + timedelta(days=1), key="K", signature="S",
    )  # fmt: skip


def claimed(c: ProposalCreated) -> ActionClaimed:
    return ActionClaimed(
        swarm=c.swarm, persona=c.persona, proposal_id=c.proposal_id, digest=c.digest, actuator="a", timeout_ms=1000
    )


def executed(c: ProposalCreated, outcome: str = "success") -> ActionExecuted:
    return ActionExecuted(
        swarm=c.swarm, persona=c.persona, proposal_id=c.proposal_id, digest=c.digest, outcome=outcome,  # type: ignore[arg-type]
        summary="wrote 5 bytes", error=None if outcome == "success" else "disk_full", claim_id="claim-1",
    )  # fmt: skip


class Governor:
    """Answers spawn and reap as the real one does, from the log alone; `silent` leaves everything unanswered, `deaf_to` what
    these swarms ask."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.silent = False
        self.deaf_to: set[str] = set()
        self.refuse: str | None = None
        self.again_s = 0
        self.reaps_at_once = 100
        self.rest_follows = asyncio.Event()
        self.living: dict[tuple[str, str], PersonaSpawned] = {}

    async def run(self) -> None:
        async for item in self.log.tail(("spawn.requested.*.*", "swarm.requested.*.*", "reap.requested.*.*")):
            event = item.event
            answers: Sequence[AnyEvent] = ()
            if isinstance(event, SpawnRequested | SwarmRequested):
                answers = (self.spawn(event),)
            elif isinstance(event, ReapRequested):
                answers = self.reap(event)
            if not self.silent and event.swarm not in self.deaf_to:
                messages = [
                    message(a, cause=item, source="governor", event_id=caused_id(item.id, "answer", i))
                    for i, a in enumerate(answers)
                ]
                await self.log.commit(messages[: self.reaps_at_once])
                if rest := messages[self.reaps_at_once :]:
                    await self.rest_follows.wait()
                    await self.log.commit(rest)

    def spawn(self, request: SpawnRequested | SwarmRequested) -> AnyEvent:
        reason = self.refuse
        if (request.swarm, request.persona) in self.living:
            reason = "duplicate_id"
        if reason is not None:
            return SpawnRefused(
                swarm=request.swarm,
                persona=request.persona,
                reason=reason,
                detail=f"refused: {reason}",
                retry_after_s=self.again_s,
            )
        above = request.parent_swarm if isinstance(request, SwarmRequested) else None
        parent = self.living.get((above or request.swarm, request.parent_id or ""))
        policy = request.policy or (PersonaPolicy() if parent is None else parent.policy)
        identity = Identity(
            id=request.persona, name=request.name, role=request.role, charter=request.charter, swarm_id=request.swarm,
            parent_id=request.parent_id, depth=0 if parent is None else parent.identity.depth + 1,
            created_at=datetime.now(UTC), tags=request.tags,
        )  # fmt: skip
        event = PersonaSpawned(
            swarm=request.swarm,
            persona=request.persona,
            identity=identity,
            policy=policy if parent is None else clamp(policy, parent.policy),
            principal=request.principal,
            parent_swarm=above,
        )
        self.living[(request.swarm, request.persona)] = event
        return event

    def reap(self, request: ReapRequested) -> Sequence[AnyEvent]:
        family = [request.persona]
        for (swarm, name), one in self.living.items() if request.cascade else ():
            if swarm == request.swarm and one.identity.parent_id in family:
                family.append(name)
        return [
            PersonaDraining(
                swarm=request.swarm,
                persona=name,
                reason=request.reason,
                deadline=datetime.now(UTC) + timedelta(seconds=20),
            )
            for name in family
        ]


async def remember(log: MemoryLog) -> None:
    """Answers every recall with one memory that repeats the query, and refuses one for `crowd`."""
    async for item in log.tail(("recall.requested.*.*.*",), stream="RECALL"):
        event = item.event
        if isinstance(event, RecallRequested):
            memory = Memory(
                id="e-1", seq=1, kind="thought", text=event.query, at=datetime.now(UTC), score=0.9, semantic=0.9,
                recency=1.0, importance=0.5, persona=event.persona,
            )  # fmt: skip
            answer = RecallAnswered(swarm=event.swarm, persona=event.persona, memories=(memory,), seq=7)
            if event.query == "crowd":
                answer = RecallAnswered(swarm=event.swarm, persona=event.persona, refused="too_many_waiting")
            await log.commit([message(answer, cause=item)])


class Mesh:
    """A gateway on a free port, and what it talks to."""

    def __init__(self, log: MemoryLog, gateway: Gateway, governor: Governor, url: str) -> None:
        self.log, self.gateway, self.governor, self.url = log, gateway, governor, url
        self.tasks: list[asyncio.Task[None]] = []

    def follow(self) -> None:
        """Begin to read the log."""
        self.tasks.append(asyncio.create_task(self.gateway.feed.run()))

    def client(self, token: str | None = None, **headers: str) -> httpx.AsyncClient:
        own = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(
            base_url=self.url, headers={**own, **headers}, trust_env=False, timeout=20, verify=False
        )

    async def put(self, *events: AnyEvent) -> int:
        """Commit one by one, and wait until the gateway has folded them."""
        seq = 0
        for event in events:
            (seq,) = await self.log.commit([message(event)])
        await self.gateway.feed.reached(seq, 5)
        return seq


@asynccontextmanager
async def mesh(
    settings: GatewaySettings | None = None,
    log: MemoryLog | None = None,
    *,
    behind: bool = False,
    port: int = 0,
    clock_off: Callable[[], str | None] = lambda: None,
) -> AsyncIterator[Mesh]:
    """Everything up; on leaving, an orderly end. `behind`: the log is not read before `follow`."""
    log = log or MemoryLog()
    settings = settings or GatewaySettings()
    gateway = Gateway(log, settings, clock_off=clock_off)
    governor = Governor(log)
    app = create_app(gateway)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen()
    http = server(app, "127.0.0.1", 0)
    up = Mesh(log, gateway, governor, f"http://127.0.0.1:{listening.getsockname()[1]}")
    up.tasks += [
        asyncio.create_task(gateway.feed.run_answers()),
        asyncio.create_task(http.serve(sockets=[listening])),
    ]
    fakes = [asyncio.create_task(governor.run()), asyncio.create_task(remember(log))]
    if not behind:
        up.follow()
        await gateway.feed.caught_up.wait()
    try:
        yield up
    finally:
        for fake in fakes:
            fake.cancel()
        await gateway.stop()
        http.should_exit = True
        await asyncio.gather(*up.tasks)


def key(token: str, principal: str, *scopes: Scope) -> Key:
    return Key(sha256=hashlib.sha256(token.encode()).hexdigest(), principal=principal, scopes=scopes)
