"""Score, decay, and what a compaction pass may never do."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_model import START, at

from shared.memory import score
from shared.memory.compaction import MAX_VALUE_LOSS, objection, plan
from shared.memory.port import Edge, MemoryItem


def item(n: int, *, age_h: float = 0.0, importance: float = 0.3, **more: object) -> MemoryItem:
    seen = START - timedelta(hours=age_h)
    plain = MemoryItem(
        id=f"e{n}", seq=n, swarm="alpha", persona="ada", kind="thought", text=f"t{n}", at=seen,
        importance=importance, seen_seq=n, seen_at=seen,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **more)


def test_recency_halves_every_half_life_and_never_exceeds_one() -> None:
    now = START
    assert score.recency(item(1, age_h=24), now) == pytest.approx(0.5)
    assert score.recency(item(1, age_h=48), now) == pytest.approx(0.25)
    assert score.recency(item(1, age_h=-5), now) == 1.0


def test_the_score_is_half_meaning_three_tenths_recency_and_two_tenths_importance() -> None:
    assert score.score(semantic=1, recency=0, importance=0) == 0.5
    assert score.score(semantic=0, recency=1, importance=0) == 0.3
    assert score.score(semantic=-1, recency=0, importance=1) == 0.2


def test_fresh_important_and_pinned_memories_stay() -> None:
    items = [item(1), item(2, age_h=1000, pinned=True), item(3, age_h=48, importance=0.9), item(4, age_h=1000)]
    assert plan(items, START) == ("e4",)


def test_what_a_later_distillation_replaced_leaves_earlier() -> None:
    old = item(1, age_h=80)
    assert plan([old, item(2, importance=1.0)], START) == ()
    assert plan([old, item(2, importance=1.0, edges=(Edge("supersedes", "e1"),))], START) == ("e1",)


def test_when_everything_is_old_only_a_quarter_of_the_value_leaves_at_once() -> None:
    items = [item(n, age_h=1000) for n in range(100)]
    assert len(plan(items, START)) == 25


def test_stale_memory_protects_nothing_or_a_chain_of_thoughts_would_stay_for_ever() -> None:
    chain = [item(n, age_h=1000, edges=(Edge("because", f"e{n - 1}"),)) for n in range(2, 9)]
    items = [item(1, age_h=1000), *chain, item(9, importance=1.0, edges=(Edge("because", "e8"),))]
    assert plan(items, START) == tuple(f"e{n}" for n in range(1, 8))


@pytest.mark.parametrize(
    ("items", "drop", "why"),
    [
        ([item(1, age_h=999, pinned=True), item(2, importance=1.0)], ["e1"], "it would lose the pinned thought e1"),
        (
            [item(1, age_h=999, merged=("e0",)), item(2, importance=1.0, evidence=("e0",))],
            ["e1"],
            "it would lose e0, on which live memory rests",
        ),
        (
            [item(1, age_h=999, about="h-1"), item(2, importance=1.0, edges=(Edge("refutes", "h-1"),))],
            ["e1"],
            "it would lose h-1, on which live memory rests",
        ),
        ([item(1), item(2)], ["e1"], "it would lose 50% of the live value, the limit is 25%"),
    ],
)
def test_a_pass_that_would_lose_too_much_is_refused_and_says_why(
    items: list[MemoryItem], drop: list[str], why: str
) -> None:
    assert objection(items, drop, START) == why


@given(
    st.lists(
        st.tuples(
            st.floats(0, 2000),
            st.floats(0, 1),
            st.booleans(),
            st.lists(st.integers(0, 29), max_size=3),
            st.sampled_from(["because", "supersedes", "similar"]),
        ),
        max_size=30,
    )
)
def test_no_plan_is_ever_refused_or_loses_what_matters(
    drawn: list[tuple[float, float, bool, list[int], str]],
) -> None:
    items = [
        item(n, age_h=age, importance=importance, pinned=pinned, edges=tuple(Edge(kind, f"e{t}") for t in targets))  # type: ignore[arg-type]
        for n, (age, importance, pinned, targets, kind) in enumerate(drawn)
    ]
    drop = plan(items, at(0))
    assert objection(items, drop, at(0)) is None
    kept = [i for i in items if i.id not in drop]
    assert all(i.pinned <= (i in kept) for i in items)
    lost = sum(score.value(i, at(0)) for i in items if i.id in drop)
    assert lost <= MAX_VALUE_LOSS * sum(score.value(i, at(0)) for i in items) + 1e-12
    assert plan(items, at(0)) == drop
