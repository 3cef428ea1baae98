"""Feeding memory from the log: its one writer, an ordered tail from the index's cursor on.

Theory of operation. What arrives while a transaction is written goes into the next one together, and one begins `PACE_S` after the
last at the earliest, unless it is full: a transaction of one event costs twice as much an event as one of eight. So a rebuild runs in
large transactions, a busy mesh in some a second, and a quiet one takes each thought in at once. Nobody waits for single events:
whoever must know that memory has reached a sequence (`reach`) is woken by the transaction that brings it.

An event the fabric cannot take ends nothing: a transaction that fails is done again event by event, and those that fail alone
are buried with their reason; memory goes on without them.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

import msgspec
import structlog

from services.memory_compactor.society import Society
from shared.contracts.catalog import class_filter
from shared.contracts.envelope import Recorded, Unreadable
from shared.contracts.ids import utc_now
from shared.log.port import Log, LogUnavailable
from shared.memory.fabric import TRANSACTION_EVENTS, Fabric, Remembered
from shared.memory.items import REMEMBERED
from shared.memory.port import EmbedderUnavailable, IndexUnavailable
from shared.placement import Placements
from shared.runtime.taking import put_aside

BELIEFS = ("belief.asserted", "belief.confirmed", "belief.contested", "belief.revised")
FILTERS = tuple(
    class_filter(name) for name in (*REMEMBERED, "persona.draining", "persona.reaped", "placement.changed", *BELIEFS)
)
"""What moves the cursor: all that may be remembered, what a snapshot may have to wait for, and what ends a memory; whom to believe;
and what is believed."""

FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 10.0
PACE_S = 0.2
QUEUE = 2 * TRANSACTION_EVENTS
"""Events read ahead. With what the tail has asked for that is a thousand of at most 64 KiB, whatever the log has."""

AWAY = (IndexUnavailable, EmbedderUnavailable, LogUnavailable)
"""What comes back by itself: it is waited for, and says nothing about an event."""

_log = structlog.get_logger()


class Behind(msgspec.Struct, frozen=True, kw_only=True):
    """Events the log holds and memory does not, and how long the oldest has been stored."""

    events: int = 0
    seconds: float = 0.0


class Feed:
    """Feeds a fabric from the log until `stop`. `run` is the task; the others may be called from anywhere.

    `placements` and `society` know what was said up to the fabric's cursor.
    """

    def __init__(
        self,
        log: Log,
        fabric: Fabric,
        placements: Placements | None = None,
        society: Society | None = None,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._placements = placements or Placements()
        self._society = society or Society()
        self._log = log
        self._fabric = fabric
        self._clock = clock
        self._tail = log.tail(FILTERS, after=fabric.cursor)
        self._waiting: deque[Recorded] = deque()
        self._arrived, self._full, self._room, self._idle, self._over = (asyncio.Event() for _ in range(5))
        self._reaching: list[tuple[int, int, asyncio.Future[bool]]] = []
        self._serial = itertools.count()
        self._began = -math.inf
        self._rebuilding = True
        self._away: str | None = None

    @property
    def problem(self) -> str | None:
        """Why memory does not move on just now, or is not there yet, for readiness; None when it does."""
        if self._away is None and self._rebuilding:
            return f"memory is being brought up to date with the log: {self.behind().events} events to go"
        return self._away

    def behind(self) -> Behind:
        """What was stored since the last event was read is not counted: read-ahead is bounded, so that is little."""
        oldest = self._waiting[0].stored_at if self._waiting else None
        seconds = 0.0 if oldest is None else max(0.0, (self._clock() - oldest).total_seconds())
        return Behind(events=len(self._waiting) + self._tail.pending, seconds=seconds)

    async def run(self) -> None:
        """Raises whatever is not an outage; the index and the embedder may be away, and are tried again."""
        try:
            async with asyncio.TaskGroup() as group:
                announce = group.create_task(self._announce())
                group.create_task(self._fold())
                await self._read()
                announce.cancel()
        finally:
            self._end()

    async def reach(self, seq: int) -> bool:
        """Wait until memory holds everything up to `seq`; False when the feed was stopped before."""
        if self._fabric.cursor < seq and not self._over.is_set():
            reached: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._reaching, (seq, next(self._serial), reached))
            await reached
        return self._fabric.cursor >= seq

    async def caught_up(self) -> None:
        """Wait until memory holds what was in the log when the feed began."""
        await self._tail.caught_up()
        while self._waiting and not self._over.is_set():
            self._idle.clear()
            await self._idle.wait()

    async def _announce(self) -> None:
        await self.caught_up()
        self._rebuilding = False

    async def stop(self) -> None:
        await self._tail.stop()
        self._end()

    def _end(self) -> None:
        for event in (self._arrived, self._full, self._room, self._idle, self._over):
            event.set()
        for _, _, reached in self._reaching:
            if not reached.done():
                reached.set_result(False)
        self._reaching.clear()

    async def _read(self) -> None:
        async for recorded in self._tail:
            if isinstance(recorded, Unreadable):
                continue
            self._placements.add(recorded)
            if self._placements.why_not(recorded) is not None:
                continue
            self._society.add(recorded)
            while len(self._waiting) >= QUEUE and not self._over.is_set():
                self._room.clear()
                await self._room.wait()
            self._waiting.append(recorded)
            self._arrived.set()
            if len(self._waiting) >= TRANSACTION_EVENTS:
                self._full.set()
        self._end()

    async def _fold(self) -> None:
        while batch := await self._next():
            done = await self._remember(batch)
            if done is None:
                return
            for reason in done.refused:
                _log.warning("compaction_refused", why=reason)
            for _ in batch:
                self._waiting.popleft()
            self._room.set()
            if not self._waiting:
                self._idle.set()
            while self._reaching and self._reaching[0][0] <= self._fabric.cursor:
                _, _, reached = heapq.heappop(self._reaching)
                if not reached.done():
                    reached.set_result(True)

    async def _next(self) -> list[Recorded]:
        """The events of the next transaction, when it is time for one; none in the end."""
        loop = asyncio.get_running_loop()
        while not self._waiting and not self._over.is_set():
            self._arrived.clear()
            await self._arrived.wait()
        if self._over.is_set():
            return []
        if len(self._waiting) < TRANSACTION_EVENTS and not self._rebuilding:
            self._full.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._began + PACE_S):
                    await self._full.wait()
        self._began = loop.time()
        return list(itertools.islice(self._waiting, TRANSACTION_EVENTS))

    async def _remember(self, batch: Sequence[Recorded]) -> Remembered | None:
        """Take the events in, however long it takes; None when the feed ended before."""
        delay_s = FIRST_RETRY_S
        while not self._over.is_set():
            try:
                done = await self._take(batch)
            except AWAY as error:
                self._away = str(error)
                _log.error("memory_stands", at=self._fabric.cursor, why=self._away, retry_s=delay_s)
                await self._pause(delay_s)
                delay_s = min(LONGEST_RETRY_S, 2 * delay_s)
            else:
                self._away = None
                return done
        return None

    async def _take(self, batch: Sequence[Recorded]) -> Remembered:
        try:
            return await self._fabric.remember(batch)
        except AWAY:
            raise
        except Exception:
            _log.exception("transaction_failed", first=batch[0].seq, last=batch[-1].seq, then="its events one by one")
        done = Remembered(cursor=self._fabric.cursor)
        for recorded in batch:
            try:
                done = done + await self._fabric.remember((recorded,))
            except AWAY:
                raise
            except Exception as error:
                await put_aside(self._log, recorded, error)
                await self._fabric.skip(recorded.seq)
        return done

    async def _pause(self, delay_s: float) -> None:
        """So long, or until the end."""
        try:
            async with asyncio.timeout(delay_s):
                await self._over.wait()
        except TimeoutError:
            return
