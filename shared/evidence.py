"""What of the evidence is more than somebody's word; the same for whoever resolves it."""

from __future__ import annotations

from shared.contracts.events import (
    AnyEvent,
    BeliefEvent,
    CheckResult,
    ObservationRecorded,
)
from shared.contracts.ids import CORE, EVERYONE

ANSWER = "answer:"
"""The source of a person's answer to a persona's question begins so, and its id follows. What was asked for grounds nothing else."""


def is_tainted(event: AnyEvent) -> bool:
    """Whether an outsider's words are in it, as far as it says itself; that they are not, is believed of CORE alone."""
    return getattr(event, "tainted", True) or getattr(event, "slot", CORE) != CORE


def says_tainted(result: CheckResult) -> bool:
    """Whether a result is tainted by its own word, for who looks up what it cites as well: one that cites nothing is."""
    return result.tainted or not result.evidence


def readable(event: AnyEvent, swarm: str, persona: str) -> bool:
    """Whether a citation of the event may stand: of the persona's own, of what is for all of its swarm, of what its swarm believes.

    Nothing of it is shown for that; whoever judges what rests on it asks the policies (`shared/policy/library`).
    """
    if event.swarm != swarm:
        return False
    return event.persona in (persona, EVERYONE) or isinstance(event, BeliefEvent)


def is_independent(event: AnyEvent, persona: str | None = None) -> bool:
    """Whether the event is more than an outsider's word or the persona's own: a measurement, a person's note, or what
    somebody else than `persona` believes and no outsider's word is in. Of nobody's in particular no belief is."""
    match event:
        case ObservationRecorded():
            return not is_tainted(event) and not event.source.startswith(ANSWER)
        case CheckResult():
            return event.outcome == "confirmed" and not is_tainted(event)
        case BeliefEvent():
            return not is_tainted(event) and event.by != (persona or event.by)
        case _:  # its own words, or what follows from its merely asking: a grant, an outcome of its action
            return False
