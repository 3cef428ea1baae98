"""Conflicts on a real broker: joining, ruling, authorising and denying at once, by orchestrators and gates in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ruling_race import race


@pytest.mark.timeout(300)
async def test_nobody_who_lost_is_authorised_nothing_is_said_twice_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    """`python -m tests.ruling_race` races two hundred rounds."""
    found = await race(tmp_path, rounds=32, processes=2)
    assert (0, 0, 0, 0) == (found["losers"], found["twice"], found["frozen"], found["died"]), found
    assert found["raised"] > 0 and found["authorized"] > 0, found
