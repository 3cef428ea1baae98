"""What the log's own checker says of actions behind a halt."""

from __future__ import annotations

import pytest

from shared.contracts.events import ActionClaimed, ActionExecuted, MeshHalted, MeshResumed
from shared.contracts.ids import EVERYONE
from tests.unit.gate.given import LIFE, authorized, proposed, verified
from tests.unit.gate.policy.test_invariants_of_approval import violations

ALL = {"swarm": EVERYONE, "persona": EVERYONE}
HALTED, RESUMED = MeshHalted(**ALL, cause="person", principal="ann"), MeshResumed(**ALL, principal="ann")
CREATED = proposed()
BEFORE = (CREATED, verified(CREATED), authorized(CREATED))
CLAIMED = ActionClaimed(**LIFE, digest=CREATED.digest, actuator="one", timeout_ms=1000)
DONE = ActionExecuted(**LIFE, digest=CREATED.digest, outcome="success", summary="done")
NOT_DONE = ActionExecuted(**LIFE, digest=CREATED.digest, outcome="failure", summary="halted", error="halted")


@pytest.mark.parametrize(
    ("events", "broken"),
    [
        ((HALTED, CLAIMED, DONE), True),
        ((HALTED, CLAIMED, NOT_DONE), False),
        ((CLAIMED, HALTED, DONE), False),
        ((HALTED, RESUMED, CLAIMED, DONE), False),
        ((HALTED, CLAIMED, RESUMED, DONE), False),
    ],
)
def test_what_is_claimed_behind_a_halt_is_not_done_while_it_lasts(events: tuple[object, ...], broken: bool) -> None:
    found = [line for line in violations(*BEFORE, *events) if "halted already" in line]  # type: ignore[arg-type]
    assert broken == bool(found)
