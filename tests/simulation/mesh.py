"""Every service of the simulated mesh and what each may do next: take a delivery, go one operation on, think, hear its clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from services.actuator import decider as actuator
from services.checker.decider import Checker
from services.governor.decider import ExpiredGrants, Governor, LastThoughts
from services.governor.decider import Limits as GovernorLimits
from services.governor.founding import Founding
from services.governor.service import FOUNDING, SHARING
from services.governor.sharing import Living, Sharing
from services.memory_compactor import decider as compactor
from services.memory_compactor.believing.decider import Believer
from services.meta_orchestrator.allocation.decider import Allocator, Claims
from services.meta_orchestrator.allocation.measuring import CLASSES as MEASURED
from services.meta_orchestrator.allocation.measuring import Measures
from services.meta_orchestrator.arbitration import decider as arbitration
from services.meta_orchestrator.arbitration.overdue import Overdue
from services.meta_orchestrator.arbitration.wiring import DECIDES
from services.meta_orchestrator.routing import decider as routing
from services.meta_orchestrator.routing.wiring import DECIDES as ROUTED
from services.meta_orchestrator.routing.wiring import TIMERS
from services.persona_runner.hosting.stepping import stepping
from services.policy_gate import decider as gate
from services.verifier import decider as verifier
from shared.contracts.catalog import SHORT_LIVED, class_of
from shared.contracts.envelope import Message
from shared.contracts.events import (
    Credits,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    ThoughtGenerated,
)
from shared.contracts.ids import EVERYONE
from shared.contracts.services import SERVICES
from shared.decider import Decider, Delivered, Effect, Result, Tick
from shared.invariants import Limits
from shared.log.memory import Store
from shared.log.port import DuplicateEvent, Expect, StaleBoundary
from shared.runtime.handling import Again, Commit, Dead, Ends, Fold, Newest, Perform, Read, Verdict, handle
from tests.simulation import hands
from tests.simulation.orchestrating import Intents
from tests.simulation.processes import Consumer, Replica, Runner, Running
from tests.simulation.thinker import think

GOVERNOR = GovernorLimits(
    drain_s=20,
    grant_ttl_s=40,
    request_ttl_s=60,
    spawns_per_minute=30,
    actions_per_minute=6,
    swarm_per_minute=Credits(tokens=1_000_000, compute_ms=600_000, actions=600),
    global_per_minute=Credits(tokens=1_200_000, compute_ms=700_000, actions=700),
)
LIMITS = Limits(
    swarm_per_minute=GOVERNOR.swarm_per_minute,
    actions_per_minute=GOVERNOR.actions_per_minute,
    lifetime_children=GOVERNOR.max_lifetime_children,
    global_per_minute=GOVERNOR.global_per_minute,
)
SWARM, OTHER = "alpha", "beta"
ACK_WAIT = timedelta(seconds=5)
PERCEIVED = frozenset(SERVICES["persona_runner"].consumes)


class Mesh:
    """All deciders over one in-memory log, on a made-up clock. `faults` says whether anything may go wrong just now."""

    def __init__(self, seed: int, *, founds: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.running_since: datetime | None = None
        self.now = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
        self.store = Store(lambda: self.now, dedup_window=timedelta(seconds=self.random.choice((0, 30))))
        self.faults = False
        self._serial = 0
        self.hands = hands.Hands(self.store, self.random, lambda: self.now, lambda: self.faults)
        self.replicas = [*self._service("governor", Governor(limits=GOVERNOR), hands.none, 2)]
        self.sharing = self._service("governor", Sharing(limits=GOVERNOR), hands.none, 2, classes=SHARING)
        self.replicas += self.sharing
        self.founds = founds
        """How often somebody wants a child to begin a swarm; 0: nobody is there who could let it."""
        if founds:
            self.replicas += self._service("governor", Founding(limits=GOVERNOR), hands.none, 2, classes=FOUNDING)
        allocator = Allocator(total=GOVERNOR.global_per_minute, max_swarms=GOVERNOR.max_swarms)
        self.replicas += self._service("meta_orchestrator", allocator, hands.none, 2, classes=())
        self.replicas += self._service("verifier", verifier, self.hands.verify, 2)
        checks = Consumer(frozenset(("check.requested",)))
        self.replicas += [Replica("checker", Checker(slot=f"c{n}"), checks, self.hands.check) for n in (1, 2)]
        self.replicas += self._service("policy_gate", gate, self.hands.judge, 2)
        self.replicas += self._service("actuator", actuator, self.hands.act, 2)
        self.replicas += self._service(
            "memory_compactor", compactor.Compactor(every_thoughts=3), self.hands.remember, 1
        )
        arbitrating = Consumer(frozenset(DECIDES))
        self.arbitration = [
            Replica("meta_orchestrator", arbitration, arbitrating, self.hands.arbitrator()) for _ in range(2)
        ]
        self.replicas += self.arbitration
        self.overdue = Overdue(self._never, lambda: self.now)
        self.overdue.begin()
        self._overdue_at = 0
        self.asks = 0.05
        """How often it is intents that something happens to."""
        self.buries: dict[str, float] = {}
        """By class, how often what a meta-orchestrator is delivered ends in the dead letters instead."""
        self.buried = 0
        self.lies = False
        """Whether runners also answer what they were not asked, twice, or too late."""
        self.intents = Intents(self.store, self.random)
        self.routing = self._service("meta_orchestrator", routing, self._choose, 2, classes=(*ROUTED, *TIMERS))
        self.replicas += self.routing
        believer = Believer(review_s=60, archive_s=120)
        self.replicas += self._service("memory_compactor", believer, self.hands.believe, 1)
        self.runners = [Runner("runner-1"), Runner("runner-2")]

    def _service(
        self,
        name: str,
        decider: Decider[object],
        perform: Callable[[Effect], Result],
        count: int,
        *,
        classes: tuple[str, ...] | None = None,
    ) -> list[Replica]:
        consumer = Consumer(frozenset(SERVICES[name].consumes if classes is None else classes) - set(SHORT_LIVED))
        return [Replica(name, decider, consumer, perform) for _ in range(count)]

    def deliver(self, replica: Replica) -> bool:
        """Give the replica a message: a new one, one whose ack wait is over, sometimes one it has had before."""
        consumer = replica.consumer
        due = [seq for seq, at in consumer.pending.items() if at <= self.now]
        fresh = next(
            (r for r in self.store.records[consumer.position :] if class_of(r.event) in consumer.classes), None
        )
        dice = self.random.random() if self.faults else 1.0
        if dice < 0.03:
            seq = self.random.randrange(len(self.store.records)) + 1
            if class_of(self.store.records[seq - 1].event) not in consumer.classes:
                return False
        elif dice < 0.15 and consumer.pending:  # its first receiver hangs, and is not dead
            seq = self.random.choice(list(consumer.pending))
        elif due and (fresh is None or self.random.random() < 0.5):
            seq = self.random.choice(due)
        elif fresh is not None:
            seq = consumer.position = fresh.seq
        else:
            consumer.position = len(self.store.records)
            return False
        consumer.pending[seq] = self.now + ACK_WAIT
        consumer.attempts[seq] += 1
        message = Delivered(recorded=self.store.records[seq - 1], now=self.now, attempt=consumer.attempts[seq])
        boundary = replica.decider.boundary(message)
        if boundary is None:
            consumer.pending.pop(seq, None)
            return True
        if boundary.reads in replica.running:
            return False
        often = self.buries.get(class_of(message.recorded.event), 0.0)
        if often and replica.name == "meta_orchestrator" and self.random.random() < often:
            del consumer.pending[seq]
            self.buried += 1
            return True
        self._start(replica, message, lambda verdict: self._verdict(consumer, seq, verdict))
        return True

    def _start(self, replica: Replica, message: Delivered | Tick, done: Callable[[Verdict | None], None]) -> None:
        boundary = replica.decider.boundary(message)
        assert boundary is not None
        fold = replica.folds.get(boundary.reads) or Fold(replica.decider, boundary)
        if boundary.keeps:
            replica.folds[boundary.reads] = fold
        steps = handle(fold, message, source=replica.name, lags=boundary.lags)
        replica.running[boundary.reads] = Running(steps, boundary.reads, done)

    def _verdict(self, consumer: Consumer, seq: int, verdict: Verdict | None) -> None:
        if verdict is None:
            return
        if isinstance(verdict, Again):
            consumer.pending[seq] = self.now + timedelta(seconds=verdict.delay_s)
            return
        if isinstance(verdict, Dead):
            consumer.dead.append((seq, verdict.reason))
        if not (self.faults and self.random.random() < 0.05):  # an ack may be lost
            consumer.pending.pop(seq, None)

    def advance(self, owner: Replica | Runner) -> None:
        """One operation of one thing the process is in the middle of."""
        if not owner.running:
            return
        self._advance(owner, self.random.choice(list(owner.running.values())))

    def _advance(self, owner: Replica | Runner, running: Running) -> None:
        try:
            operation = running.steps.send(running.answer)
        except StopIteration as stop:
            owner.running.pop(running.lane, None)
            running.done(stop.value)
            return
        match operation:
            case Read(filters, after):
                running.answer = self.store.stored(filters, after)
            case Ends(filters):
                running.answer = tuple(self.store.last_seq(f) for f in filters)
            case Newest(filters):
                running.answer = self.store.newest(filters)
            case Perform(effect):
                perform = owner.perform if isinstance(owner, Replica) else lambda effect: think(effect, self.random)
                running.answer = (perform(effect), self.now)
            case Commit(messages, expect):
                lost = self.faults and self.random.random() < 0.04
                if not (lost and self.random.random() < 0.5):
                    running.answer = self._commit(messages, expect)
                if lost:  # whether it was stored or not, nobody was told
                    owner.running.pop(running.lane, None)
                    if isinstance(owner, Replica):
                        owner.folds.pop(running.lane, None)
                    running.done(None)

    def _commit(self, messages: tuple[Message, ...], expect: tuple[Expect, ...]) -> tuple[int, ...] | None:
        try:
            return self.store.append(messages, expect)
        except (StaleBoundary, DuplicateEvent):
            return None

    def think(self, runner: Runner) -> None:
        """Let a runner take in part of the log, and look at one persona that is due."""
        behind = self.store.records[runner.host.position :]
        for recorded in behind[: self.random.randrange(len(behind) + 1) if self.faults else None]:
            if class_of(recorded.event) in PERCEIVED:
                runner.host.feed(recorded)
            else:
                runner.host.position = recorded.seq
        for key in runner.host.due(self.now, 1):

            def done(verdict: Verdict | None, key: tuple[str, str] = key) -> None:
                if verdict is None:
                    runner.host.settle(key, self.now, not_before_s=1.0)

            runner.running[key] = Running(stepping(runner.host, key, lambda: self.now, "persona_runner"), key, done)

    def _choose(self, effect: Effect) -> Result:
        return self.intents.perform(effect, self.now, faulty=self.faults)

    def look(self) -> bool:
        """What a meta-orchestrator found becomes a tick; whether there was anything."""
        tick = self.intents.tick(self.now, faulty=self.faults)
        if tick is None:
            return False
        replica = self.random.choice(self.routing)
        boundary = replica.decider.boundary(tick)
        if boundary is not None and boundary.reads not in replica.running:
            self._start(replica, tick, lambda verdict: None)
        return True

    def sweep_overdue(self) -> None:
        """What should have happened by now to intents and conflicts, and has not."""
        self.intents.sweep(self.now)
        for recorded in self.store.records[self._overdue_at :]:
            self.overdue.apply(recorded)
        self._overdue_at = len(self.store.records)
        replica = self.random.choice(self.arbitration)
        for tick in self.overdue.due(self.now):
            boundary = replica.decider.boundary(tick)
            if boundary is not None and boundary.reads not in replica.running:
                self._start(replica, tick, lambda verdict: None)

    async def _never(self, tick: Tick) -> None:
        raise AssertionError

    def tick(self) -> None:
        """The clock of a governor or a meta-orchestrator, at one of its replicas."""
        thinking, granted = self._some_swarm(SWARM), self._some_swarm(SWARM, OTHER)
        lived, claimed = self._somewhere() if self.founds else 0, self._somewhere()
        match self.random.randrange(4):
            case 0:
                self._tick(self._last_thoughts(self.running_since or self.now), thinking)
            case 1:
                self._tick(ExpiredGrants(), granted)
            case 2:
                self._tick(self._living(lived) if self.founds else Living(swarms=(SWARM, OTHER)), EVERYONE)
            case _:
                self._tick(self._claims(claimed), EVERYONE)

    def sweep(self) -> None:
        """Every tick of a governor and a meta-orchestrator, for every swarm, and what follows; then a minute passes."""
        last = self._last_thoughts(self.now)
        for swarm in (SWARM, OTHER, *self.begun()):
            self._tick(last, swarm)
            self._work()
            self._tick(ExpiredGrants(), swarm)
            self._work()
        end = len(self.store.records)
        for facts in (self._claims(end), self._living(end)):
            self._tick(facts, EVERYONE)
            self._work()
        self.now += timedelta(seconds=60)

    def _tick(self, facts: Result, swarm: str) -> None:
        self._serial += 1
        deciders = {Living: Sharing, Claims: Allocator}.get(type(facts), Governor)
        replica = self.random.choice([r for r in self.replicas if isinstance(r.decider, deciders)])
        message = Tick(id=f"tick-{self._serial}", now=self.now, swarm=swarm, facts=facts)
        boundary = replica.decider.boundary(message)
        if boundary is not None and boundary.reads not in replica.running:
            self._start(replica, message, lambda verdict: None)

    def _last_thoughts(self, running_since: datetime) -> LastThoughts:
        thoughts = (r.event for r in self.store.records if isinstance(r.event, ThoughtGenerated))
        return LastThoughts(useful_at={e.persona: e.useful_at for e in thoughts}, running_since=running_since)

    def _some_swarm(self, *first: str) -> str:
        """One of these, or of those that were begun."""
        begun = self.begun() if self.founds else []
        return self.random.choice((*first, *begun)) if len(first) + len(begun) > 1 else first[0]

    def begun(self) -> list[str]:
        """The swarms that personas of others began, in order."""
        spawned = (r.event for r in self.store.read(("persona.spawned.*.*",)))
        return [e.swarm for e in spawned if isinstance(e, PersonaSpawned) and e.parent_swarm is not None]

    def _somewhere(self) -> int:
        """Up to which sequence somebody has followed the log."""
        end = len(self.store.records)
        return self.random.randrange(end + 1) if self.faults else end

    def _living(self, end: int) -> Living:
        """As a governor that has followed the log up to there knows who lives."""
        live: dict[str, set[str]] = {}
        for recorded in self.store.records[:end]:
            match recorded.event:
                case PersonaSpawned() as event:
                    live.setdefault(event.swarm, set()).add(event.persona)
                case PersonaDraining() | PersonaReaped() as event:
                    live.get(event.swarm, set()).discard(event.persona)
                case _:
                    pass
        return Living(swarms=tuple(sorted(swarm for swarm, personas in live.items() if personas)), seq=end)

    def _claims(self, end: int) -> Claims:
        """As one that has followed the log up to there measures them."""
        measures = Measures()
        for recorded in self.store.records[:end]:
            if class_of(recorded.event) in MEASURED:
                measures.apply(recorded)
        limits = max((swarm.limits_seq for swarm in measures.swarms.values()), default=0)
        return Claims(claims=measures.claims(self.now, GOVERNOR.swarm_per_minute), limits_seq=limits)

    def _work(self) -> None:
        """All that can be done now."""
        for replica in self.replicas:
            while self.deliver(replica):
                while replica.running:
                    self.advance(replica)
            while replica.running:
                self.advance(replica)
        for runner in self.runners:
            if runner.stalls(self.now):
                continue
            self.think(runner)
            while runner.running:
                self.advance(runner)
        self.tick()
        self.sweep_overdue()
        while self.look():
            pass
        while any(r.running for r in self.replicas):
            for replica in self.replicas:
                if replica.running:
                    self.advance(replica)

    def _work_of(self, *names: str) -> None:
        """All that these can do now."""
        for replica in self.replicas:
            while replica.name in names and (self.deliver(replica) or replica.running):
                while replica.running:
                    self.advance(replica)
