"""What is away is waited for ever longer, and said in few lines."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from shared.patience import LONGEST_S, MOST_REASONS, SAY_EVERY_S, Patience


def test_a_reason_is_told_once_a_minute_however_often_it_is_met_and_another_one_at_once() -> None:
    now = 100.0
    patience = Patience("the broker", clock=lambda: now)
    with capture_logs() as lines:
        for tick in range(int(SAY_EVERY_S * 10)):
            now = 100.0 + tick / 10
            patience.say(("refused by a", "refused by b")[tick % 2])
        now += 0.2
        patience.say("refused by a")
        assert ["refused by a", "refused by b", "refused by a"] == [line["why"] for line in lines]
        assert [0.0, 0.1, 60.1] == [line["since_s"] for line in lines]
        assert patience.why == "it waits for the broker: refused by a"
        patience.over()
        patience.over()
        assert patience.why is None and ("waited", 60.1) == (lines[-1]["event"], lines[-1]["for_s"]) and len(lines) == 4
        patience.say("refused by a")
        assert ("waiting", 0.0) == (lines[-1]["event"], lines[-1]["since_s"])


def test_many_reasons_do_not_pile_up() -> None:
    patience = Patience("it", clock=lambda: 0.0)
    with capture_logs():
        for n in range(10 * MOST_REASONS):
            patience.say(str(n))
    assert len(patience._told) <= MOST_REASONS


async def test_each_pause_is_twice_the_last_up_to_a_bound_and_short_again_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("shared.patience.asyncio.sleep", sleep)
    patience = Patience("it")
    with capture_logs():
        for _ in range(7):
            await patience.pause("away")
        patience.over()
        await patience.pause("away")
    assert [0.1, 0.2, 0.4, 0.8, 1.6, LONGEST_S, LONGEST_S, 0.1] == slept
