"""The whole mesh in one thread: every decider on the in-memory log, and a seed that decides what goes wrong.

Services are driven through the very handling code of the real shell, one operation at a time, so a crash can fall between any
two. Messages are lost, repeated, reordered; answers of commits get lost; clocks jump; effects really happen, in a ledger.
What must hold is checked from the log alone by `shared.invariants`, and from the ledger. One file, because it is one state machine.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta

import msgspec

from services.actuator import decider as actuator
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
from services.meta_orchestrator.arbitration.wiring import DECIDES
from services.meta_orchestrator.routing import decider as routing
from services.meta_orchestrator.routing.wiring import DECIDES as ROUTED
from services.meta_orchestrator.routing.wiring import TIMERS
from services.persona_runner.hosting.host import Host
from services.persona_runner.hosting.stepping import stepping
from services.policy_gate import decider as gate
from services.verifier import decider as verifier
from shared.conflicts import Conflict, evolve
from shared.contracts.action import Action, action_digest
from shared.contracts.boundaries import conflict, life
from shared.contracts.boundaries import intent as boundary_of
from shared.contracts.catalog import SHORT_LIVED, class_of
from shared.contracts.envelope import Message
from shared.contracts.events import (
    AnyEvent,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    CognitionStarted,
    CognitionStopped,
    ConflictRaised,
    ConflictRuled,
    Credits,
    EvidenceRef,
    IntentSubmitted,
    LimitsChanged,
    LotRequested,
    LotShare,
    Most,
    ObservationRecorded,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    ProposalCreated,
    ProposalKey,
    ReapRequested,
    SpawnRequested,
    SwarmRequested,
    ThoughtGenerated,
)
from shared.contracts.ids import EVERYONE, caused_id, caused_token
from shared.contracts.kinds.files import own_folder
from shared.contracts.persona import PersonaPolicy
from shared.contracts.services import SERVICES
from shared.decider import Decider, Decision, Delivered, Effect, Result, Tick
from shared.invariants import Invariants, Limits
from shared.log.memory import Store
from shared.log.port import DuplicateEvent, Expect, StaleBoundary
from shared.runtime.handling import Again, Answer, Commit, Dead, Ends, Fold, Operation, Perform, Read, Verdict, handle
from tests.simulation import hands
from tests.simulation.orchestrating import Intents
from tests.simulation.thinker import think

Steps = Generator[Operation, Answer, Verdict]
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
SHARED = ("notes/a.md", "Notes/A.md", "notes/b.md")
"""What several want to change; two of them are one."""
STALL_S = 60
"""How long a runner stands still: past the drain of whomever it thinks for."""
PERCEIVED = frozenset(SERVICES["persona_runner"].consumes)


class Running:
    """A generator that waits for its next answer."""

    __slots__ = ("answer", "done", "lane", "steps")

    def __init__(self, steps: Steps, lane: tuple[str, ...], done: Callable[[Verdict | None], None]) -> None:
        self.steps, self.lane, self.done = steps, lane, done
        self.answer: Answer = None


class Consumer:
    """A durable consumer: what was delivered and not acked comes again."""

    def __init__(self, classes: frozenset[str]) -> None:
        self.classes = classes
        self.position = 0
        self.pending: dict[int, datetime] = {}
        self.attempts: Counter[int] = Counter()
        self.dead: list[tuple[int, str]] = []


class Replica:
    """One process of a service: its cached folds and what it is in the middle of."""

    def __init__(
        self, name: str, decider: Decider[object], consumer: Consumer, perform: Callable[[Effect], Result]
    ) -> None:
        self.name, self.decider, self.consumer, self.perform = name, decider, consumer, perform
        self.folds: dict[tuple[str, ...], Fold[object]] = {}
        self.running: dict[tuple[str, ...], Running] = {}

    def crash(self) -> None:
        self.folds.clear()
        self.running.clear()


class Runner:
    """One persona runner: it may lag behind the log, and knows nothing after a crash."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.running: dict[tuple[str, ...], Running] = {}
        self.stalled_until: datetime | None = None
        self.crash()

    def stalls(self, now: datetime) -> bool:
        """Whether it stands still, as under SIGSTOP, in the middle of what it does; afterwards it goes on where it was."""
        return self.stalled_until is not None and now < self.stalled_until

    def crash(self) -> None:
        self.running.clear()
        self.stalled_until = None
        self.host = Host(shards=1, thinker="scripted", runner=self.name)
        for shard in range(1):
            self.host.begin(shard)
            self.host.end(shard)


