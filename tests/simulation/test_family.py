"""A large family on the default limits: everybody gets to think, and what nobody spends is nobody's."""

from __future__ import annotations

import pytest

from tests.simulation.family import Family, flat, tree


@pytest.mark.parametrize(
    ("personas", "seconds", "line_every_s"),
    [(tree(4, 4), 240, 10), (flat(1000), 120, 60)],
    ids=["341 under one root", "1000 roots"],
)
async def test_each_of_many_personas_finishes_whole_loops_every_two_minutes(
    personas: list[tuple[str, str | None]], seconds: int, line_every_s: int
) -> None:
    family = Family(personas)
    await family.live(seconds, line_every_s=line_every_s)
    share = family.measure(window_s=120)
    assert (share.personas, share.violations) == (len(personas), 0)
    assert share.fewest_cycles_in_a_window >= 1
    assert share.min_over_median >= 0.5
    assert share.ledger_events_per_thought <= 1.5


@pytest.mark.parametrize("line_every_s", [10.0, 30.0, 60.0, 110.0])
async def test_the_ledger_says_less_than_was_thought_at_any_pace_at_which_loops_are_finished(
    line_every_s: float,
) -> None:
    family = Family(flat(3))
    await family.live(600, line_every_s=line_every_s)
    share = family.measure(window_s=120)
    assert share.fewest_cycles_in_a_window >= 1
    assert share.ledger_events_per_thought <= 1.5


async def test_a_family_at_rest_holds_no_grant() -> None:
    family = Family(tree(4, 2))
    await family.live(20, line_every_s=5)
    busy = family.measure(window_s=20).outstanding_at_rest
    await family.live(60, line_every_s=100)
    assert (busy > 0, family.measure(window_s=80).outstanding_at_rest) == (True, 0)
