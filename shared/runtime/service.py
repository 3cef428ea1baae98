"""A service: log, consumers, ticks, health, and an orderly end. Its process is in `process/`.

Theory of operation: the process runs `wire(service)`, which declares what the service does by calling
`consume`, `every`, `background`, `ready`. Then everything runs in one task group until SIGTERM or SIGINT; a background task that
dies takes the process with it, because a half-dead service is worse than a restarted one. On a signal: stop pulling, finish
what is in flight within the grace time (below the ack wait), nak the rest, close, flush, exit 0.

A log that is another one than before ends the process (`LogChanged`): what it holds is of no log any more, so it is not saved, and
the supervisor starts it anew (`shared/log/identity.py`). Who may say so says first that the mesh is halted (`halting`).

While this clock is not the broker's (`probe`) no work is taken: consumers pull nothing, ticks are skipped, and whoever takes
requests asks `held`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import nats.micro
import structlog

from shared.contracts.catalog import SHORT_LIVED, class_filter
from shared.contracts.services import SERVICES
from shared.decider import Decider
from shared.ending import ended
from shared.killswitch import thrown
from shared.log.client.connection import Connection
from shared.log.identity import Identity
from shared.log.jetstream import JetStreamLog
from shared.log.kv import JetStreamKeyValue
from shared.log.port import ConsumerSpec, KeyValue, LogUnavailable
from shared.looking import Looked
from shared.patience import Patience
from shared.runtime.driving import PerformEffect, no_effects
from shared.runtime.halting import Halting
from shared.runtime.heard import Folded, Heard
from shared.runtime.hearing import Hearing
from shared.runtime.keeping.checkpoints import Checkpoints
from shared.runtime.lag import Lag
from shared.runtime.shell import IN_FLIGHT_OF_A_SWARM, ROOM, Shell
from shared.runtime.vitals.agreement import Agreement, told
from shared.runtime.vitals.health import Health, ReadyCheck, address
from shared.runtime.vitals.pressure import Pressure
from shared.runtime.vitals.probe import Probe
from shared.runtime.vitals.readiness import cached, promise
from shared.settings import Settings

log = structlog.get_logger()

S = TypeVar("S")
SETTINGS_EVERY_S = 10.0
VERSION = "0.1.0"
LEAVE_S = 3.0
"""Beyond the grace time, for saving and closing: whoever ended the process waits about 10 s before a kill -9."""


class LogChanged(Exception):
    """The log is another one; what this process holds is not of it. Remedy: begin anew."""


class Service:
    """What `wire` is given. Everything it declares starts after `wire` returned and ends with the process.

    `clock` is the wall clock in seconds, which is compared with the broker's.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        connection: Connection,
        *,
        clock: Callable[[], float] = time.time,
        health: Health | None = None,
        stopping: asyncio.Event | None = None,
    ) -> None:
        self.name = name
        self.row = SERVICES[name]
        self.settings = settings
        self.connection = connection
        self.instance = settings.instance_of(name)
        self._replicated = settings.store.replicas > 1 and self.row.asks_leader
        self.log = JetStreamLog(
            connection,
            service=name,
            instance=self.instance,
            buries=self.row.trusted,
            dedup_key=settings.dedup_key(),
            replicated=self._replicated,
            groups=settings.require_sync_always,
        )
        witness = Path(settings.data_dir) / "witness" / f"{self.instance}.json"
        self.identity = Identity(connection, self.log.trail, witness)
        connection.passes = self.identity.look
        self.health = health or Health(service=name)
        self.stopping = stopping or asyncio.Event()
        self._halting: Halting | None = None
        self._mains: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._stops: list[Callable[[], Awaitable[None]]] = []
        self._closes: list[Callable[[], Awaitable[None]]] = []
        self.hearing = Hearing(self.log)
        self.probe = Probe(
            connection,
            self.instance,
            tolerance_s=settings.clock_tolerance_s,
            sees_all=self.row.trusted,
            told=told(name, settings),
            wall=clock,
            elsewhere=connection.elsewhere if settings.store.replicas > 1 else None,
        )
        self.pressure = Pressure(connection, Path(settings.data_dir), store_bytes=settings.store.bytes)
        self.lag = Lag(connection)
        self.log.may_work = self.may_work
        promise(self.health, settings, connection, self.log, self.identity, self.probe, self.pressure)
        if self.row.trusted:
            agreement = Agreement(self.probe)
            self.health.check("settings", cached(agreement.look, SETTINGS_EVERY_S))
            self.health.warn("settings", lambda: agreement.said)

    def may_work(self) -> bool:
        """Whether work may be taken now: not while this clock is off, from another log, or of who obeys halts while halted."""
        return self.may_tick() and (self._halting is None or self._halting.why is None)

    def may_tick(self) -> bool:
        """Whether ticks may do anything now: those of who obeys halts go on, for they act on nothing outside."""
        return self.probe.clock_off is None and self.identity.another is None

    def obeys_halts(self, kill_switch: Path | None = None) -> Halting:
        """Have this service take no work while the mesh is halted, and say so in readiness, and that the switch is on, which it obeys
        itself."""
        halting = self._halting = Halting(self.log)
        self.health.warn("halted", lambda: halting.why)
        self.health.warn("kill_switch", lambda: thrown(kill_switch))
        self.background("halts", lambda: halting.follow(self.stopping))
        return halting

    def hears(self, class_: str, *folds: Looked) -> Heard:
        """Have this service hear, beside the class it is delivered, what the folds are of: so each delivery has them as of itself."""
        heard = Heard(self.log, (class_filter(class_), *(fold.boundary for fold in folds)))
        for fold in folds:
            heard.tell(Folded(fold))
        self.background("hearing", lambda: heard.follow(*folds))
        self.on_stop(heard.stop)
        return heard

    def held(self) -> str | None:
        """Why nothing new may be taken in from outside or thought of now; None when it may."""
        return self.probe.clock_off or self.pressure.held

    def bucket(self, name: str) -> KeyValue:
        """The bucket `leases`, `checkpoints` or `policies`."""
        return JetStreamKeyValue(self.connection, name, replicated=self._replicated)

    def shell(
        self,
        decider: Decider[S],
        *,
        perform: PerformEffect = no_effects,
        state_type: type[S] | None = None,
        state_version: int = 1,
        at_most: int = ROOM,
        at_once: int = IN_FLIGHT_OF_A_SWARM,
    ) -> Shell[S]:
        """A shell for a decider; with `state_type`, its folds are checkpointed, and those of another version are not restored.

        `at_most`: as many of one swarm's messages are held, `at_once` handled at the same time: more where handlers wait for
        somebody outside than where they keep this machine busy.
        """
        checkpoints = None
        if state_type is not None:
            prefix = f"{self.name}.{type(decider).__name__.lower()}"
            bucket, writer = self.bucket("checkpoints"), self.instance
            checkpoints = Checkpoints(self.log, bucket, prefix, state_type, version=state_version, writer=writer)
        return Shell(
            self.log,
            decider,
            service=self.name,
            perform=perform,
            checkpoints=checkpoints,
            may_work=self.may_work,
            why_not=self.hearing.why_not,
            at_most=at_most,
            at_once=at_once,
        )

    def consume(
        self,
        shell: Shell[Any],
        *,
        classes: tuple[str, ...] | None = None,
        suffix: str = "",
        stream: str = "SWARM",
        ack_wait_s: float = 5.0,
        max_ack_pending: int = 32_768,
        max_deliver: int = 100,
    ) -> None:
        """Pull one of the service's durable consumers through a shell of its own.

        `max_deliver` counts every time a message is handed back, also by a decider that waits for something.
        `classes` defaults to all the service consumes on the stream, but for its timers.
        """
        wanted = tuple(c for c in self.row.consumes if c not in self.row.timers) if classes is None else classes
        spec = ConsumerSpec(
            name=self.name + suffix,
            stream=stream,
            filters=tuple(class_filter(c) for c in wanted if (c in SHORT_LIVED) == (stream == "RECALL")),
            ack_wait_s=ack_wait_s,
            max_deliver=max_deliver,
            max_ack_pending=max_ack_pending,
        )
        self.lag.watch(spec)
        puller = self.log.pull(spec)
        grace_s = min(self.settings.grace_s, ack_wait_s * 0.8)

        async def run() -> None:
            await shell.consume(puller, spec, stopping=self.stopping, grace_s=grace_s)

        self._mains.append((f"consume-{spec.name}", run))
        self._stops.append(puller.stop)

    def every(self, interval_s: float, work: Callable[[], Awaitable[None]], name: str) -> None:
        """Call `work` every `interval_s` seconds; while the log is away or the clock off it is skipped, said in the log."""
        patience = Patience(f"its turn for {name}")

        async def run() -> None:
            while not self.stopping.is_set():
                try:
                    if self.may_tick():
                        await work()
                        patience.over()
                    else:
                        patience.say(self.probe.clock_off or self.identity.sentence or "no work may be taken")
                except LogUnavailable as error:
                    patience.say(str(error))
                await ended(self.stopping, interval_s)

        self._mains.append((name, run))

    def background(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run something until the process ends; it must end soon after `stopping` is set."""
        self._mains.append((name, run))

    def ready(self, name: str, check: ReadyCheck) -> None:
        """Have readiness depend on `check`."""
        self.health.check(name, check)

    def on_stop(self, stop: Callable[[], Awaitable[None]]) -> None:
        """Called first on a signal: stop taking in work. What is to be saved is saved only while `keeps` says so."""
        self._stops.append(stop)

    @property
    def keeps(self) -> bool:
        """Whether what was made from the log may be kept: not when the log is another one."""
        return self.identity.another is None

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Called last, in reverse order: release what is held."""
        self._closes.append(close)

    async def run(self) -> None:
        """Run until `stopping` is set; then drain and close."""
        micro = await nats.micro.add_service(
            self.connection.client,
            name=self.name.replace("_", "-"),
            version=VERSION,
            description=self.instance,
            metadata={
                "instance": self.instance,
                "version": VERSION,
                "health": address(self.settings.health.host, self.settings.health.port),
            },
        )
        await self.probe.write()  # before any work is taken, the clock is compared
        log.info("service_started", health_port=self.settings.health.port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.probe.run(self.stopping), name="probe")
                group.create_task(self.pressure.run(self.stopping), name="pressure")
                group.create_task(self.lag.run(self.stopping), name="lag")
                group.create_task(self.identity.run(self.stopping), name="log-identity")
                mains = [group.create_task(_named(main_), name=name) for name, main_ in self._mains]
                self.health.starting = False
                await first_of(self.stopping.wait(), self.connection.closed.wait(), self.identity.noticed.wait())
                if self.connection.closed.is_set() and not self.stopping.is_set():
                    raise LogUnavailable("the NATS server ended the connection for good, see nats_error")
                self.stopping.set()
                self.health.draining = True
                log.info("service_draining")
                began = time.monotonic()
                await self._drain(mains)
                log.info("service_drained", took_s=round(time.monotonic() - began, 3))
        finally:
            if not self.connection.closed.is_set():
                await micro.stop()
            await self.close()
            log.info("service_stopped")
        if self.identity.another is not None:
            raise LogChanged(self.identity.sentence)

    async def _drain(self, mains: list[asyncio.Task[None]]) -> None:
        """Stop taking in, save what is to be saved, and wait for what is in hand; what takes longer than it may is left as it is.

        Whatever folds a long log need not have come to its end for that: the next start goes on from what was saved before.
        """
        try:
            async with asyncio.timeout(self.settings.grace_s + LEAVE_S):
                for stop in self._stops:
                    await stop()
                if mains:
                    await asyncio.wait(mains)
        except TimeoutError:
            left = [task.get_name() for task in mains if not task.done()]
            log.warning("drain_cut_short", left=left)
            for task in mains:
                task.cancel()

    async def close(self) -> None:
        """Release what is held, in reverse order, and the connection last."""
        for close in reversed(self._closes):
            await close()
        await self.connection.close()


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Returns when the first is done; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _named(main_: Callable[[], Awaitable[None]]) -> None:
    await main_()
