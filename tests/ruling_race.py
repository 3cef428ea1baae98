"""Orchestrators and gates in processes of their own race over proposals for the same targets on a real broker, and people with them.

    python -m tests.ruling_race --rounds 200 --processes 3

Deciders, shells, effects of arbitration, the log and its guards are the real ones. The policies are made up (a third is allowed at once,
the others need people), and so are signatures. In each round a few personas want to change one file at about the same time; one person
grants and another denies what they are asked, and a third rules on conflicts, each guarded as the gateway's word is. The last line is one
JSON object: of `losers` (authorised in a conflict or after having lost), `twice` (more than one verdict, or ruling) and `frozen` (neither
authorised nor rejected in time, or joined and never settled) there must be none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from services.meta_orchestrator.arbitration import decider as arbitration
from services.meta_orchestrator.arbitration.decider import Rules
from services.meta_orchestrator.arbitration.effects import ArbitrationEffects
from services.meta_orchestrator.arbitration.meeting import CLASSES, Meeting
from services.meta_orchestrator.arbitration.overdue import CLASSES as OPEN
from services.meta_orchestrator.arbitration.overdue import Overdue
from services.meta_orchestrator.arbitration.wiring import DECIDES
from services.meta_orchestrator.following import Following
from services.policy_gate import decider as gate
from shared.conflicts import Conflict, evolve, key_of
from shared.contracts import boundaries
from shared.contracts.action import Action, action_digest
from shared.contracts.catalog import class_filter
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AnyEvent,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    ConflictJoined,
    ConflictRaised,
    ConflictResolved,
    ConflictRuled,
    ConflictSettled,
    ProposalAuthorized,
    ProposalEvent,
    ProposalRejected,
)
from shared.contracts.ids import fresh_id, utc_now
from shared.decider import Effect, Result
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import ConsumerSpec, DuplicateEvent, Expect, StaleBoundary
from shared.log.streams import ensure
from shared.policy.types import PolicyDecision
from shared.runtime.shell import Shell
from tests.broker import Broker
from tests.unit.gate.given import CHARTER, message_of, proposed, verified

LATER = datetime(2100, 1, 1, tzinfo=UTC)
PERSONS_S = 0.3
"""As long as a conflict waits for a person, who is sometimes too late."""
JITTER_S, POLICIES_S, PEOPLE_S = 0.02, 0.1, 0.3
PATIENT_S = 4.0
"""As long as some people wait for a conflict before they say anything, so that also a slow machine has some."""
IN_TIME_S = 60.0
JUDGED = ("proposal.verified", "conflict.settled", "approval.requested", "approval.granted", "approval.denied")
Name = tuple[str, str, str]


async def judge(effect: Effect) -> Result:
    """The gate's policies and its key."""
    if isinstance(effect, gate.Sign):
        return gate.Signed(verdict=msgspec.structs.replace(effect.verdict, key="K", signature="S"))
    assert isinstance(effect, gate.Evaluate)
    await asyncio.sleep(random.random() * POLICIES_S)
    is_free = int(effect.digest[:2], 16) % 3 == 0
    allow = PolicyDecision(allow=True, reason="permitted", policy_ids=("p",), version="v1")
    as_is = msgspec.structs.replace(allow, allow=is_free or bool(effect.grants))
    granted = tuple(grant.event_id for grant in effect.grants)
    return gate.Evaluated(as_is=as_is, with_people=allow, approvals=granted, approval_ttl_s=600)


@contextlib.asynccontextmanager
async def connected(url: str, service: str, instance: str) -> AsyncIterator[JetStreamLog]:
    connection = await Connection.open(url, name=instance)
    yield JetStreamLog(connection, service=service, instance=instance)
    await connection.close()


