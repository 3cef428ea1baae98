"""What the services of the simulation do outside: looking up, judging, acting, writing snapshots; and a ledger of what was done.

Effects really happen here, once per call: `done` counts them, and an inquiry can fence one off, as the real workspace does.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec

from services.actuator import terms
from services.actuator.hands import mesh
from services.checker.decider import Measured, RunProbe
from services.memory_compactor import decider as compactor
from services.memory_compactor.believing.effects import BelievingEffects
from services.meta_orchestrator.arbitration.decider import Look, Rules
from services.meta_orchestrator.arbitration.effects import ArbitrationEffects
from services.meta_orchestrator.arbitration.meeting import CLASSES as arbitration_classes
from services.meta_orchestrator.arbitration.meeting import Meeting
from services.meta_orchestrator.following import Following
from services.policy_gate import decider as gate
from services.verifier import decider as verifier
from shared.contracts.action_kinds import KINDS, held
from shared.contracts.envelope import Envelope, Message
from shared.contracts.events import (
    LogResolve,
    LotGranted,
    LotRequested,
    LotShare,
    SnapshotCounts,
)
from shared.contracts.row import Row
from shared.decider import Effect, Result
from shared.holds import holder_of
from shared.log.memory import MemoryLog, Store
from shared.policy.types import PolicyDecision


def none(effect: Effect) -> Result:
    """For a service without hands."""
    raise TypeError(effect)


T = TypeVar("T")


def done_at_once(coroutine: Coroutine[object, None, T]) -> T:
    """What a coroutine returns that waits for nothing but its turn: a log in memory answers at once. An event loop for each costs more."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


