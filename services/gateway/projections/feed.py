"""The living projection: one tail of the log folds it, and wakes whoever waits for what the tail brings.

Theory of operation: `run` takes the tail's events in order; each is applied to the projection first, then handed to those
who wait for its cause (`awaiting`), for its position (`reached`) or for all like it (`subscribe`). All of it happens without
an await in between, so at any await the projection, `position` and every subscription agree: a subscriber that joins at
`position` gets exactly the events above it. `run_answers` does the same for the short-lived answers of `RECALL`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from services.gateway.projections.projection import Projection
from services.gateway.wire.problems import RETRY_AFTER_S, Problem
from shared.contracts.catalog import class_filter
from shared.contracts.envelope import Recorded, Stored
from shared.log.port import Log, Tail
from shared.placement import PLACEMENT
from shared.runtime.taking import take

log = structlog.get_logger()

EVERYTHING = ("*.*.*.>",)
YIELD_EVERY = 256
MAX_WAITING = 10_000

Wanted = Callable[[Recorded], bool]


class Subscription:
    """A bounded queue of one slow or fast client; what does not fit pushes the oldest out and is counted."""

    def __init__(self, wanted: Wanted, limit: int) -> None:
        self.wanted = wanted
        self._limit = limit
        self._events: deque[Recorded] = deque()
        self._skipped = 0
        self._changed = asyncio.Event()
        self.closed = False

    def offer(self, recorded: Recorded) -> None:
        if not self.wanted(recorded):
            return
        if len(self._events) >= self._limit:
            self._events.popleft()
            self._skipped += 1
        self._events.append(recorded)
        self._changed.set()

    def close(self) -> None:
        """The taker gets what is left, then sees `closed`."""
        self.closed = True
        self._changed.set()

    async def take(self, timeout_s: float) -> tuple[int, list[Recorded]]:
        """How many were skipped since the last call, and what is there now; both may be empty after the time-out."""
        if not self._events and not self.closed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
        taken, skipped = list(self._events), self._skipped
        self._events.clear()
        self._skipped = 0
        self._changed.clear()
        return skipped, taken


class Feed:
    """See the module."""

    def __init__(self, log: Log, projection: Projection) -> None:
        self.projection = projection
        self.caught_up = asyncio.Event()
        self._log = log
        self._tails: list[Tail] = []
        self._stopping = asyncio.Event()
        self._causes: dict[str, list[asyncio.Queue[Recorded]]] = {}
        self._positions: list[tuple[int, asyncio.Future[None]]] = []
        self.subscriptions: set[Subscription] = set()

    @property
    def position(self) -> int:
        """Every event up to here is in the projection."""
        return self.projection.position

    @property
    def ready(self) -> bool:
        """Whether the past was folded; from then on answers are of the present."""
        return self.caught_up.is_set()

    async def run(self) -> None:
        """Fold what the log has above `position`, until `stop`."""
        if self.stopped:
            return
        for said in await self._log.read((PLACEMENT,), upto=self.position) if self.position else ():
            self.projection.placements.add(said)
        tail = self._log.tail(EVERYTHING, self.position)
        self._tails.append(tail)
        log.info("log_followed", after=self.position)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch(tail))
            taken = 0
            async for message in tail:
                await take(self._log, self.take, message)
                taken += 1
                if taken % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
            watch.cancel()

    async def run_answers(self) -> None:
        """Hand out recall's answers until `stop`."""
        if self.stopped:
            return
        tail = self._log.tail((class_filter("recall.answered"),), stream="RECALL")
        self._tails.append(tail)
        async for message in tail:
            if isinstance(message, Recorded):
                self._answer(message)

    def take(self, message: Stored) -> None:
        """One message of the log: fold, then tell. Nobody is told what cannot be read, nor what does not count."""
        if not self.projection.apply(message):
            return
        if isinstance(message, Recorded) and self.projection.heard(message):
            self._answer(message)
            for subscription in self.subscriptions:
                subscription.offer(message)
        if self._positions:
            waiting, self._positions = self._positions, []
            for seq, future in waiting:
                if seq > self.position:
                    self._positions.append((seq, future))
                elif not future.done():
                    future.set_result(None)

    async def stop(self) -> None:
        """End the tails and every subscription."""
        self._stopping.set()
        for subscription in self.subscriptions:
            subscription.close()
        for tail in self._tails:
            await tail.stop()

    @contextmanager
    def awaiting(self, cause: str) -> Iterator[asyncio.Queue[Recorded]]:
        """A queue of the events that `cause` brings about. Enter before the cause is committed, so none is missed."""
        queue: asyncio.Queue[Recorded] = asyncio.Queue(MAX_WAITING)
        queues = self._causes.setdefault(cause, [])
        queues.append(queue)
        try:
            yield queue
        finally:
            queues.remove(queue)
            if not queues:
                self._causes.pop(cause, None)

    async def reached(self, seq: int, timeout_s: float) -> None:
        """Returns once the projection holds everything up to `seq`. Raises `Problem` (503) after `timeout_s`."""
        if self.position >= seq:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._positions.append((seq, future))
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            detail = (
                f"this gateway has not read the log up to sequence {seq} within {timeout_s:g} s; what you sent may be "
                "stored already, ask again with the same Idempotency-Key"
            )
            raise Problem(503, detail, reason="catching_up", retry_after_s=RETRY_AFTER_S) from None

    def subscribe(self, wanted: Wanted, limit: int) -> Subscription:
        """Everything wanted above `position`, from now on; give it to `unsubscribe` in the end."""
        subscription = Subscription(wanted, limit)
        if self.stopped:
            subscription.close()
        self.subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self.subscriptions.discard(subscription)

    @property
    def stopped(self) -> bool:
        return self._stopping.is_set()

    async def turn(self, timeout_s: float) -> None:
        """Returns when the past comes to be folded or the feed stops, at the latest after `timeout_s`."""
        waits = [asyncio.ensure_future(self._stopping.wait())]
        if not self.ready:
            waits.append(asyncio.ensure_future(self.caught_up.wait()))
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _watch(self, tail: Tail) -> None:
        await tail.caught_up()
        self.caught_up.set()

    def _answer(self, recorded: Recorded) -> None:
        cause = recorded.envelope.causation
        for queue in self._causes.get(cause, ()) if cause is not None else ():
            if not queue.full():
                queue.put_nowait(recorded)
