"""A cycle is in the trace of the observation it begins with, also when somebody outside began that one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.contracts.envelope import Recorded
from shared.contracts.events import ObservationRecorded, ThoughtGenerated
from shared.contracts.trace import trace_id
from shared.thinker.perceiving.perception import MAX_TRACES, Perception
from tests.unit.runner.runner_model import SWARM
from tests.unit.runner.test_runner_checkpoint import successor
from tests.unit.runner.test_runner_host import SHARDS, Site

TRACE = "0af7651916cd43dd8448eb211c80319c"
THEIRS = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.mark.parametrize("persona", ["all", "a"])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_cycle_is_in_the_trace_of_what_it_perceived(persona: str, restarted: bool) -> None:
    site = Site()
    site.spawn("a")
    site.start()
    site.grant("a")
    seq = site.put(ObservationRecorded(swarm=SWARM, persona=persona, text="ERROR disk full"), THEIRS)
    observed = site.store.records[seq - 1]
    site.feed()
    if restarted:
        site.host = successor(site.host, set(range(SHARDS)))
    for _ in range(2):
        site.now += timedelta(minutes=1)
        site.due()
        site.think((SWARM, "a"))
        site.feed()
    thoughts = [r for r in site.store.records if isinstance(r.event, ThoughtGenerated)]
    assert [(observed.id, TRACE)] * 2 == [(r.envelope.correlation, trace_of(r)) for r in thoughts]
    assert observed.id == thoughts[0].envelope.causation
    assert 3 == len({r.envelope.traceparent for r in (observed, *thoughts)})


def test_an_observation_nobody_traced_begins_the_trace_of_the_cycle() -> None:
    site = Site()
    site.spawn("a")
    site.start()
    site.grant("a")
    seq = site.put(ObservationRecorded(swarm=SWARM, persona="all", text="ERROR disk full"))
    site.feed()
    site.due()
    site.think((SWARM, "a"))
    assert trace_id(site.store.records[seq - 1].id) == trace_of(site.store.records[-1])


def test_traces_others_began_are_kept_up_to_a_bound() -> None:
    site, perception = Site(), Perception()
    for n in range(2 * MAX_TRACES):
        site.put(ObservationRecorded(swarm=SWARM, persona="all", text=f"line {n}"), THEIRS)
        site.put(ObservationRecorded(swarm=SWARM, persona="all", text=f"line {n}"))
    for recorded in site.store.records:
        perception.add(recorded)
    newest = [r for r in site.store.records if TRACE in (r.envelope.traceparent or "")][-MAX_TRACES:]
    assert {r.id: r.envelope.traceparent for r in newest} == perception.percept(0).traces


def trace_of(recorded: Recorded) -> str:
    return (recorded.envelope.traceparent or "--").split("-")[1]
