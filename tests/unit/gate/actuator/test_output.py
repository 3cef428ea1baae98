"""What a target answered is told with the outcome, made harmless and within its bound."""

from __future__ import annotations

import pytest

from services.actuator import decider
from services.actuator.terms import Execute, Job, Outcome
from shared.contracts.envelope import decode, encode
from shared.contracts.events import ActionClaimed, ActionExecuted
from shared.contracts.events.proposals import MAX_OUTPUT
from shared.decider import Performed
from tests.unit.gate.given import FINDING, LIFE, T0, WHOSE, at, authorized, delivered, folded, message_of, proposed

CREATED = proposed()
AUTHORIZED = authorized(CREATED)
CLAIMED = ActionClaimed(**LIFE, digest=CREATED.digest, actuator="one", timeout_ms=5000, lot_id="lot-1")
EXECUTE = Execute(
    job=Job(**WHOSE, proposal_id="p-1", action=FINDING), actuator="one", digest=CREATED.digest, deadline=at(5)
)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("a\u202eb\x1b[31m\r\nc", "a\ufffdb\ufffd[31m\nc"),
        ('"' * 9000, '"' * (MAX_OUTPUT - 1) + "…"),
        ("😀" * 9000, "😀" * (MAX_OUTPUT - 1) + "…"),
        ("", ""),
    ],
)
def test_it_is_told_beside_the_summary_and_can_be_read_again(said: str, told: str) -> None:
    state = folded(decider, CREATED, AUTHORIZED, CLAIMED)
    result = Outcome(outcome="success", summary="wrote it", output=said)
    cause = delivered(AUTHORIZED, 2)
    decision = decider.decide(state, Performed(cause=cause, effect=EXECUTE, result=result, now=T0))
    event = next(event for event in decision.events if isinstance(event, ActionExecuted))
    assert (told, "wrote it") == (event.output, event.summary)
    subject, lines, body = encode(message_of(event, id="x1"))
    headers = dict(line.split(": ", 1) for line in lines.strip().split("\r\n"))
    assert event == decode(subject, headers, body, seq=1, stored_at=T0).event
