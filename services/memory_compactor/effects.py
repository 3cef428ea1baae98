"""Doing what the decider asks for: snapshots to cold storage, recall; and a head start for an empty memory."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import msgspec
import structlog

from services.memory_compactor.decider import Recall, Recalled, TakeSnapshot, Unavailable, Written
from services.memory_compactor.feed import Feed
from services.memory_compactor.society import Society
from shared.contracts.events import Memory, SnapshotCompressed
from shared.contracts.ids import EVERYONE
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
from shared.policy.reading import Readings, Verdicts
from shared.policy.types import Namespace, ReadRequest

AWAY = {
    ColdUnavailable: "cold_unavailable",
    IndexUnavailable: "index_unavailable",
    EmbedderUnavailable: "embedder_unavailable",
}
READ = "read"
"""The scope every key has that may ask memory."""
MAX_MEMORIES = 100
_log = structlog.get_logger()


class MemoryEffects(msgspec.Struct, frozen=True, kw_only=True):
    """Performs the compactor's effects. An outage is an answer (`Unavailable`), and the decider's to judge."""

    fabric: Fabric
    feed: Feed
    cold: ColdStore
    society: Society
    readings: Readings | None = None

    async def perform(self, effect: Effect) -> Result:
        began = perf_counter()
        try:
            match effect:
                case TakeSnapshot():
                    written = await self._write_down(effect)
                    SNAPSHOT_SECONDS.observe(perf_counter() - began)
                    return written
                case Recall():
                    found = await self._recall(effect)
                    RECALL_SECONDS.observe(perf_counter() - began)
                    return Recalled(memories=tuple(found), seq=self.fabric.cursor)
                case _:
                    raise TypeError(f"the memory compactor has no effect {type(effect).__name__}")
        except (IndexUnavailable, EmbedderUnavailable, ColdUnavailable) as error:
            _log.error("memory_unavailable", effect=type(effect).__name__, why=str(error))
            return Unavailable(detail=str(error), reason=AWAY[type(error)])

    async def _recall(self, effect: Recall) -> list[Memory]:
        """What the reader may read of the persona's memory, of its descendants' and of what swarms believe. What the policies in force
        do not permit is not searched. Raises `LogUnavailable` while they cannot be asked."""
        verdicts = Verdicts(None) if self.readings is None else await self.readings.current()
        swarm, persona = effect.swarm, effect.persona

        def may(namespace: Namespace, owner_swarm: str, owner_persona: str = "", *, shared: bool = True) -> bool:
            return verdicts.may(
                ReadRequest(
                    swarm="" if effect.person else swarm,
                    persona="" if effect.person else persona,
                    person=effect.person,
                    scopes=(READ,) if effect.person else (),
                    namespace=namespace,
                    owner_swarm=owner_swarm,
                    owner_persona=owner_persona,
                    shared=shared,
                ),
                counted=owner_swarm == swarm,
            )

        boards: list[str] = []
        if not effect.person and effect.wanted != "own":
            boards = [name for name in self.society.boards() if may("mesh" if name == EVERYONE else "blackboard", name)]
        if effect.wanted == "beliefs":
            return self.society.believed(boards, effect.query, also_surest=True)
        own = may("own", swarm, persona, shared=await self.society.shares(swarm, persona))
        if effect.person or effect.wanted == "own":
            return await self.fabric.recall(swarm, persona, effect.query, effect.limit, effect.now) if own else []
        below = [name for name in self.society.descendants(swarm, persona) if may("descendants", swarm, name)]
        found: list[Memory] = []
        if own or below:
            found = await self.fabric.recall(
                swarm, persona, effect.query, effect.limit, effect.now, own=own, distilled_of=below
            )
        return [*found, *self.society.believed(boards, effect.query)][:MAX_MEMORIES]

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