class Hands:
    """The effects of all services on one world. `done`: how often each action happened, by its key."""

    def __init__(
        self, store: Store, dice: random.Random, now: Callable[[], datetime], faulty: Callable[[], bool]
    ) -> None:
        self.done: Counter[str] = Counter()
        self.spent: Counter[tuple[str, str]] = Counter()
        self.fenced: set[str] = set()
        self.held: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        """Who did what must be held, in this order, by target: key and claim."""
        self._store, self._dice, self._now, self._faulty = store, dice, now, faulty
        self._attempts = 0
        self.rules = Rules(
            strategy=dice.choice(("order", "vote", "person")), person_s=30.0, losses_per_hour=dice.choice((2, 50))
        )

    def verify(self, effect: Effect) -> Result:
        match effect:
            case verifier.Resolve():
                by_seq = {r.seq: r for r in self._store.records}
                found = tuple(e for e in effect.evidence if e.seq in by_seq and by_seq[e.seq].id == e.id)
                missing = tuple(e for e in effect.evidence if e not in found)
                life = self._store.read((f"persona.*.{effect.swarm}.{effect.persona}",))
                charter = life[0].envelope.charter if life else None
                row = Row(digest="1" * 64, risk="medium") if KINDS[effect.action.kind].rows else None
                return verifier.Resolved(found=found, missing=missing, live=len(life) == 1, charter=charter, row=row)
            case _:
                return none(effect)

    def check(self, effect: Effect) -> Result:
        """A checker is not to be trusted: one clean line among those it cites is enough for it."""
        match effect:
            case RunProbe(probe=LogResolve(evidence=cited)):
                said = [r.event for r in self._store.records if any(r.id == ref.id for ref in cited)]
                is_tainted = all(getattr(event, "tainted", True) for event in said)
                return Measured(value=self._dice.randrange(3), evidence=cited, tainted=is_tainted)
            case _:
                return Measured(value=self._dice.randrange(3))

    def arbitrator(self) -> Callable[[Effect], Result]:
        """The real effects of one orchestrator, whose projection is at least as far as what it is asked about."""
        log, meeting = self._log(), Meeting()
        following = Following(log)
        following.follow(arbitration_classes, meeting.apply)
        effects = ArbitrationEffects(log, following, meeting, self.rules, clock=self._now)

        def perform(effect: Effect) -> Result:
            if isinstance(effect, Look):
                upto = self._dice.randrange(effect.seq, len(self._store.records) + 1)
                for recorded in self._store.records[following.position : upto]:
                    following.apply(recorded)
            return asyncio.run(effects.perform(effect))

        return perform

    def _log(self) -> MemoryLog:
        log = MemoryLog(self._now)
        log.store = self._store
        return log

    def believe(self, effect: Effect) -> Result:
        """What a check is of and rests on, by the service's own effects."""
        return asyncio.run(BelievingEffects(log=self._log()).perform(effect))

    def judge(self, effect: Effect) -> Result:
        if isinstance(effect, gate.Sign):
            return gate.Signed(verdict=msgspec.structs.replace(effect.verdict, key="K", signature="S"))
        assert isinstance(effect, gate.Evaluate)
        kind = int(effect.digest[:2], 16) % 4
        enough = len(effect.grants) >= 1
        as_is = PolicyDecision(
            allow=kind < 2 or (kind == 2 and enough), reason="permitted", policy_ids=("p",), version="v1"
        )
        people = PolicyDecision(allow=kind < 3, reason="permitted", policy_ids=("p",), version="v1")
        return gate.Evaluated(
            as_is=as_is,
            with_people=people,
            approvals=tuple(g.event_id for g in effect.grants) or ("said-before",),
            quorum=1,
            approval_ttl_s=90,
        )

    def act(self, effect: Effect) -> Result:
        match effect:
            case terms.Check():
                self._attempts += 1
                holder, seq = done_at_once(holder_of(self._log(), effect.target)) if effect.target else (None, 0)
                facts = None if effect.job is None else done_at_once(mesh.known(self._log(), effect.job, self._now))
                return terms.Checked(
                    facts=facts,
                    actuator=f"attempt-{self._attempts}",
                    holder=holder.proposal_id if holder else "",
                    hold_seq=seq,
                )
            case terms.Allot(job=job):
                return self._allot(job)
            case terms.Execute(job=job):
                claim = self._store.read((f"action.claimed.{job.key}",))[0]
                ours = claim.event.actuator == effect.actuator
                if not ours or job.key in self.fenced or self._now() >= effect.deadline:
                    return (
                        terms.NotOurs() if not ours else terms.Outcome(outcome="failure", summary="late", error="late")
                    )
                self.done[job.key] += 1
                if (target := held(job.action, job.swarm, job.persona)) is not None:
                    self.held[target.id].append((job.key, claim.seq))
                return terms.Outcome(outcome="success", summary="done")
            case terms.Inquire(job=job) if KINDS[job.action.kind].idempotency == "key":
                return terms.Outcome(outcome="unknown", summary="its target cannot tell", error="cannot_tell")
            case terms.Inquire(job=job):
                if self.done[job.key]:
                    return terms.Outcome(outcome="success", summary="it was done")
                self.fenced.add(job.key)
                return terms.Outcome(outcome="failure", summary="it was not done", error="not_executed")
            case _:
                raise TypeError(effect)

    def _allot(self, job: terms.Job) -> Result:
        """From a lot not yet spent; else one is asked for, and perhaps there by the next attempt. What was taken is gone."""
        held = None
        for recorded in self._store.read((f"lot.granted.{job.swarm}.actuator",)):
            lot = recorded.event
            assert isinstance(lot, LotGranted)
            if lot.expires_at <= self._now():
                continue
            for share in lot.shares:
                if share.persona == job.persona and self.spent[lot.lot_id, share.persona] < share.actions:
                    self.spent[lot.lot_id, share.persona] += 1
                    return terms.Allotted(lot_id=lot.lot_id)
            held = next((share for share in lot.held if share.persona == job.persona), held)
        if held is not None and self._dice.random() < 0.5:
            return terms.Allotted(scope=held.scope, until=self._now() + timedelta(seconds=20))
        request_id = f"lot-{len(self._store.records)}"
        wants = (LotShare(persona=job.persona, actions=self._dice.randrange(1, 5)),)
        event = LotRequested(swarm=job.swarm, persona="actuator", wants=wants)
        envelope = Envelope(id=request_id, source="actuator", time=self._now(), correlation=request_id)
        self._store.append([Message(event=event, envelope=envelope)])
        return terms.Allotted()

    def remember(self, effect: Effect) -> Result:
        assert isinstance(effect, compactor.TakeSnapshot)
        if self._faulty() and self._dice.random() < 0.2:
            return compactor.Unavailable(detail="S3 is away", reason="cold_unavailable")
        return compactor.Written(
            key="k", sha256="0" * 64, seq=effect.seq, summary="s", counts=SnapshotCounts(), ratio=1.0, size_bytes=1
        )
