"""Who gets an intent and what came of it: given its life and a message, then events."""

from __future__ import annotations

from datetime import timedelta

import pytest
from routing_model import BUDGET, NOW, SUBMITTED, Desk, cite, waits

from services.meta_orchestrator.routing.decider import Gone, Look
from shared.contracts.events import (
    Credits,
    IntentAccepted,
    IntentAnswered,
    IntentAssigned,
    IntentCancelled,
    IntentClosed,
    IntentDelayed,
    IntentDelegated,
    IntentRouted,
)
from shared.decider import Delivered, Tick
from shared.intents import fits, total
from shared.runtime.handling import Done

CANCELLED = IntentCancelled(swarm="alpha", persona="all", intent_id="i-1", principal="ada")


def test_an_intent_goes_to_the_best_and_its_answer_closes_it() -> None:
    desk = Desk("p1", "p2")
    desk.submit()
    assert ["submitted.alpha.all", "routed.alpha.all", "assigned.alpha.p1"] == desk.said
    assigned = desk.store.records[-1].event
    assert isinstance(assigned, IntentAssigned)
    assert assigned.budget == Credits(tokens=4000, compute_ms=20_000)  # one part is kept back for whoever may be next
    assert assigned.until == NOW + timedelta(seconds=60)
    desk.answer("p1", answer="the disk", confidence=0.8, evidence=cite("e-1"), spent=Credits(tokens=900))
    assert ["accepted.alpha.all", "closed.alpha.all"] == desk.said[3:]
    closed = desk.store.records[-1].event
    assert isinstance(closed, IntentClosed)
    assert ("answered", "the disk", 0.8, "merged") == (closed.outcome, closed.result, closed.confidence, closed.reason)
    assert closed.evidence == cite("e-1") and closed.spent == Credits(tokens=900)
    assert [("alpha", "p1")] == [(c.swarm, c.persona) for c in closed.contributors]


def test_why_holds_the_runners_up() -> None:
    desk = Desk("p1", "p2", "p3")
    desk.submit()
    routed = desk.last("intent.routed").event
    assert isinstance(routed, IntentRouted)
    assert ["p1", "p2", "p3"] == [c.persona for c in routed.why]


def test_who_declines_is_followed_by_the_next_best_never_by_itself() -> None:
    desk = Desk("p1", "p2")
    desk.submit()
    desk.answer("p1", declined=True, answer="no rule for it", spent=Credits(tokens=10))
    assert ["returned.alpha.all", "routed.alpha.all", "assigned.alpha.p2"] == desk.said[3:]
    assert desk.life.spent == Credits(tokens=10)
    desk.answer("p2", route=2, declined=True)
    assert "delayed.alpha.all" == desk.said[-1]
    assert ("alpha.p1: declined, no rule for it", "alpha.p2: declined") == desk.life.reasons


def test_an_expired_route_is_charged_in_full_released_and_given_to_the_next() -> None:
    desk = Desk("p1", "p2")
    desk.submit()
    assert 60 == waits(desk.handle(desk.last("intent.routed")))
    desk.after(61)
    desk.handle(desk.last("intent.routed"))
    assert ["returned.alpha.all", "released.alpha.p1", "routed.alpha.all", "assigned.alpha.p2"] == desk.said[3:]
    assert desk.life.spent == Credits(tokens=4000, compute_ms=20_000)
    assert Credits(tokens=2000, compute_ms=10_000) == desk.life.open[0].budget


@pytest.mark.parametrize("reason", ["draining", "reaped", "no_budget"])
def test_who_is_gone_is_released_and_followed(reason: str) -> None:
    desk = Desk("p1", "p2")
    desk.submit()
    gone = Gone(intent_id="i-1", whose=("alpha", "p1"), reason=reason)  # type: ignore[arg-type]
    desk.handle(Tick(id="t", now=desk.now, swarm="alpha", facts=gone))
    assert ["returned.alpha.all", "released.alpha.p1", "routed.alpha.all", "assigned.alpha.p2"] == desk.said[3:]
    desk.handle(Tick(id="t", now=desk.now, swarm="alpha", facts=gone))
    assert 7 == len(desk.said)


