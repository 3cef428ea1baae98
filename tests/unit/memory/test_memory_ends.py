"""After a persona's final snapshot, and after its end, nothing more is due."""

from __future__ import annotations

import pytest
from memory_model import at, draining, record, snapshotted, spawned, thought

from services.memory_compactor.decider import Compactor
from shared.contracts.events import AnyEvent, PersonaReaped
from shared.decider import NOTHING, Delivered

DECIDER = Compactor(every_thoughts=4)
REAPED = PersonaReaped(swarm="alpha", persona="ada", reason="manual_reap")


@pytest.mark.parametrize("past", [(snapshotted(final=True), snapshotted()), (REAPED,)])
def test_a_late_thought_leads_to_no_snapshot(past: tuple[AnyEvent, ...]) -> None:
    state = DECIDER.initial()
    for seq, event in enumerate((spawned(), draining(60), *past), 1):
        state = DECIDER.evolve(state, record(event, seq))
    late = record(thought("late", step=90, phase="compress"), 50)
    assert NOTHING == DECIDER.decide(state, Delivered(recorded=late, now=at(50)))
