"""Opening memory at start, when what it rests on may be away: waited for, told in readiness, never a reason to end.

The index and the embedder must be there before anything is remembered. Cold storage only for an empty index that snapshots can
give a head start; with an index at hand memory works without it, and snapshots wait (`snapshot.delayed`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec
import structlog

from services.memory_compactor.decider import Unavailable
from services.memory_compactor.effects import MemoryEffects, restore_all
from services.memory_compactor.feed import FIRST_RETRY_S, LONGEST_RETRY_S, Behind, Feed
from services.memory_compactor.society import BORN, Society
from shared.contracts.ids import utc_now
from shared.decider import Effect, Result
from shared.ending import ended
from shared.log.marks import foreign
from shared.log.port import Log, LogUnavailable
from shared.memory.fabric import Fabric
from shared.memory.port import ColdStore, ColdUnavailable, Embedder, EmbedderUnavailable, IndexUnavailable, VectorIndex
from shared.patience import Patience
from shared.placement import PLACEMENT, Placements
from shared.policy.reading import Readings

_log = structlog.get_logger()
BEHIND_S = 30.0
"""Memory that is so far behind says so."""

AWAY = (ColdUnavailable, EmbedderUnavailable, IndexUnavailable, LogUnavailable)


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """How memory's ports are opened; each call may raise that they are away, and is then made again."""

    embedder: Callable[[], Awaitable[Embedder]]
    index: Callable[[Embedder], Awaitable[VectorIndex]]


class Opening:
    """One memory on a log, opened and then fed by `run`, until `stop`. Without `readings` it is as where no policies are in force."""

    def __init__(
        self,
        log: Log,
        cold: ColdStore,
        ports: Ports,
        readings: Readings | None = None,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._log, self._cold, self._ports, self._clock = log, cold, ports, clock
        self._readings, self._society = readings, Society(log)
        self._embedder: Embedder | None = None
        self._index: VectorIndex | None = None
        self._effects: asyncio.Future[MemoryEffects | None] = asyncio.get_running_loop().create_future()
        self._stopping = asyncio.Event()
        self._why = "memory is being opened"
        self._fabric: Fabric | None = None
        self._placements = Placements()
        self._restored = 0

    @property
    def problem(self) -> str | None:
        """Why memory is not there, or does not move on; None when it does."""
        effects = self._effects.result() if self._effects.done() else None
        return self._why if effects is None else effects.feed.problem

    @property
    def progress(self) -> int:
        """How far memory is with what it must read first: personas restored, then the sequence it is at."""
        return self._restored if self._fabric is None else self._restored + self._fabric.cursor

    def behind(self) -> Behind:
        """As `Feed.behind`; of a memory that is not open nobody knows."""
        effects = self._effects.result() if self._effects.done() else None
        return Behind() if effects is None else effects.feed.behind()

    def warning(self) -> str | None:
        """That memory does not keep up, although it moves on; None when it does."""
        behind = self.behind()
        if behind.seconds < BEHIND_S or self.problem is not None:
            return None
        return (
            f"memory is {behind.events} events and {behind.seconds:.0f} s behind the log: what was thought since is not recalled "
            "yet and snapshots wait; it catches up by itself when less is thought, a longer loop interval helps at once"
        )

    async def perform(self, effect: Effect) -> Result:
        """As `MemoryEffects.perform`, once memory is open."""
        effects = await asyncio.shield(self._effects)
        return Unavailable(detail="stopping") if effects is None else await effects.perform(effect)

    async def run(self) -> None:
        """Open what is away as soon as it is there, then feed memory. Raises whatever is not an outage."""
        delay_s, patience = FIRST_RETRY_S, Patience("what memory rests on")
        while not self._stopping.is_set():
            try:
                fabric = await self._open()
            except AWAY as error:
                self._why = f"memory waits for what is away: {error}"
                patience.say(str(error))
                delay_s = min(LONGEST_RETRY_S, 2 * (await self._pause(delay_s)))
                continue
            patience.over()
            self._fabric = fabric
            feed = Feed(self._log, fabric, self._placements, self._society, clock=self._clock)
            effects = MemoryEffects(
                fabric=fabric, feed=feed, cold=self._cold, society=self._society, readings=self._readings
            )
            self._effects.set_result(effects)
            await feed.run()
            return
        self._effects.set_result(None)

    async def _open(self) -> Fabric:
        if self._embedder is None:
            self._embedder = await self._ports.embedder()
        if self._index is None:
            self._index = await self._ports.index(self._embedder)
        fabric = await Fabric.open(self._index, self._embedder)
        if fabric.cursor and not await self._is_ours(fabric):
            _log.error("index_of_another_log", cursor=fabric.cursor, remedy="cleared, rebuilt from the log")
            await self._index.clear()
            fabric = await Fabric.open(self._index, self._embedder)
        if fabric.cursor == 0:
            restored = await restore_all(self._log, self._cold, fabric, tell=self._count)
            _log.info("memory_empty", restored=restored, then="the log is replayed from the beginning")
        fabric.ended(await self._log.read(("persona.reaped.*.*",), upto=fabric.cursor))
        self._placements = Placements(await self._log.read((PLACEMENT,), upto=fabric.cursor))
        self._society = Society(self._log)
        for recorded in await self._log.read(BORN, upto=fabric.cursor):
            self._society.add(recorded)
        return fabric

    def _count(self, restored: int) -> None:
        self._restored = restored

    async def _is_ours(self, fabric: Fabric) -> bool:
        """Whether the index was made from this log: its marks must still be there. Raises `LogUnavailable`."""
        return bool(fabric.marks) and await foreign(self._log, fabric.marks) is None

    async def _pause(self, delay_s: float) -> float:
        await ended(self._stopping, delay_s)
        return delay_s

    async def stop(self) -> None:
        """Take in no more."""
        self._stopping.set()
        effects = await asyncio.shield(self._effects)
        if effects is not None:
            await effects.feed.stop()

    async def close(self) -> None:
        """Close the ports that were opened."""
        for port in (self._index, self._embedder):
            if port is not None:
                await port.close()
