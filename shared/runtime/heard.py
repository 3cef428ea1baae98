"""What a service hears of the log, in order, so that a message costs no reading of what was heard already.

Theory of operation. The tail hears the messages themselves that the service is delivered. So once it has heard one, it has heard all of its
filters that was stored before, and what is folded from it answers as a reading up to there would. Who asks waits for that a
moment; should the tail be further behind, the log is read.

Invariant: all on the filters with `since` < sequence <= `upto` was given to every listener, in stream order; and what was there before
`follow` was looked at by `folds`.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Sequence
from typing import Protocol

import structlog

from shared.contracts.catalog import matches
from shared.contracts.envelope import Stored
from shared.log.port import Log, LogUnavailable, Tail
from shared.looking import Looked, look
from shared.runtime.taking import take

log = structlog.get_logger()

EVERYTHING = "*.*.*.>"
MOMENT_S, PAUSE_S = 0.25, 1.0


class Listener(Protocol):
    """Folds what is heard; `wants` says of which subjects it reads more than the subject."""

    def wants(self, subject: str) -> bool: ...
    def take(self, message: Stored) -> None: ...


class Heard:
    """`follow` must run. `since` is None while nothing may rest on it."""

    def __init__(self, log_: Log, filters: Sequence[str]) -> None:
        self.since: int | None = None
        self.upto = 0
        self._log, self._filters = log_, tuple(filters)
        self._listeners: list[Listener] = []
        self._waiting: list[tuple[int, int, asyncio.Future[bool]]] = []
        self._order = itertools.count()
        self._late = -1
        """Where somebody waited in vain."""
        self._tail: Tail | None = None
        self._stopped = False

    def tell(self, listener: Listener) -> None:
        """Have it told of everything from the beginning of `follow` on."""
        self._listeners.append(listener)

    async def reach(self, seq: int) -> bool:
        """Whether all up to a sequence was heard, now or in a moment."""
        if self.since is None or self.upto >= seq or self.upto == self._late:
            return self.since is not None and self.upto >= seq
        loop = asyncio.get_running_loop()
        reached: asyncio.Future[bool] = loop.create_future()
        heapq.heappush(self._waiting, (seq, next(self._order), reached))
        patience = loop.call_later(MOMENT_S, self._give_up, reached)
        try:
            return await reached
        finally:
            patience.cancel()

    async def look(self, *folds: Looked, upto: int) -> None:
        """Bring folds that are listeners up to a sequence, by hearing it or else by reading all there is. Raises `LogUnavailable`."""
        if not (upto and await self.reach(upto)):
            await look(*folds)

    async def follow(self, *folds: Looked) -> None:
        """Hear from now on until `stop`; what was before, `folds` are shown."""
        while not self._stopped:
            try:
                (end,) = await self._log.ends((EVERYTHING,))
                await look(*folds)
            except LogUnavailable as error:
                log.warning("log_unavailable", work="hearing", why=str(error))
                await asyncio.sleep(PAUSE_S)
            else:
                await self.follow_from(end)
                return

    async def follow_from(self, after: int) -> None:
        """Hear what is behind a sequence until `stop`."""
        self.since = self.upto = after
        self._tail = self._log.tail(self._filters, after, wanted=self._wants)
        if self._stopped:
            return
        async for message in self._tail:
            await take(self._log, self._hear, message)

    async def stop(self) -> None:
        """Hear no more."""
        self._stopped = True
        if self._tail is not None:
            await self._tail.stop()

    def _wants(self, subject: str) -> bool:
        return True in [listener.wants(subject) for listener in self._listeners]

    def _hear(self, message: Stored) -> None:
        try:
            for listener in self._listeners:
                listener.take(message)
        except Exception:
            self.since = None  # nobody rests on what was not folded
            raise
        finally:
            self.upto = message.seq
            while self._waiting and (self._waiting[0][0] <= self.upto or self.since is None):
                _answer(heapq.heappop(self._waiting)[2], self.since is not None)

    def _give_up(self, reached: asyncio.Future[bool]) -> None:
        self._late = self.upto
        _answer(reached, False)


class Folded:
    """A fold of one boundary as a listener."""

    def __init__(self, fold: Looked) -> None:
        self._fold = fold
        self._begins = f"{fold.boundary.partition('.')[0]}."

    def wants(self, subject: str) -> bool:
        return subject.startswith(self._begins) and matches(self._fold.boundary, subject)

    def take(self, message: Stored) -> None:
        if self.wants(message.subject):
            self._fold.take(message)


def _answer(waiting: asyncio.Future[bool], reached: bool) -> None:
    if not waiting.done():
        waiting.set_result(reached)
