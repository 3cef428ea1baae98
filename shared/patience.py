"""Waiting for what is away: ever longer, and said in few lines.

A reason is told when it is new and then once in `SAY_EVERY_S`, however often it is met; with several servers there are several reasons.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

FIRST_S, LONGEST_S = 0.1, 2.0
SAY_EVERY_S = 60.0
MOST_REASONS = 32


class Patience:
    """With one thing, `what`, that comes and goes. `clock` is in seconds, and nobody sets it."""

    def __init__(self, what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock = what, clock
        self._pause_s = FIRST_S
        self._since: float | None = None
        self._told: dict[str, float] = {}
        self.why: str | None = None
        """What is waited for and why, while it is away; None else."""

    def say(self, why: str) -> None:
        """It is away, for this reason."""
        now = self._clock()
        self._since = now if self._since is None else self._since
        self.why = f"it waits for {self._what}: {why}"
        if now - self._told.get(why, -SAY_EVERY_S) >= SAY_EVERY_S:
            if len(self._told) >= MOST_REASONS:
                self._told.clear()
            self._told[why] = now
            log.warning("waiting", what=self._what, why=why, since_s=round(now - self._since, 1))

    async def pause(self, why: str) -> None:
        """Say so and sleep, twice as long as the last time, up to `LONGEST_S`."""
        self.say(why)
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(LONGEST_S, 2 * self._pause_s)

    def over(self) -> None:
        """It is there."""
        if self._since is not None:
            log.info("waited", what=self._what, for_s=round(self._clock() - self._since, 1))
        self._since, self.why, self._pause_s = None, None, FIRST_S
        self._told.clear()
