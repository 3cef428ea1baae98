"""What the log's own checker says of approvals over a change of policy."""

from __future__ import annotations

from shared.contracts.events import AnyEvent, ApprovalGranted, Credits
from shared.invariants import Invariants, Limits
from tests.unit.gate.given import LIFE, asked, authorized, proposed, record, verified

LIMITS = Limits(swarm_per_minute=Credits(), actions_per_minute=0, lifetime_children=0)


def violations(*events: AnyEvent) -> list[str]:
    invariants = Invariants(LIMITS)
    for seq, event in enumerate(events, start=1):
        invariants.absorb(record(event, seq))
    return invariants.violations


def test_a_yes_to_an_earlier_request_does_not_count_for_a_later_one_and_may_be_given_again() -> None:
    created = proposed()
    yes = ApprovalGranted(**LIFE, digest=created.digest, request_id="e3", principal="ann")
    before = (created, verified(created), asked(created), yes, asked(created, policy_version="v2"))
    for late in ((), (yes,)):
        refused = violations(*before, *late, authorized(created))
        assert ["authorised with 0 of 1 approvals"] == [v.split(": ")[1] for v in refused]
    again = ApprovalGranted(**LIFE, digest=created.digest, request_id="e5", principal="ann")
    assert [] == violations(*before, again, authorized(created))
