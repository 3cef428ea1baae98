"""One message through one decider, without IO: load, decide, commit, perform, decide again.

`handle` is a generator of the operations it needs; the asynchronous shell and the simulation drive the very same code, and
the simulation may stop driving between any two operations, which is a crash.

Invariants:
- what is decided rests on the boundary as far as it was read, and is committed only if the guards have not moved since;
- a refused commit has stored nothing: the fold catches up and the decider is asked again;
- guards count what is stored, so they move over what cannot be read, which no decider sees;
- an effect is performed only after the events that announce it are committed, and its result is a message like any other;
- `Done` is answered only when everything that follows from the message is in the log.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from shared.contracts.catalog import matches, subject_of
from shared.contracts.envelope import Message, Recorded, Stored, Unreadable, enveloped
from shared.decider import NOTHING, Boundary, Decider, Decision, Delivered, Effect, Performed, Result, Tick, id_of
from shared.log.marks import Mark, Trail
from shared.log.port import Expect

S = TypeVar("S")

MAX_CONFLICTS = 12
MAX_ROUNDS = 8


class Read(msgspec.Struct, frozen=True, gc=False):
    """Wants `list[Stored]`: messages on the filters after a sequence."""

    filters: tuple[str, ...]
    after: int


class Commit(msgspec.Struct, frozen=True, gc=False):
    """Wants the sequences as `tuple[int, ...]`, or None when the commit was refused."""

    messages: tuple[Message, ...]
    expect: tuple[Expect, ...]


class Ends(msgspec.Struct, frozen=True, gc=False):
    """Wants the last sequence stored on each filter, as `tuple[int, ...]`."""

    filters: tuple[str, ...]


class Newest(msgspec.Struct, frozen=True, gc=False):
    """Wants `list[Stored]`: the newest message on each subject of the filters."""

    filters: tuple[str, ...]


class Perform(msgspec.Struct, frozen=True):
    """Wants (`Result`, now)."""

    effect: Effect


class Done(msgspec.Struct, frozen=True, gc=False):
    """Everything that follows is in the log: ack."""

    committed: int = 0


class Again(msgspec.Struct, frozen=True):
    """Hand it back in `delay_s` seconds."""

    delay_s: float


class Dead(msgspec.Struct, frozen=True):
    """To the dead letters, with a reason."""

    reason: str


Operation = Read | Commit | Ends | Newest | Perform
Verdict = Done | Again | Dead
Answer = Sequence[Stored] | tuple[int, ...] | tuple[Result, datetime] | None


class Fold(Generic[S]):
    """A boundary's state, the sequence it is at, and the last sequence of each guard."""

    def __init__(self, decider: Decider[S], boundary: Boundary) -> None:
        self.decider = decider
        self.boundary = boundary
        self.state: S = decider.initial()
        self.position = 0
        self.trail = Trail()
        self.unsaved = 0
        """Messages taken in since the last checkpoint."""
        self.guards: dict[str, int] = {}
        self._is_own_guard = boundary.guards == boundary.reads and len(boundary.reads) == 1

    def absorb(self, messages: Sequence[Stored], *, own: bool = False, opening: bool = False) -> None:
        """Evolve by events of the boundary, in stream order; what is older than the position is known already.

        `own`: they were just committed here, and their `stored_at` is not the broker's. `opening`: what opens the boundary, and is
        perhaps not on it, as what a runner asks for.
        """
        for message in messages:
            if message.seq <= self.position:
                continue
            if isinstance(message, Recorded):
                self.state = self.decider.evolve(self.state, message)
            self.position = message.seq
            self.trail.put(Mark(message.seq, message.id, None if own else message.stored_at))
            self.unsaved += 1
            for guard in self.boundary.guards:
                if (self._is_own_guard and not opening) or matches(guard, message.subject):
                    self.guards[guard] = message.seq

    def restart(self) -> None:
        """Before everything: the message that opened the boundary was not the first of it."""
        self.boundary = msgspec.structs.replace(self.boundary, opens=False)
        self.state, self.position, self.trail = self.decider.initial(), 0, Trail()
        self.guards.clear()

    def last(self, guard: str) -> int:
        return self.guards.get(guard, 0)


def handle(
    fold: Fold[S], message: Delivered | Tick, *, source: str, fresh: bool = False, lags: bool = False
) -> Generator[Operation, Answer, Verdict]:
    """Bring one message to its verdict. `fresh` says the fold has read the boundary up to now already.

    `lags` is what the message's own boundary says: others that share its fold may not.
    """
    if fold.boundary.opens and fold.position == 0 and isinstance(message, Delivered):
        fresh = yield from _open(fold, message)
    if lags and fold.position and fold.decider.decide(fold.state, message) == NOTHING:
        return Done()
    if not fresh:
        yield from _catch_up(fold)
    current: Delivered | Tick | Performed = message
    committed = conflicts = rounds = 0
    while rounds < MAX_ROUNDS and conflicts < MAX_CONFLICTS:
        decision = fold.decider.decide(fold.state, current)
        if decision.reject is not None:
            return Dead(decision.reject)
        if decision.events:
            if not (yield from _commit(fold, decision, message, current, source)):
                conflicts += 1
                if decision.expects:
                    current = message  # what the effect has read is of before
                continue
            committed += len(decision.events)
        if decision.retry_s is not None:
            return Again(decision.retry_s)
        if decision.effect is None:
            return Done(committed)
        answer = yield Perform(decision.effect)
        result, now = answer  # type: ignore[misc]
        current = Performed(cause=message, effect=decision.effect, result=result, now=now)  # type: ignore[arg-type]
        rounds += 1
    return Again(0.05 * conflicts + 0.5)


