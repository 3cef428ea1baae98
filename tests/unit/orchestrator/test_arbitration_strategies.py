"""How a conflict is ruled: a table of examples for each strategy, and what holds of every ruling."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.meta_orchestrator.arbitration.strategies import Ruling, rule
from shared.conflicts import key_of
from shared.contracts.events import Side

LATER = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
ONE, TWO, X, Y = "1" * 64, "2" * 64, "a" * 64, "b" * 64


def side(name: str, **changed: Any) -> Side:
    fields: dict[str, Any] = {
        "swarm": "s", "persona": name, "proposal_id": f"p-{name}", "seq": ord(name[0]), "exact": ONE, "effect": X,
        "risk": "medium", "deadline": LATER,
    }  # fmt: skip
    return Side(**{**fields, **changed})


def said(ruling: Ruling) -> tuple[str, str, str]:
    """Resolution, who is kept, who has lost to whom."""
    kept = "".join(sorted(one.persona for one in ruling.kept))
    lost = " ".join(sorted(f"{one.persona}<{winner.persona}" for one, winner in ruling.lost))
    return ruling.resolution, kept, lost


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ((), ("lapsed", "", "")),
        ((side("a"),), ("lapsed", "a", "")),
        ((side("a"), side("b", exact=TWO)), ("combine", "ab", "")),
        ((side("a"), side("b", exact=TWO, effect=Y)), ("combine", "ab", "")),
        ((side("a"), side("b")), ("merge", "a", "b<a")),
        ((side("a"), side("b", risk="low")), ("merge", "b", "a<b")),
        ((side("a"), side("b"), side("c")), ("merge", "a", "b<a c<a")),
        ((side("a"), side("b", effect=Y)), ("order", "a", "b<a")),
        ((side("a", risk="high"), side("b", effect=Y)), ("order", "b", "a<b")),
        ((side("a", depth=1), side("b", effect=Y)), ("order", "b", "a<b")),
        ((side("a"), side("b", effect=Y, evidence=1)), ("order", "b", "a<b")),
        ((side("a", seq=9), side("b", effect=Y, seq=8)), ("order", "b", "a<b")),
        ((side("a", depth=2, risk="low"), side("b", effect=Y, evidence=3)), ("order", "a", "b<a")),
        ((side("a"), side("b", effect=Y), side("c", exact=TWO)), ("order", "ac", "b<a")),
        ((side("a"), side("b"), side("c", exact=TWO)), ("merge", "ac", "b<a")),
        ((side("a"), side("b", effect=Y), side("c")), ("order", "a", "b<a c<a")),
    ],
)
def test_at_one_target(sides: tuple[Side, ...], expected: tuple[str, str, str]) -> None:
    assert expected == said(rule("target", sides))


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ((side("a"), side("b", exact=TWO)), ("order", "a", "b<a")),
        ((side("a", risk="high"), side("b", exact=TWO)), ("order", "b", "a<b")),
        ((side("a"), side("b"), side("c", exact=TWO)), ("order", "ab", "c<a")),
        ((side("a", depth=1), side("b", depth=1), side("c", exact=TWO)), ("order", "c", "a<c b<c")),
        ((side("a"), side("b")), ("lapsed", "ab", "")),
    ],
)
def test_over_grounds_of_which_one_contradicts_the_other(
    sides: tuple[Side, ...], expected: tuple[str, str, str]
) -> None:
    assert expected == said(rule("grounds", sides))


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ({"b": 2, "a": 1}, ("vote", "b", "a<b c<b")),
        ({"c": 1}, ("vote", "c", "a<c b<c")),
        ({"b": 1, "c": 1}, ("order", "a", "b<a c<a")),
        ({}, ("order", "a", "b<a c<a")),
        ({"nobody": 5}, ("order", "a", "b<a c<a")),
    ],
)
def test_by_votes_of_which_a_tie_leaves_it_to_the_order(votes: dict[str, int], expected: tuple[str, str, str]) -> None:
    sides = (side("a"), side("b", effect=Y), side("c", effect="c" * 64))
    assert expected == said(rule("target", sides, votes={key_of(side(name)): n for name, n in votes.items()}))


@pytest.mark.parametrize(
    ("named", "expected"),
    [("a", ("person", "a", "b<a")), ("b", ("person", "b", "a<b")), ("z", ("vote", "a", "b<a"))],
)
def test_by_a_person_whose_word_on_who_is_not_there_does_not_count(named: str, expected: tuple[str, str, str]) -> None:
    sides = (side("a"), side("b", effect=Y))
    assert expected == said(rule("target", sides, person=key_of(side(named)), votes={key_of(side("a")): 9}))


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (side("b", effect=Y, risk="high"), "risk is medium, the other's high"),
        (side("b", effect=Y, depth=2), "stands at depth 0, the other's at 2"),
        (side("b", effect=Y), "verified first"),
        (side("b"), "want the same"),
    ],
)
def test_it_is_said_in_words_which_rule_told_them_apart(other: Side, why: str) -> None:
    assert why in rule("target", (side("a"), other)).reason


SIDES = st.lists(
    st.builds(
        side,
        st.sampled_from("abcdefgh"),
        exact=st.sampled_from((ONE, TWO)),
        effect=st.sampled_from((X, Y)),
        risk=st.sampled_from(("low", "medium", "high", "critical")),
        depth=st.integers(0, 2),
        evidence=st.integers(0, 3),
        seq=st.integers(1, 3),
    ),
    max_size=8,
    unique_by=lambda one: one.persona,
)
VOTES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 3))
WHAT = st.sampled_from(("target", "grounds"))


@given(WHAT, SIDES, VOTES, st.sampled_from("abcdefgh") | st.none(), st.randoms(use_true_random=False))
def test_who_came_first_to_the_table_rules_nothing(
    what: Any, sides: list[Side], votes: dict[str, int], named: str | None, dice: Any
) -> None:
    by = {key_of(side(name)): n for name, n in votes.items()}
    person = key_of(side(named)) if named else None
    ruling = rule(what, sides, person=person, votes=by)
    shuffled = list(sides)
    dice.shuffle(shuffled)
    assert ruling == rule(what, shuffled, person=person, votes=by)


@given(WHAT, SIDES, VOTES)
def test_each_is_kept_or_has_lost_and_one_thing_has_one_winner(
    what: Any, sides: list[Side], votes: dict[str, int]
) -> None:
    ruling = rule(what, sides, votes={key_of(side(name)): n for name, n in votes.items()})
    kept, lost = [key_of(one) for one in ruling.kept], [key_of(one) for one, _ in ruling.lost]
    assert sorted([*kept, *lost], key=str) == sorted(map(key_of, sides), key=str)
    assert all(winner in ruling.kept for _, winner in ruling.lost)
    exact = [one.exact for one in ruling.kept]
    if what == "target" and len(sides) > 1:
        assert sorted({one.exact for one in sides}) == sorted(exact)
    if what == "grounds" and lost:
        assert len(set(exact)) == 1
