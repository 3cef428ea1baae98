"""Exclusive actions on a real broker, by actuators in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hold_race import race


@pytest.mark.timeout(300)
async def test_actuators_in_several_processes_are_never_at_one_target_at_the_same_time(tmp_path: Path) -> None:
    """`python -m tests.hold_race` races a thousand."""
    found = await race(tmp_path, actions=60, processes=3, targets=4)
    assert (60, 60, 0) == (found["done"], found["executed"], found["overlaps"]) and found["waited"] > 0