def _open(fold: Fold[S], message: Delivered) -> Generator[Operation, Answer, bool]:
    """The fold of the message itself, behind what is to be known before it; whether that will do.

    What comes again, and has nothing to go by, is read from the beginning."""
    boundary, recorded = fold.boundary, message.recorded
    is_first = message.attempt == 1
    if is_first and boundary.begins:
        newest = yield Newest((*boundary.begins, *boundary.unsaid))
        before = [m for m in newest or () if isinstance(m, Recorded | Unreadable) and m.seq < recorded.seq]
        is_first = sorted(m.subject for m in before if isinstance(m, Recorded)) == sorted(boundary.begins)
        is_first = is_first and len(before) == len(boundary.begins)
        if is_first:
            fold.absorb(before, opening=True)
    if is_first or not matches_one(boundary.reads, recorded.subject):
        fold.absorb([recorded], opening=True)
    else:
        fold.restart()
    return is_first


def _catch_up(fold: Fold[S]) -> Generator[Operation, Answer, None]:
    messages = yield Read(fold.boundary.reads, fold.position)
    fold.absorb(messages)  # type: ignore[arg-type]


def _refused(fold: Fold[S], guards: tuple[str, ...]) -> Generator[Operation, Answer, None]:
    """Catch up. Where that brings nothing, the guards are taken from what is stored: their last message may have left the log,
    or be one that is not read. It is read on once more after them, so that the state has all they stand for.

    A boundary the message was said to open is read from its beginning."""
    if fold.boundary.opens:
        fold.restart()
    began = fold.position
    yield from _catch_up(fold)
    if fold.position > began or not guards:
        return
    ends = yield Ends(guards)
    before = dict(fold.guards)
    yield from _catch_up(fold)
    for guard, end in zip(guards, ends, strict=True):  # type: ignore[arg-type]
        moved = fold.guards.get(guard) != before.get(guard)
        fold.guards[guard] = max(end, fold.last(guard)) if moved else end  # type: ignore[type-var, assignment]


def _commit(
    fold: Fold[S],
    decision: Decision,
    message: Delivered | Tick,
    current: Delivered | Tick | Performed,
    source: str,
) -> Generator[Operation, Answer, bool]:
    """Commit the decision's events and evolve by them; False when refused, and then the fold has caught up.

    Where everything that is read is guarded too, nothing can have come in between, and our own events are the next of the fold.
    Otherwise they are read back, in their order among the others, before anything more is decided; but for a boundary that the message
    opened: it rests on its guards alone until one moves. It is done with when nothing more is to be decided; should its fold be used
    again, it reads on first.
    """
    messages = addressed(decision, message, current.now, source)
    reads = fold.boundary.reads
    guards = (fold.boundary.guards if decision.guards is None else decision.guards)[: len(messages)]
    expect = tuple([Expect(guard, fold.last(guard)) for guard in guards])
    if decision.expects:
        expect += tuple([Expect(guard, seq) for guard, seq in decision.expects])
    seqs = yield Commit(messages, expect)
    if seqs is None:
        yield from _refused(fold, guards)
        return False
    if fold.boundary.opens and decision.effect is None:
        return True
    if fold.boundary.opens or guards == reads or set(guards) >= set(reads):
        own = [recorded(m, seq, current.now) for m, seq in zip(messages, seqs, strict=True)]  # type: ignore[arg-type]
        fold.absorb([r for r in own if matches_one(reads, r.subject)], own=True)
    elif decision.effect is not None:
        yield from _catch_up(fold)
    return True


def addressed(decision: Decision, cause: Delivered | Tick, now: datetime, source: str) -> tuple[Message, ...]:
    """The decision's events in their envelopes: ids derive from the cause and the subject, correlation and trace are inherited.

    What a tick causes has no event to point back to: its first event is the cause of the others.
    """
    parent = cause.recorded.envelope if isinstance(cause, Delivered) else None
    cause_id = parent.id if parent else cause.id  # type: ignore[union-attr]
    seen: dict[str, int] = {}
    messages: list[Message] = []
    for event in decision.events:
        subject = subject_of(event)
        index = seen[subject] = seen.get(subject, -1) + 1
        event_id = id_of(cause_id, subject, decision.about, index)
        origin = parent or (messages[0].envelope if messages else None)
        envelope = enveloped(event_id, source=source, time=now, cause=origin, charter=decision.charter)
        messages.append(Message(event=event, envelope=envelope))
    return tuple(messages)


def matches_one(filters: Sequence[str], subject: str) -> bool:
    """Whether the subject matches any of the filters."""
    return True in [matches(subject_filter, subject) for subject_filter in filters]


def recorded(message: Message, seq: int, at: datetime) -> Recorded:
    """The message as the log now holds it."""
    return Recorded(event=message.event, envelope=message.envelope, seq=seq, stored_at=at, subject=message.subject)
