"""The allocator's look around: claims from what the tail brought, and a tick only where the table would change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from services.meta_orchestrator.allocation.decider import Allocator, Claims, Table
from services.meta_orchestrator.allocation.measuring import Measures
from shared.contracts.envelope import Recorded
from shared.contracts.events import Credits
from shared.contracts.ids import EVERYONE, fresh_id, utc_now
from shared.decider import NOTHING, Tick


class Look:
    """`tick` is the shell's. At rest a look costs nothing: what came is compared before anybody is asked."""

    def __init__(
        self,
        allocator: Allocator,
        measures: Measures,
        default: Credits,
        tick: Callable[[Tick], Awaitable[object]],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._allocator, self._measures, self._default = allocator, measures, default
        self._tick, self._clock = tick, clock
        self._table = Table()
        self._seen = (0, 0)
        self._begun = False

    def begin(self) -> None:
        """All that was said before is taken in: of part of it no table is made."""
        self._begun = True

    def apply(self, recorded: Recorded) -> None:
        """Take a table in; the shell's own fold is read from the log when it is to be changed."""
        self._table = self._allocator.evolve(self._table, recorded)

    async def look(self) -> None:
        """Say another table, if that matters to somebody. Raises `LogUnavailable`."""
        now = self._clock()
        seen = self._measures.changed, int(now.timestamp()) // 5
        if seen == self._seen or not self._begun:
            return
        self._seen = seen
        limits_seq = max((swarm.limits_seq for swarm in self._measures.swarms.values()), default=0)
        facts = Claims(claims=self._measures.claims(now, self._default), limits_seq=limits_seq)
        tick = Tick(id=fresh_id(), now=now, swarm=EVERYONE, facts=facts)
        if self._allocator.decide(self._table, tick) != NOTHING:
            await self._tick(tick)
