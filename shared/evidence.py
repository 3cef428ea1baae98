"""What a persona may cite, and what of it is more than somebody's word; the same for whoever resolves evidence."""

from __future__ import annotations

from shared.contracts.events import (
    AnyEvent,
    BeliefAsserted,
    BeliefContested,
    BeliefRevised,
    CheckResult,
    ObservationRecorded,
)
from shared.contracts.ids import EVERYONE


def readable(event: AnyEvent, swarm: str, persona: str) -> bool:
    """Whether the persona may cite the event: its own, what is for all of its swarm, and beliefs offered to the swarm."""
    if event.swarm != swarm:
        return False
    return event.persona in (persona, EVERYONE) or isinstance(event, BeliefAsserted | BeliefContested | BeliefRevised)


def is_independent(event: AnyEvent) -> bool:
    """Whether the event is more than an outsider's word or the persona's own: a measurement, a person's note, a shared belief."""
    match event:
        case ObservationRecorded():
            return not event.tainted
        case CheckResult():
            return event.outcome == "confirmed" and not event.tainted
        case BeliefAsserted() | BeliefContested() | BeliefRevised():
            return True
        case _:  # its own words, or what follows from its merely asking: a grant, an outcome of its action
            return False
