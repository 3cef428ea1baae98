"""A person grants and another denies, at the same time, each heard by another gate at another broker: at most one verdict comes of it.

The decider, the shell's driving and the log are the gate's own; what the policies say is made up, for it is not what is raced.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime

import msgspec

from services.policy_gate import decider
from services.policy_gate.decider import Evaluate, Evaluated, Sign, Signed
from shared.contracts.boundaries import life
from shared.contracts.events import AnyEvent, ApprovalDenied, ApprovalGranted, ProposalAuthorized, ProposalRejected
from shared.contracts.ids import fresh_id, utc_now
from shared.decider import Delivered, Effect, Result
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.policy.types import PolicyDecision
from shared.runtime.driving import drive
from shared.runtime.handling import Done, Fold, handle
from tests.broker import Cluster
from tests.unit.gate.given import LIFE, VERSION, asked, message_of, proposed, replaced, verified

ALWAYS = datetime(2100, 1, 1, tzinfo=UTC)
YES = PolicyDecision(allow=True, reason="permitted", policy_ids=("file-findings",), version=VERSION)
UNSPOKEN = PolicyDecision(allow=False, reason="no_matching_permit", version=VERSION)
AT_ONCE = 8
SPREAD_S = 0.03
"""So far apart may the two words be: about as long as a gate takes, so that sometimes either comes first."""


class Outcome(msgspec.Struct, kw_only=True):
    """`both` and `neither` must be 0."""

    boundary: str = life("{swarm}", "{persona}", "{proposal}")
    rounds: int = 0
    authorized: int = 0
    rejected: int = 0
    both: int = 0
    neither: int = 0
    seconds: float = 0.0


async def perform(effect: Effect) -> Result:
    """People decide, and the policies let them."""
    match effect:
        case Evaluate(grants=grants):
            said = YES if grants else UNSPOKEN
            return Evaluated(as_is=said, with_people=YES, approvals=tuple(g.event_id for g in grants))
        case Sign(verdict=verdict):
            return Signed(verdict=replaced(verdict, key="k", signature="s"))
        case _:
            raise TypeError(type(effect).__name__)


async def race(cluster: Cluster, rounds: int, seed: int = 7) -> Outcome:
    """So many proposals, some at once; each pair of gates is connected to two of the brokers. Raises `LogUnavailable`."""
    dice = random.Random(seed)
    connections = [await Connection.open(broker.url, name="gate") for broker in cluster.brokers]
    logs = [JetStreamLog(c, service="gate", instance="gate-1", replicated=True) for c in connections]
    outcome, began, left = Outcome(), time.monotonic(), iter(range(rounds))

    async def some() -> None:
        for number in left:
            one, two = dice.sample(logs, 2)
            await _round(one, two, f"race-{number}-{fresh_id()[-8:]}", dice, outcome)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(some())
    finally:
        for connection in connections:
            await connection.close()
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


async def _round(one: JetStreamLog, two: JetStreamLog, proposal: str, dice: random.Random, outcome: Outcome) -> None:
    about = {**LIFE, "proposal_id": proposal}
    created = proposed(proposal_id=proposal, deadline=ALWAYS)
    request = asked(created, proposal_id=proposal, expires_at=ALWAYS)
    await _said(one, verified(created, "medium", proposal_id=proposal))
    asked_id, _ = await _said(one, request)
    words: list[tuple[JetStreamLog, type[ApprovalGranted | ApprovalDenied], str]] = [
        (one, ApprovalGranted, "bob"),
        (two, ApprovalDenied, "eve"),
    ]
    dice.shuffle(words)
    waits = [dice.random() * SPREAD_S for _ in words]

    async def vote(log: JetStreamLog, word: type[ApprovalGranted | ApprovalDenied], who: str, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        _, seq = await _said(log, word(**about, digest=created.digest, request_id=asked_id, principal=who))
        recorded = await log.get(seq)
        message = Delivered(recorded=recorded, now=utc_now())  # type: ignore[arg-type]
        boundary = decider.boundary(message)
        assert boundary is not None
        verdict = None
        while not isinstance(verdict, Done):
            verdict = await drive(log, handle(Fold(decider, boundary), message, source="gate"), perform)

    await asyncio.gather(*(vote(*word, wait_s) for word, wait_s in zip(words, waits, strict=True)))
    said = [r.event for r in await one.read((life(created.swarm, created.persona, proposal),))]
    yes = sum(isinstance(event, ProposalAuthorized) for event in said)
    no = sum(isinstance(event, ProposalRejected) for event in said)
    outcome.rounds += 1
    outcome.authorized += yes == 1 and no == 0
    outcome.rejected += no == 1 and yes == 0
    outcome.both += yes + no > 1
    outcome.neither += yes + no == 0


async def _said(log: JetStreamLog, event: AnyEvent) -> tuple[str, int]:
    event_id = fresh_id()
    (seq,) = await log.commit([message_of(event, id=event_id, time=utc_now())])
    return event_id, seq