class World:
    """One seed's life. `chaos(n)` takes n random steps, `settle()` lets the mesh finish without faults."""

    def __init__(self, seed: int, *, hibernates: bool = False, founds: float = 0.0) -> None:
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
        self.replicas += self._service("policy_gate", gate, self.hands.judge, 2)
        self.replicas += self._service("actuator", actuator, self.hands.act, 2)
        self.replicas += self._service(
            "memory_compactor", compactor.Compactor(every_thoughts=3), self.hands.remember, 1
        )
        arbitrating = Consumer(frozenset(DECIDES))
        self.replicas += [
            Replica("meta_orchestrator", arbitration, arbitrating, self.hands.arbitrator()) for _ in range(2)
        ]
        self.asks = 0.05
        """How often it is intents that something happens to."""
        self.lies = False
        """Whether runners also answer what they were not asked, twice, or too late."""
        self.intents = Intents(self.store, self.random)
        self.routing = self._service("meta_orchestrator", routing, self._choose, 2, classes=(*ROUTED, *TIMERS))
        self.replicas += self.routing
        believer = Believer(review_s=60, archive_s=120)
        self.replicas += self._service("memory_compactor", believer, self.hands.believe, 1)
        self.runners = [Runner("runner-1"), Runner("runner-2")]
        self.client(CognitionStarted(swarm=EVERYONE, persona=EVERYONE, loop_interval_ms=500))
        policy = PersonaPolicy(max_spawn_depth=2, max_branching_factor=2, idle_ttl_secs=600, share_memory=True)
        self.client(
            SpawnRequested(
                swarm=SWARM,
                persona="root",
                name="root",
                role="r",
                charter="c",
                policy=policy,
                principal="op",
                hibernate=hibernates,
            )
        )
        self.client(SpawnRequested(swarm=OTHER, persona="root-b", name="b", role="r", charter="c", principal="op"))
        self.client(ObservationRecorded(swarm=SWARM, persona=EVERYONE, text="line 0 failed"))
        for _ in range(2):
            for replica in (self.replicas[0], self.sharing[0]):
                self.deliver(replica)
                while replica.running:
                    self.advance(replica)
        self.client(LotRequested(swarm=SWARM, persona="actuator", wants=(LotShare(persona="root", actions=4),)))
        while self.deliver(self.replicas[0]):
            while self.replicas[0].running:
                self.advance(self.replicas[0])
        for _ in range(self.random.randrange(5)):
            self.propose()
        for _ in range(self.random.randrange(3)):
            self.assign("root")

    def propose(self, *, shared: bool | None = None) -> None:
        """A proposal of the root persona, as a runner would have committed it; what others may want too, or perhaps."""
        spawned = next(r for r in self.store.records if isinstance(r.event, PersonaSpawned))
        seen = next(r for r in self.store.records if isinstance(r.event, ObservationRecorded))
        self._serial += 1
        text = str(self.random.randrange(100))
        own = Action(
            kind="file.write",
            target=f"{own_folder(SWARM, 'root')}{self._serial}.md",
            params={"content": text, "mode": "create_or_replace"},
        )
        wanted = {"content": self.random.choice("abc"), "mode": "create_or_replace"}
        theirs = msgspec.structs.replace(own, target=self.random.choice(SHARED), params=wanted)
        action = theirs if shared or (shared is None and self.random.random() < 0.5) else own
        charter = spawned.envelope.charter or ""
        whose = {"swarm": SWARM, "persona": "root", "charter": charter}
        self.client(
            ProposalCreated(
                **whose,
                proposal_id=caused_token(f"client-{self._serial}", "p"),
                title="write",
                rationale="it was seen",
                action=action,
                evidence=(EvidenceRef(id=seen.id, seq=seen.seq),),
                digest=action_digest(**whose, action=action),
                deadline=self.now + timedelta(seconds=self.random.choice((20, 600))),
            ),
            charter,
        )

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

    # -- what happens -------------------------------------------------------------------------------------------------

    def chaos(self, steps: int) -> None:
        """Random steps, faults included."""
        self.faults = True
        for _ in range(steps):
            if self.founds and self.random.random() < self.founds:
                self.found()
                continue
            if self.random.random() < self.asks:
                self.ask()
                continue
            runners = [runner for runner in self.runners if not runner.stalls(self.now)]
            busy = [owner for owner in (*self.replicas, *runners) if owner.running]
            dice = self.random.random()
            if busy and dice < 0.6:
                self.advance(self.random.choice(busy))
                continue
            dice = self.random.random()
            if dice < 0.45:
                self.deliver(self.random.choice(self.replicas))
            elif dice < 0.73 and runners:
                self.think(self.random.choice(runners))
            elif dice < 0.75:
                self.random.choice(self.runners).stalled_until = self.now + timedelta(seconds=STALL_S)
            elif dice < 0.88:
                self.now += timedelta(seconds=self.random.choice((0.3, 0.6, 1.0, 2.0, 6.0, 25.0)))
            elif dice < 0.91:
                self.tick()
                self.look()
            elif dice < 0.96:
                self.people()
            else:
                self.random.choice([*self.replicas, *self.runners]).crash()

    def quarrel(self, count: int, steps: int) -> None:
        """So many shared actions are proposed one after another, while all who have to do with them are at work, faults included."""
        self.faults = True
        every = steps // count
        for step in range(steps):
            if step % every == 0:
                self.propose(shared=True)
            dice = self.random.random()
            busy = [replica for replica in self.replicas if replica.running]
            if busy and dice < 0.6:
                self.advance(self.random.choice(busy))
            elif dice < 0.85:
                self.deliver(self.random.choice(self.replicas))
            elif dice < 0.91:
                self.now += timedelta(seconds=self.random.choice((0.3, 1.0, 6.0)))
            elif dice < 0.94:
                self.rule()
            elif dice < 0.98:
                self.people()
            else:
                self.random.choice(self.replicas).crash()

    def press(self, count: int, steps: int) -> None:
        """So many shared actions are authorised at once, before anybody could rule on them; then the actuators are at them, faults
        included."""
        for _ in range(count):
            self.propose(shared=True)
        self.faults = False
        for _ in range(3):
            self._work_of("governor", "verifier", "policy_gate")
            self.now += timedelta(seconds=1)
        self.faults = True
        actuators = [replica for replica in self.replicas if replica.name == "actuator"]
        for _ in range(steps):
            dice = self.random.random()
            busy = [replica for replica in actuators if replica.running]
            if busy and dice < 0.6:
                self.advance(self.random.choice(busy))
            elif dice < 0.85:
                self.deliver(self.random.choice(actuators))
            elif dice < 0.92:
                self.now += timedelta(seconds=self.random.choice((0.3, 1.0, 6.0)))
            elif dice < 0.98:
                self.faults = False
                self._work_of("governor")
                self.faults = True
            else:
                self.random.choice(actuators).crash()

    def _work_of(self, *names: str) -> None:
        """All that these can do now."""
        for replica in self.replicas:
            while replica.name in names and (self.deliver(replica) or replica.running):
                while replica.running:
                    self.advance(replica)

    def settle(self) -> None:
        """No more faults; time passes until nothing is left to do. Raises `AssertionError` when that never comes."""
        self.faults = False
        for runner in self.runners:
            runner.stalled_until = None
            while runner.running:  # before it hears what happened meanwhile
                self.advance(runner)
        self.client(CognitionStopped(swarm=EVERYONE, persona=EVERYONE))
        self.rest()

    def stall_past_a_reap(self) -> int:
        """Every runner stands still in the middle of steps, whose personas are reaped meanwhile; how many steps there were."""
        self.faults = False
        for runner in self.runners:
            for _ in range(3):
                self.think(runner)
            for step in list(runner.running.values()):
                self._advance(runner, step)
            runner.stalled_until = self.now + timedelta(days=1)
        self.client(ReapRequested(swarm=SWARM, persona="root", cascade=True, reason="test"))
        self.rest()
        return sum(len(runner.running) for runner in self.runners)

    def rest(self) -> None:
        """Who is not stalled works without faults until nothing is left to do. Raises `AssertionError` when that never comes."""
        self.faults = False
        for _ in range(400):
            before = len(self.store.records)
            self._work()
            idle = len(self.store.records) == before and not self.open_proposals() and not self.draining()
            if idle and not self.open_intents():
                return
            self.now += timedelta(seconds=30 if idle else 7)
        raise AssertionError(f"never came to rest: {self.open_proposals()} {self.draining()} {self.open_intents()}")

    def live(self, seconds: float, *, every_s: float = 20.0) -> None:
        """Time passes without faults, and whoever has something to do does it."""
        self.faults = False
        self.running_since = self.running_since or self.now
        until = self.now + timedelta(seconds=seconds)
        while self.now < until:
            self._work()
            self.now += timedelta(seconds=every_s)

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
        while self.look():
            pass
        while any(r.running for r in self.replicas):
            for replica in self.replicas:
                if replica.running:
                    self.advance(replica)

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

    def tick(self) -> None:
        """The clock of a governor or a meta-orchestrator, at one of its replicas."""
        last = {r.event.persona: r.event.useful_at for r in self.store.records if isinstance(r.event, ThoughtGenerated)}
        facts, swarm = self.random.choice(
            (
                (LastThoughts(useful_at=last, running_since=self.running_since or self.now), self._some_swarm(SWARM)),
                (ExpiredGrants(), self._some_swarm(SWARM, OTHER)),
                (self._living() if self.founds else Living(swarms=(SWARM, OTHER)), EVERYONE),
                (self._claims(), EVERYONE),
            )
        )
        self._tick(facts, swarm)

    def sweep(self) -> None:
        """Every tick of a governor and a meta-orchestrator, for every swarm, and what follows; then a minute passes."""
        last = {r.event.persona: r.event.useful_at for r in self.store.records if isinstance(r.event, ThoughtGenerated)}
        for swarm in (SWARM, OTHER, *self.begun()):
            self._tick(LastThoughts(useful_at=last, running_since=self.now), swarm)
            self._work()
            self._tick(ExpiredGrants(), swarm)
            self._work()
        for facts in (self._claims(), self._living()):
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

    def _some_swarm(self, *first: str) -> str:
        """One of these, or of those that were begun."""
        begun = self.begun() if self.founds else []
        return self.random.choice((*first, *begun)) if len(first) + len(begun) > 1 else first[0]

    def begun(self) -> list[str]:
        """The swarms that personas of others began, in order."""
        spawned = (r.event for r in self.store.read(("persona.spawned.*.*",)))
        return [e.swarm for e in spawned if isinstance(e, PersonaSpawned) and e.parent_swarm is not None]

    def _living(self) -> Living:
        """As a governor that has followed the log up to somewhere knows who lives."""
        end = len(self.store.records)
        if self.faults:
            end = self.random.randrange(end + 1)
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

    def found(self) -> None:
        """Somebody wants a child of somebody to begin a swarm, perhaps one there is, or to live in one that was begun."""
        born = [r.event for r in self.store.read(("persona.spawned.*.*",)) if isinstance(r.event, PersonaSpawned)]
        parent = self.random.choice(born)
        self._serial += 1
        name = f"c{self._serial}"
        dice = self.random.random()
        if dice < 0.15:
            self.client(
                ReapRequested(swarm=parent.swarm, persona=parent.persona, cascade=dice < 0.1, reason="test"),
            )
            return
        if dice < 0.4:
            whose = {"swarm": parent.swarm, "parent_id": parent.persona}
            self.client(SpawnRequested(**whose, persona=name, name=name, role="r", charter="c"))
            return
        swarm = self.random.choice((f"s{self._serial}", f"s{self.random.randrange(4)}", OTHER))
        whose = {"swarm": swarm, "parent_swarm": parent.swarm, "parent_id": parent.persona}
        few = PersonaPolicy(token_budget_per_minute=2000, compute_ms_per_minute=2000)
        policy = self.random.choice((None, few, PersonaPolicy()))
        self.client(SwarmRequested(**whose, persona=name, name=name, role="r", charter="c", policy=policy))

    def _claims(self) -> Claims:
        """As one that has followed the log up to somewhere measures them."""
        measures, end = Measures(), len(self.store.records)
        if self.faults:
            end = self.random.randrange(end + 1)
        for recorded in self.store.records[:end]:
            if class_of(recorded.event) in MEASURED:
                measures.apply(recorded)
        limits = max((swarm.limits_seq for swarm in measures.swarms.values()), default=0)
        return Claims(claims=measures.claims(self.now, GOVERNOR.swarm_per_minute), limits_seq=limits)

    def ask(self) -> None:
        """Somebody has work for the swarm, or wants it no more; or a persona that has some answers."""
        if self.random.random() < 0.12:
            if (found := self.intents.cancellation()) is not None:
                self._guarded(found[0], tuple(Expect(*one) for one in found[1]))
        elif (said := self.intents.said(self.now, lies=self.lies)) is not None:
            self._guarded(said[0], tuple(Expect(*one) for one in said[1]))

    def _guarded(self, events: tuple[AnyEvent, ...], expect: tuple[Expect, ...] = ()) -> None:
        """An edge of the mesh commits several events, or none of them."""
        messages = []
        for event in events:
            self._serial += 1
            messages.append(_message(event, f"client-{self._serial}", self.now))
        self._commit(tuple(messages), expect)

    def people(self) -> None:
        """Somebody outside does something."""
        self._serial += 1
        living = [r.event.persona for r in self.store.records if isinstance(r.event, PersonaSpawned)] or ["root"]
        asked = [r for r in self.store.records if isinstance(r.event, ApprovalRequested)]
        dice = self.random.random()
        if dice < 0.12:
            self.assign(self.random.choice(living))
        elif dice < 0.40:
            self.client(ObservationRecorded(swarm=SWARM, persona=EVERYONE, text=f"line {self._serial} failed"))
        elif dice < 0.44:
            swarm, version = self.random.choice((SWARM, OTHER)), 1 + self._serial
            most = Most(tokens=self.random.choice((None, 0, 300, 20_000)), actions=self.random.choice((None, 1)))
            self.client(LimitsChanged(swarm=swarm, persona=EVERYONE, version=version, ceiling=most, principal="op"))
        elif dice < 0.53:
            name = self.random.choice((f"p{self._serial}", "p1", "p2"))
            parent = self.random.choice(living)
            self.client(SpawnRequested(swarm=SWARM, persona=name, name=name, role="r", charter="c", parent_id=parent))
        elif dice < 0.94 and asked:
            recorded = self.random.choice(asked)
            request = recorded.event
            assert isinstance(request, ApprovalRequested)
            kind = self.random.choice((ApprovalGranted, ApprovalGranted, ApprovalDenied))
            principal = self.random.choice(("ann", "bob"))
            whose = {"swarm": request.swarm, "persona": request.persona, "proposal_id": request.proposal_id}
            self.approve(kind(**whose, digest=request.digest, request_id=recorded.id, principal=principal))
        elif dice >= 0.94:
            cascade = self.random.random() < 0.5
            self.client(ReapRequested(swarm=SWARM, persona=self.random.choice(living), cascade=cascade, reason="test"))

    def rule(self) -> None:
        """A person says who goes first in a conflict that is open, as the gateway does it."""
        raised = [r.event.target_id for r in self.store.records if isinstance(r.event, ConflictRaised)]
        if not raised:
            return
        boundary = conflict(self.random.choice(raised))
        state, seen = Conflict(), self.store.read((boundary,))
        for recorded in seen:
            state = evolve(state, recorded)
        if not state.open:
            return
        side = self.random.choice(state.sides)
        winner = ProposalKey(swarm=side.swarm, persona=side.persona, proposal_id=side.proposal_id)
        event = ConflictRuled(target_id=state.target_id, generation=state.generation, winner=winner, principal="ann")
        self._serial += 1
        self._commit((_message(event, f"client-{self._serial}", self.now),), (Expect(boundary, seen[-1].seq),))

    def assign(self, persona: str) -> None:
        """Somebody is asked something, of exactly this persona; it has it when it is routed."""
        event = IntentSubmitted(
            swarm=SWARM,
            persona=EVERYONE,
            intent_id=caused_token(f"asked-{self._serial}", "i"),
            goal="why",
            deadline=self.now + timedelta(seconds=self.random.choice((5, 60, 200))),
            budget=Credits(tokens=self.random.choice((0, 4000, 18_000)), compute_ms=18_000),
            wanted_persona=persona,
            principal="ann",
        )
        self._guarded((event,), (Expect(boundary_of(SWARM, event.intent_id), 0),))

    def client(self, event: AnyEvent, charter: str | None = None) -> None:
        """An edge of the mesh commits an event."""
        self._serial += 1
        self.store.append([_message(event, f"client-{self._serial}", self.now, charter)])

    def approve(self, event: ApprovalGranted | ApprovalDenied) -> None:
        """As the gateway does it: at most one word of each principal, guarded by what it has read."""
        boundary = life(event.swarm, event.persona, event.proposal_id)
        seen = self.store.read((boundary,))
        if any(getattr(r.event, "principal", None) == event.principal for r in seen):
            return
        self._serial += 1
        message = _message(event, f"client-{self._serial}", self.now)
        self._commit((message,), (Expect(boundary, seen[-1].seq),))

    # -- what must hold -----------------------------------------------------------------------------------------------

    def check(self) -> list[str]:
        """Violations of the log's invariants and of the effect ledger."""
        invariants = self.judged()
        violations = list(invariants.violations)
        violations += [f"{key} was done {n} times" for key, n in self.hands.done.items() if n > 1]
        violations += [f"{name} reached no terminal state" for name in invariants.unfinished()]
        violations += [f"nobody ruled on {name}" for name in invariants.unruled()]
        violations += [f"{name} is contradicted and does not say so" for name in invariants.unmarked()]
        for replica in self.replicas:
            violations += [f"{replica.name} buried {seq}: {reason}" for seq, reason in replica.consumer.dead]
        return violations

    def open_intents(self) -> list[str]:
        return self.judged().open_intents()

    def open_proposals(self) -> list[str]:
        return self.judged().unfinished()

    def judged(self) -> Invariants:
        invariants = Invariants(LIMITS)
        for recorded in self.store.records:
            invariants.absorb(recorded)
        return invariants

    def draining(self) -> set[str]:
        """Personas that drain and are not yet reaped."""
        drains = {r.event.persona for r in self.store.read(("persona.draining.*.*",))}
        return drains - {r.event.persona for r in self.store.read(("persona.reaped.*.*",))}


def _message(event: AnyEvent, cause: str, now: datetime, charter: str | None = None) -> Message:
    from shared.runtime.handling import addressed

    (message,) = addressed(
        Decision(events=(event,), charter=charter),
        Tick(id=caused_id(cause, "client"), now=now, swarm=SWARM),
        now,
        "client",
    )
    return message
