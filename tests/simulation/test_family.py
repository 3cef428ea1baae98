"""A large family on the default limits: everybody gets to think, and what nobody spends is nobody's."""

from __future__ import annotations

from tests.simulation.family import Family, tree


async def test_of_341_personas_under_one_root_each_finishes_whole_loops_every_two_minutes() -> None:
    family = Family(tree(4, 4))
    await family.live(240, line_every_s=10)
    share = family.measure(window_s=120)
    assert (share.personas, share.violations) == (341, 0)
    assert share.fewest_cycles_in_a_window >= 1
    assert share.min_over_median >= 0.5
    assert share.ledger_events_per_thought <= 1.5


async def test_a_family_at_rest_holds_no_grant() -> None:
    family = Family(tree(4, 2))
    await family.live(20, line_every_s=5)
    busy = family.measure(window_s=20).outstanding_at_rest
    await family.live(60, line_every_s=100)
    assert (busy > 0, family.measure(window_s=80).outstanding_at_rest) == (True, 0)
