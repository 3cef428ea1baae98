"""The shell of the runner: feeds the host from the tail, and takes due personas through their steps, many at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import datetime

import structlog

from services.persona_runner.hosting.host import Host, Key
from services.persona_runner.hosting.stepping import stepping
from shared.broker import PUBLIC
from shared.contracts.catalog import SHORT_LIVED, about, class_filter
from shared.contracts.envelope import Recorded
from shared.contracts.events import PersonaReaped, PersonaSpawned, PlacementChanged
from shared.contracts.ids import utc_now
from shared.contracts.services import SERVICES
from shared.ending import ended
from shared.log.port import Log, LogUnavailable
from shared.metrics.table import PERSONAS, THOUGHTS_DUE
from shared.runtime.driving import PerformEffect, drive
from shared.runtime.taking import take

log = structlog.get_logger()

SOURCE = "persona_runner"
LIFECYCLE = ("persona.spawned", "persona.reaped")
AWAY_S, FAILED_S, HELD_S = 1.0, 5.0, 1.0
SLICE_S = 0.02
"""The longest that events are taken in without letting others run: leases are to be renewed meanwhile."""
LOADING = 8
"""Personas read from the log at a time."""


def filters(serves: Iterable[str] = ()) -> tuple[str, ...]:
    """What a runner follows: of all swarms, or of these only, and then what is said to the whole mesh."""
    followed = [c for c in SERVICES[SOURCE].consumes if c not in SHORT_LIVED]
    served = tuple(serves)
    if not served:
        return tuple(class_filter(c) for c in followed)
    return (*(class_filter(c, swarm) for swarm in served for c in followed), *PUBLIC)


class Loop:
    """One runner on a log. `clock` is the wall clock of ticks; `concurrency` bounds the steps in flight.

    While `held` says why, no step begins; those in flight finish.
    """

    def __init__(
        self,
        log_: Log,
        host: Host,
        perform: PerformEffect,
        *,
        concurrency: int = 64,
        clock: Callable[[], datetime] = utc_now,
        held: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._held = held
        self._log = log_
        self._host = host
        self._perform = perform
        self._concurrency = concurrency
        self._clock = clock
        self._wake = asyncio.Event()
        self._steps: set[asyncio.Task[None]] = set()
        self.running = False
        self.placed = asyncio.Event()
        """Set when the governor's word has changed."""
        self._tail = log_.tail(filters(host.serves), host.position)
        PERSONAS.follow(lambda: len(host))
        THOUGHTS_DUE.follow(lambda: host.overdue(clock()))

    # -- the log -----------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Feed the host until `stop`."""
        began = time.monotonic()
        async for message in self._tail:
            await take(self._log, self._host.feed, message)
            self._wake.set()
            if isinstance(message, Recorded) and isinstance(message.event, PlacementChanged):
                self.placed.set()
            if time.monotonic() - began > SLICE_S:
                await asyncio.sleep(0)
                began = time.monotonic()

    async def caught_up(self) -> None:
        """Returns once the host has everything that was in the log at the start."""
        await self._tail.caught_up()

    async def own(self, shards: Iterable[int]) -> None:
        """Host exactly these shards from now on. Raises `LogUnavailable`, and may then be called again."""
        wanted = set(shards)
        self._host.regroup()
        self._host.lose(self._host.shards - wanted)
        gained = wanted - self._host.shards
        if gained:
            await self._gain(gained)
        self._wake.set()

    async def _gain(self, shards: set[int]) -> None:
        upto = max(self._host.begin(shard) for shard in shards)
        try:
            if upto:
                await self._load(shards, upto)
        except LogUnavailable:
            self._host.lose(shards)
            raise
        for shard in shards:
            self._host.end(shard)

    async def _load(self, shards: set[int], upto: int) -> None:
        lives: dict[Key, bool] = {}
        lifecycle = [class_filter(c, swarm) for c in LIFECYCLE for swarm in self._host.serves or ("*",)]
        for recorded in await self._log.read(lifecycle, upto=upto):
            key = (recorded.event.swarm, recorded.event.persona)
            if self._host.shard(key) in shards:
                lives[key] = isinstance(recorded.event, PersonaSpawned) and key not in lives
            if isinstance(recorded.event, PersonaReaped):
                lives[key] = False
        slots = asyncio.Semaphore(LOADING)

        async def load(key: Key) -> None:
            async with slots:
                self._host.install(await self._log.stored(about(*key), upto=upto))

        loads = [asyncio.create_task(load(key)) for key, alive in lives.items() if alive]
        try:
            await asyncio.gather(*loads)
        finally:
            for task in loads:
                task.cancel()  # one left behind would install what is old by then

    # -- steps -------------------------------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event, *, grace_s: float = 4.0) -> None:
        """Take personas through their steps until `stopping` is set; those in flight then have `grace_s` to finish."""
        self.running = True
        ender = asyncio.create_task(self._end(stopping))
        try:
            while not stopping.is_set():
                self._wake.clear()
                now = self._clock()
                if self._held() is not None:
                    await ended(stopping, HELD_S)  # what happens meanwhile changes nothing
                    continue
                for key in self._host.due(now, self._concurrency - len(self._steps)):
                    step = asyncio.create_task(self._guarded(key), name=".".join(key))
                    self._steps.add(step)
                    step.add_done_callback(self._done)
                await self._pause(now)
            if self._steps:
                await asyncio.wait(self._steps, timeout=grace_s)
        finally:
            ender.cancel()
            for step in self._steps:
                step.cancel()

    async def stop(self) -> None:
        """Feed no more."""
        await self._tail.stop()

    async def _end(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._wake.set()

    def _done(self, step: asyncio.Task[None]) -> None:
        self._steps.discard(step)
        self._wake.set()

    async def _pause(self, now: datetime) -> None:
        """Until the next persona is due, or something happens."""
        due = self._host.next_due()
        full = len(self._steps) >= self._concurrency
        timeout = None if due is None or full else max(0.0, due - now.timestamp())
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _guarded(self, key: Key) -> None:
        try:
            await drive(self._log, stepping(self._host, key, self._clock, SOURCE), self._perform)
        except LogUnavailable as error:
            log.warning("log_unavailable", persona=".".join(key), why=str(error))
            self._host.settle(key, self._clock(), not_before_s=AWAY_S)
        except Exception:
            log.exception("step_failed", persona=".".join(key))
            self._host.settle(key, self._clock(), not_before_s=FAILED_S)
