"""Doing what the decider asks for: snapshots to cold storage, recall; and a head start for an empty memory."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import msgspec
import structlog

from services.memory_compactor.decider import Recall, Recalled, TakeSnapshot, Unavailable, Written
from services.memory_compactor.feed import Feed
from shared.contracts.events import SnapshotCompressed
from shared.decider import Effect, Result
from shared.log.port import Log
from shared.memory.fabric import Fabric
from shared.memory.port import (
    ColdCorrupt,
    ColdMissing,
    ColdStore,
    ColdUnavailable,
    EmbedderUnavailable,
    IndexUnavailable,
)
from shared.memory.snapshot import UnknownVersion
from shared.metrics.table import RECALL_SECONDS, SNAPSHOT_SECONDS

AWAY = {
    ColdUnavailable: "cold_unavailable",
    IndexUnavailable: "index_unavailable",
    EmbedderUnavailable: "embedder_unavailable",
}
_log = structlog.get_logger()


class MemoryEffects(msgspec.Struct, frozen=True, kw_only=True):
    """Performs the compactor's effects. An outage is an answer (`Unavailable`), and the decider's to judge."""

    fabric: Fabric
    feed: Feed
    cold: ColdStore

    async def perform(self, effect: Effect) -> Result:
        began = perf_counter()
        try:
            match effect:
                case TakeSnapshot():
                    written = await self._write_down(effect)
                    SNAPSHOT_SECONDS.observe(perf_counter() - began)
                    return written
                case Recall():
                    found = await self.fabric.recall(
                        effect.swarm, effect.persona, effect.query, effect.limit, effect.now
                    )
                    RECALL_SECONDS.observe(perf_counter() - began)
                    return Recalled(memories=tuple(found), seq=self.fabric.cursor)
                case _:
                    raise TypeError(f"the memory compactor has no effect {type(effect).__name__}")
        except (IndexUnavailable, EmbedderUnavailable, ColdUnavailable) as error:
            _log.error("memory_unavailable", effect=type(effect).__name__, why=str(error))
            return Unavailable(detail=str(error), reason=AWAY[type(error)])

    async def _write_down(self, effect: TakeSnapshot) -> Result:
        if not await self.feed.reach(effect.seq):
            return Unavailable(detail="stopping")
        captured = await self.fabric.snapshot(effect.swarm, effect.persona)
        await self.cold.put(captured.key, captured.data)
        return Written(
            key=captured.key,
            sha256=captured.sha256,
            seq=captured.snapshot.seq,
            summary=captured.snapshot.summary,
            counts=captured.counts,
            ratio=captured.ratio,
            size_bytes=len(captured.data),
        )


async def restore_all(
    log: Log, cold: ColdStore, fabric: Fabric, *, tell: Callable[[int], None] = lambda restored: None
) -> int:
    """Give an empty memory a head start from the last snapshot of every persona; how many were restored, also told meanwhile.

    What cannot be read is left to the log, which is replayed anyway. Raises `LogUnavailable`, `ColdUnavailable` and outages of
    the index, and is then to be called again.
    """
    restored = 0
    personas = {(r.event.swarm, r.event.persona) for r in await log.read(("persona.spawned.>",))}
    for last in await log.last([f"snapshot.compressed.{swarm}.{persona}" for swarm, persona in sorted(personas)]):
        if not isinstance(event := last.event, SnapshotCompressed):
            continue
        try:
            restored += await fabric.restore(await cold.get(event.key, event.sha256))
            tell(restored)
        except (ColdMissing, ColdCorrupt, UnknownVersion) as error:
            _log.warning("snapshot_not_restored", key=event.key, why=str(error), remedy="the log is replayed instead")
    return restored