async def work(url: str, number: int) -> None:
    """One process: an orchestrator and a gate, until its input ends."""
    async with (
        connected(url, "meta_orchestrator", f"orchestrator-{number}") as log,
        connected(url, "policy_gate", f"gate-{number}") as gates,
    ):
        following, meeting = Following(log), Meeting()
        rules = Rules(strategy="person", person_s=PERSONS_S, losses_per_hour=10_000)
        effects = ArbitrationEffects(log, following, meeting, rules)
        ruling = Shell(log, arbitration, service="meta_orchestrator", perform=effects.perform)
        overdue = Overdue(ruling.tick)
        following.follow(CLASSES, meeting.apply)
        following.follow(OPEN, overdue.apply)
        following.when_caught_up(overdue.begin)

        async def look() -> None:
            while True:
                await overdue.look()
                await asyncio.sleep(1.0)

        judging = Shell(gates, gate, service="policy_gate", perform=judge)
        async with asyncio.TaskGroup() as tasks:
            began = [tasks.create_task(one) for one in (
                following.run(), look(), _consume(log, ruling, "meta_orchestrator-arbitration", DECIDES),
                _consume(gates, judging, "policy_gate", JUDGED),
            )]  # fmt: skip
            await asyncio.to_thread(sys.stdin.read)
            for task in began:
                task.cancel()


async def _consume(log: JetStreamLog, shell: Shell[object], name: str, classes: tuple[str, ...]) -> None:
    spec = ConsumerSpec(name=name, filters=tuple(map(class_filter, classes)), ack_wait_s=5.0, max_deliver=1000)
    await shell.consume(log.pull(spec), spec)


class Outside:
    """Who proposes and who is asked, by a log of their own."""

    def __init__(self, log: JetStreamLog, dice: random.Random) -> None:
        self._log, self._dice = log, dice
        self.frozen = 0

    async def rounds(self, numbers: list[int]) -> None:
        for number in numbers:
            names = [(f"s{number}", f"p{n}", f"r-{number}-{n}") for n in range(self._dice.randrange(2, 5))]
            await asyncio.gather(*(self._proposes(name, f"notes/{number}.md") for name in names))
            ended = await asyncio.gather(*(self._ends(name, patient_s=PATIENT_S * (number % 4 > 0)) for name in names))
            self.frozen += ended.count(False)

    async def _proposes(self, name: Name, target: str) -> None:
        await asyncio.sleep(self._dice.random() * JITTER_S)
        swarm, persona, proposal_id = name
        whose = {"swarm": swarm, "persona": persona}
        action = Action(kind="file.write", target=target, params={"content": proposal_id})
        digest = action_digest(**whose, charter=CHARTER, action=action)
        created = proposed(action, **whose, proposal_id=proposal_id, digest=digest, deadline=LATER)
        await self._say(verified(created, "medium", **whose, proposal_id=proposal_id))

    async def _ends(self, name: Name, *, patient_s: float) -> bool:
        """Whether it has a verdict in time; meanwhile people answer what they are asked about it."""
        boundary = boundaries.life(*name)
        answered: set[str] = set()
        began = time.monotonic()
        until = began + IN_TIME_S
        while time.monotonic() < until:
            life = await self._log.read((boundary,))
            if any(isinstance(r.event, ProposalAuthorized | ProposalRejected) for r in life):
                return True
            joined = any(isinstance(r.event, ConflictJoined) for r in life)
            asked = [r for r in life if isinstance(r.event, ApprovalRequested) and r.id not in answered]
            if not joined and time.monotonic() < began + patient_s:
                asked = []
            raised = [r for r in life if isinstance(r.event, ConflictJoined) and r.id not in answered]
            answered.update(r.id for r in (*asked, *raised))
            words: list[Awaitable[None]] = [self._answers(request, boundary, kind) for request in asked for kind in (
                ApprovalGranted, self._dice.choice((ApprovalGranted, ApprovalGranted, ApprovalDenied)),
            )]  # fmt: skip
            words += [self._rules(r.event.target_id) for r in raised if self._dice.random() < 0.5]  # type: ignore[union-attr]
            await asyncio.gather(*words, asyncio.sleep(self._dice.random() * JITTER_S))
        return False

    async def _answers(
        self, request: Recorded, boundary: str, kind: type[ApprovalGranted] | type[ApprovalDenied]
    ) -> None:
        """One person's word, unless the proposal has its verdict."""
        await asyncio.sleep(self._dice.random() * PEOPLE_S)
        event = request.event
        assert isinstance(event, ApprovalRequested)
        whose = {"swarm": event.swarm, "persona": event.persona, "proposal_id": event.proposal_id}
        word = kind(**whose, digest=event.digest, request_id=request.id, principal=fresh_id())
        while True:
            seen = await self._log.read((boundary,))
            if any(isinstance(r.event, ProposalAuthorized | ProposalRejected) for r in seen):
                return
            if await self._say(word, Expect(boundary, seen[-1].seq)):
                return

    async def _rules(self, target_id: str) -> None:
        """A person names the last who came, if nobody has ruled by then."""
        await asyncio.sleep(self._dice.random() * PERSONS_S * 1.2)
        boundary = boundaries.conflict(target_id)
        while True:
            state, seen = Conflict(), await self._log.read((boundary,))
            for recorded in seen:
                state = evolve(state, recorded)
            if not state.open:
                return
            winner = key_of(state.sides[-1])
            word = ConflictRuled(target_id=target_id, generation=state.generation, winner=winner, principal="ann")
            if await self._say(word, Expect(boundary, seen[-1].seq)):
                return

    async def _say(self, event: AnyEvent, *expect: Expect) -> bool:
        try:
            await self._log.commit([message_of(event, id=fresh_id(), time=utc_now())], expect)
        except (StaleBoundary, DuplicateEvent):
            return False
        return True


