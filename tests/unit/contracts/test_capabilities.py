"""Scopes: what is within one, and what is within another's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.action import Action
from shared.contracts.capabilities import Capabilities, Reach, Scope, Values, excess, flaws, matches, narrower
from shared.contracts.prices import price_of, prices_of
from shared.contracts.reach import limits_of, reach_of

LITERAL = st.text("ab/-", min_size=1, max_size=4)


@st.composite
def patterns(draw: st.DrawFn) -> str:
    segments = draw(st.lists(st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "a*b"]), min_size=1, max_size=3))
    stem = "/".join(segments)
    return stem + draw(st.sampled_from(["", "/**", "?q=*", "?q=a"]))


@st.composite
def texts(draw: st.DrawFn, pattern: str) -> str:
    """Something the pattern matches."""
    stem = pattern.removesuffix("**")
    text = "".join(draw(st.text("ab", min_size=1, max_size=3)) if c == "*" else c for c in stem)
    below = st.lists(st.text("ab*", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join)
    return text + (draw(below) if stem != pattern else "")


@given(data=st.data(), child=patterns(), parent=patterns())
def test_what_is_narrower_matches_nothing_that_the_wider_does_not(data: st.DataObject, child: str, parent: str) -> None:
    text = data.draw(texts(child))
    assert matches(child, text)
    assert narrower(child, child) and narrower(child, "**") == ("?" not in child)
    if narrower(child, parent):
        assert matches(parent, text)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("notes/**", "notes/a/b.md", True),
        ("notes/**", "notes/", False),
        ("notes/**", "notes-old/a", False),
        ("notes/*.md", "notes/a.md", True),
        ("notes/*.md", "notes/a/b.md", False),
        ("notes/a.md", "notes/aXmd", False),
        ("https://api.example.org/v1/*", "https://api.example.org/v1/status", True),
        ("https://api.example.org/v1/*", "https://api.example.org/v1/status?leak=all", False),
        ("https://api.example.org/**", "https://api.example.org/a/b?leak=all", False),
        ("https://api.example.org/**", "https://api.example.org.evil.net/a", False),
        ("https://api.example.org/v1?since=*", "https://api.example.org/v1?since=5m", True),
        ("https://api.example.org/v1?since=*", "https://api.example.org/v1?since=5m&leak=all", False),
        ("https://api.example.org/v1/*", "https://api.example.org/v1/a%2Fb", False),
    ],
)
def test_a_pattern_matches_the_whole_text_and_no_further(pattern: str, text: str, expected: bool) -> None:
    assert expected == matches(pattern, text)


@pytest.mark.parametrize(
    "pattern",
    ["a**", "**/a", "a/**/b", "a*b*c", "a\x01", "https://*.example.org/", "https://A.org/", "https://a.org:443/x",
     "https://a.org", "http://a.org:80/x", "https://u@a.org/x"],
)  # fmt: skip
def test_what_is_no_pattern_is_told_and_matches_nothing(pattern: str) -> None:
    can = Capabilities(scopes=(Scope(kinds=("file.write",), targets=("fine/*", pattern)),))
    (said,) = flaws(can)
    assert repr(pattern)[:20] in said and not matches(pattern, pattern) and excess(can, ALL)


HTTP = Scope(kinds=("http.request",), targets=("https://api.example.org/v1/**",))
FILES = Scope(kinds=("file.write",), targets=("notes/**",))
ASKED = Scope(kinds=("file.write",), targets=("shared/**",), ask=True)
ALL = Capabilities(scopes=(HTTP, FILES, ASKED))


def write(target: str, **params: Any) -> Action:
    return Action(kind="file.write", target=target, params={"content": "x", **params})


def get(target: str, method: str = "GET") -> Action:
    return Action(kind="http.request", target=target, params={"method": method})


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (write("findings/alpha/p01/a.md"), "own"),
        (write("findings/alpha/p02/a.md"), "beyond"),
        (write("notes/a.md"), "free"),
        (write("shared/a.md"), "ask"),
        (write("notes/../a.md"), "beyond"),
        (get("https://api.example.org/v1/x"), "free"),
        (get("https://API.example.org:443/v1/x"), "free"),
        (get("https://api.example.org/v1/x", "POST"), "beyond"),
        (get("https://api.example.org/v1/../admin"), "beyond"),
        (get("https://api.example.org/v1/%2e%2e/admin"), "beyond"),
        (get("https://api.example.org/v1/..%2Fadmin"), "beyond"),
        (get("https://api.example.org/v1//x"), "beyond"),
        (get("https://api.example.org:8443/v1/x"), "beyond"),
        (get("http://api.example.org/v1/x"), "beyond"),
        (Action(kind="test.noop", target="x"), "beyond"),
    ],
)
def test_where_an_action_stands(action: Action, expected: Reach) -> None:
    assert expected == reach_of(ALL, action, "alpha", "p01")
    assert ("own" if expected == "own" else "unstated") == reach_of(None, action, "alpha", "p01")
    assert ("own" if expected == "own" else "beyond") == reach_of(Capabilities(), action, "alpha", "p01")


@pytest.mark.parametrize(
    ("named", "params", "expected"),
    [
        ((), {}, "free"),
        ((), {"method": "GET", "body": None, "content_type": "application/json"}, "free"),
        ((), {"body": "all it was told"}, "ask"),
        ((), {"content_type": "text/secret"}, "ask"),
        (("body",), {"body": "all it was told"}, "free"),
        (("body",), {"body": "x", "content_type": "text/secret"}, "ask"),
        (("body",), {}, "free"),
    ],
)
def test_of_who_is_tainted_nothing_goes_out_in_a_parameter_that_no_scope_names(
    named: tuple[str, ...], params: dict[str, Any], expected: Reach
) -> None:
    scope = msgspec.structs.replace(HTTP, params=tuple(Values(name=name) for name in named))
    action = Action(kind="http.request", target="https://api.example.org/v1/x", params=params)
    can = Capabilities(scopes=(scope,))
    assert expected == reach_of(can, action, "alpha", "p01", tainted=True)
    assert "free" == reach_of(can, action, "alpha", "p01")
    assert "free" == reach_of(ALL, write("notes/a.md", mode="create"), "alpha", "p01", tainted=True), "nothing leaves"
    run = Action(kind="command.run", target="restart", params={"service": "web"})
    on = tuple(Values(name=name) for name in ("service",) if "body" in named)
    can = Capabilities(scopes=(Scope(kinds=("command.run",), targets=("restart",), params=on),))
    assert ("free" if on else "ask") == reach_of(can, run, "alpha", "p01", tainted=True)


def test_a_parameter_that_is_narrowed_must_be_there_and_be_so() -> None:
    once = msgspec.structs.replace(FILES, params=(Values(name="mode", one_of=("create",)),))
    can = Capabilities(scopes=(once,))
    assert "free" == reach_of(can, write("notes/a", mode="create"), "alpha", "p01")
    assert "beyond" == reach_of(can, write("notes/a"), "alpha", "p01"), "its default is another"
    limit = Values(name="n", least=2, most=5)
    assert [False, True, True, False, False] == [limit.admits(n) for n in (1, 2, 5, 6, True)]
    assert not limit.admits("three") and Values(name="n", one_of=("true",)).admits(True)
    assert not once.covers("file.write", "notes/a", {}), "not said is not admitted"


@pytest.mark.parametrize(
    ("child", "beyond"),
    [
        (None, False),
        (Capabilities(), False),
        (ALL, False),
        (Capabilities(scopes=(Scope(kinds=("file.write",), targets=("notes/today/**",)),)), False),
        (Capabilities(scopes=(msgspec.structs.replace(FILES, ask=True),)), False),
        (Capabilities(scopes=(msgspec.structs.replace(ASKED, ask=False),)), True),
        (Capabilities(scopes=(msgspec.structs.replace(HTTP, methods=("GET", "POST")),)), True),
        (Capabilities(scopes=(Scope(kinds=("file.write", "file.patch"), targets=("notes/**",)),)), True),
        (Capabilities(scopes=(Scope(kinds=("file.write",), targets=("**",)),)), True),
    ],
)
def test_what_of_a_childs_is_beyond_its_parents_is_said(child: Capabilities | None, beyond: bool) -> None:
    assert beyond == bool(excess(child, ALL))


def test_of_a_parent_of_which_nothing_is_said_a_child_has_nothing_that_people_are_not_asked_about() -> None:
    assert excess(ALL, None) == (
        "http.request at https://api.example.org/v1/** without people",
        "file.write at notes/** without people",
    )
    assert () == excess(Capabilities(scopes=(ASKED,)), None)


VALUES = st.builds(
    Values,
    name=st.just("n"),
    one_of=st.lists(st.sampled_from(["1", "2", "3", "a"]), max_size=2).map(tuple),
    least=st.none() | st.integers(0, 3),
    most=st.none() | st.integers(0, 3),
    like=st.none() | st.sampled_from(["a", "*", "a*"]),
)


@given(child=VALUES, parent=VALUES, value=st.integers(0, 4) | st.sampled_from(["a", "ab", "1", True]))
def test_values_within_others_are_admitted_by_them(child: Values, parent: Values, value: Any) -> None:
    assert child.within(child)
    if child.within(parent) and child.admits(value):
        assert parent.admits(value)


def test_each_line_of_a_list_is_looked_at_and_decimals_are_numbers() -> None:
    ours = Values(name="to", like="*@example.org")
    assert ours.admits("a@example.org") and ours.admits("a@example.org\nb@example.org")
    assert not any(
        map(ours.admits, ("a@example.org\nb@evil.org", "b@evil.org\na@example.org", "a@example.org\n", "\n"))
    )
    assert Values(name="to", one_of=("a", "b")).admits("a\nb") and not Values(name="to", one_of=("a",)).admits("a\nb")
    money = Values(name="amount", least=0, most=100)
    assert all(map(money.admits, (0, 100, "12.50", "100"))) and money.admits("1\n2.5")
    assert not any(map(money.admits, ("100.01", "-1", "1e1", "x", "", True, None, "1\n101")))


@pytest.mark.parametrize(
    ("child", "parent", "said"),
    [
        ({"per_day": 3}, {"per_day": 5}, None),
        ({"per_day": 3}, {}, None),
        ({"per_day": 7}, {"per_day": 5}, "7 times a day and for 0 microusd a day"),
        ({}, {"per_day": 5}, "as often as it likes and for 0 microusd a day"),
        ({"microusd_per_day": 10}, {}, "as often as it likes and for 10 microusd a day"),
        ({}, {"microusd_per_day": 10}, None),
        ({"microusd_per_day": 10}, {"microusd_per_day": 10}, None),
        ({"per_day": 1, "microusd_per_day": 11}, {"per_day": 1, "microusd_per_day": 10}, "1 times a day and for 11"),
    ],
)
def test_a_childs_limits_of_a_day_are_within_its_parents(child: Any, parent: Any, said: str | None) -> None:
    mine, above = (msgspec.structs.replace(FILES, **changed) for changed in (child, parent))
    beyond = excess(Capabilities(scopes=(mine,)), Capabilities(scopes=(above,)))
    assert bool(said) == bool(beyond) and all(
        one.startswith("file.write at notes/** without people, ") and said is not None and said in one for one in beyond
    )


def test_what_an_action_counts_against_is_every_limited_scope_of_the_family_that_it_is_within() -> None:
    often = msgspec.structs.replace(FILES, per_day=5)
    other = Scope(kinds=("file.write",), targets=("other/**",), per_day=1)
    family = (
        ("alpha", "p01", Capabilities(scopes=(FILES, other, often))),
        ("alpha", "root", Capabilities(scopes=(msgspec.structs.replace(FILES, microusd_per_day=9), often))),
    )
    counted = [
        (one.persona, one.scope, one.per_day, one.microusd_per_day)
        for one in limits_of(family, write("notes/a.md"), "alpha", "p01")
    ]
    assert [("p01", 2, 5, None), ("root", 0, None, 9), ("root", 1, 5, None)] == counted
    assert () == limits_of(family, write("findings/alpha/p01/a.md"), "alpha", "p01"), "its own folder needs no scope"
    assert () == limits_of(family, get("https://api.example.org/v1/x"), "alpha", "p01")


def test_what_costs_something_is_free_only_where_a_scope_says_what_may_be_spent() -> None:
    for scope, costs, expected in ((FILES, False, "free"), (FILES, True, "ask")):
        can = Capabilities(scopes=(scope,))
        assert expected == reach_of(can, write("notes/a.md"), "alpha", "p01", costs=costs)
    can = Capabilities(scopes=(msgspec.structs.replace(FILES, microusd_per_day=0),))
    assert "free" == reach_of(can, write("notes/a.md"), "alpha", "p01", costs=True)


def test_prices_are_the_first_that_fits_and_the_dearest_where_a_url_has_no_one_spelling() -> None:
    rows = (
        "http.request https://api.example.org/v1/**=20",
        "http.request https://api.example.org/**=300",
        "command.run a*=5",
    )
    prices = prices_of(rows)
    for action, cost in (
        (get("https://api.example.org/v1/x"), 20),
        (get("https://API.example.org:443/v2"), 300),
        (get("https://api.example.org/v1//x"), 300),
        (get("https://else.org/"), 0),
        (get("no url at all"), 300),
        (write("notes/a.md"), 0),
        (Action(kind="command.run", target="ask", params={}), 5),
    ):
        assert cost == price_of(prices, action), action
    for row in ("http.request", "http.request x", "http.request x=-1", "http.request a**=1", "x y=1"):
        with pytest.raises(ValueError, match=r"price|pattern|stands|neither"):
            prices_of((row,))
