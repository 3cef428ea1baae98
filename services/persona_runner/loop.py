"""The shell of the runner: feeds the host from the tail, and takes due personas through their steps, many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

import structlog

from services.persona_runner.decider import decide
from services.persona_runner.host import Host, Key
from services.persona_runner.messages import guards, messages
from services.persona_runner.spending import ask_at
from services.persona_runner.state import State
from services.persona_runner.steps import Percepts, Think, filters
from shared.contracts.catalog import CONSUMES, SHORT_LIVED, class_filter
from shared.contracts.envelope import Recorded
from shared.contracts.events import PersonaReaped, PersonaSpawned, ThoughtGenerated
from shared.contracts.ids import utc_now
from shared.decider import Decision, Performed, Result, Tick
from shared.log.port import DuplicateEvent, Log, LogUnavailable, StaleBoundary
from shared.telemetry import COMMITS, PERSONAS, THOUGHTS

log = structlog.get_logger()

SOURCE = "persona_runner"
FILTERS = tuple(class_filter(c) for c in CONSUMES[SOURCE] if c not in SHORT_LIVED)
LIFECYCLE = ("persona.spawned.*.*", "persona.reaped.*.*")
AWAY_S, FAILED_S = 1.0, 5.0
LOADING = 8
"""Personas read from the log at a time."""

Perform = Callable[[Think], Awaitable[Result]]


class Loop:
    """One runner on a log. `clock` is the wall clock of ticks; `concurrency` bounds the steps in flight."""

    def __init__(
        self, log_: Log, host: Host, perform: Perform, *, concurrency: int = 64, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._log = log_
        self._host = host
        self._perform = perform
        self._concurrency = concurrency
        self._clock = clock
        self._wake = asyncio.Event()
        self._steps: set[asyncio.Task[None]] = set()
        self._tail = log_.tail(FILTERS, host.position)

    # -- the log -----------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Feed the host until `stop`."""
        async for recorded in self._tail:
            self._host.feed(recorded)
            self._wake.set()

    async def caught_up(self) -> None:
        """Returns once the host has everything that was in the log at the start."""
        await self._tail.caught_up()

    async def own(self, shards: Iterable[int]) -> None:
        """Host exactly these shards from now on. Raises `LogUnavailable`, and may then be called again."""
        wanted = set(shards)
        self._host.lose(self._host.shards - wanted)
        gained = wanted - self._host.shards
        if gained:
            await self._gain(gained)
        PERSONAS.set(len(self._host))
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
        for recorded in await self._log.read(LIFECYCLE, upto=upto):
            key = (recorded.event.swarm, recorded.event.persona)
            if self._host.shard(key) in shards:
                lives[key] = isinstance(recorded.event, PersonaSpawned) and key not in lives
            if isinstance(recorded.event, PersonaReaped):
                lives[key] = False
        slots = asyncio.Semaphore(LOADING)

        async def load(key: Key) -> None:
            async with slots:
                self._install(await self._log.read(filters(*key), upto=upto))

        await asyncio.gather(*(load(key) for key, alive in lives.items() if alive))

    async def _rejoin(self, key: Key) -> None:
        """Somebody else took this step: learn of it from the log itself."""
        upto = self._host.begin(key)
        try:
            self._install(await self._log.read(filters(*key), upto=upto))
        except LogUnavailable as error:
            log.warning("log_unavailable", persona=".".join(key), why=str(error))
        self._host.end(key)

    def _install(self, records: list[Recorded]) -> None:
        if records:
            self._host.install(records)

    # -- steps -------------------------------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> None:
        """Take personas through their steps until `stopping` is set; then wait for those in flight."""
        ender = asyncio.create_task(self._end(stopping))
        try:
            while not stopping.is_set():
                self._wake.clear()
                now = self._clock()
                for key in self._host.due(now, self._concurrency - len(self._steps)):
                    step = asyncio.create_task(self._guarded(key), name=".".join(key))
                    self._steps.add(step)
                    step.add_done_callback(self._done)
                await self._pause(now)
            if self._steps:
                await asyncio.wait(self._steps)
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
            await self.step(key)
        except LogUnavailable as error:
            log.warning("log_unavailable", persona=".".join(key), why=str(error))
            self._host.settle(key, self._clock(), not_before_s=AWAY_S)
        except Exception:
            log.exception("step_failed", persona=".".join(key))
            self._host.settle(key, self._clock(), not_before_s=FAILED_S)

    async def step(self, key: Key) -> None:
        """One look at one persona: perhaps a thought, perhaps a commit. Raises `LogUnavailable`."""
        state = self._host.state(key)
        if state is None:
            return
        facts = self._host.percepts(key)
        tick = Tick(id=key[1], now=self._clock(), swarm=key[0], facts=facts)
        decision = decide(state, tick)
        now = tick.now
        if isinstance(decision.effect, Think):
            result = await self._perform(decision.effect)
            state, now = self._host.state(key), self._clock()
            if state is None:
                return
            decision = decide(state, Performed(cause=tick, effect=decision.effect, result=result, now=now))
        if not decision.events:
            self._rest(key, state, facts, now)
            return
        batch = messages(state, decision, now, SOURCE)
        try:
            seqs = await self._log.commit(batch, guards(state, decision))
        except (StaleBoundary, DuplicateEvent):
            COMMITS.labels("refused").inc()
            await self._rejoin(key)
            self._host.settle(key, now, not_before_s=facts.loop_interval_ms / 1000)
            return
        COMMITS.labels("stored").inc()
        _count(decision)
        self._host.committed(key, batch, seqs, now)
        self._host.settle(key, now)

    def _rest(self, key: Key, state: State, facts: Percepts, now: datetime) -> None:
        """Nothing was to do: for lack of credits until more may be asked for, in a cool-down until something new comes."""
        pause_s = facts.loop_interval_ms / 1000
        if state.cooling:
            self._host.settle(key, now, passed_seq=facts.percept.last_seq, not_before_s=pause_s)
        else:
            credits_s = (ask_at(state, now, facts.limits) - now).total_seconds()
            self._host.settle(key, now, not_before_s=max(pause_s, credits_s))


def _count(decision: Decision) -> None:
    for event in decision.events:
        if isinstance(event, ThoughtGenerated):
            THOUGHTS.labels(event.status).inc()
