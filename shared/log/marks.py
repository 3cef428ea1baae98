"""Marks: what a log must still hold for something made from it, a checkpoint or an index, to be of this log.

Theory of operation. A log only grows. So if it holds the very event a state ends with, everything before is the same too; and
if it does not, it is another log, or one that was cut short and has perhaps grown past that sequence again. The id alone does
not tell: ids of caused events derive from their cause, so what is decided again after a rollback may have the same id at the
same sequence. The broker's stored time does.

Beside the newest event a trail keeps one for each number of trailing zero bits of its sequence: up to 16 earlier ones at about
doubling distances. A mark whose event is no longer there (retention) says nothing, unless it is the newest; another event in
its place says that this is not the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from shared.contracts.envelope import Stored
from shared.log.port import Log

EARLIER = 16
SAME_INSTANT = timedelta(milliseconds=1)
"""The broker tells when an event was stored in two ways, which may differ by a rounding."""


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """An event of the log. `stored_at` is the broker's time; None for an own commit, of which only the sequence was told."""

    seq: int
    id: str
    stored_at: datetime | None = None

    def is_at(self, event_id: str, stored_at: datetime) -> bool:
        """Whether what is stored at the sequence is this event."""
        return event_id == self.id and (self.stored_at is None or abs(stored_at - self.stored_at) <= SAME_INSTANT)


class Trail:
    """The newest event taken in and up to `EARLIER` before it; `add` wants them in the order of the log."""

    __slots__ = ("_slots", "newest")

    def __init__(self, marks: Iterable[Mark] = ()) -> None:
        self.restore(marks)

    def restore(self, marks: Iterable[Mark]) -> None:
        """Hold these and no others."""
        self.newest: Mark | None = None
        self._slots: dict[int, Mark] = {}
        for mark in sorted(marks, key=lambda m: m.seq):
            self.put(mark)

    def add(self, message: Stored) -> None:
        """Take in what the log has given us, with the broker's time."""
        self.put(Mark(message.seq, message.id, message.stored_at))

    def note(self, message: Stored) -> None:
        """As `add`, from readings in any order: what is older than the newest changes nothing."""
        if self.newest is None or message.seq > self.newest.seq:
            self.add(message)

    def own(self, seq: int, event_id: str) -> None:
        """Note an own commit, of which only the sequence was told."""
        if self.newest is None or seq > self.newest.seq:
            self.put(Mark(seq, event_id))

    def date(self, message: Stored) -> None:
        """The broker's time of an event that may be among the marks without it."""
        slot = _slot(message.seq)
        mark = self._slots.get(slot)
        if mark is not None and (mark.seq, mark.id, mark.stored_at) == (message.seq, message.id, None):
            self._slots[slot] = dated_ = Mark(mark.seq, mark.id, message.stored_at)
            if self.newest == mark:
                self.newest = dated_

    def put(self, mark: Mark) -> None:
        self.newest = mark
        self._slots[_slot(mark.seq)] = mark

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The newest first."""
        return tuple(sorted(self._slots.values(), key=lambda m: -m.seq))


def _slot(seq: int) -> int:
    return min(EARLIER, (seq & -seq).bit_length() - 1)


async def foreign(log: Log, marks: Sequence[Mark]) -> Mark | None:
    """The first mark, newest first, that says this is not the log it was made from; None: it is. Raises `LogUnavailable`."""
    there = await asyncio.gather(*(log.get(mark.seq) for mark in marks))
    for place, (mark, event) in enumerate(zip(marks, there, strict=True)):
        if event is None:
            if place == 0:
                return mark
        elif not mark.is_at(event.id, event.stored_at):
            return mark
    return None


async def dated(log: Log, marks: Sequence[Mark]) -> tuple[Mark, ...] | None:
    """The marks with the broker's time of each; None when one is not what the log holds. Raises `LogUnavailable`."""

    async def complete(mark: Mark) -> Mark | None:
        if mark.stored_at is not None:
            return mark
        event = await log.get(mark.seq)
        return Mark(mark.seq, mark.id, event.stored_at) if event is not None and event.id == mark.id else None

    found = await asyncio.gather(*(complete(mark) for mark in marks))
    return None if None in found else tuple(mark for mark in found if mark is not None)
