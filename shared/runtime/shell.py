"""The asynchronous shell: deliveries of one durable consumer through one decider, each to exactly one verdict.

Messages of one boundary are handled one at a time (a lane); lanes run side by side, at most `IN_FLIGHT_LIMIT` of them. Which is
next is said by `turns`: what the broker has is read ahead, as much as `ROOM` holds, and swarms are served in turn. What a swarm
has beyond its share is refused by an event where its class can be (`refused_when_crowded` of its row), by the decider, who is told.
What is held is renewed, so the ack wait can be short. done -> ack; retry -> nak with delay; reject or
undecodable -> dead letters, then term; log away -> nak; a bug -> log, nak with backoff, and after `MAX_FAILURES` the dead letters.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import datetime
from time import perf_counter
from typing import Generic, TypeVar

import msgspec
import structlog

from shared.contracts.catalog import class_of, owner
from shared.contracts.envelope import Unreadable
from shared.contracts.ids import utc_now
from shared.contracts.services import SERVICES
from shared.decider import Boundary, Decider, Delivered, Tick
from shared.log.port import ConsumerSpec, Delivery, Log, LogUnavailable, Puller, jittered
from shared.metrics.table import DELIVERIES, HANDLE_SECONDS, HOP_SECONDS, IN_FLIGHT, REFUSALS, WAITING
from shared.placement import NOT_THE_HOLDER
from shared.runtime.driving import PerformEffect, drive, no_effects
from shared.runtime.handling import Again, Dead, Done, Fold, Verdict, handle
from shared.runtime.hearing import WhyNot, believed
from shared.runtime.keeping.checkpoints import Checkpoints
from shared.runtime.turns import Turns

log = structlog.get_logger()

S = TypeVar("S")

MAX_FAILURES = 10
MAX_FOLDS = 1024
MAX_OPENED = 8192
MAX_PAUSE_S = 30.0
HELD_S = 2.0
IN_FLIGHT_LIMIT, IN_FLIGHT_OF_A_SWARM = 256, 8
"""Of a swarm that is not alone. Few keep the processor and the broker busy; more would only make others wait."""
ROOM, PIECE_BYTES = 16_384, 4096
"""What is read ahead, in pieces: a delivery is one for each `PIECE_BYTES` of its body that it begins."""
TAKEN_AT_ONCE, RENEWED_AT_ONCE = 16, 128
"""Then it is the others' turn on the event loop."""
_Name = tuple[str, ...]


class _Work(msgspec.Struct, frozen=True):
    """A delivery or a tick that has its turn to come. Without a boundary it is to be buried. `crowd`: see `Delivered`; `waiting`
    takes a tick's verdict."""

    boundary: Boundary | None
    delivery: Delivery | None = None
    crowd: int = 0
    tick: Tick | None = None
    waiting: asyncio.Future[Verdict] | None = None


