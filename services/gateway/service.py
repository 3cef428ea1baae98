"""Wiring: the projection, its checkpoint and its two tails, the HTTP server, and their orderly end."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from pathlib import Path

import msgspec
import structlog

import services.gateway
import shared.metrics
from services.gateway.app import create_app
from services.gateway.context import Gateway
from services.gateway.front.origins import checked
from services.gateway.projections.feed import Feed
from services.gateway.projections.measures import tell
from services.gateway.projections.projection import State
from services.gateway.settings import GatewaySettings, Key, Unsafe
from shared import contracts
from shared.contracts.events import Credits
from shared.killswitch import thrown
from shared.metrics.table import CONFLICTS_OPEN, HOLDS, INTENTS_OPEN, LIVES, POSITION
from shared.policy.reading import Readings
from shared.policy.sides import LOCAL
from shared.quotas import QUOTAS
from shared.runtime.keeping.snapshots import EVERY_S, CheckpointFile, checkpoint_path
from shared.runtime.service import VERSION, Service
from shared.runtime.vitals.health import server
from shared.settings import Global, Settings, SettingsError, Swarm, listed
from shared.signers import roots_of

log = structlog.get_logger()
TOTAL_STREAMS = 4
"""All principals together may have open so many times what one may."""


def gateway_settings(settings: Settings) -> GatewaySettings:
    """The gateway's part. Raises `SettingsError` for a key that cannot be used."""
    try:
        keys = msgspec.convert(msgspec.to_builtins(settings.http.keys), tuple[Key, ...])
    except msgspec.ValidationError as error:
        raise SettingsError(
            f"http.keys: {error}; want sha256 (64 hex digits), principal, scopes of read, control, approve, admin"
        ) from error
    if any(key.principal == LOCAL for key in keys):
        raise SettingsError(
            f"http.keys: {LOCAL!r} is whoever is at a mesh without keys; give the principal another name"
        )
    try:
        origins = checked(listed(settings.http.allowed_origins))
    except ValueError as error:
        raise SettingsError(f"SWARM_HTTP_ALLOWED_ORIGINS: {error}") from error
    return GatewaySettings(
        host=settings.http.host,
        port=settings.http.port,
        keys=keys,
        allowed_origins=origins,
        verdict_roots=roots_of(settings.verdict.root),
        cognition_enabled=settings.cognition.enabled,
        four_eyes=settings.approval.four_eyes,
        approval_ttl_s=settings.approval.ttl_s,
        kill_switch=Path(settings.kill_switch.file) if settings.kill_switch.file else None,
        rate_per_s=settings.http.rate_per_s,
        burst=settings.http.burst,
        swarm_open_requests=settings.swarm.open_requests,
        swarm_open_intents=settings.swarm.open_intents,
        observations_per_minute=settings.http.observations_per_minute,
        recalls_per_minute=settings.http.recalls_per_minute,
        spawns_per_minute=settings.swarm.spawns_per_minute,
        swarm_ceiling=budget_of(settings.swarm),
        global_budget=budget_of(settings.global_),
        max_swarms=settings.global_.swarms,
        max_streams=settings.http.streams,
        max_streams_total=settings.http.streams * TOTAL_STREAMS,
    )


def budget_of(section: Swarm | Global) -> Credits:
    """What may be spent a minute."""
    return Credits(
        tokens=section.tokens_per_minute,
        compute_ms=section.compute_ms_per_minute,
        actions=section.actions_per_minute,
        cost_microusd=section.cost_microusd_per_minute,
    )


def limits_of(settings: Settings) -> dict[str, float]:
    """What each quota's setting is."""
    return {
        quota.setting: attrgetter(quota.setting.replace("global.", "global_."))(settings)
        for quota in QUOTAS
        if quota.setting is not None
    }


def _measure(gateway: Gateway) -> None:
    """Have the metrics that are folded from the log told by this gateway."""
    tell(gateway.projection.measures, lambda: gateway.ready)
    POSITION.follow(lambda: gateway.feed.position)
    INTENTS_OPEN.follow(lambda: gateway.projection.intents.open)
    CONFLICTS_OPEN.follow(lambda: gateway.projection.conflicts.open)
    HOLDS.follow(lambda: len(gateway.projection.conflicts.held))
    for stage in LIVES.labels["stage"]:
        LIVES.follow(partial(gateway.projection.personas.count, stage), stage)


def _trace(service: Service, feed: Feed) -> None:
    """Have what the feed takes in told to a collector. Raises `SettingsError`."""
    from services.gateway.tracing.export import Exporter

    url = service.settings.traces.url
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"SWARM_TRACES_URL={url!r}: want http://host:port or https://host:port")
    service.background("traces", Exporter(feed, url, VERSION).run)


async def wire(service: Service) -> None:
    """Declares the gateway to the runtime. Raises `SettingsError`."""
    try:
        settings = gateway_settings(service.settings)
        gateway = Gateway(
            service.log,
            settings,
            connected=lambda: service.connection.is_connected,
            problems=service.health.problems,
            warnings=service.health.warnings,
            held=lambda: service.pressure.held,
            clock_off=lambda: service.probe.clock_off,
            limits=limits_of(service.settings),
            another=lambda: service.identity.another,
            metrics=service.health.metrics,
            readings=Readings(service.log, service.bucket("policies")),
        )
        http = server(create_app(gateway), settings.host, settings.port)
    except Unsafe as error:
        raise SettingsError(str(error)) from error
    checkpoint = CheckpointFile(
        checkpoint_path(service.settings, service.instance), State, services.gateway, contracts, shared.metrics
    )
    known = await checkpoint.load(service.log)
    if known is not None:
        gateway.projection.restore(known)
    if settings.keyless:
        log.warning("http_without_keys", host=settings.host, said="anyone on this machine may do anything")

    async def stop() -> None:
        await gateway.stop()
        http.should_exit = True
        if service.keeps:
            await checkpoint.offer(gateway.projection, events=1)

    async def save() -> None:
        await checkpoint.offer(gateway.projection)

    async def behind() -> str | None:
        return None if gateway.feed.ready else f"the log is being read, at {gateway.feed.position}"

    _measure(gateway)
    if service.settings.traces.url:
        _trace(service, gateway.feed)
    service.background("feed", gateway.feed.run)
    service.background("answers", gateway.feed.run_answers)
    service.background("http", http.serve)
    service.every(EVERY_S, save, "checkpoint")
    service.ready("projection", behind)
    service.health.warn("halted", lambda: gateway.projection.halts.why)
    service.health.warn("kill_switch", lambda: thrown(settings.kill_switch))
    service.health.progress = lambda: gateway.feed.position
    service.on_stop(stop)
    log.info("http_listening", host=settings.host, port=settings.port)
