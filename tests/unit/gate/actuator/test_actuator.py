"""The actuator's decider: given, when, then."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.actuator import decider
from services.actuator.decider import HALTED_S, MARGIN_S, NO_LOT_S
from services.actuator.terms import Allot, Allotted, Check, Checked, Claim, Execute, Inquire, Job, NotOurs, Outcome
from shared.contracts.action_kinds import KINDS, held
from shared.contracts.events import ActionClaimed, ActionDelayed, ActionExecuted, ProposalKey, TargetHeld
from shared.decider import NOTHING, Decision, Effect, Performed, Tick, id_of
from shared.runtime.handling import addressed
from tests.unit.gate.given import (
    FINDING,
    LIFE,
    NOTE,
    T0,
    WHOSE,
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

CREATED = proposed(FINDING)
AUTHORIZED = authorized(CREATED)
MARK = "actuator-1/ws/0001"
CLAIMED = ActionClaimed(
    **LIFE, digest=CREATED.digest, actuator=MARK, timeout_ms=KINDS["file.write"].timeout_ms, lot_id="lot-1"
)
CORE = "*.*.alpha.p01.p-1"
TIMEOUT_S = CLAIMED.timeout_ms / 1000
FIT = Checked(actuator=MARK)
DONE = Outcome(outcome="success", summary="wrote it", duration_ms=3)
JOB = Job(**WHOSE, proposal_id="p-1", action=FINDING)
ALLOT = Allot(job=JOB, actuator=MARK)
FRESH = (CREATED, AUTHORIZED)
TAKEN = (CREATED, AUTHORIZED, CLAIMED)


def when(state: Any, now: Any = T0) -> Decision:
    return decider.decide(state, delivered(AUTHORIZED, 2, now=now))


def after(state: Any, effect: Effect, result: Any, now: Any = T0) -> Decision:
    return decider.decide(
        state, Performed(cause=delivered(AUTHORIZED, 2, now=now), effect=effect, result=result, now=now)
    )


def outcome(decision: Decision) -> ActionExecuted:
    (event,) = decision.events
    assert isinstance(event, ActionExecuted) and decision.effect is None
    return event


def test_the_claim_is_guarded_by_all_that_core_says_in_the_proposals_life_and_the_verdict_will_do_until_it_is_refused() -> (
    None
):
    boundary = decider.boundary(delivered(AUTHORIZED, 2))
    assert boundary is not None and boundary.opens
    assert ((CORE,), (CORE,), ("proposal.verified.alpha.p01.p-1",), ("action.*.alpha.p01.p-1",)) == (
        boundary.reads,
        boundary.guards,
        boundary.begins,
        boundary.unsaid,
    )


def test_an_authorisation_is_checked_before_anything_else() -> None:
    check = Check(authorized=AUTHORIZED, seq=2, at=at(0), is_first=True)
    assert Decision(effect=check) == when(folded(decider, *FRESH))
    again = replaced(delivered(AUTHORIZED, 2), attempt=2)
    assert Decision(effect=replaced(check, is_first=False)) == decider.decide(folded(decider, *FRESH), again)


def test_while_the_mesh_is_halted_it_waits_whatever_else_is_wrong() -> None:
    halted = Checked(halted=True, lost=True, problems=(("bad_signature", "x"),), actuator=MARK)
    assert Decision(retry_s=HALTED_S) == after(folded(decider, *FRESH), Check(authorized=AUTHORIZED), halted)


def test_what_was_claimed_in_a_part_of_the_log_that_is_gone_is_unknown_and_not_done_again() -> None:
    lost = Checked(lost=True, problems=(("void_after_rollback", "x"),), actuator=MARK)
    decision = after(folded(decider, *FRESH), Check(authorized=AUTHORIZED), lost)
    event = outcome(decision)
    assert ("unknown", "claim_lost", None, None) == (event.outcome, event.error, event.claim_id, decision.effect)


def test_what_is_fit_is_claimed_and_only_with_the_claim_executed() -> None:
    state = folded(decider, *FRESH)
    assert Decision(effect=ALLOT) == after(state, Check(authorized=AUTHORIZED), FIT)
    decision = after(state, ALLOT, Allotted(lot_id="lot-1"))
    assert (CLAIMED,) == decision.events
    assert (
        Execute(
            job=JOB,
            digest=CREATED.digest,
            actuator=MARK,
            deadline=at(TIMEOUT_S),
            claim=Claim(
                id=id_of("e2", "action.claimed.alpha.p01.p-1", MARK),
                actuator=MARK,
                at=T0,
                timeout_ms=CLAIMED.timeout_ms,
            ),
        )
        == decision.effect
    )


def test_only_a_first_attempt_where_nothing_was_said_of_the_action_acts_without_reading_whose_claim_it_is() -> None:
    first = after(folded(decider, *FRESH), ALLOT, Allotted(lot_id="lot-1"))
    assert ((), ((CORE, 2),), MARK) == (first.guards, first.expects, first.about)
    delayed = ActionDelayed(**LIFE, reason="action_limit", scope="swarm", until=at(42))
    for state, attempt in ((folded(decider, *FRESH), 2), (folded(decider, *FRESH, delayed), 1)):
        cause = replaced(delivered(AUTHORIZED, 2), attempt=attempt)
        later = decider.decide(state, Performed(cause=cause, effect=ALLOT, result=Allotted(lot_id="lot-1"), now=T0))
        assert (None, (), MARK) == (later.guards, later.expects, later.about)
        assert isinstance(later.effect, Execute) and later.effect.claim is None


def test_each_attempt_names_its_claim_by_its_mark_so_whose_claim_was_refused_finds_no_other_under_its_id() -> None:
    marks, ids = (MARK, "actuator-1/ws/0002"), set()
    for mark in marks:
        decision = after(folded(decider, *FRESH), replaced(ALLOT, actuator=mark), Allotted(lot_id="lot-1"))
        (message,) = addressed(decision, delivered(AUTHORIZED, 2), T0, "actuator")
        assert isinstance(decision.effect, Execute) and decision.effect.claim is not None
        assert message.envelope.id == decision.effect.claim.id
        ids.add(message.envelope.id)
    assert 2 == len(ids)


def test_where_the_limit_is_reached_it_waits_for_the_next_minute_and_says_so_once() -> None:
    state = folded(decider, *FRESH)
    held = Allotted(scope="swarm", until=at(42))
    delayed = ActionDelayed(**LIFE, reason="action_limit", scope="swarm", until=at(42))
    first = after(state, ALLOT, held)
    assert ((delayed,), None) == (first.events, first.effect)
    assert 42 <= (first.retry_s or 0) <= 43
    again = after(folded(decider, *FRESH, delayed), ALLOT, held)
    assert ((), first.retry_s) == (again.events, again.retry_s)


def test_it_waits_no_longer_than_its_authorisation_lasts() -> None:
    state = folded(decider, *FRESH)
    waits = after(state, ALLOT, Allotted(scope="swarm", until=at(5000)))
    assert 300 <= (waits.retry_s or 0) <= 301
    late = outcome(after(state, ALLOT, Allotted(lot_id="lot-1"), at(301)))
    assert ("failure", "authorization_expired", None) == (late.outcome, late.error, late.claim_id)


def test_without_a_word_from_the_governor_nothing_is_done() -> None:
    assert Decision(retry_s=NO_LOT_S) == after(folded(decider, *FRESH), ALLOT, Allotted())


def test_behind_too_many_that_wait_it_is_refused_at_once() -> None:
    held = Allotted(scope="p01", until=at(42), too_many=256)
    event = outcome(after(folded(decider, *FRESH), ALLOT, held))
    assert ("failure", "action_limit") == (event.outcome, event.error)


def test_the_outcome_is_recorded_under_the_claim_the_log_holds() -> None:
    event = outcome(
        after(folded(decider, *TAKEN), Execute(job=JOB, digest=CREATED.digest, actuator=MARK, deadline=at(5)), DONE)
    )
    assert ("success", "e3", CREATED.digest, 3) == (event.outcome, event.claim_id, event.digest, event.duration_ms)


@pytest.mark.parametrize(
    ("created", "verdict", "checked", "now", "error"),
    [
        (CREATED, AUTHORIZED, Checked(problems=(("bad_signature", "x"),), actuator=MARK), T0, "bad_signature"),
        (CREATED, AUTHORIZED, Checked(problems=(("kill_switch", "x"),), actuator=MARK), T0, "kill_switch"),
        (
            CREATED,
            AUTHORIZED,
            Checked(problems=(("void_after_rollback", "x"),), actuator=MARK),
            T0,
            "void_after_rollback",
        ),
        (
            CREATED,
            AUTHORIZED,
            Checked(problems=(("policy_version_unknown", "x"),), actuator=MARK),
            T0,
            "policy_version_unknown",
        ),
        (CREATED, AUTHORIZED, FIT, at(300), "authorization_expired"),
        (CREATED, replaced(AUTHORIZED, digest="0" * 64), FIT, T0, "digest_mismatch"),
        (proposed(NOTE), AUTHORIZED, FIT, T0, "digest_mismatch"),
        (proposed(NOTE, digest=CREATED.digest), AUTHORIZED, FIT, T0, "digest_mismatch"),
        (CREATED, replaced(AUTHORIZED, conditions=("only at night",)), FIT, T0, "unknown_condition"),
    ],
)
def test_refusals_are_outcomes_without_a_claim(
    created: Any, verdict: Any, checked: Checked, now: Any, error: str
) -> None:
    event = outcome(after(folded(decider, created, verdict), Check(authorized=verdict), checked, now))
    assert ("failure", error, None) == (event.outcome, event.error, event.claim_id)


@pytest.mark.parametrize(
    "target", ["notes/report.md", "findings/alpha/p02/report.md", "findings/report.md", "findings/alpha/p01/report.sh"]
)
def test_without_people_nothing_is_written_outside_the_personas_own_folder_whoever_signed_it(target: str) -> None:
    created = proposed(replaced(FINDING, target=target))
    verdict = authorized(created)
    alone = outcome(after(folded(decider, created, verdict), Check(authorized=verdict), FIT))
    assert ("failure", "not_own_folder", None) == (alone.outcome, alone.error, alone.claim_id)
    approved = replaced(verdict, approvals=("g1",))
    decision = after(folded(decider, created, approved), Check(authorized=approved), FIT)
    assert isinstance(decision.effect, Allot)
    for scope, may in (("free", True), ("ask", False), ("unstated", False), ("beyond", False)):
        said = verified(created, scope=scope)
        decision = after(folded(decider, said, verdict), Check(authorized=verdict), FIT)
        assert may == isinstance(decision.effect, Allot), scope


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (replaced(FINDING, kind="process.start"), "kind_unknown"),
        (replaced(FINDING, params={}), "bad_params"),
        (replaced(FINDING, target="../up"), "bad_target"),
    ],
)
def test_an_undeclared_action_is_never_claimed_whoever_signed_it(action: Any, error: str) -> None:
    created = proposed(action)
    verdict = authorized(created)
    assert error == outcome(after(folded(decider, created, verdict), Check(authorized=verdict), FIT)).error


def test_a_claim_without_an_outcome_is_left_alone_until_its_time_is_up() -> None:
    state = folded(decider, *TAKEN)
    assert Decision(retry_s=TIMEOUT_S + MARGIN_S) == when(state)
    left = when(state, at(TIMEOUT_S + MARGIN_S - 0.001)).retry_s
    assert left is not None and 0 < left < 0.002
    effect = when(state, at(TIMEOUT_S + MARGIN_S)).effect
    assert isinstance(effect, Inquire) and ("e3", MARK) == (effect.claim.id, effect.claim.actuator)


@pytest.mark.parametrize("word", ["success", "failure", "unknown"])
def test_an_inquiry_ends_it_with_what_it_found_and_never_tries_again(word: Any) -> None:
    state = folded(decider, *TAKEN)
    inquire = when(state, at(60)).effect
    assert inquire is not None
    event = outcome(after(state, inquire, Outcome(outcome=word, summary="s", error=None), at(60)))
    assert (word, "e3") == (event.outcome, event.claim_id)


def test_losing_the_race_for_the_claim_means_waiting() -> None:
    state = folded(decider, *TAKEN)
    assert (after(state, Check(authorized=AUTHORIZED), FIT).retry_s or 0) > 0
    execute = Execute(job=JOB, digest=CREATED.digest, actuator="actuator-2/ws/0002", deadline=at(5))
    assert (after(state, execute, NotOurs()).retry_s or 0) > 0


def test_what_is_executed_is_over() -> None:
    executed = ActionExecuted(**LIFE, digest=CREATED.digest, outcome="unknown", summary="s")
    for past in ((*FRESH, executed), (*TAKEN, executed)):
        state = folded(decider, *past)
        assert NOTHING == when(state, at(10**6))
        assert NOTHING == after(state, Check(authorized=AUTHORIZED), FIT)
        assert NOTHING == after(state, Execute(job=JOB, digest=CREATED.digest, actuator=MARK, deadline=at(5)), DONE)


def test_only_the_first_creation_and_authorisation_count() -> None:
    state = folded(decider, *FRESH, proposed(NOTE), replaced(AUTHORIZED, expires_at=at(10**6)))
    assert (CREATED, AUTHORIZED) == (state.created, state.authorized)


def test_an_authorisation_of_a_proposal_not_yet_readable_waits() -> None:
    assert (when(folded(decider, AUTHORIZED)).retry_s or 0) > 0


EVENTS = [
    CREATED, proposed(NOTE), AUTHORIZED, replaced(AUTHORIZED, digest="0" * 64), asked(CREATED), CLAIMED,
    replaced(CLAIMED, actuator="other/ws/2"), ActionExecuted(**LIFE, digest=CREATED.digest, outcome="success", summary="s"),
]  # fmt: skip
RESULTS: list[Any] = [
    Allotted(),
    Allotted(lot_id="lot-1"),
    Allotted(scope="s", until=at(9)),
    FIT,
    Checked(problems=(("bad_signature", "x"),), actuator=MARK),
    DONE,
    NotOurs(),
]
EFFECTS = [
    Check(authorized=AUTHORIZED),
    ALLOT,
    Execute(job=JOB, digest=CREATED.digest, actuator=MARK, deadline=at(5)),
    Inquire(job=JOB, claim=Claim(id="e3", actuator=MARK, at=T0, timeout_ms=1)),
]


@given(
    past=st.lists(st.sampled_from(EVENTS), max_size=6),
    performed=st.none() | st.tuples(st.sampled_from(EFFECTS), st.sampled_from(RESULTS)),
    seconds=st.integers(-10, 600),
)
def test_deciding_is_total_and_executes_only_what_it_claims_once(past: list[Any], performed: Any, seconds: int) -> None:
    state = folded(decider, *past)
    message: Any = delivered(AUTHORIZED, 2, now=at(seconds))
    if performed is not None:
        message = Performed(cause=message, effect=performed[0], result=performed[1], now=at(seconds))
    decision = decider.decide(state, message)
    assert decision == decider.decide(state, message)
    if isinstance(decision.effect, Execute):
        claim, *holds = decision.events
        assert all(isinstance(event, TargetHeld) for event in holds)
        assert isinstance(claim, ActionClaimed) and state.claim is None and not state.executed
        assert decision.effect.actuator == claim.actuator and state.created.action == decision.effect.job.action
    if state.executed:
        assert NOTHING == decision
    if any(isinstance(e, ActionExecuted) for e in decision.events):
        ended = decider.evolve(state, record(decision.events[0], 50))
        assert NOTHING == decider.decide(ended, message)


def test_a_tick_and_other_events_concern_it_not() -> None:
    assert decider.boundary(Tick(id="t", now=T0, swarm="alpha")) is None
    assert decider.boundary(delivered(CREATED)) is None
    assert NOTHING == decider.decide(decider.initial(), Tick(id="t", now=T0, swarm="alpha"))


# -- holds -----------------------------------------------------------------------------------------------------------

SHARED = proposed(NOTE)
PERMITTED = authorized(SHARED, approvals=("a1",))
TARGET = held(NOTE, "alpha", "p01")
assert TARGET is not None
HOLD = f"target.*.all.{TARGET.id}"
HOLDER = ProposalKey(**LIFE)
WAITS = (SHARED, PERMITTED)
HAS_IT = (
    SHARED,
    PERMITTED,
    replaced(CLAIMED, digest=SHARED.digest, hold=TARGET.id),
)


def then(state: Any, effect: Effect, result: Any, *, attempt: int = 1, now: Any = T0) -> Decision:
    cause = replaced(delivered(PERMITTED, 2, now=now), attempt=attempt)
    return decider.decide(state, Performed(cause=cause, effect=effect, result=result, now=now))


def test_an_exclusive_action_asks_who_has_its_target_and_another_does_not() -> None:
    exclusive = decider.decide(folded(decider, *WAITS), delivered(PERMITTED, 2)).effect
    plain = when(folded(decider, *FRESH)).effect
    assert isinstance(exclusive, Check) and isinstance(plain, Check)
    assert (TARGET.id, None) == (exclusive.target, plain.target)


def test_the_claim_takes_the_target_in_one_batch_that_rests_on_what_was_said_of_it() -> None:
    state = folded(decider, *WAITS)
    free = replaced(FIT, hold_seq=17)
    allot = then(state, Check(authorized=PERMITTED), free).effect
    assert Allot(job=replaced(JOB, action=NOTE), actuator=MARK, hold_seq=17) == allot
    decision = then(state, allot, Allotted(lot_id="lot-1"))
    claimed, takes = decision.events
    assert isinstance(claimed, ActionClaimed) and claimed.hold == TARGET.id
    assert TargetHeld(persona=TARGET.id, holder=HOLDER, target="file:notes/report.md") == takes
    assert ((CORE, 2), (HOLD, 17)) == decision.expects and isinstance(decision.effect, Execute)


def test_a_plain_claim_is_one_event_with_one_guard_as_before() -> None:
    decision = after(folded(decider, *FRESH), ALLOT, Allotted(lot_id="lot-1"))
    assert ((CLAIMED,), (), ((CORE, 2),)) == (decision.events, decision.guards, decision.expects)


def test_where_another_has_the_target_it_waits_takes_no_lot_and_says_so_once() -> None:
    busy = replaced(FIT, holder="beta.p02.p-9", hold_seq=17)
    first = then(folded(decider, *WAITS), Check(authorized=PERMITTED), busy)
    delayed = ActionDelayed(**LIFE, reason="target_held", scope="beta.p02.p-9", until=at(300))
    assert ((delayed,), None) == (first.events, first.effect)
    again = then(folded(decider, *WAITS, delayed), Check(authorized=PERMITTED), busy, attempt=2)
    assert ((), None) == (again.events, again.effect) and (again.retry_s or 0) > (first.retry_s or 0) > 0


def test_that_it_waits_is_said_once_for_each_reason_and_each_has_an_id_of_its_own() -> None:
    busy = replaced(FIT, holder="beta.p02.p-9", hold_seq=17)
    limited = ActionDelayed(**LIFE, reason="action_limit", scope="persona", until=at(60))
    held_ = then(folded(decider, *WAITS, limited), Check(authorized=PERMITTED), busy, attempt=2)
    (delayed,) = held_.events
    assert isinstance(delayed, ActionDelayed) and "target_held" == delayed.reason
    none_left = Allotted(scope="persona", until=at(60))
    lot = then(folded(decider, *WAITS, delayed), Allot(job=JOB, actuator="a"), none_left, attempt=3)
    assert (limited,) == lot.events
    cause = delivered(PERMITTED)
    ids = [addressed(one, cause, cause.now, "x")[0].envelope.id for one in (held_, lot)]
    assert 2 == len(set(ids))
    both = then(folded(decider, *WAITS, limited, delayed), Check(authorized=PERMITTED), busy, attempt=4)
    assert () == both.events


def test_it_looks_seldom_enough_not_to_be_buried_before_its_authorisation_has_expired() -> None:
    state, busy, now_s, looks = folded(decider, *WAITS), replaced(FIT, holder="x", hold_seq=1), 0.0, 0
    while True:
        looks += 1
        decision = then(state, Check(authorized=PERMITTED), busy, attempt=looks, now=at(now_s))
        if decision.retry_s is None:
            break
        now_s += decision.retry_s
    assert "authorization_expired" == outcome(decision).error and looks < 95


@pytest.mark.parametrize("how", ["success", "failure", "unknown"])
def test_the_outcome_of_what_held_its_target_is_one_event_as_any_other(how: str) -> None:
    """What it means for the target is read from it (`shared.holds`)."""
    done = Outcome(outcome=how, summary="x", error=None if how == "success" else "why")  # type: ignore[arg-type]
    decision = then(folded(decider, *HAS_IT), Inquire(job=JOB, claim=claim_of(HAS_IT)), done)
    assert [ActionExecuted] == [type(event) for event in decision.events]
    assert () == decision.expects  # nothing that is stored at its target can refuse an outcome


def claim_of(events: Any) -> Any:
    return folded(decider, *events).claim
