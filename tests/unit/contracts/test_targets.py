"""What actions touch: two spellings of one thing are one, and what is a persona's own is nobody else's business."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.action import Action
from shared.contracts.action_kinds import KINDS, held, touched
from shared.contracts.ids import is_life
from shared.contracts.kinds.kind import touches_nothing
from shared.contracts.targets import Touched, target_id

WRITE = {"content": "x"}


def of(kind: str, target: str, **params: str) -> Touched | None:
    return touched(
        Action(kind=kind, target=target, params=WRITE | params if kind == "file.write" else params), "s", "p"
    )


def post(target: str, method: str = "POST") -> Touched | None:
    return of("http.request", target, method=method)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("https://h.example/a", "https://H.EXAMPLE/a"),
        ("https://h.example/a", "https://h.example:443/a"),
        ("https://h.example/a", "https://h.example./a"),
        ("http://h.example", "http://h.example:80/"),
        ("https://h.example/a", "https://h.example/%61"),
        ("https://h.example/%c3%a9", "https://h.example/%C3%A9"),
        ("https://h.example/a", "https://h.example/b/../a"),
        ("https://h.example/a/", "https://h.example/./a/b/.."),
        ("https://h.example/?q=%7e", "https://h.example/?q=~"),
    ],
)
def test_spellings_of_one_url_are_one_target_whatever_the_method(one: str, two: str) -> None:
    first, second = post(one), post(two, "DELETE")
    assert first is not None and first == second


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("https://h.example/a", "https://h.example/A"),
        ("https://h.example/a", "https://h.example/a/"),
        ("https://h.example/a", "https://h.example:8443/a"),
        ("https://h.example/a?x=1", "https://h.example/a?x=2"),
        ("https://h.example/a%2Fb", "https://h.example/a/b"),
    ],
)
def test_other_urls_are_other_targets(one: str, two: str) -> None:
    first, second = post(one), post(two)
    assert first is not None and second is not None and first.id != second.id


def test_what_only_reads_touches_nothing() -> None:
    assert post("https://h.example/a", "GET") is post("https://h.example/a", "HEAD") is of("test.noop", "x") is None


def test_files_whose_names_differ_in_case_nearly_meet() -> None:
    one, two = of("file.write", "notes/Today.md"), of("file.write", "notes/today.md")
    assert one is not None and two is not None
    assert one.id == two.id and one.exact != two.exact


def test_a_personas_own_reports_are_nobody_elses_business() -> None:
    own = Action(kind="file.write", target="findings/s/p/a.md", params={"content": "x"})
    assert touched(own, "s", "p") is held(own, "s", "p") is None
    assert touched(own, "s", "other") is not None and held(own, "s", "other") is not None


def test_what_is_no_action_of_ours_touches_nothing() -> None:
    assert of("file.write", "../etc/passwd") is of("no.such", "x") is None
    assert held(Action(kind="no.such", target="x"), "s", "p") is None


def test_every_exclusive_kind_says_what_it_touches() -> None:
    exclusive = {name for name, kind in KINDS.items() if kind.exclusive}
    assert exclusive == {name for name, kind in KINDS.items() if kind.touches is not touches_nothing}
    assert exclusive >= {"file.write", "http.request"}


@given(st.text(max_size=300))
def test_any_name_has_a_token(name: str) -> None:
    assert is_life(target_id(name.encode(errors="replace").decode()))
