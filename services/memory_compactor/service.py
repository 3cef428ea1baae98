"""Wiring: which index, embedder and store the settings name; one shell for the log, one for recalls.

One process holds a memory: the embedded index is locked to it, and on a Qdrant server only one compactor may run.
"""

from __future__ import annotations

import re
from pathlib import Path

import structlog

from services.memory_compactor.decider import Compactor, State
from services.memory_compactor.effects import Feed, MemoryEffects, restore_all
from shared.memory.cold import S3Cold
from shared.memory.embeddings import EndpointEmbedder, WordLlamaEmbedder
from shared.memory.fabric import Fabric
from shared.memory.port import Embedder, VectorIndex
from shared.runtime.service import Service
from shared.settings import Settings, SettingsError

_log = structlog.get_logger()


async def wire(service: Service) -> None:
    """Open memory, give it a head start when it is empty, and feed it. Raises what the ports raise, and `SettingsError`."""
    settings = service.settings
    if not settings.s3_endpoint:
        raise SettingsError("SWARM_S3_ENDPOINT is not set (host:port of an S3 store); snapshots need one")
    cold = await S3Cold.open(
        settings.s3_endpoint,
        settings.s3_bucket,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        secure=settings.s3_secure,
    )
    service.on_close(cold.close)
    embedder = await _embedder(settings)
    service.on_close(embedder.close)
    index = await _index(settings, embedder)
    service.on_close(index.close)
    fabric = await Fabric.open(index, embedder)
    if fabric.cursor and await service.log.get(fabric.cursor) is None:
        _log.error("index_of_another_log", cursor=fabric.cursor, remedy="cleared, rebuilt from the log")
        await index.clear()
        fabric = await Fabric.open(index, embedder)
    if fabric.cursor == 0:
        restored = await restore_all(service.log, cold, fabric)
        _log.info("memory_empty", restored=restored, then="the log is replayed from the beginning")
    feed = Feed(service.log, fabric)
    service.background("memory-feed", feed.run)
    service.ready("memory", lambda: _problem(feed))

    decider = Compactor(every_thoughts=settings.snapshot_every_thoughts)
    effects = MemoryEffects(fabric=fabric, feed=feed, cold=cold)
    shell = service.shell(decider, perform=effects.perform, state_type=State)
    # a draining persona is pending till its deadline, and as long as cold storage is away: many may drain at once, for days
    service.consume(shell, max_ack_pending=20_000, max_deliver=10_000)
    service.consume(service.shell(decider, perform=effects.perform), stream="RECALL", suffix="-recall")
    service.on_stop(feed.stop)  # after the consumers: what is in flight may still wait for it


async def _problem(feed: Feed) -> str | None:
    return feed.problem


async def _embedder(settings: Settings) -> Embedder:
    if not settings.embeddings_url:
        return WordLlamaEmbedder()
    return await EndpointEmbedder.open(
        settings.embeddings_url, settings.embeddings_model, api_key=settings.embeddings_api_key
    )


async def _index(settings: Settings, embedder: Embedder) -> VectorIndex:
    """The index of this embedder: vectors of another one are of no use, so each has its own, built from the log."""
    name = re.sub(r"[^a-z0-9]+", "-", embedder.name.lower())
    if settings.qdrant_url:
        from shared.memory.server import ServerIndex

        key = settings.qdrant_api_key or None
        return await ServerIndex.open(settings.qdrant_url, f"memory-{name}", embedder.dim, api_key=key)
    from shared.memory.edge import EdgeIndex

    return await EdgeIndex.open(Path(settings.data_dir) / "memory" / name, embedder.dim)
