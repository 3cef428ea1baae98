"""What a mesh of many swarms is said: who lives in it, work for somebody, proposals that meet; and how what follows is waited for."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

from scripts.benchmarks.measure import CannotMeasure
from scripts.benchmarks.pipeline import CHARTER, FOREVER, WAIT_S
from shared.contracts.action import Action, action_digest
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import (
    AnyEvent,
    Credits,
    EvidenceRef,
    IntentSubmitted,
    PersonaSpawned,
    ProposalCreated,
    ProposalVerified,
)
from shared.contracts.ids import EVERYONE, fresh_id, utc_now
from shared.contracts.persona import Identity, PersonaPolicy
from shared.log.client.connection import Connection
from shared.log.client.wire import Raw
from shared.log.jetstream import JetStreamLog

TOPICS = ("postgres", "replication", "nginx", "latency", "sshd", "logins", "disk", "backup", "kernel", "memory")
BORN = datetime(2026, 1, 1, tzinfo=UTC)
AT_ONCE = 500


class Arrivals:
    """Who is named by the last token of the subjects of one class, as they come, from `open` on."""

    def __init__(self, connection: Connection, subject: str) -> None:
        self._connection, self._subject = connection, subject
        self._came = asyncio.Event()
        self.names: set[str] = set()

    async def open(self) -> None:
        """By a push consumer without acks."""
        inbox = self._connection.client.new_inbox()
        await self._connection.subscribe(inbox, self._take)
        config = {
            "deliver_subject": inbox,
            "filter_subject": self._subject,
            "ack_policy": "none",
            "deliver_policy": "new",
        }
        body = json.dumps({"stream_name": "SWARM", "config": config}).encode()
        answer = await self._connection.request("$JS.API.CONSUMER.CREATE.SWARM", body)
        if b'"error"' in answer.data:
            raise CannotMeasure(f"the broker gives no consumer: {answer.data.decode()}")

    async def until(self, count: int) -> None:
        """Returns once so many came. Raises `CannotMeasure`."""
        try:
            async with asyncio.timeout(WAIT_S):
                while len(self.names) < count:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            lost = f"{len(self.names)} of {count} came within {WAIT_S:.0f} s"
            raise CannotMeasure(f"{self._subject}: {lost}") from None

    def _take(self, message: Raw) -> None:
        self.names.add(message.subject.rpartition(".")[2])
        self._came.set()


def said(event: AnyEvent, charter: str | None = None) -> Message:
    """The event as somebody outside says it; what a persona says carries its charter."""
    event_id = fresh_id()
    return Message(
        event=event,
        envelope=Envelope(id=event_id, source="bench", time=utc_now(), correlation=event_id, charter=charter),
    )


async def wide(log: JetStreamLog, swarms: int, personas: int) -> None:
    """So many roots, shared out among the swarms, each with two of the topics in its charter and one as its tag."""
    for start in range(0, personas, AT_ONCE):
        await log.commit([said(_born(n, swarms)) for n in range(start, min(start + AT_ONCE, personas))])


def _born(n: int, swarms: int) -> PersonaSpawned:
    swarm, name = f"s{n % swarms}", f"p{n}"
    topic, other = TOPICS[n % len(TOPICS)], TOPICS[n // len(TOPICS) % len(TOPICS)]
    identity = Identity(
        id=name,
        name=name,
        role="watcher",
        charter=f"Watch {topic} and {other} of host {n}; say what is out of the ordinary.",
        swarm_id=swarm,
        created_at=BORN,
        tags=(topic,),
    )
    return PersonaSpawned(swarm=swarm, persona=name, identity=identity, policy=PersonaPolicy())


def asked(intent_id: str, n: int, swarms: int) -> Message:
    """Work for somebody of any swarm who knows about a topic."""
    topic = TOPICS[n % len(TOPICS)]
    return said(
        IntentSubmitted(
            swarm=f"s{n % swarms}",
            persona=EVERYONE,
            intent_id=intent_id,
            goal=f"why is {topic} out of the ordinary since noon, and on which hosts ({n})",
            tags=(topic,),
            deadline=utc_now() + timedelta(hours=1),
            budget=Credits(tokens=20_000, compute_ms=60_000),
            principal="bench",
        )
    )


def writes(proposal_id: str, target: str, text: str, evidence: EvidenceRef, *, persona: str = "ada") -> ProposalCreated:
    """A proposal to write a file that is nobody's own."""
    action = Action(kind="file.write", target=target, params={"content": text})
    whose = {"swarm": "bench", "persona": persona, "charter": CHARTER}
    return ProposalCreated(
        **whose,
        proposal_id=proposal_id,
        title="Write it down",
        rationale="The error rate of the payment service rose from 2 to 41 a minute.",
        action=action,
        evidence=(evidence,),
        digest=action_digest(**whose, action=action),
        deadline=FOREVER,
    )


def rivals(n: int, evidence: EvidenceRef) -> tuple[Message, Message]:
    """Two verified proposals that would write different things into one file."""
    pair = (
        writes(f"c{n}-{side}", f"asked/c{n}.md", f"version {side}", evidence, persona=f"p{n}-{side}") for side in (0, 1)
    )
    first, second = (
        said(
            ProposalVerified(
                swarm=created.swarm,
                persona=created.persona,
                proposal_id=created.proposal_id,
                digest=created.digest,
                risk="medium",
                evidence=created.evidence,
                proposal=created,
            )
        )
        for created in pair
    )
    return first, second
