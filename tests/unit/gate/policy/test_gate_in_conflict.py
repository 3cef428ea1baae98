"""The gate and conflicts: it stands still in one, goes on where it was, and says who has lost."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from services.policy_gate import decider
from services.policy_gate.decider import Evaluate, Sign, Signed
from shared.contracts.events import (
    ApprovalGranted,
    ConflictJoined,
    ConflictSettled,
    ProposalAuthorized,
    ProposalKey,
    ProposalRejected,
)
from shared.decider import NOTHING, Decision, Performed
from tests.unit.gate.given import LIFE, NOTE, T0, asked, at, authorized, delivered, folded, proposed, record, verified

CREATED = proposed(NOTE)
VERIFIED = verified(CREATED, "medium")
ASKED = asked(CREATED)
GRANTED = ApprovalGranted(**LIFE, digest=CREATED.digest, request_id="e3", principal="bob")
OVER = {"target_id": "t-1", "generation": 1}
JOINED = ConflictJoined(**LIFE, **OVER)
WINNER = ProposalKey(swarm="beta", persona="p02", proposal_id="p-9")
KEPT = ConflictSettled(**LIFE, **OVER, outcome="kept", resolution="order")
LOST = ConflictSettled(**LIFE, **OVER, outcome="lost", winner=WINNER, resolution="order", reason="its risk is low")
FREE = (CREATED, VERIFIED, JOINED)
WAITING = (CREATED, VERIFIED, ASKED, JOINED)


def when(state: Any, event: Any, seq: int, now: datetime = T0) -> Decision:
    return decider.decide(state, delivered(event, seq, now=now))


def test_the_end_of_a_conflict_wakes_the_gate_and_rests_on_the_life_it_is_said_in() -> None:
    boundary = decider.boundary(delivered(KEPT))
    assert boundary is not None
    assert ("*.*.alpha.p01.p-1",) == boundary.reads == boundary.guards


def test_in_a_conflict_nothing_is_evaluated_and_the_deadline_is_the_timer() -> None:
    assert Decision(retry_s=7200) == when(folded(decider, *FREE), VERIFIED, 2)
    assert NOTHING == when(folded(decider, *WAITING, GRANTED), GRANTED, 5)
    assert NOTHING == when(folded(decider, *WAITING), VERIFIED, 2)


def test_the_request_stays_its_own_timer_also_with_all_its_grants() -> None:
    state = folded(decider, *WAITING, GRANTED)
    assert Decision(retry_s=3600) == when(state, ASKED, 3)
    late = when(state, ASKED, 3, now=at(3600))
    assert "approval_expired" == rejection(late).reasons[0]


def test_nobody_settles_it_and_its_deadline_ends_it() -> None:
    assert ("deadline_passed",) == rejection(when(folded(decider, *FREE), VERIFIED, 2, now=at(7200))).reasons


@pytest.mark.parametrize("effect", [Evaluate, Sign])
def test_a_conflict_that_is_raised_while_the_gate_is_at_it_is_heeded(effect: type) -> None:
    """The refused commit has caught up; what the policies or the key said meanwhile permits nothing."""
    cause = delivered(VERIFIED, 2)
    asked_for = decider.decide(folded(decider, CREATED, VERIFIED), cause).effect
    done: Any = decider.Evaluated(as_is=_yes(), with_people=_yes())
    if effect is Sign:
        asked_for, done = Sign(verdict=authorized(CREATED)), Signed(verdict=authorized(CREATED))
    assert asked_for is not None
    message = Performed(cause=cause, effect=asked_for, result=done, now=T0)
    assert Decision(retry_s=7200) == decider.decide(folded(decider, *FREE), message)
    assert "conflict_lost" in rejection(decider.decide(folded(decider, *FREE, LOST), message)).reasons


def _yes() -> Any:
    from shared.policy.types import PolicyDecision

    return PolicyDecision(allow=True, reason="permitted", policy_ids=("p",), version="1" * 64)


def test_who_was_ruled_to_go_on_is_evaluated_as_if_nothing_had_been() -> None:
    assert isinstance(when(folded(decider, *FREE, KEPT), KEPT, 4).effect, Evaluate)
    assert isinstance(when(folded(decider, *WAITING, GRANTED, KEPT), KEPT, 6).effect, Evaluate)
    assert NOTHING == when(folded(decider, *WAITING, KEPT), KEPT, 5)
    assert isinstance(when(folded(decider, *WAITING, KEPT, GRANTED), GRANTED, 6).effect, Evaluate)


def test_in_two_conflicts_the_first_that_ends_wakes_nobody() -> None:
    other = ConflictJoined(**LIFE, target_id="t-2", generation=3)
    assert NOTHING == when(folded(decider, *FREE, other, KEPT), KEPT, 5)


@pytest.mark.parametrize("cause", [LOST, VERIFIED])
def test_who_has_lost_is_rejected_and_told_who_goes_first_and_why(cause: Any) -> None:
    event = rejection(when(folded(decider, *FREE, LOST), cause, 4))
    assert ("arbitration", ("conflict_lost",)) == (event.stage, event.reasons)
    assert "p-9" in event.detail and "beta" in event.detail and "its risk is low" in event.detail


def test_a_verdict_stands_whatever_is_settled_afterwards() -> None:
    assert NOTHING == when(folded(decider, CREATED, VERIFIED, authorized(CREATED), JOINED, LOST), LOST, 5)


def test_without_what_stood_before_it_a_settlement_decides_nothing() -> None:
    assert NOTHING == when(folded(decider, record(LOST, 9)), LOST, 9)


def rejection(decision: Decision) -> ProposalRejected:
    (event,) = decision.events
    assert isinstance(event, ProposalRejected) and not isinstance(event, ProposalAuthorized)
    return event