def test_with_nobody_it_waits_says_so_and_looks_again_when_somebody_comes_or_at_its_time() -> None:
    desk = Desk()
    desk.submit()
    delayed = desk.last("intent.delayed")
    assert isinstance(delayed.event, IntentDelayed)
    assert ("nobody_suitable", "nobody lives") == (delayed.event.reason, delayed.event.detail)
    assert 5 == waits(desk.handle(delayed))
    look = Tick(id="t", now=desk.now, swarm="alpha", facts=Look(intent_id="i-1"))
    desk.handle(look)
    assert ["submitted.alpha.all", "delayed.alpha.all"] == desk.said
    desk.after(5)
    desk.handle(delayed)
    assert 10 == waits(desk.handle(desk.last("intent.delayed")))  # twice as long each time
    assert Done() == desk.handle(delayed)  # the first timer is over
    desk.best.append("p1")
    desk.handle(look)
    assert "assigned.alpha.p1" == desk.said[-1]


def test_after_so_many_routes_it_has_failed_with_the_reasons_of_each() -> None:
    desk = Desk("p1", "p2", "p3")
    desk.submit(max_routes=2)
    desk.answer("p1", declined=True, answer="a")
    desk.answer("p2", route=2, declined=True, answer="b")
    closed = desk.store.records[-1].event
    assert isinstance(closed, IntentClosed)
    assert ("failed", "routes_used_up") == (closed.outcome, closed.reason)
    assert ("alpha.p1: declined, a", "alpha.p2: declined, b") == closed.reasons


def test_no_budget_is_no_route() -> None:
    desk = Desk("p1")
    desk.submit(budget=Credits(actions=5))
    closed = desk.store.records[-1].event
    assert isinstance(closed, IntentClosed) and closed.reason == "no_budget"
    assert ["submitted.alpha.all", "closed.alpha.all"] == desk.said


def test_what_is_due_is_closed_with_what_there_is() -> None:
    desk = Desk("p1", "p2")
    desk.submit(fan_out=2, merge="combine", deadline=NOW + timedelta(seconds=30))
    desk.answer("p1", answer="x", confidence=0.5)
    desk.after(31)
    desk.handle(desk.last("intent.routed"))
    closed = desk.last("intent.closed").event
    assert isinstance(closed, IntentClosed)
    assert ("answered", "partial") == (closed.outcome, closed.reason)
    assert ("alpha.p2: expired",) == closed.reasons
    assert "released.alpha.p2" in desk.said


def test_what_nobody_answered_in_time_has_failed() -> None:
    desk = Desk()
    desk.submit(deadline=NOW + timedelta(seconds=3))
    desk.after(3)
    desk.handle(desk.last("intent.delayed"))
    closed = desk.last("intent.closed").event
    assert isinstance(closed, IntentClosed) and ("failed", "deadline") == (closed.outcome, closed.reason)


def test_of_several_with_first_the_others_are_released_and_their_answers_are_dissent() -> None:
    desk = Desk("p1", "p2", "p3")
    desk.submit(fan_out=3)
    desk.answer("p2", answer="b")
    assert ["accepted.alpha.all", "closed.alpha.all", "released.alpha.p1", "released.alpha.p3"] == desk.said[5:]
    desk.answer("p1", answer="a")
    desk.answer("p1", answer="a, again")
    desk.answer("p2", answer="b, again")
    desk.answer("p3", declined=True)
    assert ["dissented.alpha.all"] == desk.said[9:]


def test_an_answer_after_its_route_is_dissent_also_while_somebody_else_has_it() -> None:
    desk = Desk("p1", "p2")
    desk.submit()
    desk.after(61)
    desk.handle(desk.last("intent.routed"))
    desk.answer("p1", answer="late")
    assert "dissented.alpha.all" == desk.said[-1] and [("alpha", "p2")] == [r.whose for r in desk.life.open]


def test_fewer_suit_than_were_wanted_and_those_are_enough() -> None:
    desk = Desk("p1")
    desk.submit(fan_out=3, merge="combine")
    desk.answer("p1", answer="x")
    closed = desk.last("intent.closed").event
    assert isinstance(closed, IntentClosed) and ("answered", "partial") == (closed.outcome, closed.reason)


