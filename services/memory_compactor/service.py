"""Wiring: which index, embedder and store the settings name; one shell for the log, one for recalls.

One process holds a memory: the embedded index is locked to it, and on a Qdrant server only one compactor may run.
"""

from __future__ import annotations

import re
from pathlib import Path

from services.memory_compactor.believing.board import Board
from services.memory_compactor.believing.decider import CONSUMED, Believer
from services.memory_compactor.believing.effects import BelievingEffects, MergingEffects
from services.memory_compactor.believing.merging import CONSUMED as MERGED
from services.memory_compactor.believing.merging import Merger
from services.memory_compactor.decider import Compactor, State
from services.memory_compactor.opening import Opening, Ports
from shared.memory.cold import S3Cold
from shared.memory.index.embeddings import EndpointEmbedder, WordLlamaEmbedder
from shared.memory.port import Embedder, VectorIndex
from shared.metrics.table import MEMORY_BEHIND, MEMORY_BEHIND_S
from shared.policy.reading import Readings
from shared.runtime.service import Service
from shared.runtime.vitals.readiness import cached
from shared.settings import Settings, SettingsError

COLD_LOOKED_AT_EVERY_S = 10.0
WAITING_AT_ONCE = 64
MAX_DELIVER, MAX_ACK_PENDING = 10_000, 100_000
SNAPSHOTTED = ("persona.draining", "thought.generated")
"""What may be followed by a snapshot. The rest only memory's own tail needs."""


async def wire(service: Service) -> None:
    """Open memory, give it a head start when it is empty, and feed it."""
    settings = service.settings
    try:
        cold = S3Cold.of(settings.s3)
    except ValueError as error:
        raise SettingsError(f"SWARM_S3_*: {error}") from error
    service.on_close(cold.close)

    async def embedder() -> Embedder:
        return await _embedder(settings)

    async def index(embedder: Embedder) -> VectorIndex:
        return await _index(settings, embedder)

    readings = Readings(service.log, service.bucket("policies"))
    opening = Opening(service.log, cold, Ports(embedder=embedder, index=index), readings)
    service.on_close(opening.close)
    service.background("memory-feed", opening.run)

    async def memory_problem() -> str | None:
        return opening.problem

    async def cold_problem() -> str | None:
        return await cold.problem()

    service.ready("memory", memory_problem)
    service.health.progress = lambda: opening.progress
    service.health.warn("memory_behind", opening.warning)
    MEMORY_BEHIND.follow(lambda: opening.behind().events)
    MEMORY_BEHIND_S.follow(lambda: opening.behind().seconds)
    service.ready("cold", cached(cold_problem, COLD_LOOKED_AT_EVERY_S))
    service.health.warn("cold", lambda: cold.warning)

    decider = Compactor(every_thoughts=settings.snapshot.every_thoughts)
    # most of the time they wait for the index or for cold storage
    shell = service.shell(decider, perform=opening.perform, state_type=State, at_once=WAITING_AT_ONCE)
    # a draining persona is pending till its deadline, and as long as cold storage is away: many may drain at once, for days
    service.consume(shell, classes=SNAPSHOTTED, max_deliver=MAX_DELIVER)
    service.consume(service.shell(decider, perform=opening.perform), stream="RECALL", suffix="-recall")
    believer = Believer(review_s=settings.belief.review_s, archive_s=settings.belief.archive_s)
    looking = BelievingEffects(log=service.log, why_not=service.hearing.why_not)
    for suffix, classes in (("-beliefs", CONSUMED), ("-timers", service.row.timers)):
        believing = service.shell(believer, perform=looking.perform, state_type=Board)
        # a belief waits for its review for days, and is handed back meanwhile, more often where the broker is restarted
        service.consume(
            believing, classes=classes, suffix=suffix, max_deliver=MAX_DELIVER, max_ack_pending=MAX_ACK_PENDING
        )
    merging = service.shell(Merger(), perform=MergingEffects(readings=readings).perform)
    service.consume(merging, classes=MERGED, suffix="-merging")
    service.on_stop(opening.stop)  # after the consumers: what is in flight may still wait for it


async def _embedder(settings: Settings) -> Embedder:
    if not settings.embeddings.url:
        return WordLlamaEmbedder()
    return await EndpointEmbedder.open(
        settings.embeddings.url, settings.embeddings.model, api_key=settings.embeddings.api_key
    )


async def _index(settings: Settings, embedder: Embedder) -> VectorIndex:
    """The index of this embedder: vectors of another one are of no use, so each has its own, built from the log."""
    name = re.sub(r"[^a-z0-9]+", "-", embedder.name.lower())
    if settings.qdrant.url:
        from shared.memory.index.server import ServerIndex

        key = settings.qdrant.api_key or None
        return await ServerIndex.open(
            settings.qdrant.url, f"memory-{name}", embedder.dim, api_key=key, ca_file=settings.qdrant.ca_file
        )
    from shared.memory.index.edge import EdgeIndex

    return await EdgeIndex.open(Path(settings.data_dir) / "memory" / name, embedder.dim)
