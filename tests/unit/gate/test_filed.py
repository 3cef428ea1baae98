"""What a person files passes the same verifier and gate: untainted by its class alone, and without the filer's own yes."""

from __future__ import annotations

import msgspec

from services.policy_gate.decider import Evaluate
from services.policy_gate.decider import decide as judge
from services.policy_gate.decider import evolve as judged
from services.policy_gate.decider import initial as unjudged
from services.verifier import decider as verifier
from services.verifier.decider import Resolve, Resolved
from shared.contracts.catalog import has_slot, subject_of
from shared.contracts.events import ProposalCreated, ProposalFiled, ProposalRejected, ProposalVerified
from shared.contracts.services import SERVICES
from shared.decider import Delivered, Performed
from tests.unit.gate.given import CHARTER, NOTE, POST, at, proposed, record


def filed(**changed: object) -> ProposalFiled:
    created = proposed(**changed)  # type: ignore[arg-type]
    fields = {name: getattr(created, name) for name in ProposalCreated.__struct_fields__}
    return ProposalFiled(**{**fields, "evidence": ()}, principal="ann")


def verdict(event: ProposalCreated) -> object:
    cause = Delivered(recorded=record(event, 5), now=at(1))
    decision = verifier.decide(verifier.initial(), cause)
    if not isinstance(decision.effect, Resolve):
        return decision.events[0]
    facts = Resolved(live=True, charter=CHARTER)
    performed = Performed(cause=cause, effect=decision.effect, result=facts, now=at(1))
    return verifier.decide(verifier.initial(), performed).events[0]


def test_a_persons_proposal_needs_no_evidence_and_is_untainted_at_any_risk() -> None:
    for action, risk in ((NOTE, "medium"), (POST, "high")):
        said = verdict(filed(action=action))
        assert isinstance(said, ProposalVerified)
        assert (risk, False, "ann", 5) == (said.risk, said.tainted, said.filed_by, said.proposed_seq)
        assert type(said.proposal) is ProposalCreated
        assert said == msgspec.json.decode(msgspec.json.encode(said), type=ProposalVerified)


def test_a_persona_without_evidence_is_refused_as_ever() -> None:
    said = verdict(proposed(NOTE, evidence=()))
    assert isinstance(said, ProposalRejected) and ("no_evidence",) == said.reasons


def test_only_a_gateway_says_it_and_in_the_proposals_own_life() -> None:
    assert ["gateway"] == [name for name, row in SERVICES.items() if "proposal.filed" in row.emits]
    assert not has_slot("proposal.filed") and subject_of(filed()).count(".") == 4


def test_the_gate_is_told_who_filed_it() -> None:
    said = verdict(filed(action=NOTE))
    assert isinstance(said, ProposalVerified)
    recorded = record(said, 6)
    decision = judge(judged(unjudged(), recorded), Delivered(recorded=recorded, now=at(2)))
    assert isinstance(decision.effect, Evaluate) and "ann" == decision.effect.filed_by
