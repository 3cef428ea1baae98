"""What the checker decides: given what was measured, then confirmed, refuted, or left open."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.checker.decider import Checker, Measured, RunProbe
from shared.contracts.events import (
    CheckRequested,
    CheckResult,
    EvidenceRef,
    LogCount,
    LogResolve,
    LogSearch,
    MemoryRecall,
    ProposalRejected,
)
from shared.decider import NOTHING, Delivered, Effect, Performed, Tick
from tests.unit.gate.given import LIFE, T0, WHOSE, at, delivered, folded, record, replaced

CHECKER = Checker(slot="c1")
REF = EvidenceRef(id="o1", seq=1)


def check(probe: Any) -> CheckRequested:
    return CheckRequested(**WHOSE, check_id="c-1", hypothesis_id="h-1", probe=probe)


def result(probe: Any, measured: Measured) -> CheckResult:
    request = check(probe)
    message = Performed(cause=delivered(request), effect=Effect(), result=measured, now=T0)
    (event,) = CHECKER.decide(folded(CHECKER, request), message).events
    assert isinstance(event, CheckResult)
    return event


def count(at_least: int = 3, at_most: int | None = None) -> LogCount:
    return LogCount(template="disk <*> failed", first_seq=1, last_seq=9, at_least=at_least, at_most=at_most)


def test_a_check_is_measured_within_its_own_boundary() -> None:
    message = delivered(check(count()))
    boundary = CHECKER.boundary(message)
    assert boundary is not None and not boundary.opens
    assert ("check.result.alpha.p01.c-1.*",) == boundary.guards
    assert ("check.result.alpha.p01.c-1", *boundary.guards) == boundary.reads
    effect = CHECKER.decide(folded(CHECKER, check(count())), message).effect
    assert isinstance(effect, RunProbe) and count() == effect.probe and "e1" == effect.check_event_id


@pytest.mark.parametrize(
    ("probe", "measured", "outcome"),
    [
        (count(3), Measured(value=3), "confirmed"),
        (count(3), Measured(value=2), "refuted"),
        (count(0, 2), Measured(value=2), "confirmed"),
        (count(0, 2), Measured(value=3), "refuted"),
        (count(3), Measured(value=2, complete=False), "inconclusive"),
        (count(3), Measured(value=3, complete=False), "confirmed"),
        (count(3, 5), Measured(value=4, complete=False), "inconclusive"),
        (count(3, 5), Measured(value=6, complete=False), "refuted"),
        (LogSearch(first_seq=1, last_seq=9), Measured(value=0), "confirmed"),
        (LogSearch(first_seq=1, last_seq=9), Measured(value=5, complete=False), "inconclusive"),
        (LogSearch(first_seq=1, last_seq=9, at_least=2), Measured(value=1), "refuted"),
        (LogSearch(first_seq=1, last_seq=9, at_least=2), Measured(value=2, complete=False), "confirmed"),
        (LogResolve(evidence=(REF, REF)), Measured(value=1), "confirmed"),
        (LogResolve(evidence=(REF,)), Measured(value=0), "refuted"),
        (LogResolve(evidence=(REF,)), Measured(value=1, complete=False), "inconclusive"),
        (LogResolve(evidence=()), Measured(value=0), "inconclusive"),
        (MemoryRecall(query="disk"), Measured(value=500), "confirmed"),
        (MemoryRecall(query="disk"), Measured(value=499), "refuted"),
        (MemoryRecall(query="disk"), Measured(value=0, complete=False, detail="memory did not answer"), "inconclusive"),
    ],
)
def test_what_was_measured_confirms_refutes_or_leaves_open(probe: Any, measured: Measured, outcome: str) -> None:
    event = result(probe, measured)
    assert outcome == event.outcome and measured.value == event.measured
    assert measured.detail in event.findings and any(c.isdigit() for c in event.findings)


def test_the_count_before_is_told_beside_the_count() -> None:
    event = result(replaced(count(), before_seq=1, first_seq=6), Measured(value=3, before=2))
    assert "confirmed" == event.outcome and event.findings.endswith("3 expected; 2 between 1 and 5")


def test_what_is_asked_beside_a_check_decides_nothing_and_tells_what_it_found() -> None:
    request = replaced(check(count(3)), beside=True)
    message = Performed(cause=delivered(request), effect=Effect(), result=Measured(value=3), now=T0)
    (event,) = CHECKER.decide(folded(CHECKER, request), message).events
    assert isinstance(event, CheckResult)
    assert ("inconclusive", True, 3) == (event.outcome, event.beside, event.measured) and "3 matching" in event.findings


def test_a_check_has_one_result() -> None:
    state = folded(CHECKER, check(count()), result(count(), Measured(value=3)))
    assert NOTHING == CHECKER.decide(state, delivered(check(count())))


def test_beyond_the_share_a_result_says_at_once_that_it_was_not_measured() -> None:
    message = replaced(delivered(check(count())), crowd=500)
    (event,) = CHECKER.decide(CHECKER.initial(), message).events
    assert isinstance(event, CheckResult)
    assert "inconclusive" == event.outcome and "500" in event.findings and "again later" in event.findings


def test_what_it_says_bears_its_slot() -> None:
    assert "c1" == result(count(), Measured(value=3)).slot


EVENTS = [
    check(count()),
    check(LogResolve(evidence=(REF,))),
    check(MemoryRecall(query="disk")),
    result(count(), Measured(value=3)),
    replaced(result(count(), Measured(value=3)), slot="c2"),
    ProposalRejected(**LIFE, stage="verify", reasons=("x",), digest="0" * 64),
]
RESULTS = [Measured(value=1), Measured(value=0, complete=False)]


@given(
    past=st.lists(st.sampled_from(EVENTS), max_size=4),
    event=st.sampled_from(EVENTS),
    facts=st.sampled_from([None, *RESULTS]),
    seconds=st.integers(-10, 10_000),
)
def test_deciding_is_total_deterministic_and_gives_one_result(past: Any, event: Any, facts: Any, seconds: int) -> None:
    state = folded(CHECKER, *past)
    message: Any = delivered(event, now=at(seconds))
    if facts is not None:
        message = Performed(cause=message, effect=Effect(), result=facts, now=at(seconds))
    decision = CHECKER.decide(state, message)
    assert decision == CHECKER.decide(state, message)
    assert len(decision.events) <= 1 and not (state.answered and decision.events)
    after = state
    for seq, emitted in enumerate(decision.events, start=90):
        after = CHECKER.evolve(after, record(emitted, seq))
    if decision.events:
        assert NOTHING == CHECKER.decide(after, message)


def test_a_tick_and_events_of_others_concern_it_not() -> None:
    assert CHECKER.boundary(Tick(id="t", now=T0, swarm="alpha")) is None
    rejected = ProposalRejected(**LIFE, stage="policy", reasons=("x",), digest="0" * 64)
    assert CHECKER.boundary(Delivered(recorded=record(rejected), now=T0)) is None
