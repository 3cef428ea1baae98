"""A life in which several swarms find things out: personas that share and that do not, claims that agree, echo and contradict, checks
by the checkers, two who keep beliefs and two who merge them, faults and crashes between any two operations, time for reviews.

What is looked up is looked up by the services' own effects; only what a check measures and whom a policy lets merge is by the dice.
"""

from __future__ import annotations

from datetime import timedelta

from services.memory_compactor.believing.decider import CONSUMED, Believer
from services.memory_compactor.believing.merging import CONSUMED as MERGED
from services.memory_compactor.believing.merging import Merger, Permit, Permitted
from shared.contracts.events import (
    CheckRequested,
    EvidenceRef,
    HypothesisRaised,
    LogResolve,
    ObservationRecorded,
    ObservationVouched,
    PersonaSpawned,
    SpawnRequested,
)
from shared.contracts.ids import EVERYONE, caused_token
from shared.contracts.persona import PersonaPolicy
from shared.contracts.services import SERVICES
from shared.decider import Effect, Result
from tests.simulation.world import OTHER, SWARM, World

SHARING, PRIVATE = ("ada", "bob", "eve"), "shy"
CLAIMS = (
    "the disk of db is full",
    "the disk of db is not full",
    "the disk of db is at 91 percent",
    "the disk of db is at 95 percent",
    "logins to db fail",
    "logins to db do not fail",
)
LINES = 6
"""So few that what one found out is now and then an echo of another's."""
STEPS = 1000


class Pondering:
    """One seed's world with those who believe in it. `permitted`: whose beliefs may be merged; it changes while they do."""

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        self.dice = world.random
        self.permitted = {SWARM, OTHER}
        world.replicas = [replica for replica in world.replicas if not isinstance(replica.decider, Believer)]
        classes = (*CONSUMED, *SERVICES["memory_compactor"].timers)
        believer = Believer(review_s=60, archive_s=120)
        self.own = world._service("memory_compactor", believer, world.hands.believe, 2, classes=classes)
        self.own += world._service("memory_compactor", Merger(), self._permit, 2, classes=MERGED)
        self.own += [replica for replica in world.replicas if replica.name in ("checker", "governor")]
        world.replicas += [replica for replica in self.own if replica not in world.replicas]
        for swarm in (SWARM, OTHER):
            for name in (*SHARING, PRIVATE):
                policy = PersonaPolicy(share_memory=name != PRIVATE)
                whose = {"swarm": swarm, "persona": name, "name": name, "role": "r", "charter": "c"}
                world.client(SpawnRequested(**whose, policy=policy, principal="op"))
        world._work_of("governor")
        births = [r.event for r in world.store.records if isinstance(r.event, PersonaSpawned)]
        self.personas = [(event.swarm, event.persona) for event in births if event.persona in (*SHARING, PRIVATE)]

    def _permit(self, effect: Effect) -> Result:
        assert isinstance(effect, Permit)
        return Permitted(allow=effect.swarm in self.permitted)

    def ponder(self, steps: int = STEPS) -> World:
        """So many steps, faults included; then without, until every belief has been looked at again."""
        world, dice = self.world, self.dice
        world.faults = True
        for _ in range(steps):
            busy = [replica for replica in self.own if replica.running]
            chance = dice.random()
            if busy and chance < 0.55:
                world.advance(dice.choice(busy))
            elif chance < 0.85:
                world.deliver(dice.choice(self.own))
            elif chance < 0.93:
                self.claim()
            elif chance < 0.97:
                world.now += timedelta(seconds=dice.choice((0.3, 1.0, 6.0, 25.0)))
            elif chance < 0.98:
                self.permitted = set(dice.sample((SWARM, OTHER), dice.randrange(3)))
            else:
                dice.choice(self.own).crash()
        world.settle()
        return world

    def claim(self) -> None:
        """A persona saw a line or two, claims something and asks for a check of it, as a runner would have committed it."""
        world, (swarm, persona) = self.world, self.dice.choice(self.personas)
        lines = []
        for _ in range(self.dice.choice((1, 1, 2))):
            text, tainted = f"line {self.dice.randrange(LINES)}", self.dice.random() < 0.3
            said = ObservationRecorded if tainted else ObservationVouched
            world.client(said(swarm=swarm, persona=EVERYONE, text=text))
            lines.append(world.store.records[-1])
        seen, evidence = lines[-1], tuple(EvidenceRef(id=line.id, seq=line.seq) for line in lines)
        claim = self.dice.choice(CLAIMS)
        hypothesis = caused_token(seen.id, "h")
        whose = {"swarm": swarm, "persona": persona, "hypothesis_id": hypothesis}
        topic = "db" if "disk" in claim else "logins"
        world.client(HypothesisRaised(**whose, topic=topic, claim=claim, confidence=0.8, evidence=evidence))
        world.client(CheckRequested(**whose, check_id=caused_token(seen.id, "c"), probe=LogResolve(evidence=evidence)))


def pondered(seed: int, steps: int = STEPS) -> World:
    """The world after one such life."""
    return Pondering(seed).ponder(steps)
