"""A swarm that holds more than its share: each service says no at once, by one event, and never undoes what was begun."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.actuator import decider as actuator
from services.policy_gate import decider as gate
from services.verifier import decider as verifier
from shared.contracts.action_kinds import KINDS
from shared.contracts.events import (
    ActionClaimed,
    ActionExecuted,
    AnyEvent,
    ProposalRejected,
)
from shared.contracts.services import SERVICES
from shared.decider import NOTHING, Decision
from tests.unit.gate.given import FINDING, LIFE, authorized, delivered, folded, proposed, verified

CREATED = proposed(FINDING)
VERIFIED = verified(CREATED)
AUTHORIZED = authorized(CREATED)


def crowded(decider: Any, event: AnyEvent, *before: AnyEvent, crowd: int = 500) -> Decision:
    message = msgspec.structs.replace(delivered(event, len(before) + 1), crowd=crowd)
    found: Decision = decider.decide(folded(decider, *before), message)
    return found


@pytest.mark.parametrize(
    ("decider", "event", "before"),
    [(verifier, CREATED, ()), (gate, VERIFIED, (CREATED, VERIFIED)), (actuator, AUTHORIZED, (CREATED, AUTHORIZED))],
)
def test_what_is_beyond_the_share_is_refused_by_one_event_that_says_why_and_when_to_come_again(
    decider: Any, event: AnyEvent, before: tuple[AnyEvent, ...]
) -> None:
    decision = crowded(decider, event, *before)
    (said,) = decision.events
    assert decision.effect is None and decision.retry_s is None
    match said:
        case ProposalRejected(reasons=reasons, detail=detail):
            assert ("too_many_waiting",) == reasons
        case ActionExecuted(outcome="failure", error="too_many_actions", claim_id=None, summary=detail):
            pass
        case _:
            pytest.fail(f"{said} is no refusal")
    assert "500" in detail and "again later" in detail
    assert decision.events != crowded(decider, event, *before, crowd=0).events


def test_what_was_claimed_is_not_refused_however_many_wait() -> None:
    timeout_ms = KINDS["file.write"].timeout_ms
    claimed = ActionClaimed(**LIFE, digest=CREATED.digest, actuator="a", timeout_ms=timeout_ms)
    assert () == crowded(actuator, AUTHORIZED, CREATED, AUTHORIZED, claimed).events


def test_what_has_its_verdict_is_not_refused_again() -> None:
    rejected = ProposalRejected(**LIFE, stage="verify", reasons=("late",), digest=CREATED.digest)
    assert NOTHING == crowded(verifier, CREATED, rejected)
    assert NOTHING == crowded(gate, VERIFIED, CREATED, VERIFIED, rejected)


def test_only_what_a_service_consumes_can_be_refused() -> None:
    for row in SERVICES.values():
        assert set(row.refused_when_crowded) <= set(row.consumes)
