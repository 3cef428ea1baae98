"""Routing's shell, its timers' shell, and what it follows."""

from __future__ import annotations

from services.meta_orchestrator.following import Following
from services.meta_orchestrator.routing import decider
from services.meta_orchestrator.routing.effects import RoutingEffects
from services.meta_orchestrator.routing.reconciling import LIVES, Reconciling
from services.meta_orchestrator.routing.roster import CLASSES, Roster
from shared.contracts.ids import utc_now
from shared.memory.index.embeddings import WordLlamaEmbedder
from shared.runtime.service import Service

DECIDES = ("intent.submitted", "intent.answered", "intent.cancelled")
READ_EVERY_S = 5.0
SWEEP_EVERY_S = 5.0
TIMERS = ("intent.routed", "intent.delayed")


def wire_routing(service: Service, following: Following) -> None:
    """Routes, answers, ends."""
    roster = Roster(WordLlamaEmbedder())
    settings = service.settings
    effects = RoutingEffects(log=service.log, following=following, roster=roster, lease_s=settings.intents.lease_s)
    shell = service.shell(decider, perform=effects.perform)
    reconciling = Reconciling(roster, shell.tick)
    following.follow(CLASSES, roster.apply)
    following.follow(
        (*LIVES, "persona.spawned", "persona.draining", "persona.reaped", "budget.exhausted"), reconciling.apply
    )
    following.when_caught_up(reconciling.begin)
    service.consume(shell, classes=DECIDES, suffix="-routing")
    timers = service.shell(decider, perform=effects.perform)
    service.consume(timers, classes=TIMERS, suffix="-routing-timers", max_ack_pending=100_000)
    service.every(READ_EVERY_S, roster.read_ahead, "roster")

    async def sweep() -> None:
        reconciling.sweep(utc_now())

    service.every(SWEEP_EVERY_S, sweep, "overdue intents")
    service.background("intents", lambda: reconciling.run(service.stopping))
