"""A log and governors on it, as small as they can be: boundaries are checked on commit, ids derive from causes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import msgspec

from services.governor.decider import Governor, Limits
from shared.contracts.catalog import matches, subject_of
from shared.contracts.envelope import Envelope, Message, Recorded, decode
from shared.contracts.events import AnyEvent, BudgetLimited, Credits
from shared.contracts.ids import EVERYONE, caused_id
from shared.decider import Boundary, Decider, Decision, Delivered, Tick
from tests.examples import on_the_wire

T0 = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def share(swarm: str, credits: Credits, second: float = 0) -> BudgetLimited:
    """What the swarm may spend a minute."""
    return BudgetLimited(
        swarm=swarm, persona=EVERYONE, credits=credits, window=int(at(second).timestamp()) // 60, reason="allocated"
    )


class MiniLog:
    """Every event goes through encode and decode, so nothing is committed that a reader would refuse."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []
        self.ids: set[str] = set()

    def append(
        self, event: AnyEvent, *, now: datetime, event_id: str, causation: str | None = None, charter: str | None = None
    ) -> Recorded:
        envelope = Envelope(
            id=event_id,
            source="/test",
            time=now,
            correlation=causation or event_id,
            causation=causation,
            charter=charter,
        )
        subject, headers, body = on_the_wire(Message(event=event, envelope=envelope))
        recorded = decode(subject, headers, body, seq=len(self.events) + 1, stored_at=now)
        self.events.append(recorded)
        self.ids.add(event_id)
        return recorded

    def read(self, filters: Sequence[str], after: int = 0) -> list[Recorded]:
        return [r for r in self.events[after:] if any(matches(f, r.subject) for f in filters)]

    def last(self, subject_filter: str) -> int:
        return next((r.seq for r in reversed(self.events) if matches(subject_filter, r.subject)), 0)

    def commit(self, decision: Decision, message: Delivered | Tick, guards: dict[str, int]) -> list[Recorded] | None:
        """What was stored, or None when a boundary moved or an id is taken."""
        cause = message.id if isinstance(message, Tick) else message.recorded.id
        causation = None if isinstance(message, Tick) else cause
        if any(self.last(guard) != seq for guard, seq in guards.items()):
            return None
        counts: dict[str, int] = {}
        ids = []
        for event in decision.events:
            subject = subject_of(event)
            ids.append(caused_id(cause, subject, counts.get(subject, 0)))
            counts[subject] = counts.get(subject, 0) + 1
        if self.ids.intersection(ids):
            return None
        return [
            self.append(event, now=message.now, event_id=event_id, causation=causation, charter=decision.charter)
            for event, event_id in zip(decision.events, ids, strict=True)
        ]


S = TypeVar("S")


class Replica(Generic[S]):
    """One governor with its cached folds, which it brings up to date before every decision."""

    def __init__(self, log: MiniLog, decider: Decider[S]) -> None:
        self.log, self.governor = log, decider
        self.cache: dict[tuple[str, ...], tuple[S, int]] = {}

    def state(self, boundary: Boundary) -> S:
        state, position = self.cache.get(boundary.reads) or (self.governor.initial(), 0)
        for recorded in self.log.read(boundary.reads, position):
            state = self.governor.evolve(state, recorded)
        self.cache[boundary.reads] = state, len(self.log.events)
        return state

    def decide(self, message: Delivered | Tick) -> tuple[Decision, dict[str, int]]:
        """The decision and what it rests on; checks that deciding is deterministic and leaves the state alone."""
        boundary = self.governor.boundary(message)
        if boundary is None:
            return Decision(), {}
        state = self.state(boundary)
        before = msgspec.msgpack.encode(state)
        decision = self.governor.decide(state, message)
        assert decision == self.governor.decide(state, message)
        assert before == msgspec.msgpack.encode(state)
        return decision, {guard: self.log.last(guard) for guard in decision.guards or boundary.guards}

    def handle(self, message: Delivered | Tick) -> list[AnyEvent]:
        """What follows from a message, committed."""
        decision, guards = self.decide(message)
        stored = self.log.commit(decision, message, guards)
        assert stored is not None
        return [recorded.event for recorded in stored]


class Swarm:
    """Given, when and then with one governor: `ask` records an event at a second and hands it to the governor."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.log = MiniLog()
        self.replica = Replica(self.log, Governor(limits=limits or Limits()))
        self.log.append(share("s", (limits or Limits()).swarm_per_minute), now=T0, event_id="share")

    def record(self, event: AnyEvent, second: float = 0, event_id: str | None = None) -> Recorded:
        return self.log.append(event, now=at(second), event_id=event_id or f"e{len(self.log.events) + 1}")

    def ask(self, event: AnyEvent, second: float = 0) -> list[AnyEvent]:
        return self.deliver(self.record(event, second), second)

    def deliver(self, recorded: Recorded, second: float) -> list[AnyEvent]:
        return self.replica.handle(Delivered(recorded=recorded, now=at(second)))

    def last_of(self, cls: type) -> Recorded:
        return [r for r in self.log.events if isinstance(r.event, cls)][-1]


def subjects(events: Sequence[AnyEvent]) -> list[str]:
    return [subject_of(event) for event in events]
