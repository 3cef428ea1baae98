"""One tail of the log for all rooms: a process has one of a stream, because its consumer's name is fixed.

A room that decides on what is beyond its boundaries folds it here (`follow`), by class, in the order of the log; what its fold cannot take
is buried and ends nothing. What runners say of personas they do not hold is left out, as the governor's word tells by sequence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from shared.contracts.catalog import class_filter, class_of
from shared.contracts.envelope import Recorded, Stored
from shared.log.port import Log, LogUnavailable, Tail
from shared.placement import PLACEMENT, Placements
from shared.runtime.taking import take

Fold = Callable[[Recorded], None]
CAUGHT_UP_WITHIN_S = 10.0
YIELD_EVERY = 256


class Following:
    """`follow` before `run`. `position`: every event of the classes up to here was given to the folds."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._folds: dict[str, list[Fold]] = {}
        self._placements = Placements()
        self._tail: Tail | None = None
        self._stopped = False
        self._caught_up = asyncio.Event()
        self._changed: list[Callable[[], None]] = []
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.position = 0

    def follow(self, classes: Iterable[str], fold: Fold) -> None:
        """Have `fold` given every event of these classes that counts."""
        for name in classes:
            self._folds.setdefault(name, []).append(fold)

    def when_caught_up(self, call: Callable[[], None]) -> None:
        """Have it called once, when all that was in the log at the start is folded."""
        self._changed.append(call)

    async def run(self) -> None:
        """Give what the log has to the folds, until `stop`."""
        if self._stopped:
            return
        self._tail = self._log.tail((PLACEMENT, *map(class_filter, sorted(self._folds))))
        watching = asyncio.create_task(self._watch(self._tail))
        taken = 0
        try:
            async for message in self._tail:
                await take(self._log, self.apply, message)
                taken += 1
                if taken % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
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
        if message.seq <= self.position:
            return
        self.position = message.seq
        try:
            if not isinstance(message, Recorded):
                return
            self._placements.add(message)
            if self._placements.why_not(message) is None:
                for fold in self._folds.get(class_of(message.event), ()):
                    fold(message)
        finally:
            self._wake()

    def _wake(self) -> None:
        if not self._waiting:
            return
        for seq, waiting in self._waiting:
            if seq <= self.position and not waiting.done():
                waiting.set_result(None)
        self._waiting = [(seq, waiting) for seq, waiting in self._waiting if not waiting.done()]

    async def reached(self, seq: int) -> None:
        """Waits a while until everything up to that sequence is folded. Raises `LogUnavailable` when it is not by then."""
        if seq <= self.position:
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((seq, waiting))
        try:
            async with asyncio.timeout(CAUGHT_UP_WITHIN_S):
                await waiting
        except TimeoutError:
            raise LogUnavailable(f"the log is still being read, up to {self.position} of {seq}") from None

    async def assert_caught_up(self) -> None:
        """Waits a while for the past to be folded. Raises `LogUnavailable` when it is not by then."""
        try:
            async with asyncio.timeout(CAUGHT_UP_WITHIN_S):
                await self._caught_up.wait()
        except TimeoutError:
            raise LogUnavailable("the log is still being read") from None

    async def _watch(self, tail: Tail) -> None:
        await tail.caught_up()
        self._caught_up.set()
        for call in self._changed:
            call()
