"""Intents in the simulation: people who submit and cancel them, runners who answer, lie and come late, and what two meta-orchestrators
follow, each as far as it has read.

The roster and the reconciler are the real ones, fed from the in-memory log; a crash makes them begin anew. The embedder is not: two
words are near each other here when a seed says so.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Coroutine, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec
import numpy as np

from services.gateway.commands.intents import family_cancelled
from services.meta_orchestrator.routing.decider import Choose, Hear, Heard
from services.meta_orchestrator.routing.reconciling import LIVES, Reconciling
from services.meta_orchestrator.routing.roster import CLASSES, Roster
from shared.contracts.boundaries import intent as boundary_of
from shared.contracts.catalog import class_of
from shared.contracts.events import (
    AnyEvent,
    Credits,
    EvidenceRef,
    IntentAnswered,
    IntentAssigned,
    IntentDelegated,
    IntentSubmitted,
)
from shared.contracts.events.intents import Merge
from shared.contracts.ids import EVERYONE, caused_token
from shared.decider import Effect, Result, Tick
from shared.intents import fold, why_not_below
from shared.log.memory import Store
from shared.memory.port import Vector

T = TypeVar("T")
FOLLOWED = frozenset((*LIVES, *CLASSES))
MERGES: tuple[Merge, ...] = ("first", "best", "vote", "combine")
LEASE_S = 40.0
Guarded = tuple[tuple[AnyEvent, ...], tuple[tuple[str, int], ...]]
"""Events of one commit, and the last sequence of each boundary that guards it."""


class Words:
    """An embedder: a direction of its own for each text, half of them near a common one."""

    name, dim = "words", 4

    async def embed(self, texts: Sequence[str]) -> Vector:
        rows = []
        for text in texts:
            byte = hashlib.sha256(text.encode()).digest()[0]
            row = np.array([1.0 if byte % 2 else 0.0, byte / 255, 0.5, 0.1], np.float32)
            rows.append(row / np.linalg.norm(row))
        return np.array(rows, np.float32).reshape(len(texts), self.dim)

    async def close(self) -> None:
        return None


def at_once(work: Coroutine[object, object, T]) -> T:
    """The result of what never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        found: T = stop.value
        return found
    raise AssertionError("it waits")


