"""Wiring: one shell, read-only effects on the log."""

from __future__ import annotations

from services.verifier import decider
from services.verifier.answers import Answers
from services.verifier.effects import VerifierEffects
from shared.runtime.service import Service


async def wire(service: Service) -> None:
    """Consume proposals and checks."""
    answers = Answers(service.log)
    service.background("recall", answers.follow)
    shell = service.shell(decider, perform=VerifierEffects(log=service.log, answers=answers).perform)
    service.consume(shell)
    service.on_stop(answers.stop)
