"""The whole mesh in one thread: every decider on the in-memory log, and a seed that decides what goes wrong.

Services are driven through the very handling code of the real shell, one operation at a time, so a crash can fall between any
two. Messages are lost, repeated, reordered; answers of commits get lost; clocks jump; effects really happen, in a ledger.
What must hold is checked from the log alone by `shared.invariants`, and from the ledger.
Who is there and what each does next is in `mesh.py`, what people bring in `outside.py`; here is what goes wrong, and what must hold.
"""

from __future__ import annotations

from datetime import timedelta

from shared.contracts.events import (
    CognitionStarted,
    CognitionStopped,
    LotRequested,
    LotShare,
    ObservationRecorded,
    ReapRequested,
    SpawnRequested,
)
from shared.contracts.ids import EVERYONE
from shared.contracts.persona import PersonaPolicy
from shared.invariants import Invariants
from tests.simulation.mesh import LIMITS, OTHER, SWARM
from tests.simulation.outside import Outside

STALL_S = 60
"""How long a runner stands still: past the drain of whomever it thinks for."""


class World(Outside):
    """One seed's life. `chaos(n)` takes n random steps, `settle()` lets the mesh finish without faults."""

    def __init__(self, seed: int, *, hibernates: bool = False, founds: float = 0.0) -> None:
        super().__init__(seed, founds=founds)
        self._judge = Invariants(LIMITS)
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
                self.sweep_overdue()
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
        """What the log says up to here; each event is looked at once."""
        for recorded in self.store.records[self._judge.events :]:
            self._judge.absorb(recorded)
        return self._judge

    def draining(self) -> set[str]:
        """Personas that drain and are not yet reaped."""
        drains = {r.event.persona for r in self.store.read(("persona.draining.*.*",))}
        return drains - {r.event.persona for r in self.store.read(("persona.reaped.*.*",))}
