"""What the log said of the policies in force is believed for a moment, and no longer."""

from __future__ import annotations

from shared.log.memory import MemoryLog
from shared.policy.bundle import DEFAULT_BUNDLE
from tests.policies import InForce


async def test_what_was_activated_counts_when_the_moment_is_over_and_the_log_is_not_asked_before() -> None:
    log, now = MemoryLog(), 100.0
    policies = InForce(log, good_for_s=1.0, clock=lambda: now)
    first = await policies.put()
    assert first == (await policies.readings.current()).version
    second = await policies.put({"gate.cedar": (DEFAULT_BUNDLE / "gate.cedar").read_text() + "// another\n"})
    now = 100.9
    assert first == (await policies.readings.current()).version
    now = 101.0
    assert second == (await policies.readings.current()).version != first
