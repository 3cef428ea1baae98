"""Whom to believe: what a runner says of a persona it does not hold goes to the dead letters, before any decider sees it.

The governors' word is read on whenever something newer than the last reading is to be judged; what waits meanwhile shares it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.contracts.catalog import SHORT_LIVED, class_of
from shared.contracts.envelope import Recorded
from shared.contracts.ids import CORE, is_runners
from shared.log.port import Log
from shared.placement import PLACEMENT, Placements

LATEST = 2**63
WhyNot = Callable[[Recorded], Awaitable[str | None]]
"""Why what was said does not count; None when it does. Raises `LogUnavailable`."""


async def believed(recorded: Recorded) -> str | None:
    """Where only those speak who decide."""
    return None


class Hearing:
    """One process's knowledge of the placement, for deliveries in any order."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._placements = Placements()
        self._newest = self._read_at = 0
        self._reading = asyncio.Lock()

    async def why_not(self, recorded: Recorded) -> str | None:
        """As `Placements.why_not`; what is not in the log itself is judged as of now. Raises `LogUnavailable`."""
        if not is_runners(getattr(recorded.event, "slot", CORE)):
            return None
        if class_of(recorded.event) in SHORT_LIVED:
            await self._read_on()
            return self._placements.why_not(recorded, at=LATEST)
        self._newest = max(self._newest, recorded.seq)
        async with self._reading:
            if recorded.seq > self._read_at:
                upto = self._newest
                await self._read_on()
                self._read_at = upto
        return self._placements.why_not(recorded)

    async def _read_on(self) -> None:
        for change in await self._log.read((PLACEMENT,), self._placements.seq):
            self._placements.add(change)
