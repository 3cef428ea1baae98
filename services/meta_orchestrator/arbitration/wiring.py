"""Arbitration's shell, and what it follows."""

from __future__ import annotations

import msgspec

from services.meta_orchestrator.arbitration import decider
from services.meta_orchestrator.arbitration.decider import Rules
from services.meta_orchestrator.arbitration.effects import ArbitrationEffects
from services.meta_orchestrator.arbitration.meeting import CLASSES, Meeting
from services.meta_orchestrator.arbitration.overdue import CLASSES as OPEN
from services.meta_orchestrator.arbitration.overdue import Overdue
from services.meta_orchestrator.following import Following
from shared.contracts.events import Strategy
from shared.runtime.service import Service
from shared.settings import Arbitration, SettingsError

DECIDES = ("proposal.verified", "conflict.raised", "conflict.ruled", "intent.closed")

LOOK_EVERY_S = 1.0


def wire_arbitration(service: Service, following: Following) -> None:
    """Meetings, and rulings. Raises `SettingsError`."""
    rules = rules_of(service.settings.arbitration)
    meeting = Meeting()
    following.follow(CLASSES, meeting.apply)
    effects = ArbitrationEffects(service.log, following, meeting, rules)
    shell = service.shell(decider, perform=effects.perform)
    service.consume(shell, classes=DECIDES, suffix="-arbitration")
    overdue = Overdue(shell.tick)
    following.follow(OPEN, overdue.apply)
    following.when_caught_up(overdue.begin)
    service.every(LOOK_EVERY_S, overdue.look, "overdue conflicts")


def rules_of(settings: Arbitration) -> Rules:
    """What the operator wants. Raises `SettingsError`."""
    try:
        strategy = msgspec.convert(settings.strategy, Strategy)
    except msgspec.ValidationError:
        said = f"{settings.strategy!r} is none of `order`, `vote` and `person`"
        raise SettingsError(f"SWARM_ARBITRATION_STRATEGY: {said}") from None
    return Rules(
        strategy=strategy,
        person_s=settings.person_s,
        losses_per_hour=settings.losses_per_hour,
    )
