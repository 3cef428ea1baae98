"""A root that watches something quiet, over a night: the whole mesh under a clock that is set by hand."""

from __future__ import annotations

from shared.contracts.events import (
    BudgetGranted,
    GrantRequested,
    ObservationRecorded,
    PersonaDraining,
    ThoughtGenerated,
)
from shared.contracts.ids import EVERYONE
from tests.simulation.world import SWARM, World

HOUR_S = 3600


def said(world: World, kind: type, since: int) -> int:
    """How many events of a class there are after a sequence."""
    return sum(isinstance(r.event, kind) for r in world.store.records[since:])


def test_over_a_silent_night_a_root_spends_nothing_and_wakes_on_the_first_line() -> None:
    world = World(1, hibernates=True)
    world.live(2 * HOUR_S)
    asleep = len(world.store.records)
    assert said(world, ThoughtGenerated, 0) > 3
    world.live(9 * HOUR_S)
    assert [r.subject for r in world.store.records[asleep:]] == []
    world.client(ObservationRecorded(swarm=SWARM, persona=EVERYONE, text="line 999 failed"))
    line = len(world.store.records)
    world.live(120)
    first = next(r for r in world.store.records[line:] if isinstance(r.event, ThoughtGenerated))
    assert (first.event.persona, first.event.phase, first.event.observed_seq) == ("root", "observe", line)
    assert said(world, BudgetGranted, line) >= 1 <= said(world, GrantRequested, line)
    world.live(3 * HOUR_S)
    again = len(world.store.records)
    world.live(3 * HOUR_S)
    assert (len(world.store.records), said(world, PersonaDraining, 0)) == (again, 0)
    assert world.check() == []


def test_a_root_whose_time_was_set_is_reaped_on_such_a_night() -> None:
    world = World(1)
    world.live(2 * HOUR_S)
    assert [r.event.reason for r in world.store.records if isinstance(r.event, PersonaDraining)] == ["idle_ttl"]
