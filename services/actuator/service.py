"""Wiring: the workspace, the way out, the keys that are believed, one shell."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.actuator import decider
from services.actuator.effects import ActuatorEffects
from services.actuator.lots import Lots
from services.actuator.outbound import Outbound
from services.actuator.workspace import Workspace
from shared.policy.bundle import DEFAULT_BUNDLE, ActiveBundle
from shared.runtime.service import Service
from shared.settings import SettingsError, listed

PRUNE_EVERY_S = 3600.0


async def wire(service: Service) -> None:
    """Consume authorisations. Raises `SettingsError`, and `BadBundle` when there is no good policy to compare with."""
    settings = service.settings
    if not settings.verdict_keys:
        raise SettingsError("SWARM_VERDICT_KEYS is not set; list the public nkeys of the policy gates to be believed")
    policies = ActiveBundle(Path(settings.policy_dir) if settings.policy_dir else DEFAULT_BUNDLE)

    def knows_policy(version: str) -> bool:
        """The gate may have reloaded a moment before us: look once more before saying no."""
        return policies.knows(version) or (policies.reload() is None and policies.knows(version))

    workspace = Workspace(Path(settings.workspace))

    async def close() -> None:
        workspace.close()

    async def prune() -> None:
        await asyncio.to_thread(workspace.prune)

    lots = Lots(service.log, service.instance)
    effects = ActuatorEffects(
        log=service.log,
        workspace=workspace,
        outbound=Outbound(frozenset(listed(settings.http_allow)), frozenset(listed(settings.http_allow_private))),
        lots=lots,
        trusted_keys=frozenset(listed(settings.verdict_keys)),
        knows_policy=knows_policy,
        kill_switch=Path(settings.kill_switch_file) if settings.kill_switch_file else None,
        instance=service.instance,
    )
    service.consume(service.shell(decider, perform=effects.perform, at_most=settings.swarm_open_actions))
    service.every(PRUNE_EVERY_S, prune, "prune-receipts")
    service.on_close(close)
    service.on_close(lots.close)
