"""Arbitration's shell, and what it follows."""

from __future__ import annotations

from services.meta_orchestrator.arbitration import decider
from services.meta_orchestrator.arbitration.decider import Rules
from services.meta_orchestrator.arbitration.effects import ArbitrationEffects
from services.meta_orchestrator.arbitration.meeting import CLASSES, Meeting
from services.meta_orchestrator.following import Following
from shared.runtime.service import Service
from shared.settings import Arbitration, SettingsError

DECIDES = ("proposal.verified", "conflict.raised", "conflict.ruled")


def wire_arbitration(service: Service, following: Following) -> None:
    """Meetings, and rulings. Raises `SettingsError`."""
    rules = rules_of(service.settings.arbitration)
    meeting = Meeting()
    following.follow(CLASSES, meeting.apply)
    effects = ArbitrationEffects(service.log, following, meeting, rules)
    shell = service.shell(decider, perform=effects.perform)
    service.consume(shell, classes=DECIDES, suffix="-arbitration")


def rules_of(settings: Arbitration) -> Rules:
    """What the operator wants. Raises `SettingsError`."""
    if settings.strategy not in ("order", "person"):
        raise SettingsError(f"SWARM_ARBITRATION_STRATEGY: {settings.strategy!r} is neither `order` nor `person`")
    return Rules(
        strategy="person" if settings.strategy == "person" else "order",
        person_s=settings.person_s,
        losses_per_hour=settings.losses_per_hour,
    )