def told(records: list[Recorded]) -> dict[str, int]:
    """By the log alone."""
    verdicts: Counter[Name] = Counter()
    rulings: Counter[tuple[str, int]] = Counter()
    open_: defaultdict[Name, set[tuple[str, int]]] = defaultdict(set)
    lost: set[Name] = set()
    ways: Counter[str] = Counter()
    losers = 0
    for recorded in records:
        event = recorded.event
        name = (event.swarm, event.persona, event.proposal_id) if isinstance(event, ProposalEvent) else ("", "", "")
        match event:
            case ConflictJoined():
                open_[name].add((event.target_id, event.generation))
            case ConflictSettled():
                open_[name].discard((event.target_id, event.generation))
                if event.outcome == "lost":
                    lost.add(name)
            case ConflictResolved():
                rulings[event.target_id, event.generation] += 1
                ways[event.resolution] += 1
            case ProposalAuthorized():
                verdicts[name] += 1
                losers += name in lost or bool(open_[name])
            case ProposalRejected(reasons=reasons):
                verdicts[name] += 1
                ways[reasons[0]] += 1
            case ConflictRaised():
                ways["raised"] += 1
            case _:
                pass
    return {
        "authorized": sum(isinstance(r.event, ProposalAuthorized) for r in records),
        "losers": losers,
        "twice": sum(n > 1 for n in (*verdicts.values(), *rulings.values())),
        "unsettled": sum(bool(conflicts) and name not in verdicts for name, conflicts in open_.items()),
        **ways,
    }


async def race(folder: Path, rounds: int, processes: int, at_once: int = 16) -> dict[str, float]:
    """So many rounds, several at once."""
    broker = Broker(folder)
    await broker.start()
    workers = []
    try:
        await ensure(broker.url, None)
        for number in range(processes):
            command = (sys.executable, "-m", "tests.ruling_race", "--worker", broker.url, str(number))
            workers.append(await asyncio.create_subprocess_exec(*command, stdin=-1))
        async with connected(broker.url, "race", "race-1") as log:
            began = time.monotonic()
            outside = Outside(log, random.Random(7))
            await asyncio.gather(*(outside.rounds(list(range(n, rounds, at_once))) for n in range(at_once)))
            took_s = time.monotonic() - began
            found = told(await log.read(("proposal.>", "conflict.>")))
        dead = [worker.returncode for worker in workers if worker.returncode is not None]
    finally:
        for worker in workers:
            if worker.returncode is None:
                worker.terminate()
        await asyncio.gather(*(worker.wait() for worker in workers))
        broker.kill()
    frozen = outside.frozen + found.pop("unsettled")
    return {
        "rounds": rounds,
        "processes": processes,
        "seconds": round(took_s, 1),
        "died": len(dead),
        "frozen": frozen,
    } | found


def main() -> int:
    if sys.argv[1:2] == ["--worker"]:
        asyncio.run(work(sys.argv[2], int(sys.argv[3])))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--processes", type=int, default=3)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(race(Path(folder), wanted.rounds, wanted.processes))
    print(json.dumps(found))
    return int(bool(found["losers"] or found["twice"] or found["frozen"] or found["died"]))


if __name__ == "__main__":
    sys.exit(main())
