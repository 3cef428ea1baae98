"""Does nothing, as asked: for measuring the way there."""

from __future__ import annotations

from services.actuator.hands.hand import Task
from services.actuator.terms import Outcome

_DONE = Outcome(outcome="success", summary="did nothing, as asked")


class NothingHand:
    async def act(self, task: Task) -> Outcome:
        return _DONE

    async def inquire(self, task: Task) -> Outcome:
        return _DONE
