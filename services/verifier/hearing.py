"""What the verifier hears: proposals, how they go on, who begins and ends, and all that may be told to a persona from outside."""

from __future__ import annotations

from services.verifier import opened
from services.verifier.opened import Opened
from shared.contracts.catalog import class_filter
from shared.log.port import Log
from shared.runtime.heard import Heard

PROPOSALS = ("proposal.created", "proposal.filed")
TOLD = ("observation.recorded", "intent.assigned", "check.result", "report.given", "persona.spawned")
ENDS = ("persona.draining", "persona.reaped")
FILTERS = (*opened.FILTERS, *map(class_filter, (*PROPOSALS, *TOLD, *ENDS)), "belief.*.*.*.>")


class Hearing:
    """Begins where something may still be open, and only with what tells that; the rest, of which there may be far more, is heard from
    then on. `follow` must run."""

    def __init__(self, log: Log, opened_: Opened) -> None:
        self.heard = Heard(log, FILTERS)
        self.heard.tell(opened_)
        self._opened = opened_

    async def follow(self) -> None:
        """Until `stop`."""
        await self.heard.follow_from(await self._opened.count())

    async def stop(self) -> None:
        await self._opened.stop()
        await self.heard.stop()
