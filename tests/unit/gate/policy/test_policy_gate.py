"""The policy gate's decider: given, when, then."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy_gate import decider
from services.policy_gate.decider import HALTED_S, Evaluate, Evaluated, Grant, Sign, Signed, eligible
from shared.contracts.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    ProposalAuthorized,
    ProposalRejected,
    ProposalVerified,
)
from shared.decider import NOTHING, Decision, Effect, Performed, Tick
from shared.policy.types import PolicyDecision
from tests.unit.gate.given import (
    FINDING,
    LIFE,
    NOTE,
    T0,
    VERSION,
    asked,
    at,
    authorized,
    delivered,
    folded,
    proposed,
    record,
    replaced,
    verified,
)

YES = PolicyDecision(allow=True, reason="permitted", policy_ids=("file-findings",), version=VERSION)
NO = PolicyDecision(allow=False, reason="policy_denied", policy_ids=("kill-switch",), version=VERSION)
UNSPOKEN = PolicyDecision(allow=False, reason="no_matching_permit", version=VERSION)
FREE = Evaluated(as_is=YES, with_people=YES)
PEOPLE = Evaluated(as_is=UNSPOKEN, with_people=YES, quorum=1)
NEVER = Evaluated(as_is=NO, with_people=NO)

CREATED = proposed(NOTE)
VERIFIED = verified(CREATED, "medium")
ASKED = asked(CREATED)


def granted(principal: str = "bob", digest: str = CREATED.digest, request: str = "e3") -> ApprovalGranted:
    """In answer to the third event, which is the request in `WAITING`."""
    return ApprovalGranted(**LIFE, digest=digest, request_id=request, principal=principal)


def denied(principal: str = "bob", digest: str = CREATED.digest, request: str = "e3") -> ApprovalDenied:
    return ApprovalDenied(**LIFE, digest=digest, request_id=request, principal=principal)


def when(state: Any, event: Any, seq: int, now: Any = T0) -> Decision:
    return decider.decide(state, delivered(event, seq, now=now))


def judged(state: Any, event: Any, seq: int, answer: Evaluated, now: Any = T0) -> Decision:
    """The decision after the effect the delivery asks for has been performed."""
    cause = delivered(event, seq, now=now)
    effect = decider.decide(state, cause).effect
    assert isinstance(effect, Evaluate)
    return decider.decide(state, Performed(cause=cause, effect=effect, result=answer, now=now))


def rejection(decision: Decision) -> tuple[str, tuple[str, ...]]:
    (event,) = decision.events
    assert isinstance(event, ProposalRejected)
    return event.stage, event.reasons


def test_a_verified_proposal_is_put_to_the_policies_as_it_stands_in_the_log() -> None:
    effect = when(folded(decider, CREATED, VERIFIED), VERIFIED, 2).effect
    assert isinstance(effect, Evaluate)
    assert (NOTE, CREATED.digest, "medium", (), None) == (
        effect.action, effect.digest, effect.risk, effect.grants, effect.bound_version,
    )  # fmt: skip
    again = decider.decide(folded(decider, CREATED, VERIFIED), replaced(delivered(VERIFIED, 2), attempt=2)).effect
    assert isinstance(again, Evaluate)
    assert (2, 0) == (effect.seq, again.seq), "what is delivered again is judged as of now"


def test_what_is_permitted_is_signed_and_then_authorized() -> None:
    state = folded(decider, CREATED, VERIFIED)
    effect = judged(state, VERIFIED, 2, FREE).effect
    assert isinstance(effect, Sign)
    verdict = effect.verdict
    assert (CREATED.digest, "medium", ("file-findings",), VERSION, at(300)) == (
        verdict.digest, verdict.risk, verdict.policy_ids, verdict.policy_version, verdict.expires_at,
    )  # fmt: skip
    signed = replaced(verdict, key="U", signature="s")
    message = Performed(cause=delivered(VERIFIED, 2), effect=effect, result=Signed(verdict=signed), now=T0)
    assert Decision(events=(signed,), charter=CREATED.charter) == decider.decide(state, message)


def test_an_authorisation_never_outlives_the_deadline() -> None:
    created = proposed(NOTE, deadline=at(60))
    effect = judged(folded(decider, created, verified(created)), verified(created), 2, FREE).effect
    assert isinstance(effect, Sign) and at(60) == effect.verdict.expires_at


def test_what_needs_people_is_put_to_people() -> None:
    decision = judged(folded(decider, CREATED, VERIFIED), VERIFIED, 2, replaced(PEOPLE, quorum=2))
    (event,) = decision.events
    assert isinstance(event, ApprovalRequested)
    assert (2, CREATED.digest, VERSION, at(3600)) == (
        event.quorum,
        event.digest,
        event.policy_version,
        event.expires_at,
    )
    assert "file.write on notes/report.md" in event.summary


def test_what_people_are_asked_has_nothing_hidden_in_it_whatever_a_runner_said() -> None:
    created = proposed(NOTE, title="fine\u202e\x1b[2J\nreally")
    (event,) = judged(folded(decider, created, verified(created)), verified(created), 2, PEOPLE).events
    assert isinstance(event, ApprovalRequested) and event.summary.startswith("fine\ufffd\ufffd[2J really: file.write")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (NEVER, "policy_denied"),
        (Evaluated(as_is=UNSPOKEN, with_people=UNSPOKEN), "no_matching_permit"),
        (Evaluated(as_is=UNSPOKEN, with_people=replaced(NO, reason="policy_error", errors=("x",))), "policy_error"),
    ],
)
def test_what_people_could_not_permit_is_rejected_without_asking_them(answer: Evaluated, reason: str) -> None:
    assert ("policy", (reason,)) == rejection(judged(folded(decider, CREATED, VERIFIED), VERIFIED, 2, answer))


def test_an_action_that_is_not_the_verified_one_is_rejected() -> None:
    other = proposed(FINDING)
    swapped = proposed(FINDING, digest=CREATED.digest)
    for created in (other, swapped):
        verdict = replaced(VERIFIED, proposal=created)
        assert ("policy", ("digest_mismatch",)) == rejection(when(folded(decider, verdict), verdict, 1))


def test_a_second_creation_under_the_same_id_changes_nothing() -> None:
    state = folded(decider, CREATED, proposed(FINDING), VERIFIED)
    effect = when(state, VERIFIED, 3).effect
    assert isinstance(effect, Evaluate) and NOTE == effect.action


def test_past_the_deadline_it_is_rejected() -> None:
    assert ("policy", ("deadline_passed",)) == rejection(
        when(folded(decider, CREATED, VERIFIED), VERIFIED, 2, at(7200))
    )


def test_a_verdict_from_before_verdicts_carried_proposals_waits_for_the_proposal() -> None:
    bare = replaced(VERIFIED, proposal=None)
    assert (when(folded(decider, bare), bare, 1).retry_s or 0) > 0
    assert isinstance(when(folded(decider, CREATED, bare), bare, 2).effect, Evaluate)


# -- people ----------------------------------------------------------------------------------------------------------

WAITING = (CREATED, VERIFIED, ASKED)


def test_a_request_is_its_own_timer() -> None:
    state = folded(decider, *WAITING)
    assert Decision(retry_s=3600.0) == when(state, ASKED, 3)
    assert Decision(retry_s=0.01) == when(state, ASKED, 3, at(3599.999))
    assert ("approval", ("approval_expired",)) == rejection(when(state, ASKED, 3, at(3600)))


def test_a_quorum_of_grants_is_evaluated_with_the_version_it_was_asked_under() -> None:
    state = folded(decider, *WAITING, granted())
    effect = when(state, granted(), 4).effect
    assert isinstance(effect, Evaluate) and VERSION == effect.bound_version
    assert (Grant(event_id="e4", principal="bob"),) == effect.grants


def test_approved_and_permitted_is_authorized_naming_the_approvals() -> None:
    state = folded(decider, *WAITING, granted())
    effect = judged(state, granted(), 4, replaced(FREE, approvals=("e4",))).effect
    assert isinstance(effect, Sign) and ("e4",) == effect.verdict.approvals
    message = Performed(cause=delivered(granted(), 4), effect=effect, result=Signed(verdict=effect.verdict), now=T0)
    assert Decision(events=(effect.verdict,), charter=CREATED.charter) == decider.decide(state, message)


def test_the_proposal_is_read_and_all_that_core_says_in_its_life_guards_it() -> None:
    boundary = decider.boundary(delivered(VERIFIED, 2))
    assert boundary is not None and boundary.opens
    assert (("*.*.alpha.p01.p-1",), ("*.*.alpha.p01.p-1",)) == (
        boundary.reads,
        boundary.guards,
    )
    settled = decider.boundary(delivered(granted(), 4))
    assert settled is not None and not settled.opens


def test_while_the_mesh_is_halted_a_verdict_waits() -> None:
    for answer in (FREE, NEVER, PEOPLE):
        held = judged(folded(decider, CREATED, VERIFIED), VERIFIED, 2, replaced(answer, halted=True))
        assert Decision(retry_s=HALTED_S) == held


def test_what_people_said_before_the_log_went_back_is_void_and_what_they_were_asked_after_it_counts() -> None:
    state = folded(decider, *WAITING, granted())
    void = judged(state, granted(), 4, replaced(FREE, approvals=("e4",), epoch=4))
    assert ("approval", ("void_after_rollback",)) == rejection(void)
    assert isinstance(judged(state, granted(), 4, replaced(FREE, approvals=("e4",), epoch=2)).effect, Sign)


def test_the_same_person_twice_is_one_person() -> None:
    two = replaced(ASKED, quorum=2)
    assert NOTHING == when(folded(decider, CREATED, VERIFIED, two, granted(), granted()), granted(), 5)
    state = folded(decider, CREATED, VERIFIED, two, granted(), granted("cid"))
    assert isinstance(when(state, granted("cid"), 5).effect, Evaluate)


def test_a_grant_of_another_digest_or_before_any_request_counts_nothing() -> None:
    assert NOTHING == when(folded(decider, *WAITING, granted(digest="0" * 64)), granted(digest="0" * 64), 4)
    assert NOTHING == when(folded(decider, CREATED, VERIFIED, granted()), granted(), 3)
    early = folded(decider, CREATED, VERIFIED, granted(), ASKED)
    assert () == early.grants


@pytest.mark.parametrize("word", [granted(request="e9"), denied(request="e9")])
def test_a_word_on_another_request_than_the_one_that_stands_counts_nothing(word: Any) -> None:
    state = folded(decider, *WAITING, word)
    assert folded(decider, *WAITING) == state
    assert NOTHING == when(state, word, 4)


def test_a_word_from_before_words_named_their_request_counts_for_the_one_that_caused_it() -> None:
    old = replaced(granted(), request_id=None)
    for cause, count in (("e3", 1), ("e9", 0), (None, 0)):
        said = record(old, 4)
        said = replaced(said, envelope=replaced(said.envelope, causation=cause))
        assert count == len(folded(decider, *WAITING, said).grants)


def test_grants_that_did_not_suffice_leave_it_waiting() -> None:
    state = folded(decider, *WAITING, granted("ann"))
    assert NOTHING == judged(state, granted("ann"), 4, PEOPLE)
    timer = judged(state, ASKED, 3, PEOPLE)
    assert Decision(retry_s=3600.0) == timer


def test_one_denial_is_enough_and_final() -> None:
    state = folded(decider, *WAITING, granted(), denied("cid"))
    for event, seq in ((denied("cid"), 5), (granted(), 4), (ASKED, 3)):
        assert ("approval", ("denied",)) == rejection(when(state, event, seq))


def test_a_denial_that_comes_between_evaluating_and_signing_still_counts() -> None:
    cause = delivered(granted(), 4)
    before = folded(decider, *WAITING, granted())
    after = folded(decider, *WAITING, granted(), denied("cid"))
    sign = decider.decide(
        before, Performed(cause=cause, effect=decider.decide(before, cause).effect or Effect(), result=FREE, now=T0)
    ).effect
    assert isinstance(sign, Sign)
    late = Performed(cause=cause, effect=sign, result=Signed(verdict=sign.verdict), now=T0)
    assert ("approval", ("denied",)) == rejection(decider.decide(after, late))


def test_what_another_gate_asks_under_newer_policies_between_evaluating_and_signing_is_not_passed_over() -> None:
    cause = delivered(granted(), 4)
    before = folded(decider, *WAITING, granted())
    evaluate = decider.decide(before, cause).effect
    assert isinstance(evaluate, Evaluate)
    sign = decider.decide(before, Performed(cause=cause, effect=evaluate, result=FREE, now=T0)).effect
    assert isinstance(sign, Sign)
    late = Performed(cause=cause, effect=sign, result=Signed(verdict=sign.verdict), now=T0)
    assert (sign.verdict,) == decider.decide(before, late).events
    asked_again = folded(decider, *WAITING, granted(), replaced(ASKED, policy_version="v2"))
    assert NOTHING == decider.decide(asked_again, late)


def test_a_denial_of_another_digest_or_of_nothing_asked_is_ignored() -> None:
    assert NOTHING == when(folded(decider, *WAITING, denied(digest="0" * 64)), denied(digest="0" * 64), 4)
    assert NOTHING == when(folded(decider, CREATED, VERIFIED, denied()), denied(), 3)


def test_a_grant_after_the_expiry_is_too_late() -> None:
    state = folded(decider, *WAITING, granted())
    assert ("approval", ("approval_expired",)) == rejection(when(state, granted(), 4, at(3600)))


def test_changed_policies_ask_again_and_old_grants_do_not_carry_over() -> None:
    state = folded(decider, *WAITING, granted())
    newer = replaced(PEOPLE, as_is=replaced(UNSPOKEN, version="v2"), with_people=replaced(YES, version="v2"))
    (again,) = judged(state, granted(), 4, newer).events
    assert isinstance(again, ApprovalRequested) and "v2" == again.policy_version
    state = folded(decider, *WAITING, granted(), again)
    assert () == state.grants
    assert NOTHING == when(state, granted(), 4) and NOTHING == when(state, ASKED, 3)
    assert 3600.0 == when(state, again, 5).retry_s


def test_a_redelivered_verdict_does_not_ask_twice() -> None:
    assert NOTHING == when(folded(decider, *WAITING), VERIFIED, 2)


def test_the_proposers_side_is_not_eligible_and_nobody_counts_twice() -> None:
    grants = tuple(Grant(event_id=f"g{i}", principal=p) for i, p in enumerate(["ann", "bob", "bob", "cid"]))
    assert ("g1", "g3") == tuple(g.event_id for g in eligible(grants, frozenset({"ann", ""})))


# -- properties ------------------------------------------------------------------------------------------------------

VERDICTS = [authorized(CREATED), ProposalRejected(**LIFE, stage="verify", reasons=("x",), digest=CREATED.digest)]
EVENTS = [
    CREATED, proposed(FINDING), VERIFIED, verified(proposed(FINDING)), ASKED, replaced(ASKED, quorum=2, policy_version="v2"),
    granted(), granted("cid"), granted(digest="0" * 64), denied(), denied(digest="0" * 64), *VERDICTS,
]  # fmt: skip
ANSWERS = [FREE, PEOPLE, NEVER, replaced(PEOPLE, with_people=replaced(YES, version="v2"))]


@given(
    past=st.lists(st.sampled_from(EVENTS), max_size=8),
    which=st.integers(0, 7),
    answers=st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=3),
    seconds=st.integers(-10, 8000),
)
def test_any_delivery_in_any_life_ends_and_repeating_it_changes_nothing(
    past: list[Any], which: int, answers: list[Evaluated], seconds: int
) -> None:
    """Runs a delivery to its end, effects and all, then delivers it again."""
    if not past:
        past = [VERIFIED]
    seq = which % len(past) + 1
    cause = delivered(past[seq - 1], seq, now=at(seconds))
    if decider.boundary(cause) is None:
        return
    state, emitted = folded(decider, *past), []
    for _ in range(2):
        message: Any = cause
        for step in range(6):
            decision = decider.decide(state, message)
            assert decision == decider.decide(state, message)
            for event in decision.events:
                state = decider.evolve(state, record(event, 50 + len(emitted), id=f"new{len(emitted)}"))
                emitted.append(event)
            match decision.effect:
                case Evaluate() as effect:
                    message = Performed(
                        cause=cause, effect=effect, result=answers[step % len(answers)], now=at(seconds)
                    )
                case Sign(verdict=verdict) as effect:
                    signed = Signed(verdict=replaced(verdict, key="U", signature="s"))
                    message = Performed(cause=cause, effect=effect, result=signed, now=at(seconds))
                case _:
                    break
        else:
            raise AssertionError("a delivery must end")
    verdicts = [e for e in (*past, *emitted) if isinstance(e, ProposalAuthorized | ProposalRejected)]
    assert len([e for e in emitted if isinstance(e, ProposalAuthorized | ProposalRejected)]) <= 1
    assert len(emitted) <= 1, "one delivery, one event, however often it comes"
    if any(isinstance(e, ProposalAuthorized | ProposalRejected) for e in past):
        assert not emitted and verdicts
    for event in emitted:
        if isinstance(event, ProposalAuthorized):
            first = next(e.proposal for e in past if isinstance(e, ProposalVerified))
            assert first.digest == event.digest and event.expires_at <= first.deadline


def test_a_tick_concerns_it_not() -> None:
    assert decider.boundary(Tick(id="t", now=T0, swarm="alpha")) is None
    assert NOTHING == decider.decide(decider.initial(), Tick(id="t", now=T0, swarm="alpha"))
    assert decider.boundary(delivered(CREATED)) is None
