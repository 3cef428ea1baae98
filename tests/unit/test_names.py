"""Test files that pytest cannot tell apart are not collected, and say so only in a run of all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_no_two_test_files_outside_packages_share_a_name() -> None:
    loose = [path.name for path in TESTS.rglob("test_*.py") if not (path.parent / "__init__.py").exists()]
    assert [] == [name for name, count in Counter(loose).items() if count > 1]
