"""Wiring: one shell, read-only effects on the log."""

from __future__ import annotations

from services.verifier import decider
from services.verifier.effects import VerifierEffects
from shared.runtime.service import Service


async def wire(service: Service) -> None:
    """Consume proposals and checks."""
    shell = service.shell(decider, perform=VerifierEffects(log=service.log).perform)
    service.consume(shell, max_ack_pending=5000)
