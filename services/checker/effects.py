"""Read-only looks, each at most once for all who ask the same in one cycle. Nothing here judges; `decider` does.

Raises `LogUnavailable` through to the shell, which retries the delivery.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from datetime import timedelta

import msgspec

from services.checker.decider import Measured, RunProbe
from services.checker.desk import Desk, Look
from services.checker.looks import LOOKS
from shared.contracts.events import Probe
from shared.contracts.ids import Instant
from shared.decider import Effect, Result

KEPT = 256
KEPT_FOR = timedelta(minutes=2)
"""What was found is told again to whoever asks the same in the same cycle, and no longer than this: a cycle may go on for hours."""


class _Seen(msgspec.Struct, eq=False):
    """What one look found, once it has. Whoever asks meanwhile waits for it."""

    at: Instant
    measured: Measured | None = None
    looking: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)


class CheckerEffects:
    """Performs the checker's effects at one desk."""

    def __init__(self, desk: Desk, looks: Mapping[type[Probe], Look] = LOOKS) -> None:
        self._desk, self._looks = desk, looks
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()

    async def perform(self, effect: Effect) -> Result:
        if not isinstance(effect, RunProbe):
            raise TypeError(f"the checker has no effect {type(effect).__name__}")
        seen = self._known(effect)
        async with seen.looking:
            if seen.measured is None:
                measured = await self._looks[type(effect.probe)](self._desk, effect)
                if measured.passing:
                    return measured
                seen.measured = measured
        return seen.measured

    def _known(self, effect: RunProbe) -> _Seen:
        """Keyed by who asks: nobody is told what another found."""
        key = msgspec.msgpack.encode((effect.swarm, effect.persona, effect.correlation, effect.probe))
        seen = self._seen.get(key)
        if seen is None or effect.asked_at - seen.at > KEPT_FOR:
            seen = self._seen[key] = _Seen(at=effect.asked_at)
        self._seen.move_to_end(key)
        while len(self._seen) > KEPT:
            self._seen.popitem(last=False)
        return seen
