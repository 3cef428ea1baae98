"""Who lives: nobody's end was said. An end stands for ever, so of who was found living only ends that are heard since matter."""

from __future__ import annotations

from collections import OrderedDict

from services.verifier.hearing import ENDS
from shared.contracts.envelope import Stored
from shared.log.port import Log
from shared.runtime.heard import Heard

KEPT = 4096


class Lives:
    """Without `heard` the log is read each time."""

    def __init__(self, log: Log, heard: Heard | None = None) -> None:
        self._log, self._heard = log, heard
        self._living: OrderedDict[str, None] = OrderedDict()
        """`<swarm>.<persona>` of those whose end would have been heard."""
        self._ended = 0
        """Ends heard so far."""
        if heard is not None:
            heard.tell(self)

    def wants(self, subject: str) -> bool:
        return False

    def take(self, message: Stored) -> None:
        """Forget who ends."""
        entity, verb, whose = message.subject.split(".", 2)
        if f"{entity}.{verb}" in ENDS:
            self._ended += 1
            self._living.pop(whose, None)

    async def is_over(self, whose: str, before: int) -> bool:
        """Whether an end of the persona was said, before a sequence or since. Raises `LogUnavailable`."""
        heard = self._heard
        if heard is not None and whose in self._living and heard.upto >= before - 1:
            self._living.move_to_end(whose)
            return False
        hears, ended = heard is not None and heard.since is not None, self._ended
        over = bool(await self._log.last([f"{name}.{whose}" for name in ENDS]))
        if hears and not over and ended == self._ended:  # else it may be the one that was heard meanwhile
            self._living[whose] = None
            if len(self._living) > KEPT:
                self._living.popitem(last=False)
        return over
