"""The asynchronous shell: deliveries of one durable consumer through one decider, each to exactly one verdict.

Messages of one boundary are handled one at a time and in order (a lane); lanes run side by side, at most `in_flight` of them.
While a handler works its delivery is renewed, so the ack wait can be short. done -> ack; retry -> nak with delay; reject or
undecodable -> dead letters, then term; log away -> nak; a bug -> log, nak with backoff, and after `MAX_FAILURES` the dead letters.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Generator
from datetime import datetime
from time import perf_counter
from typing import Generic, TypeVar, cast

import msgspec
import structlog

from shared.contracts.envelope import Unreadable
from shared.contracts.ids import utc_now
from shared.decider import Boundary, Decider, Delivered, Effect, Result, Tick
from shared.log.port import ConsumerSpec, Delivery, DuplicateEvent, Log, LogUnavailable, Puller, StaleBoundary
from shared.runtime.checkpoints import Checkpoints
from shared.runtime.handling import (
    Again,
    Answer,
    Commit,
    Dead,
    Done,
    Ends,
    Fold,
    Operation,
    Perform,
    Read,
    Verdict,
    handle,
)
from shared.telemetry import COMMITS, DELIVERIES, HANDLE_SECONDS, IN_FLIGHT

log = structlog.get_logger()

S = TypeVar("S")
PerformEffect = Callable[[Effect], Awaitable[Result]]

MAX_FAILURES = 10
MAX_FOLDS = 1024
MAX_OPENED = 8192
MAX_PAUSE_S = 30.0
HELD_S = 2.0
IN_FLIGHT_LIMIT = 256
_Name = tuple[str, ...]
_Work = tuple[Delivery, Delivered | None, Boundary] | tuple[Tick, asyncio.Future[Verdict], Boundary]
"""What waits in a lane. A delivery that had to wait for others has no `Delivered` yet: its `now` is when its turn comes."""


async def no_effects(effect: Effect) -> Result:
    """For deciders that have none."""
    raise TypeError(f"this service performs no effects, it was asked for {type(effect).__name__}")


async def drive(log_: Log, steps: Generator[Operation, Answer, Verdict], perform: PerformEffect) -> Verdict:
    """Do what `handle` asks for until it answers. Raises `LogUnavailable` and whatever an effect raises."""
    answer: Answer = None
    while True:
        try:
            operation = steps.send(answer)
        except StopIteration as stop:
            verdict: Verdict = stop.value
            return verdict
        match operation:
            case Commit():
                try:
                    answer = await log_.commit(operation.messages, operation.expect)
                    COMMITS.by["stored"] += 1
                except (StaleBoundary, DuplicateEvent):
                    answer = None
                    COMMITS.by["refused"] += 1
            case Read():
                answer = await log_.stored(operation.filters, operation.after)
            case Ends():
                answer = await log_.ends(operation.filters)
            case Perform():
                answer = (await perform(operation.effect), utc_now())


class _Lane(msgspec.Struct):
    """What waits for its turn in a boundary, and who works through it."""

    waiting: deque[_Work]
    worker: asyncio.Task[None]


class Shell(Generic[S]):
    """A decider with its effects on a log. `clock` is the wall clock that becomes `now` of each delivery.

    While `may_work` says no, deliveries go back to the broker, for another replica or for later.
    """

    def __init__(
        self,
        log_: Log,
        decider: Decider[S],
        *,
        service: str,
        perform: PerformEffect = no_effects,
        checkpoints: Checkpoints[S] | None = None,
        clock: Callable[[], datetime] = utc_now,
        may_work: Callable[[], bool] = lambda: True,
    ) -> None:
        self._log = log_
        self._may_work = may_work
        self._decider = decider
        self._service = service
        self._perform = perform
        self._checkpoints = checkpoints
        self._clock = clock
        self._folds: OrderedDict[_Name, Fold[S]] = OrderedDict()
        self._opened: dict[_Name, None] = {}
        self._lanes: dict[_Name, _Lane] = {}
        self._working: set[Delivery] = set()
        self._ticks: set[asyncio.Future[Verdict]] = set()
        self._has_room = asyncio.Event()

    # -- deliveries -------------------------------------------------------------------------------------------------

    async def consume(
        self, puller: Puller, spec: ConsumerSpec, *, stopping: asyncio.Event | None = None, grace_s: float = 4.0
    ) -> None:
        """Handle deliveries until the puller is stopped, or `stopping` is set and `grace_s` over; then nak what is not finished."""
        renewal = asyncio.create_task(self._renew(spec.ack_wait_s), name=f"renew-{spec.name}")
        taking = asyncio.create_task(self._take(puller, spec), name=f"take-{spec.name}")
        ending = asyncio.create_task((stopping or asyncio.Event()).wait())
        try:
            await asyncio.wait((taking, ending), return_when=asyncio.FIRST_COMPLETED)
            clock = asyncio.get_running_loop().time
            end = clock() + grace_s
            while (unfinished := [t for t in (taking, *self._workers()) if not t.done()]) and clock() < end:
                await asyncio.wait(unfinished, timeout=end - clock())
            if taking.done():
                taking.result()  # what broke the pull ends the process
        finally:
            tasks = (renewal, taking, ending, *self._workers())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for waiting in tuple(self._ticks):
                waiting.cancel()
            for delivery in tuple(self._working):
                self._settle(delivery, Again(0.1), "drained")

    async def _take(self, puller: Puller, spec: ConsumerSpec) -> None:
        async for delivery in puller:
            while len(self._working) >= IN_FLIGHT_LIMIT:
                self._has_room.clear()
                await self._has_room.wait()
            self._working.add(delivery)
            try:
                await self._begin(delivery, spec)
            except Exception:
                self._hand_back(delivery)

    async def _begin(self, delivery: Delivery, spec: ConsumerSpec) -> None:
        """To the dead letters, or into the lane of its boundary."""
        recorded = delivery.recorded
        if isinstance(recorded, Unreadable):
            await self._bury(delivery, recorded.reason, recorded.detail)
        elif delivery.attempt >= spec.max_deliver > 0:
            await self._bury(delivery, "max_deliver", f"delivered {delivery.attempt} times without a verdict")
        elif (boundary := self._decider.boundary(message := self._delivered(delivery))) is None:
            self._settle(delivery, Done(), "ignored")
        elif (lane := self._lanes.get(boundary.reads)) is not None:
            lane.waiting.append((delivery, None, boundary))
        else:
            self._open_lane((delivery, message, boundary))

    async def tick(self, tick: Tick) -> Verdict:
        """Handle a tick in its boundary's lane; cancelled when the shell ends before its turn. Raises `LogUnavailable`."""
        boundary = self._decider.boundary(tick)
        if boundary is None:
            return Done()
        waiting: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._ticks.add(waiting)
        waiting.add_done_callback(self._ticks.discard)
        lane = self._lanes.get(boundary.reads)
        if lane is not None:
            lane.waiting.append((tick, waiting, boundary))
        else:
            self._open_lane((tick, waiting, boundary))
        return await waiting

    def _delivered(self, delivery: Delivery) -> Delivered:
        assert not isinstance(delivery.recorded, Unreadable)
        return Delivered(recorded=delivery.recorded, now=self._clock(), attempt=delivery.attempt)

    def _open_lane(self, work: _Work) -> None:
        name, waiting = work[2].reads, deque((work,))
        worker = asyncio.get_running_loop().create_task(self._run_lane(name, waiting))
        self._lanes[name] = _Lane(waiting, worker)

    def _workers(self) -> list[asyncio.Task[None]]:
        return [lane.worker for lane in self._lanes.values()]

    async def _run_lane(self, name: _Name, waiting: deque[_Work]) -> None:
        try:
            while waiting:
                first, second, boundary = waiting.popleft()
                if isinstance(first, Tick):
                    await self._handle_tick(first, cast("asyncio.Future[Verdict]", second), boundary)
                else:
                    message = cast("Delivered | None", second) or self._delivered(first)
                    try:
                        await self._handle_delivery(first, message, boundary)
                    except Exception:
                        self._hand_back(first)
        finally:
            del self._lanes[name]

    async def _handle_tick(self, tick: Tick, waiting: asyncio.Future[Verdict], boundary: Boundary) -> None:
        try:
            verdict = await self._handle(tick, boundary)
        except Exception as error:
            self._folds.pop(boundary.reads, None)
            if not waiting.done():
                waiting.set_exception(error)
            return
        if not waiting.done():
            waiting.set_result(verdict)

    async def _handle_delivery(self, delivery: Delivery, message: Delivered, boundary: Boundary) -> None:
        if not self._may_work():
            self._settle(delivery, Again(HELD_S), "held")
            return
        began = perf_counter()
        try:
            verdict = await self._handle(message, boundary)
        except LogUnavailable as error:
            self._folds.pop(boundary.reads, None)
            log.warning("log_unavailable", seq=delivery.seq, why=str(error))
            self._settle(delivery, _pause(0.25, delivery), "log_unavailable")
        except Exception:
            self._folds.pop(boundary.reads, None)
            log.exception("handler_failed", subject=delivery.subject, seq=delivery.seq, attempt=delivery.attempt)
            if delivery.attempt >= MAX_FAILURES:
                await self._bury(delivery, "handler_failed", f"failed {delivery.attempt} times, see the log")
            else:
                self._settle(delivery, _pause(0.1, delivery), "failed")
        else:
            HANDLE_SECONDS.observe(perf_counter() - began)
            match verdict:
                case Done(committed):
                    self._settle(delivery, verdict, "done" if committed else "nothing")
                case Again():
                    self._settle(delivery, verdict, "retry")
                case Dead(reason):
                    await self._bury(delivery, reason, "refused by the service")

    async def _handle(self, message: Delivered | Tick, boundary: Boundary) -> Verdict:
        fold = self._folds.get(boundary.reads)
        if fold is None:
            fold = Fold(self._decider, boundary)
            if self._checkpoints is not None:
                await self._checkpoints.restore(fold)
            if not boundary.opens:
                self._keep(fold)
            elif boundary.reads not in self._opened:
                self._remember(boundary.reads)  # its fold is not kept: it is seldom looked at again
            else:
                fold = Fold(self._decider, msgspec.structs.replace(boundary, opens=False))
        else:
            self._folds.move_to_end(boundary.reads)
        verdict = await drive(self._log, handle(fold, message, source=self._service), self._perform)
        if self._checkpoints is not None:
            await self._checkpoints.offer(fold)
        return verdict

    def _remember(self, opened: _Name) -> None:
        """So that a second message that would open the same boundary reads it instead."""
        self._opened[opened] = None
        if len(self._opened) > MAX_OPENED:
            del self._opened[next(iter(self._opened))]

    def _keep(self, fold: Fold[S]) -> None:
        """Remember the fold, and forget the one that was not used for longest."""
        self._folds[fold.boundary.reads] = fold
        while len(self._folds) > MAX_FOLDS:
            oldest = next(iter(self._folds))
            if oldest in self._lanes:
                break
            del self._folds[oldest]

    # -- verdicts ---------------------------------------------------------------------------------------------------

    def _settle(self, delivery: Delivery, verdict: Done | Again, label: str) -> None:
        """Ack or nak, and have room for another; when the broker is away it redelivers by itself."""
        self._release(delivery)
        DELIVERIES.by[label] += 1
        try:
            if isinstance(verdict, Done):
                delivery.ack()
            else:
                delivery.nak(verdict.delay_s)
        except LogUnavailable as error:
            log.warning("verdict_lost", seq=delivery.seq, why=str(error))

    def _hand_back(self, delivery: Delivery) -> None:
        """After an exception nobody else took, such as from a burial: it is said, and the message comes again."""
        log.exception("delivery_failed", subject=delivery.subject, seq=delivery.seq, attempt=delivery.attempt)
        self._settle(delivery, _pause(0.1, delivery), "failed")

    async def _bury(self, delivery: Delivery, reason: str, detail: str) -> None:
        log.warning("dead_letter", subject=delivery.subject, seq=delivery.seq, reason=reason, detail=detail)
        try:
            await delivery.dead(reason, detail)
        except LogUnavailable:
            self._settle(delivery, Again(1.0), "log_unavailable")
            return
        self._release(delivery)
        DELIVERIES.by["dead"] += 1

    def _release(self, delivery: Delivery) -> None:
        self._working.discard(delivery)
        self._has_room.set()

    async def _renew(self, ack_wait_s: float) -> None:
        """Tell the broker every third of the ack wait that what is in flight is being worked on."""
        while True:
            await asyncio.sleep(ack_wait_s / 3)
            IN_FLIGHT.set(len(self._working))
            for delivery in tuple(self._working):
                try:
                    delivery.in_progress()
                except LogUnavailable:
                    break


def _pause(first_s: float, delivery: Delivery) -> Again:
    """Longer with every delivery of it."""
    return Again(min(MAX_PAUSE_S, first_s * 2 ** min(delivery.attempt, 10)))
