"""Templates stay pairwise disjoint, and words with a verdict are never given up."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.thinker.perceiving.mining import MAX_TEMPLATES, Template, Templates, _overlap
from shared.thinker.perceiving.templates import read


def nothing(template: Template) -> None:
    """Windows are not of interest here."""


def mined(lines: list[str]) -> Templates:
    templates = Templates([], nothing)
    for at, text in enumerate(lines):
        line = read(text)
        found = templates.find("s", line.masked) or templates.add("s", line.masked, line.body, at)
        found.count += 1
        found.touched = at
    return templates


def shapes(lines: list[str]) -> set[str]:
    return {" ".join(template.words) for template in mined(lines).known}


def test_four_lines_that_differ_in_one_plain_word_share_a_template() -> None:
    assert shapes([f"session opened for user {name}" for name in ("ann", "bob", "cem", "dan", "eva")]) == {
        "session opened for user <*>"
    }


def test_two_verdicts_never_share_a_template() -> None:
    said = ("accepted", "refused", "failed", "denied", "rejected", "lost")
    assert len(shapes([f"connection {word} by peer" for word in said])) == len(said)


def test_statuses_of_access_logs_never_share_a_template() -> None:
    lines = [
        f'1.1.1.1 - - [22/Nov/2026:13:00:01 +0000] "GET / HTTP/1.1" {status} 1'
        for status in (200, 301, 302, 304, 404, 500, 502)
    ]
    assert len(shapes(lines)) == 7


WORD = st.sampled_from(["a", "b", "c", "d", "e", "failed", "7"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(WORD, min_size=3, max_size=5).map(" ".join), max_size=60))
def test_no_line_ever_has_two_templates(lines: list[str]) -> None:
    known = mined(lines).known
    assert not [
        (one.words, other.words)
        for one, other in combinations(known, 2)
        if len(one.words) == len(other.words) and _overlap(one.words, other.words)
    ]
    assert sum(template.count for template in known) == len(lines)


def test_the_number_of_templates_is_bounded_and_the_latest_stay() -> None:
    lines = [
        f"{a}{b} {'x ' * (n % 11)}end"
        for n, (a, b) in enumerate((chr(97 + i % 26) * 3, chr(97 + i // 26 % 26) * 3) for i in range(3000))
    ]
    templates = mined(lines)
    assert len(templates.known) <= MAX_TEMPLATES
    assert templates.find("s", read(lines[-1]).masked) is not None
