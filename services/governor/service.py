"""Wiring: shells for lineage and ledger, for shares and for new swarms; ticks for what nobody asks for; runners are placed."""

from __future__ import annotations

import msgspec

from services.governor.decider import ExpiredGrants, Governor, Limits, State
from services.governor.effects import Roster
from services.governor.founding import Founding, Swarms
from services.governor.places import Places
from services.governor.sharing import Living, Shares, Sharing
from shared.contracts.ids import EVERYONE, fresh_id, utc_now
from shared.decider import Tick
from shared.placement import groups_of
from shared.runtime.doors import Doors
from shared.runtime.service import Service
from shared.settings import Settings, SettingsError

LIMITED = "budget.limited"
FOUNDING = ("swarm.requested",)
SHARING = ("allocation.changed", "limits.changed", LIMITED, "persona.spawned")
"""What shares follow from; a share that was written serves the line of its swarm too."""
STATE_VERSION = 4
"""Of checkpoints; to be raised when the fold's meaning changes."""


def limits_of(settings: Settings) -> Limits:
    """The governor's limits as the settings have them. Raises `SettingsError` when they are none."""
    limits = {
        "max_roots": settings.governor.max_roots,
        "max_lifetime_children": settings.governor.max_lifetime_children,
        "spawns_per_minute": settings.swarm.spawns_per_minute,
        "drain_s": max(1, round(settings.governor.drain_s)),
        "drain_patience_s": max(1, round(settings.governor.drain_patience_s)),
        "grant_ttl_s": max(1, round(settings.governor.grant_ttl_s)),
        "actions_per_minute": settings.persona.actions_per_minute,
        "swarm_per_minute": {
            "tokens": settings.swarm.tokens_per_minute,
            "compute_ms": settings.swarm.compute_ms_per_minute,
            "actions": settings.swarm.actions_per_minute,
            "cost_microusd": settings.swarm.cost_microusd_per_minute,
        },
        "global_per_minute": {
            "tokens": settings.global_.tokens_per_minute,
            "compute_ms": settings.global_.compute_ms_per_minute,
            "actions": settings.global_.actions_per_minute,
            "cost_microusd": settings.global_.cost_microusd_per_minute,
        },
        "max_swarms": settings.global_.swarms,
    }
    try:
        return msgspec.convert(limits, Limits)
    except msgspec.ValidationError as error:
        raise SettingsError(f"a limit of the governor does not fit: {error}") from error


async def wire(service: Service) -> None:
    """Consume requests, open runners' tails, and reconcile every swarm every `reconcile_every_s`. Raises `SettingsError`."""
    limits = limits_of(service.settings)
    shell = service.shell(Governor(limits=limits), state_type=State, state_version=STATE_VERSION)
    service.consume(
        shell,
        classes=tuple(name for name in service.row.consumes if name not in (*SHARING, *FOUNDING) or name == LIMITED),
    )
    sharing = service.shell(Sharing(limits=limits), state_type=Shares)
    service.consume(sharing, classes=SHARING, suffix="-shares")
    service.consume(service.shell(Founding(limits=limits), state_type=Swarms), classes=FOUNDING, suffix="-swarms")
    every_s = service.settings.governor.reconcile_every_s
    roster = Roster(service.log, service.hearing.why_not, pause_s=max(60.0, 3 * every_s))

    async def reconcile() -> None:
        await roster.refresh()
        for swarm in tuple(roster.live):
            facts, spent = await roster.last_thoughts(swarm), await roster.spent(swarm)
            await shell.tick(Tick(id=fresh_id(), now=utc_now(), swarm=swarm, facts=facts))
            await shell.tick(Tick(id=fresh_id(), now=utc_now(), swarm=swarm, facts=ExpiredGrants(spent=spent)))
        living = tuple(sorted(swarm for swarm, personas in roster.live.items() if personas))
        await sharing.tick(
            Tick(id=fresh_id(), now=utc_now(), swarm=EVERYONE, facts=Living(swarms=living, seq=roster.shares_seq))
        )

    try:
        groups = groups_of(service.settings.placement.groups)
    except ValueError as error:
        raise SettingsError(f"SWARM_PLACEMENT_GROUPS: {error}") from error
    places = Places(service.log, service.bucket("leases"), shards=service.settings.placement.shards, groups=groups)
    service.health.warn("unserved", lambda: places.unserved(roster.live))
    await Doors(service.connection).open()
    service.every(service.settings.placement.lease_ttl_s / 3, places.look, "placement")
    service.every(every_s, reconcile, "reconcile")
