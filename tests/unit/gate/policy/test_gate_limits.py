"""Where exactly the gate's deciders draw their lines."""

from __future__ import annotations

import msgspec

from services.actuator import decider as actuator
from services.policy_gate import decider as policy_gate
from services.verifier import decider as verifier
from services.verifier.decider import MAX_EVIDENCE, Resolve
from shared.contracts.events import ActionClaimed, ApprovalGranted, EvidenceRef, ProposalVerified
from shared.decider import Performed
from tests.unit.gate.given import FINDING, LIFE, T0, WHOSE, asked, at, authorized, delivered, folded, proposed, record

CREATED = proposed(FINDING)
AUTHORIZED = authorized(CREATED)
CLAIMED = ActionClaimed(**LIFE, digest=CREATED.digest, actuator="first", timeout_ms=5000)


def test_as_much_evidence_as_may_be_cited_is_looked_up() -> None:
    cited = tuple(EvidenceRef(id=f"o{n}", seq=n) for n in range(1, MAX_EVIDENCE + 1))
    created = proposed(evidence=cited)
    decision = verifier.decide(folded(verifier, created), delivered(created))
    assert isinstance(decision.effect, Resolve) and cited == decision.effect.evidence


def test_the_first_claim_stands() -> None:
    state = folded(actuator, CREATED, AUTHORIZED, CLAIMED, msgspec.structs.replace(CLAIMED, actuator="second"))
    assert state.claim is not None and ("first", "e3") == (state.claim.actuator, state.claim.id)


def test_a_claim_runs_from_the_later_of_the_claimers_and_the_brokers_time() -> None:
    stored_later = msgspec.structs.replace(record(CLAIMED, 3), stored_at=at(9))
    assert at(9) == folded(actuator, CREATED, AUTHORIZED, stored_later).claim.at
    stored_earlier = msgspec.structs.replace(record(CLAIMED, 3), stored_at=at(-9))
    assert T0 == folded(actuator, CREATED, AUTHORIZED, stored_earlier).claim.at


def test_no_outcome_of_an_execution_is_recorded_without_a_claim() -> None:
    job = actuator.Job(**WHOSE, proposal_id="p-1", action=FINDING)
    done = Performed(
        cause=delivered(AUTHORIZED, 2),
        effect=actuator.Execute(job=job, digest="0" * 64, actuator="first", deadline=at(9)),
        result=actuator.Outcome(outcome="success", summary="done"),
        now=T0,
    )
    decision = actuator.decide(folded(actuator, CREATED, AUTHORIZED), done)
    assert () == decision.events and isinstance(decision.effect, actuator.Check)


def test_a_signed_verdict_over_another_digest_is_not_committed() -> None:
    verified = ProposalVerified(
        **LIFE, digest=CREATED.digest, risk="low", findings=(), evidence=CREATED.evidence, tainted=False
    )
    verdict = msgspec.structs.replace(AUTHORIZED, digest="0" * 64)
    for signed, count in ((AUTHORIZED, 1), (verdict, 0)):
        message = Performed(
            cause=delivered(verified, 2),
            effect=policy_gate.Sign(verdict=signed),
            result=policy_gate.Signed(verdict=signed),
            now=T0,
        )
        assert count == len(policy_gate.decide(folded(policy_gate, CREATED, verified), message).events)


def test_no_more_grants_are_kept_than_a_quorum_could_need() -> None:
    asked_for = asked(CREATED)
    grants = [
        ApprovalGranted(**LIFE, digest=CREATED.digest, request_id="e2", principal=f"person-{n}")
        for n in range(policy_gate.MAX_GRANTS + 3)
    ]
    assert policy_gate.MAX_GRANTS == len(folded(policy_gate, CREATED, asked_for, *grants).grants)