class Follower:
    """What one meta-orchestrator has folded of the log."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.crash()

    def crash(self) -> None:
        self.position = 0
        self._begun = False
        self.roster = Roster(Words())
        self.reconciling = Reconciling(self.roster, self._never)

    def read(self, upto: int | None = None) -> None:
        """On as far as that; what was there at the first reading is the past."""
        for recorded in self._store.records[self.position : upto]:
            self.position = recorded.seq
            name = class_of(recorded.event)
            if name in CLASSES:
                self.roster.apply(recorded)
            if name in FOLLOWED:
                self.reconciling.apply(recorded)
        if not self._begun:
            self._begun = True
            self.reconciling.begin()

    async def _never(self, tick: Tick) -> None:
        raise AssertionError


class Intents:
    """`put` stores an event of the mesh's edge, `message` makes one."""

    def __init__(self, store: Store, dice: random.Random) -> None:
        self._store, self._dice = store, dice
        self.followers = (Follower(store), Follower(store))
        self._serial = 0

    def perform(self, effect: Effect, now: datetime, *, faulty: bool) -> Result:
        """As one of them does, which may be behind."""
        if isinstance(effect, Hear):
            by_seq = {r.seq: r.id for r in self._store.records}
            return Heard(found=tuple(ref for ref in effect.evidence if by_seq.get(ref.seq) == ref.id))
        assert isinstance(effect, Choose)
        follower = self._dice.choice(self.followers)
        behind = len(self._store.records) - follower.position
        follower.read(follower.position + self._dice.randrange(behind + 1) if faulty else None)
        return at_once(follower.roster.choose(effect, now, lease_s=LEASE_S))

    def tick(self, now: datetime, *, faulty: bool) -> Tick | None:
        """What one of them found."""
        follower = self._dice.choice(self.followers)
        if faulty and self._dice.random() < 0.1:
            follower.crash()
        follower.read()
        return follower.reconciling.next(now)

    def sweep(self, now: datetime) -> None:
        """Both look for what is overdue, in what they have read."""
        for follower in self.followers:
            follower.reconciling.sweep(now)

    def said(self, now: datetime, *, lies: bool) -> Guarded | None:
        """What somebody outside says next, new work or an answer of their own, and what guards it; or nothing."""
        if self._dice.random() < 0.35 or not lies:
            return self._submission(now)
        answer = self._answer()
        return None if answer is None else ((answer,), ())

    def _submission(self, now: datetime) -> Guarded | None:
        self._serial += 1
        dice = self._dice
        submitted = IntentSubmitted(
            swarm="alpha",
            persona=EVERYONE,
            intent_id=caused_token(f"intent-{self._serial}", "i"),
            goal=f"question {dice.randrange(8)}",
            tags=dice.choice(((), ("r",), ("none",))),
            deadline=now + timedelta(seconds=dice.choice((1, 60, 200))),
            budget=dice.choice((Credits(), Credits(tokens=900), Credits(tokens=5000, compute_ms=900))),
            wanted_persona=dice.choice((None, None, "root", "p1")),
            fan_out=dice.choice((1, 1, 2, 3)),
            merge=dice.choice(MERGES),
            max_routes=dice.choice((1, 2, 8)),
            principal="op",
        )
        before = [r.event for r in self._store.records if isinstance(r.event, IntentSubmitted)]
        if not before or dice.random() < 0.7:
            return (submitted,), ((boundary_of("alpha", submitted.intent_id), 0),)
        parent = fold(self._store.read((boundary_of("alpha", dice.choice(before).intent_id),)))
        assert parent.submitted is not None
        child = msgspec.structs.replace(
            submitted,
            parent_id=parent.submitted.intent_id,
            budget=Credits(tokens=dice.choice((100, 700))),
            deadline=min(submitted.deadline, parent.submitted.deadline),
        )
        if why_not_below(parent, child) is not None:
            return None
        whose = {"swarm": "alpha", "persona": EVERYONE, "intent_id": parent.submitted.intent_id}
        taken = IntentDelegated(**whose, child_id=child.intent_id, budget=child.budget)
        parents = (boundary_of("alpha", parent.submitted.intent_id), parent.seq)
        return (child, taken), ((boundary_of("alpha", child.intent_id), 0), parents)

    def _answer(self) -> AnyEvent | None:
        """Of somebody who has, or had, one: perhaps twice, perhaps too late, perhaps of a route that is not theirs."""
        dice = self._dice
        assigned = [r.event for r in self._store.records if isinstance(r.event, IntentAssigned)]
        if not assigned:
            return None
        one = dice.choice(assigned[-3:])
        cited = dice.choice(self._store.records)
        return IntentAnswered(
            swarm=one.swarm,
            persona=one.persona,
            intent_id=one.intent_id,
            home=one.home,
            route=one.route if dice.random() < 0.9 else one.route + 1,
            declined=dice.random() < 0.3,
            answer=f"answer {dice.randrange(3)}",
            choice=f"choice {dice.randrange(2)}",
            confidence=dice.randrange(11) / 10,
            evidence=(EvidenceRef(id=cited.id, seq=cited.seq), EvidenceRef(id="nothing", seq=1)),
            spent=Credits(tokens=dice.choice((0, 50, 2**40))),
            slot="r1",
        )

    def cancellation(self) -> Guarded | None:
        """One intent and all below it, as the gateway cancels them: the events and what guards each."""
        lives = [r.event for r in self._store.records if isinstance(r.event, IntentSubmitted)]
        if not lives:
            return None
        chosen = self._dice.choice(lives).intent_id
        family, queue = [], [chosen]
        while queue:
            name = queue.pop(0)
            life = fold(self._store.read((boundary_of("alpha", name),)))
            queue += life.children
            if life.ended and name == chosen:
                return None
            if not life.ended:
                family.append((name, life.seq))
        events = family_cancelled("alpha", [name for name, _ in family], "op", "no more")
        return events, tuple((boundary_of("alpha", name), seq) for name, seq in family)
