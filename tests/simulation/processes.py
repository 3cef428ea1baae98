"""What a process of the mesh is in the simulation: what it has cached, what it is in the middle of, what it was delivered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from datetime import datetime

from services.persona_runner.hosting.host import Host
from shared.decider import Decider, Effect, Result
from shared.runtime.handling import Answer, Fold, Operation, Verdict

Steps = Generator[Operation, Answer, Verdict]


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
