"""What routing looks up: who is best, and what an answer cites. Raises `LogUnavailable` through to the shell, which retries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import msgspec

from services.meta_orchestrator.following import Following
from services.meta_orchestrator.routing.decider import Choose, Hear, Heard
from services.meta_orchestrator.routing.roster import Roster
from shared.contracts.envelope import Recorded
from shared.contracts.ids import utc_now
from shared.decider import Effect, Result
from shared.evidence import is_independent, readable
from shared.log.port import Log, LogUnavailable
from shared.memory.port import EmbedderUnavailable


class RoutingEffects(msgspec.Struct, frozen=True, kw_only=True):
    """Performs routing's effects. `lease_s`: how long a route lasts."""

    log: Log
    following: Following
    roster: Roster
    lease_s: float
    clock: Callable[[], datetime] = utc_now

    async def perform(self, effect: Effect) -> Result:
        match effect:
            case Choose():
                await self.following.assert_caught_up()
                try:
                    return await self.roster.choose(effect, self.clock(), lease_s=self.lease_s)
                except EmbedderUnavailable as error:
                    raise LogUnavailable(f"nobody can be chosen: {error}") from error
            case Hear():
                return await hear(self.log, effect)
            case _:
                raise TypeError(f"routing has no effect {type(effect).__name__}")


async def hear(log: Log, effect: Hear) -> Heard:
    """The cited events that are in the log and that the persona may read."""
    looked_up = await asyncio.gather(*(log.get(ref.seq) for ref in effect.evidence))
    found = [
        (ref, recorded)
        for ref, recorded in zip(effect.evidence, looked_up, strict=True)
        if isinstance(recorded, Recorded)
        and recorded.id == ref.id
        and readable(recorded.event, effect.swarm, effect.persona)
    ]
    clean = bool(found) and len(found) == len(effect.evidence) and all(is_independent(r.event) for _, r in found)
    return Heard(found=tuple(ref for ref, _ in found), clean=clean)
