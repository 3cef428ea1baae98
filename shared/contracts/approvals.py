"""Which request a person's word answers: a yes or no counts for that one alone."""

from __future__ import annotations

from shared.contracts.envelope import Recorded
from shared.contracts.events import ApprovalDenied, ApprovalGranted
from shared.contracts.ids import EventId


def answered(recorded: Recorded) -> EventId | None:
    """The id of the `approval.requested` that a vote answers; None for other events.

    Votes of before they had the field were caused by their request, and so name it too.
    """
    event = recorded.event
    if not isinstance(event, ApprovalGranted | ApprovalDenied):
        return None
    return event.request_id or recorded.envelope.causation
