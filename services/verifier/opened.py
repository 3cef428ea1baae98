"""How many proposals of a persona are open: verified, and neither refused nor done.

Folded from the log's tail in memory; it has no checkpoint, because a life is bounded in time: a request for approval expires, an
authorisation too, and then there is a last word. So what was verified longer ago than `LONGEST_S` is open no more, and a start
looks back so far. Whoever passes here holds a place at once, so that a burst that is judged side by side counts too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from shared.contracts.catalog import class_filter
from shared.contracts.envelope import Recorded, Stored
from shared.contracts.events import ActionExecuted, ProposalRejected, ProposalVerified
from shared.contracts.ids import utc_now
from shared.log.port import Log, LogUnavailable, Tail
from shared.runtime.taking import take

log = structlog.get_logger()

FILTERS = tuple(class_filter(name) for name in ("proposal.verified", "proposal.rejected", "action.executed"))
EVERYTHING = "*.*.*.>"
MARGIN_S = 600.0
CAUGHT_UP_WITHIN_S = 10.0


class Opened:
    """`limit`: of one persona. `longest_s`: from a verdict to the last word, at most. `follow` must run."""

    def __init__(self, log_: Log, *, limit: int, longest_s: float, clock: Callable[[], datetime] = utc_now) -> None:
        self.limit = limit
        self._log, self._clock = log_, clock
        self._longest = timedelta(seconds=longest_s + MARGIN_S)
        self._open: dict[tuple[str, str], dict[str, datetime]] = {}
        self._tail: Tail | None = None
        self._stopped = False
        self._caught_up = asyncio.Event()

    async def follow(self) -> None:
        """Fold what the log has, until `stop`."""
        self._tail = self._log.tail(FILTERS, await self._begin())
        if self._stopped:
            return
        watching = asyncio.create_task(self._watch(self._tail))
        try:
            async for message in self._tail:
                await take(self._log, self.apply, message)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def stop(self) -> None:
        """Follow no more."""
        self._stopped = True
        if self._tail is not None:
            await self._tail.stop()

    def apply(self, message: Stored) -> None:
        """Take one event in."""
        if not isinstance(message, Recorded):
            return
        match message.event:
            case ProposalVerified() as event:
                lives = self._open.setdefault((event.swarm, event.persona), {})
                lives.pop(event.proposal_id, None)  # the oldest stay first
                lives[event.proposal_id] = message.stored_at
            case ProposalRejected() | ActionExecuted() as event:
                self._end((event.swarm, event.persona), event.proposal_id)
            case _:
                pass

    async def place(self, swarm: str, persona: str, proposal_id: str) -> int:
        """0, and the proposal has a place; or how many others are open, when that is the limit. Raises `LogUnavailable`."""
        try:
            async with asyncio.timeout(CAUGHT_UP_WITHIN_S):
                await self._caught_up.wait()
        except TimeoutError:
            raise LogUnavailable("open proposals are still being counted") from None
        now, whose = self._clock(), (swarm, persona)
        lives = self._open.setdefault(whose, {})
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

    async def _watch(self, tail: Tail) -> None:
        await tail.caught_up()
        self._caught_up.set()

    async def _begin(self) -> int:
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
