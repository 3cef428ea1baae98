"""Recall and precision over logs with known answers, committed and held out; quiet logs lead to no proposal."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.logs.evaluate import committed, cycle, evaluate, recorded
from tests.logs.make import SEED, build

HELD_OUT = range(1000, 1020)
"""Seeds nobody looked at while rules were made; in groups, so that workers can share them."""


def test_the_committed_logs_are_what_the_generator_writes() -> None:
    assert committed() == build(SEED)


@pytest.mark.parametrize("batch", [0, 37])
def test_committed_logs_are_judged_with_recall_and_precision_of_nine_tenths(batch: int) -> None:
    told = evaluate(batch=batch)
    print(json.dumps(told, indent=2))
    assert float(str(told["recall"])) >= 0.9 and float(str(told["precision"])) >= 0.9
    assert (told["proposals_on_quiet"], told["checks_not_confirmed"]) == (0, 0)
    assert int(str(told["quiet_files"])) >= 4


@pytest.mark.parametrize("group", range(5))
def test_held_out_logs_are_judged_as_well_as_the_committed_ones(group: int) -> None:
    told = evaluate([build(seed) for seed in HELD_OUT[group::5]])
    print(json.dumps(told, indent=2))
    assert float(str(told["recall"])) >= 0.9 and float(str(told["precision"])) >= 0.9
    assert (told["proposals_on_quiet"], told["checks_not_confirmed"]) == (0, 0)


@pytest.mark.parametrize("name", sorted(build(SEED)))
def test_findings_do_not_depend_on_the_batches_they_came_in(name: str) -> None:
    log = build(SEED)[name]
    topics = [
        {finding.topic for finding in asyncio.run(cycle(recorded(name, log), batch))[0]} for batch in (0, 1000, 113)
    ]
    assert topics[0] <= topics[1] == topics[2] or topics[0] == topics[1] == topics[2]
