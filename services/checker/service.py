"""Wiring: one shell, read-only effects on the log."""

from __future__ import annotations

from services.checker.answers import Answers
from services.checker.decider import Checker
from services.checker.desk import Desk
from services.checker.effects import CheckerEffects
from shared.contracts.ids import slot_of
from shared.policy.library import Library
from shared.policy.reading import Readings
from shared.runtime.service import Service


async def wire(service: Service) -> None:
    """Consume checks."""
    slot = slot_of(service.instance)
    answers = Answers(service.log)
    service.background("recall", answers.follow)
    library = Library(service.log, Readings(service.log, service.bucket("policies")))
    effects = CheckerEffects(Desk(log=service.log, answers=answers, library=library, slot=slot))
    service.consume(service.shell(Checker(slot=slot), perform=effects.perform))
    service.on_stop(answers.stop)
