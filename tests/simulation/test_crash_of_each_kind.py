"""A process dies before or in each step of its life, whatever the kind: it is done once at most, and there is an outcome.

SWARM_SEEDS=0-199 scripts/test tests/simulation/test_crash_of_each_kind.py
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import cast

import pytest

from services.actuator import decider as actuator
from services.actuator.terms import Claim, Execute
from shared.contracts.action_kinds import KINDS
from shared.contracts.events import ActionExecuted, ProposalCreated
from shared.decider import Decision
from tests.chaos.each_kind import Ground
from tests.simulation.lives import ACTIONS, CONCERNED, POINTS, Life
from tests.simulation.seeds import seeds


def test_every_kind_has_a_life_in_which_something_dies() -> None:
    assert set(KINDS) == set(ACTIONS)
    assert set(KINDS) == set(Ground.deeds(cast("Ground", None))), "and on real processes"


@pytest.mark.parametrize("kind", ACTIONS)
def test_whoever_dies_before_or_in_a_step_it_is_done_once_at_most_and_has_an_outcome(kind: str) -> None:
    died: Counter[str] = Counter()
    for seed in seeds(20):
        whole = Life(seed, kind)
        whole.live()
        assert isinstance(whole.ended, ActionExecuted) and "success" == whole.ended.outcome, (seed, whole.ended)
        assert [] == whole.violations(), seed
        for step in range(1, whole.steps + 1):
            for point in POINTS:
                life = Life(seed, kind, (step, point))
                life.live()
                assert life.died and isinstance(life.ended, ActionExecuted), (seed, step, point, life.ended)
                assert [] == life.violations(), (seed, step, point)
                died[life.died] += 1
    assert set(CONCERNED) - {"governor"} <= set(died)


def test_an_actuator_that_tries_again_after_a_crash_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """This can fail: who does what was claimed instead of asking what came of it does it twice."""

    def again(state: actuator.State, created: ProposalCreated, claim: Claim, now: datetime) -> Decision:
        job, until = actuator._job(state, created), now + timedelta(minutes=1)
        return Decision(effect=Execute(job=job, digest=created.digest, actuator=claim.actuator, deadline=until))

    monkeypatch.setattr(actuator, "_wait_or_inquire", again)
    found: list[str] = []
    for step in range(1, 40):
        life = Life(0, "test.noop", (step, "in"))
        life.live()
        found += life.violations()
    assert any("was done 2 times" in violation for violation in found)
