"""What of the evidence is more than somebody's word; the same for whoever resolves it."""

from __future__ import annotations

from shared.contracts.events import (
    AnyEvent,
    BeliefEvent,
    CheckResult,
    ObservationRecorded,
)


def is_independent(event: AnyEvent, persona: str | None = None) -> bool:
    """Whether the event is more than an outsider's word or the persona's own: a measurement, a person's note, or what
    somebody else than `persona` believes and no outsider's word is in. Of nobody's in particular no belief is."""
    match event:
        case ObservationRecorded():
            return not event.tainted
        case CheckResult():
            return event.outcome == "confirmed" and not event.tainted
        case BeliefEvent():
            return not event.tainted and event.by != (persona or event.by)
        case _:  # its own words, or what follows from its merely asking: a grant, an outcome of its action
            return False
