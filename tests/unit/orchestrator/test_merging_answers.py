"""Answers become one: a table for each way, and that the order in which they came changes nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.meta_orchestrator.routing.merging import MAX_RESULT, merged
from shared.contracts.events import Contribution, EvidenceRef, IntentAccepted
from shared.contracts.events.intents import Merge

HOWS: tuple[Merge, ...] = ("first", "best", "vote", "combine")


def answer(
    persona: str,
    text: str = "",
    *,
    seq: int = 1,
    sure: float = 0.5,
    choice: str = "",
    cites: tuple[int, ...] = (),
    tainted: bool = False,
) -> IntentAccepted:
    by = Contribution(
        swarm="alpha", persona=persona, answer_id=f"a-{persona}", seq=seq, confidence=sure, choice=choice, text=text
    )
    evidence = tuple(EvidenceRef(id=f"e-{n}", seq=n) for n in cites)
    return IntentAccepted(
        swarm="alpha", persona="all", intent_id="i-1", by=by, route=1, answer=text, evidence=evidence, tainted=tainted
    )


def names(said: tuple[Contribution, ...]) -> str:
    return " ".join(one.persona for one in said)


@pytest.mark.parametrize(
    ("how", "answers", "options", "result", "choice", "confidence", "contributors", "dissent", "reason"),
    [
        ("first", (answer("a", "x", seq=9), answer("b", "y", seq=5)), (), "y", "", 0.5, "b", "a", "merged"),
        ("first", (answer("b", "y", seq=5), answer("a", "x", seq=5)), (), "x", "", 0.5, "a", "b", "merged"),
        ("best", (answer("a", "x", sure=0.4), answer("b", "y", sure=0.9)), (), "y", "", 0.9, "b", "a", "merged"),
        ("best", (answer("a", "x"), answer("b", "y", cites=(1, 2))), (), "y", "", 0.5, "b", "a", "merged"),
        ("best", (answer("b", "y"), answer("a", "x")), (), "x", "", 0.5, "a", "b", "merged"),
        ("vote", (answer("a", choice="yes"), answer("b", choice="YES "), answer("c", choice="no")), ("yes", "no"),
         "yes (yes: 2, no: 1)", "yes", 0.667, "a b", "c", "merged"),
        ("vote", (answer("a", choice="yes"), answer("b", choice="no")), ("yes", "no"),
         "no choice has more votes than another; no: 1, yes: 1", "", 0.0, "b a", "", "tie"),
        ("vote", (answer("a", choice="maybe"), answer("b", choice="no")), ("yes", "no"), "no (no: 1)", "no", 0.5, "b", "a", "merged"),
        ("vote", (answer("a", choice="maybe"),), ("yes", "no"),
         "no choice has more votes than another; nobody voted", "", 0.0, "", "a", "tie"),
        ("vote", (answer("a", "Left"), answer("b", "left"), answer("c", "right")), (),
         "left (left: 2, right: 1)", "left", 0.667, "a b", "c", "merged"),
        ("combine", (answer("a", "x", sure=0.2), answer("b", "y", sure=0.8)), (),
         "alpha.b (0.80): y\nalpha.a (0.20): x", "", 0.5, "b a", "", "merged"),
    ],
)  # fmt: skip
def test_each_way_has_its_examples(
    how: Merge, answers: tuple[IntentAccepted, ...], options: tuple[str, ...], result: str, choice: str,
    confidence: float, contributors: str, dissent: str, reason: str,
) -> None:  # fmt: skip
    one = merged(how, answers, options)
    assert (result, choice, confidence, reason) == (one.result, one.choice, one.confidence, one.reason)
    assert (contributors, dissent) == (names(one.contributors), names(one.dissent))


def test_evidence_is_that_of_all_who_contributed_each_once_by_age() -> None:
    one = merged("combine", (answer("a", "x", cites=(7, 3)), answer("b", "y", cites=(3, 5))))
    assert [3, 5, 7] == [ref.seq for ref in one.evidence]
    assert [7] == [
        ref.seq for ref in merged("first", (answer("a", cites=(7,)), answer("b", seq=2, cites=(3,)))).evidence
    ]


@pytest.mark.parametrize("how", HOWS)
def test_the_sum_is_tainted_if_anything_in_it_is(how: Merge) -> None:
    clean, dirty = answer("a", "x"), answer("b", "x", seq=2, tainted=True)
    assert not merged(how, (clean,)).tainted
    assert merged(how, (clean, dirty)).tainted


def test_what_has_no_room_is_counted() -> None:
    one = merged("combine", tuple(answer(f"p{n}", "long " * 1500, sure=n / 20) for n in range(16)))
    assert len(one.result) <= MAX_RESULT and one.result.endswith("and 14 more")


ANSWERS = st.lists(
    st.builds(
        answer,
        persona=st.sampled_from([f"p{n}" for n in range(16)]),
        text=st.sampled_from(("x", "y", "")),
        seq=st.integers(1, 4),
        sure=st.sampled_from((0.0, 0.5, 1.0)),
        choice=st.sampled_from(("yes", "no", "Yes", "other", "")),
        cites=st.lists(st.integers(1, 5), unique=True).map(tuple),
        tainted=st.booleans(),
    ),
    min_size=1,
    max_size=16,
    unique_by=lambda one: one.by.persona,
)


@given(st.sampled_from(HOWS), ANSWERS, st.sampled_from(((), ("yes", "no"))), st.randoms(use_true_random=False))
def test_the_order_changes_nothing_and_everybody_is_in_it_once(
    how: Merge, answers: list[IntentAccepted], options: tuple[str, ...], dice: random.Random
) -> None:
    one = merged(how, answers, options)
    shuffled = list(answers)
    dice.shuffle(shuffled)
    assert one == merged(how, shuffled, options)
    assert sorted(a.by.persona for a in answers) == sorted(c.persona for c in (*one.contributors, *one.dissent))
    assert 0.0 <= one.confidence <= 1.0