def test_an_answer_counts_only_from_who_holds_the_route_it_names_and_once() -> None:
    desk = Desk("p1", "p2", "p3")
    desk.submit(fan_out=2, merge="combine")
    before = list(desk.said)
    desk.answer("p3", answer="never asked")
    desk.answer("p1", route=2, answer="another route")
    desk.answer("p1", home="beta", answer="another home")
    assert before == desk.said
    answer = desk.put(IntentAnswered(swarm="alpha", persona="p1", intent_id="i-1", home="alpha", answer="x", slot="r1"))
    desk.handle(answer)
    desk.handle(answer)
    desk.answer("p1", answer="changed my mind")
    assert ["accepted.alpha.all"] == desk.said[len(before) :]


def test_evidence_that_is_not_there_is_left_out_and_counted() -> None:
    desk = Desk("p1", missing=("e-2",))
    desk.submit()
    desk.answer("p1", answer="x", evidence=cite("e-1", "e-2"), tainted=False)
    accepted = desk.last("intent.accepted").event
    assert isinstance(accepted, IntentAccepted)
    assert (cite("e-1"), 1, True) == (accepted.evidence, accepted.unresolved, accepted.tainted)


@pytest.mark.parametrize(
    ("says", "clean", "goal_tainted", "tainted"),
    [(False, True, False, False), (True, True, False, True), (False, False, False, True), (False, True, True, True)],
)
def test_taint_is_a_union(says: bool, clean: bool, goal_tainted: bool, tainted: bool) -> None:
    desk = Desk("p1", "p2", clean=clean)
    desk.submit(tainted=goal_tainted)
    desk.answer("p1", answer="x", evidence=cite("e-1"), tainted=says)
    closed = desk.last("intent.closed").event
    assert isinstance(closed, IntentClosed) and tainted == closed.tainted


def test_a_cancelled_intent_is_taken_from_whoever_has_it_and_no_answer_counts_any_more() -> None:
    desk = Desk("p1", "p2")
    desk.submit(fan_out=2, merge="best")
    desk.answer("p1", answer="x")
    cancelled = desk.put(CANCELLED)
    desk.handle(cancelled)
    desk.handle(cancelled)
    assert ["cancelled.alpha.all", "returned.alpha.all", "released.alpha.p2"] == desk.said[5:]
    desk.answer("p2", answer="y")
    assert 8 == len(desk.said) and not desk.life.open


def test_what_children_have_is_not_given_to_anybody() -> None:
    desk = Desk("p1")
    submitted = desk.put(SUBMITTED)
    given = Credits(tokens=6000, compute_ms=30_000)
    desk.put(IntentDelegated(swarm="alpha", persona="all", intent_id="i-1", child_id="i-2", budget=given))
    desk.handle(submitted)
    assert Credits(tokens=1000, compute_ms=5000) == desk.life.open[0].budget
    assert fits(total((given, desk.life.open[0].budget)), BUDGET)


def test_of_a_crowd_answers_are_dropped_and_nothing_else() -> None:
    from services.meta_orchestrator.routing import decider

    desk = Desk("p1")
    answer = desk.put(IntentAnswered(swarm="alpha", persona="p1", intent_id="i-1", home="alpha"))
    assert decider.boundary(Delivered(recorded=answer, now=NOW, crowd=500)) is None
    assert decider.boundary(Delivered(recorded=answer, now=NOW)) is not None


@pytest.mark.parametrize("stop_after", range(1, 8))
def test_whatever_dies_in_between_its_redelivery_ends_the_same(stop_after: int) -> None:
    def ends(stop: int | None) -> list[str]:
        desk = Desk("p1", "p2")
        submitted = desk.put(SUBMITTED, "s")
        desk.handle(submitted, stop_after=stop)
        desk.handle(submitted)
        answer = desk.put(
            IntentAnswered(swarm="alpha", persona="p1", intent_id="i-1", home="alpha", declined=True), "a"
        )
        desk.handle(answer, stop_after=stop)
        desk.handle(answer)
        final = desk.put(
            IntentAnswered(swarm="alpha", persona="p2", intent_id="i-1", home="alpha", route=2, answer="y"), "b"
        )
        desk.handle(final, stop_after=stop)
        desk.handle(final)
        return desk.said

    assert ends(None) == ends(stop_after)
