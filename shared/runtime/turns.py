"""Whose turn it is: work of many swarms, shared out so that one swarm's queue is never another's latency. Pure, no IO.

Theory of operation. What was read ahead waits in a queue for each persona of each swarm. Turns go round the swarms, and within
a swarm round its personas; so who has ten thousand waiting and who has one are served alike, and a persona's work is begun in
the order it came. Work of one lane (a boundary) never runs side by side: a persona whose next work finds its lane taken stands
by the lane, and is its swarm's next once the lane is free.

Room is shared by what is left of it: a swarm may hold as much as is still free, so one alone gets half, two a third each, and
whoever comes new always finds some (dynamic thresholds, Choudhury and Hahne 1998). What comes for a swarm that holds more is
crowded: it is refused where that can be said, and the refusals of a swarm are a party of their own in the round.

What is begun all goes on at once, so each that runs makes a newcomer wait. Therefore only a party that has had the place to
itself for the last `LATELY` pieces of work may run three quarters of what may run; where there are several, each runs few.

Invariants:
- at most `at_once` run, at most `at_once_each` of one party unless it is alone, at most one of a lane;
- between two turns of a party that could have run, every other party has at most one;
- work of one persona in one party is taken in the order it was put;
- what is held weighs at most `room` and one piece more, as long as nothing is put while `is_full`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

LATELY = 10_000
RESERVED = 16
"""One part of the room in so many is left free for those who come new, whatever the refusals of others take."""


class _Entry(msgspec.Struct, Generic[T]):
    party: Hashable
    lane: Hashable
    work: T
    weight: int


class _Party(msgspec.Struct, Generic[T]):
    """`turn`: personas to be looked at, next first. `ready`: those for whom a lane is kept."""

    queues: dict[str, deque[_Entry[T]]] = msgspec.field(default_factory=dict)
    turn: deque[str] = msgspec.field(default_factory=deque)
    ready: deque[str] = msgspec.field(default_factory=deque)
    running: int = 0
    held: int = 0

    def pop(self, persona: str) -> _Entry[T]:
        queue = self.queues[persona]
        entry = queue.popleft()
        if queue:
            self.turn.append(persona)
        else:
            del self.queues[persona]
        return entry


class Turns(Generic[T]):
    """See the module. A `party` is a swarm, or the refusals of one; `weight` says how much of the room a piece of work takes."""

    def __init__(self, *, room: int, at_once: int, at_once_each: int) -> None:
        self._room, self._at_once, self._at_once_each = room, at_once, at_once_each
        self._parties: dict[Hashable, _Party[T]] = {}
        self._round: OrderedDict[Hashable, None] = OrderedDict()
        """Parties that may have something to take, next first."""
        self._lanes: dict[Hashable, deque[tuple[Hashable, str]]] = {}
        """Lanes that are taken or kept for somebody, and who stands by each: party and persona."""
        self._running: dict[Hashable, _Entry[T]] = {}
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        """Whose work was put lately, and its number."""
        self._number = 0
        self.held = 0
        """What waits or runs, by weight."""

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._running)

    @property
    def is_full(self) -> bool:
        """Whether nothing more is to be put before something is done."""
        return self.held >= self._room - self._room // RESERVED

    def held_by(self, party: Hashable) -> int:
        """What waits or runs of one party, by weight."""
        known = self._parties.get(party)
        return 0 if known is None else known.held

    def is_crowded(self, party: Hashable) -> bool:
        """Whether the party holds as much as is left for everybody."""
        return self.held_by(party) >= self._room - self.held

    def is_taken(self, lane: Hashable) -> bool:
        """Whether somebody has the lane, or it is kept for somebody."""
        return lane in self._lanes

    def put(
        self, party: Hashable, persona: str, lane: Hashable, work: T, weight: int = 1, *, whose: Hashable = None
    ) -> None:
        """Have the work wait for its turn. `whose` is the swarm whose refusals the party is, and which is not alone less for them."""
        self._see(party if whose is None else whose)
        known = self._parties.get(party)
        if known is None:
            known = self._parties[party] = _Party()
        queue = known.queues.get(persona)
        if queue is None:
            queue = known.queues[persona] = deque()
            known.turn.append(persona)
        queue.append(_Entry(party, lane, work, weight))
        known.held += weight
        self.held += weight
        self._admit(party, known)

    def take(self) -> tuple[Hashable, T] | None:
        """The work whose turn it is, and the lane it takes until `done`; None when nothing may run now."""
        while self._round and len(self._running) < self._at_once:
            party = next(iter(self._round))
            known = self._parties[party]
            entry = self._next(party, known)
            if entry is None:
                del self._round[party]
                continue
            self._running[entry.lane] = entry
            known.running += 1
            del self._round[party]
            self._admit(party, known)  # behind the others
            return entry.lane, entry.work
        return None

    def done(self, lane: Hashable) -> None:
        """The work that took the lane is over."""
        entry = self._running.pop(lane)
        known = self._parties[entry.party]
        known.running -= 1
        known.held -= entry.weight
        self.held -= entry.weight
        by = self._lanes[lane]
        if by:
            party, persona = by.popleft()
            self._parties[party].ready.append(persona)  # the lane stays kept for it
            self._admit(party, self._parties[party])
        else:
            del self._lanes[lane]
        if known.running or known.queues:
            self._admit(entry.party, known)
        else:
            del self._parties[entry.party]
            self._round.pop(entry.party, None)

    def _next(self, party: Hashable, known: _Party[T]) -> _Entry[T] | None:
        if known.ready:
            return known.pop(known.ready.popleft())
        while known.turn:
            persona = known.turn.popleft()
            lane = known.queues[persona][0].lane
            by = self._lanes.get(lane)
            if by is None:
                self._lanes[lane] = deque()
                return known.pop(persona)
            by.append((party, persona))
        return None

    def _see(self, party: Hashable) -> None:
        self._number += 1
        self._seen[party] = self._number
        self._seen.move_to_end(party)
        while self._seen[first := next(iter(self._seen))] <= self._number - LATELY:
            del self._seen[first]

    def _admit(self, party: Hashable, known: _Party[T]) -> None:
        """Into the round, if it has something and may run more."""
        most = self._at_once_each if len(self._seen) > 1 else alone(self._at_once)
        if known.running < most and (known.ready or known.turn):
            self._round.setdefault(party)


def alone(at_once: int) -> int:
    """How many may run of a party that is alone: some are left for whoever comes."""
    return at_once - at_once // 4
