"""How a route ends without its persona's word, and how an intent ends: what is said then, and to whom. Pure."""

from __future__ import annotations

from services.meta_orchestrator.routing.merging import merged
from shared.contracts.events import (
    AnyEvent,
    IntentClosed,
    IntentReleased,
    IntentReturned,
    IntentSubmitted,
    ReportGiven,
)
from shared.contracts.ids import EVERYONE
from shared.contracts.text import lines
from shared.intents import Life, Route, total

MAX_REASONS = 64


def ends(
    submitted: IntentSubmitted, routes: tuple[Route, ...], reason: str
) -> tuple[IntentReturned | IntentReleased, ...]:
    """Routes that end without the persona's word, charged in full; whoever has one is told."""
    returned = tuple(
        IntentReturned(
            **of_life(submitted),
            of_swarm=route.whose[0],
            of_persona=route.whose[1],
            route=route.number,
            reason=reason,
            spent=route.budget,
        )
        for route in routes
    )
    return (*returned, *_released(submitted, routes, reason))


def _released(submitted: IntentSubmitted, routes: tuple[Route, ...], reason: str) -> tuple[IntentReleased, ...]:
    return tuple(
        IntentReleased(
            swarm=route.whose[0],
            persona=route.whose[1],
            intent_id=submitted.intent_id,
            home=submitted.swarm,
            route=route.number,
            reason=reason,
        )
        for route in routes
    )


def closed(life: Life, submitted: IntentSubmitted, why: str = "partial") -> tuple[AnyEvent, ...]:
    """The end: merged from the answers there are, or failed; whoever still has it is told, and the persona that wanted it."""
    reasons = life.reasons[-MAX_REASONS:]
    spent = total((life.spent, *(route.budget for route in life.open)))
    told = _released(submitted, life.open, "closed" if life.answers else why)
    if not life.answers:
        failed = IntentClosed(
            swarm=submitted.swarm,
            persona=EVERYONE,
            intent_id=submitted.intent_id,
            outcome="failed",
            reason=why,
            reasons=reasons,
            spent=spent,
            tainted=submitted.tainted,
        )
        return (failed, *told, *_reported(submitted, failed))
    one = merged(submitted.merge, life.answers, submitted.options)
    complete = submitted.merge == "first" or len(life.answers) >= submitted.fan_out
    end = IntentClosed(
        swarm=submitted.swarm,
        persona=EVERYONE,
        intent_id=submitted.intent_id,
        outcome="answered",
        result=one.result,
        choice=one.choice,
        confidence=one.confidence,
        evidence=one.evidence,
        contributors=one.contributors,
        dissent=one.dissent,
        reasons=reasons,
        reason=one.reason if complete or one.reason != "merged" else "partial",
        spent=spent,
        tainted=one.tainted or submitted.tainted,
    )
    return (end, *told, *_reported(submitted, end))


def _reported(submitted: IntentSubmitted, end: IntentClosed) -> tuple[ReportGiven, ...]:
    """What came of it, for the persona that proposed it."""
    asker = submitted.proposal
    if asker is None:
        return ()
    who = tuple(dict.fromkeys(f"{c.swarm}/{c.persona}" for c in end.contributors))
    said = f"{end.choice}: {end.result}" if end.choice else end.result
    report = ReportGiven(
        swarm=asker.swarm,
        persona=asker.persona,
        kind="answer",
        by=who[0] if len(who) == 1 else "",
        text=lines(said, 8000) if who else f"Nobody answered: {end.reason}.",
        reason=", ".join(who)[:300],
        of_intent=submitted.intent_id,
        tainted=end.tainted,
    )
    return (report,)


def of_life(submitted: IntentSubmitted) -> dict[str, str]:
    """Fields of what is said in it."""
    return {"swarm": submitted.swarm, "persona": EVERYONE, "intent_id": submitted.intent_id}
