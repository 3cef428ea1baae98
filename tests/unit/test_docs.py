"""The documents as a whole: decisions have one number each, and what a page points at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "deploy").rglob("*.md"))]


def test_decisions_have_one_number_each_and_their_title_says_it() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [int(page.name[:4]) for page in decisions]
    assert sorted(set(numbers)) == numbers
    for page in decisions:
        assert page.read_text().startswith(f"# {int(page.name[:4])}. "), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_at_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_paths_that_pages_name_are_there() -> None:
    """Of code, tests and scripts, in code marks; with a `*` or a `<` in it one is a pattern."""
    for page in PAGES:
        for named in re.findall(r"`((?:shared|services|tests|scripts|deploy|docs)/[\w./-]+)`", page.read_text()):
            assert (ROOT / named.rstrip("/")).exists(), f"{page.name}: {named}"
