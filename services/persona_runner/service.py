"""Wiring: one tail into one host, its checkpoint, one lease, one thinker."""

from __future__ import annotations

import asyncio

import structlog

import services.persona_runner
import shared.contracts
import shared.thinker
from services.persona_runner.effects import performer
from services.persona_runner.hosting.host import Host, Hosted
from services.persona_runner.hosting.lease import Lease
from services.persona_runner.hosting.loop import AWAY_S, SOURCE, Loop
from services.persona_runner.hosting.recall import Recaller
from shared.log.port import LogUnavailable
from shared.placement import PLACEMENT, boundary_of
from shared.runtime.keeping.snapshots import EVERY_S, CheckpointFile, checkpoint_path
from shared.runtime.service import Service, first_of
from shared.settings import Settings, SettingsError, listed
from shared.thinker.port import Thinker

log = structlog.get_logger()


def thinker_of(settings: Settings) -> Thinker:
    """The thinker the settings name; a model's client is imported only when it is wanted. Raises `SettingsError`."""
    if settings.thinker == "rules":
        from shared.thinker.rules import RuleThinker

        return RuleThinker()
    from shared.thinker.models.endpoint import Endpoint
    from shared.thinker.models.model import ModelThinker

    urls = [url for url in (settings.model.url, settings.model.fallback_url) if url]
    try:
        return ModelThinker(
            [
                Endpoint(
                    base_url=url,
                    model=settings.model.name,
                    api_key=settings.model.api_key,
                    timeout_s=settings.model.timeout_s,
                    max_output_tokens=settings.model.max_output_tokens,
                )
                for url in urls
            ]
        )
    except ValueError as error:
        raise SettingsError(f"SWARM_MODEL_*: {error}") from error


async def wire(service: Service) -> None:
    """Host this instance's share of the personas, as the governor says it."""
    settings = service.settings
    thinker = thinker_of(settings)
    try:
        host = Host(
            shards=settings.placement.shards,
            thinker=thinker.name,
            runner=service.instance,
            serves=listed(settings.placement.serves),
        )
    except ValueError as error:
        raise SettingsError(f"SWARM_INSTANCE: {error}") from error
    recaller = Recaller(
        service.log,
        source=SOURCE,
        slot=host.slot,
        serves=host.serves,
        always_beliefs=settings.thinker != "rules",
    )
    lease = Lease(service.bucket("leases"), service.instance, ttl_s=settings.placement.lease_ttl_s)
    checkpoint = CheckpointFile(
        checkpoint_path(settings, service.instance), Hosted, services.persona_runner, shared.thinker, shared.contracts
    )
    service.health.progress = lambda: host.position + len(host)
    known = await checkpoint.load(service.log)
    await lease.renew()
    for said in await service.log.read([boundary_of(swarm) for swarm in host.serves] or (PLACEMENT,)):
        host.placements.add(said)
    if known is not None:
        host.restore(known, host.share())
    loop = Loop(service.log, host, performer(thinker, recaller.recall), held=service.held)
    if known is None:
        await loop.own(host.share())

    async def place() -> None:
        """Apart from renewing, because loading a large share takes longer than a lease lasts."""
        while not service.stopping.is_set():
            await loop.placed.wait()
            loop.placed.clear()
            try:
                await loop.own(host.share())
            except LogUnavailable as error:
                log.warning("log_unavailable", work="placement", why=str(error))
                await asyncio.sleep(AWAY_S)
                loop.placed.set()

    async def think() -> None:
        await first_of(loop.caught_up(), service.stopping.wait())
        await loop.run(service.stopping, grace_s=settings.grace_s)

    async def caught_up() -> str | None:
        return None if loop.running else "the log is still being read"

    async def placed() -> str | None:
        current = host.placement
        if host.serves and current is None:
            return f"the governor names no runners of {', '.join(host.serves)}; name {service.instance} in SWARM_PLACEMENT_GROUPS there"
        if current is None or current.shards == settings.placement.shards:
            return None
        return f"SWARM_PLACEMENT_SHARDS is {settings.placement.shards} here and {current.shards} at the governor; make them the same"

    async def stop() -> None:
        loop.placed.set()
        await loop.stop()
        await recaller.stop()
        if service.keeps:
            await checkpoint.offer(host, events=1)

    async def save() -> None:
        await checkpoint.offer(host)

    service.background("tail", loop.follow)
    service.background("recall", recaller.follow)
    service.background("placement", place)
    service.background("loop", think)
    service.every(settings.placement.lease_ttl_s / 3, lease.renew, "lease")
    service.every(EVERY_S, save, "checkpoint")
    service.ready("host", caught_up)
    service.ready("placement", placed)
    service.on_stop(stop)
    service.on_close(thinker.close)
    service.on_close(lease.release)