class Shell(Generic[S]):
    """A decider with its effects on a log. `clock` is the wall clock that becomes `now` of each delivery.

    What `why_not` objects to is buried. While `may_work` says no, deliveries go back to the broker, for another replica or for
    later. `at_most`: of one swarm's deliveries that wait or are handled, whatever room there is. `at_once`: of one swarm, are handled.
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
        why_not: WhyNot = believed,
        at_most: int = ROOM,
        at_once: int = IN_FLIGHT_OF_A_SWARM,
    ) -> None:
        self._log = log_
        self._may_work = may_work
        self._why_not = why_not
        self._at_most = at_most
        self._refused = SERVICES[service].refused_when_crowded if service in SERVICES else ()
        self._decider = decider
        self._service = service
        self._perform = perform
        self._checkpoints = checkpoints
        self._clock = clock
        self._folds: OrderedDict[_Name, Fold[S]] = OrderedDict()
        self._opened: OrderedDict[_Name, None] = OrderedDict()
        self._turns = _turns(at_once)
        self._at_once = at_once
        self._workers: set[asyncio.Task[None]] = set()
        self._ending = False
        self._working: dict[Delivery, bool] = {}
        """What is held; whether it was there when last renewed."""
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
            while (unfinished := [t for t in (taking, *self._workers) if not t.done()]) and clock() < end:
                await asyncio.wait(unfinished, timeout=end - clock())
            if taking.done():
                taking.result()  # what broke the pull ends the process
        finally:
            self._ending = True
            tasks = (renewal, taking, ending, *self._workers)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._workers.clear()  # also of those that never began
            for waiting in tuple(self._ticks):
                waiting.cancel()
            for delivery in tuple(self._working):
                self._settle(delivery, Again(0.1), "drained")
            self._turns, self._ending = _turns(self._at_once), False

    async def _take(self, puller: Puller, spec: ConsumerSpec) -> None:
        taken = 0
        async for delivery in puller:
            taken += 1
            if taken % TAKEN_AT_ONCE == 0:
                await asyncio.sleep(0)
            while self._turns.is_full:
                self._has_room.clear()
                await self._has_room.wait()
            self._working[delivery] = False
            try:
                self._begin(delivery, spec)
            except Exception:
                try:
                    await self._failed(delivery)
                except Exception:
                    self._hand_back(delivery)

    def _begin(self, delivery: Delivery, spec: ConsumerSpec) -> None:
        """Have it wait for its turn, also for the dead letters."""
        recorded = delivery.recorded
        crowd, boundary = 0, None
        if isinstance(recorded, Unreadable):
            swarm, persona = owner(delivery.subject) or ("", "")
        else:
            swarm, persona = recorded.event.swarm, recorded.event.persona
        if not _is_dead(delivery, spec):
            assert not isinstance(recorded, Unreadable)
            crowd = self._crowd(swarm) if class_of(recorded.event) in self._refused else 0
            boundary = self._decider.boundary(self._delivered(delivery, crowd))
            if boundary is None:
                REFUSALS.by["too_many_waiting"] += crowd > 0
                self._settle(delivery, Done(), "refused" if crowd else "ignored")
                return
        lane = delivery.seq if boundary is None else _lane(boundary, swarm)
        pieces = 1 + delivery.size // PIECE_BYTES
        work = _Work(boundary, delivery=delivery, crowd=crowd)
        self._turns.put((swarm, crowd > 0), persona, lane, work, pieces, whose=(swarm, False))
        self._go_on()

    def _crowd(self, swarm: str) -> int:
        """How many of the swarm wait already, if that is more than its share; else 0."""
        party = (swarm, False)
        held = self._turns.held_by(party)
        return max(1, held) if held >= self._at_most or self._turns.is_crowded(party) else 0

    async def tick(self, tick: Tick) -> Verdict:
        """Handle a tick in its boundary's lane; cancelled when the shell ends before its turn. Raises `LogUnavailable`."""
        boundary = self._decider.boundary(tick)
        if boundary is None:
            return Done()
        waiting: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._ticks.add(waiting)
        waiting.add_done_callback(self._ticks.discard)
        self._turns.put(
            (tick.swarm, False), "", _lane(boundary, tick.swarm), _Work(boundary, tick=tick, waiting=waiting)
        )
        self._go_on()
        return await waiting

    def _delivered(self, delivery: Delivery, crowd: int) -> Delivered:
        assert not isinstance(delivery.recorded, Unreadable)
        return Delivered(recorded=delivery.recorded, now=self._clock(), attempt=delivery.attempt, crowd=crowd)

    def _go_on(self) -> None:
        """Begin whatever may run now."""
        while not self._ending and (next_ := self._turns.take()) is not None:
            self._workers.add(asyncio.get_running_loop().create_task(self._work(*next_)))

    async def _work(self, lane: Hashable, work: _Work) -> None:
        delivery = work.delivery
        try:
            if work.tick is not None and work.waiting is not None and work.boundary is not None:
                await self._handle_tick(work.tick, work.waiting, work.boundary)
            elif delivery is not None:
                try:
                    if work.boundary is None:
                        await self._bury(delivery, *_why_dead(delivery))
                    else:
                        await self._handle_delivery(delivery, work.crowd, work.boundary)
                except Exception:
                    self._hand_back(delivery)
        finally:
            self._workers.discard(asyncio.current_task())
            self._turns.done(lane)
            self._has_room.set()
            self._go_on()

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

    async def _handle_delivery(self, delivery: Delivery, crowd: int, boundary: Boundary) -> None:
        if not self._may_work():
            self._settle(delivery, Again(HELD_S), "held")
            return
        message = self._delivered(delivery, crowd)
        began = perf_counter()
        try:
            if (why := await self._why_not(message.recorded)) is not None:
                await self._bury(delivery, NOT_THE_HOLDER, why)
                return
            verdict = await self._handle(message, boundary)
        except LogUnavailable as error:
            self._folds.pop(boundary.reads, None)
            log.warning("log_unavailable", seq=delivery.seq, why=str(error))
            self._settle(delivery, _pause(0.25, delivery), "log_unavailable")
        except Exception:
            self._folds.pop(boundary.reads, None)
            await self._failed(delivery)
        else:
            took_s = perf_counter() - began
            HANDLE_SECONDS.observe(took_s)
            match verdict:
                case Done(committed):
                    label = "refused" if crowd else "done" if committed else "nothing"
                    if committed:
                        HOP_SECONDS.observe((message.now - message.recorded.stored_at).total_seconds() + took_s)
                    self._settle(delivery, verdict, label)
                case Again():
                    self._settle(delivery, verdict, "retry")
                case Dead(reason):
                    await self._bury(delivery, reason, "refused by the service")

    async def _handle(self, message: Delivered | Tick, boundary: Boundary) -> Verdict:
        fold = self._folds.get(boundary.reads)
        # what reads nothing has nothing to keep, and the fold of what a message opened is seldom looked at again
        is_kept = bool(boundary.reads) and not boundary.opens and boundary.keeps
        if fold is not None:
            self._folds.move_to_end(boundary.reads)
        elif is_kept:
            fold = Fold(self._decider, boundary)
            if self._checkpoints is not None:
                await self._checkpoints.restore(fold)
            self._keep(fold)
        else:
            if boundary.opens and boundary.reads in self._opened:
                boundary = msgspec.structs.replace(boundary, opens=False)
            elif boundary.opens:
                self._remember(boundary.reads)
            fold = Fold(self._decider, boundary)
        verdict = await drive(self._log, handle(fold, message, source=self._service, lags=boundary.lags), self._perform)
        if self._checkpoints is not None and is_kept:
            await self._checkpoints.offer(fold)
        return verdict

    def _remember(self, opened: _Name) -> None:
        """So that a second message that would open the same boundary reads it instead."""
        self._opened[opened] = None
        if len(self._opened) > MAX_OPENED:
            self._opened.popitem(last=False)

    def _keep(self, fold: Fold[S]) -> None:
        """Remember the fold, and forget the one that was not used for longest, unless it is being used."""
        self._folds[fold.boundary.reads] = fold
        while len(self._folds) > MAX_FOLDS:
            oldest = next(iter(self._folds))
            if self._turns.is_taken(oldest):
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

    async def _failed(self, delivery: Delivery) -> None:
        """After an exception of the decider or an effect: it comes again, and has come often enough at `MAX_FAILURES`."""
        log.exception("handler_failed", subject=delivery.subject, seq=delivery.seq, attempt=delivery.attempt)
        if delivery.attempt >= MAX_FAILURES:
            await self._bury(delivery, "handler_failed", f"failed {delivery.attempt} times, see the log")
        else:
            self._settle(delivery, _pause(0.1, delivery), "failed")

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
        self._working.pop(delivery, None)

    async def _renew(self, ack_wait_s: float) -> None:
        """Tell the broker every third of the ack wait that what has been in flight for as long is being worked on."""
        while True:
            await asyncio.sleep(ack_wait_s / 3)
            IN_FLIGHT.set(self._turns.running)
            WAITING.set(len(self._working) - self._turns.running)
            for number, delivery in enumerate(tuple(self._working), 1):
                if number % RENEWED_AT_ONCE == 0:
                    await asyncio.sleep(0)
                try:
                    if self._working.get(delivery):
                        delivery.in_progress()
                    elif delivery in self._working:
                        self._working[delivery] = True
                except LogUnavailable:
                    break


def _turns(at_once: int) -> Turns[_Work]:
    return Turns(room=ROOM, at_once=IN_FLIGHT_LIMIT, at_once_each=at_once)


def _is_dead(delivery: Delivery, spec: ConsumerSpec) -> bool:
    """Whether no decider is to see it: it cannot be read, or was delivered too often."""
    return isinstance(delivery.recorded, Unreadable) or delivery.attempt >= spec.max_deliver > 0


def _why_dead(delivery: Delivery) -> tuple[str, str]:
    recorded = delivery.recorded
    if isinstance(recorded, Unreadable):
        return recorded.reason, recorded.detail
    return "max_deliver", f"delivered {delivery.attempt} times without a verdict"


def _lane(boundary: Boundary, swarm: str) -> Hashable:
    """Work on one boundary is not done side by side, and of what has none not two of one swarm."""
    return boundary.reads or swarm


def _pause(first_s: float, delivery: Delivery) -> Again:
    """Longer with every delivery of it."""
    return Again(jittered(min(MAX_PAUSE_S, first_s * 2 ** min(delivery.attempt, 10))))
