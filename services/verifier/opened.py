"""How many proposals of a persona are open: verified, and neither refused nor done.

Folded from what is heard, in memory; it has no checkpoint, because a life is bounded in time: a request for approval expires,
an authorisation too, and then there is a last word. So what was verified longer ago than `LONGEST_S` is open no more, and a start
looks back so far. Whoever passes here holds a place at once, so that a burst that is judged side by side counts too. Subjects tell it
all: on these nobody speaks but the services that decide.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from shared.contracts.catalog import class_filter
from shared.contracts.envelope import Stored
from shared.contracts.ids import utc_now
from shared.log.port import Log, LogUnavailable, Tail
from shared.runtime.taking import take

log = structlog.get_logger()

OPENS, CLOSES = "proposal.verified", ("proposal.rejected", "action.executed")
FILTERS = tuple(map(class_filter, (OPENS, *CLOSES)))
EVERYTHING = "*.*.*.>"
MARGIN_S = 600.0
CAUGHT_UP_WITHIN_S = 10.0


class Opened:
    """`limit`: of one persona. `longest_s`: from a verdict to the last word, at most. `count` first; then it is to be told the rest."""

    def __init__(self, log_: Log, *, limit: int, longest_s: float, clock: Callable[[], datetime] = utc_now) -> None:
        self.limit = limit
        self._log, self._clock = log_, clock
        self._longest = timedelta(seconds=longest_s + MARGIN_S)
        self._open: dict[tuple[str, str], OrderedDict[str, datetime]] = {}
        self._tail: Tail | None = None
        self._stopped = False
        self._caught_up = asyncio.Event()

    def take(self, message: Stored) -> None:
        """Take a message in."""
        entity, verb, *whose = message.subject.split(".")
        if (name := f"{entity}.{verb}") == OPENS:
            swarm, persona, proposal_id = whose
            lives = self._open.setdefault((swarm, persona), OrderedDict())
            lives.pop(proposal_id, None)  # the oldest stay first
            lives[proposal_id] = message.stored_at
        elif name in CLOSES:
            swarm, persona, proposal_id = whose
            self._end((swarm, persona), proposal_id)

    async def place(self, swarm: str, persona: str, proposal_id: str) -> int:
        """0, and the proposal has a place; or how many others are open, when that is the limit. Raises `LogUnavailable`."""
        if not self._caught_up.is_set():
            try:
                async with asyncio.timeout(CAUGHT_UP_WITHIN_S):
                    await self._caught_up.wait()
            except TimeoutError:
                raise LogUnavailable("open proposals are still being counted") from None
        now, whose = self._clock(), (swarm, persona)
        lives = self._open.setdefault(whose, OrderedDict())
        while lives and now - lives[oldest := next(iter(lives))] > self._longest:
            del lives[oldest]
        if proposal_id not in lives and len(lives) >= self.limit:
            return len(lives)
        lives.setdefault(proposal_id, now)
        return 0

    def _end(self, whose: tuple[str, str], proposal_id: str) -> None:
        lives = self._open.get(whose)
        if lives is not None:
            lives.pop(proposal_id, None)
            if not lives:
                del self._open[whose]

    async def count(self) -> int:
        """Take in all there is; the sequence from which on the rest is to be told. `stop` ends it early."""
        self._tail = tail = self._log.tail(FILTERS, await self.begin(), wanted=lambda subject: False)
        if not self._stopped:
            ending = asyncio.create_task(_stop_when_caught_up(tail))
            try:
                async for message in tail:
                    await take(self._log, self.take, message)
            finally:
                ending.cancel()
                await asyncio.gather(ending, return_exceptions=True)
        self._caught_up.set()
        return tail.position

    async def stop(self) -> None:
        """Count no further."""
        self._stopped = True
        if self._tail is not None:
            await self._tail.stop()

    def wants(self, subject: str) -> bool:
        return False

    async def begin(self) -> int:
        """A sequence before everything that may still be open: a search by time, in twenty steps or so."""
        since = self._clock() - self._longest
        low = 0
        while True:
            try:
                (high,) = await self._log.ends((EVERYTHING,))
                while low < high:
                    middle = (low + high) // 2
                    found = await self._log.read((EVERYTHING,), middle, limit=1)
                    if found and found[0].stored_at < since:
                        low = found[0].seq
                    else:
                        high = middle
                return low
            except LogUnavailable as error:
                log.warning("log_unavailable", work="open proposals", why=str(error))
                await asyncio.sleep(1)


async def _stop_when_caught_up(tail: Tail) -> None:
    await tail.caught_up()
    await tail.stop()
