"""A short storm with the suite; `scripts/chaos --minutes 30` is the long one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.faults import EVERYTHING
from tests.chaos.storm import storm


@pytest.mark.chaos
@pytest.mark.timeout(480)
async def test_nothing_is_lost_doubled_forked_or_overspent_whatever_fails(tmp_path: Path) -> None:
    seed = int(os.environ.get("SWARM_CHAOS_SEED") or int.from_bytes(os.urandom(3)))
    report = await storm(tmp_path / "data", seed=seed, minutes=0.75, faults=EVERYTHING, say=print)
    assert report.passed, f"replay with SWARM_CHAOS_SEED={seed}: {report}"


@pytest.mark.chaos
@pytest.mark.timeout(480)
async def test_of_three_brokers_the_leader_may_die_under_a_whole_mesh(tmp_path: Path) -> None:
    """The other faults, and for longer: `scripts/chaos --cluster`."""
    report = await storm(tmp_path, seed=1, minutes=0, replicas=2, brokers=3, faults=("leader_dies",), say=print)
    assert (report.passed, {"leader_dies": 1}) == (True, report.struck), report
    assert report.beats and 0 < report.outage_s["leader_dies"]
