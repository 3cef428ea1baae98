"""Bringing what holds for all of the mesh up to now: whether it is halted, whose verdicts are good, which policies are in force.

Theory of operation. Each is the fold of a boundary that hardly ever moves, and all that is judged or done rests on it as of now. Several
are read together: who is last on each subject is one question to the broker, however many boundaries it is asked of, and mostly that is
the whole answer. So another such boundary costs a proposal no request more.

A reading that begins after a message was delivered has whatever was said before that message; nothing that is kept by the clock or
brought by a tail does, for both may be late by any time.

Invariant: a fold has all of its boundary up to `upto`.
"""

from __future__ import annotations

from typing import Protocol

from shared.contracts.catalog import matches
from shared.contracts.envelope import Stored
from shared.log.port import Log


class Looked(Protocol):
    """A fold of one boundary. `upto`: it has everything up to this sequence; -1 before the first look."""

    upto: int

    @property
    def log(self) -> Log: ...
    @property
    def boundary(self) -> str: ...
    def take(self, message: Stored) -> None:
        """A message of the boundary; one it knows changes nothing."""


async def look(*folds: Looked) -> None:
    """Bring folds of one log up to now, by one reading. Raises `LogUnavailable`."""
    after = max(0, min(fold.upto for fold in folds))
    found = await folds[0].log.stored(tuple(fold.boundary for fold in folds), after)
    for message in found:
        for fold in folds:
            if matches(fold.boundary, message.subject):
                fold.take(message)
    end = found[-1].seq if found else after
    for fold in folds:
        fold.upto = max(fold.upto, end)
