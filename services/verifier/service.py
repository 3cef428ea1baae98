"""Wiring: one shell, read-only effects on the log."""

from __future__ import annotations

import asyncio

from services.verifier import decider
from services.verifier.effects import VerifierEffects
from services.verifier.hearing import Hearing
from services.verifier.lives import Lives
from services.verifier.opened import Opened
from services.verifier.told import Told
from shared.contracts.prices import prices_of
from shared.outside.rows import rows_of
from shared.policy.library import Library
from shared.policy.reading import Readings
from shared.runtime.service import Service
from shared.settings import SettingsError, listed


async def wire(service: Service) -> None:
    """Consume proposals. Raises `SettingsError`."""
    settings = service.settings
    longest_s = settings.approval.ttl_s + settings.authorization.ttl_s
    opened = Opened(service.log, limit=settings.persona.open_proposals, longest_s=longest_s)
    hearing = Hearing(service.log, opened)
    heard = hearing.heard
    service.background("hearing", hearing.follow)
    library = Library(service.log, Readings(service.log, service.bucket("policies")))
    try:
        prices = prices_of(listed(settings.actions.prices))
    except ValueError as error:
        raise SettingsError(f"SWARM_ACTIONS_PRICES: {error}") from error
    effects = VerifierEffects(
        log=service.log,
        library=library,
        opened=opened,
        heard=heard,
        told=Told(service.log, library, heard),
        lives=Lives(service.log, heard),
        rows=await asyncio.to_thread(rows_of, settings),
        prices=prices,
    )
    service.consume(service.shell(decider, perform=effects.perform))
    service.on_stop(hearing.stop)
