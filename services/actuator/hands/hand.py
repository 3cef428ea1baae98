"""What every hand is: it does a claimed action once, and tells afterwards whether it was done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import msgspec

from services.actuator.terms import NOT_YET, Claim, Job, Outcome
from shared.contracts.events.proposals import MAX_OUTPUT
from shared.contracts.kinds.kind import Params


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed action with its typed parameters.

    `claim` is the claim in the log, its id the idempotency key; `mark` says who made it, and `age` how long ago it was stored.
    `hindered` says why nothing may begin any more; it is asked right before the effect, which may have waited for its turn.
    """

    job: Job
    params: Params
    claim: Claim
    mark: str
    age: timedelta = timedelta()
    timeout_s: float = 0.0
    hindered: Callable[[], Outcome | None] = lambda: None

    @property
    def target(self) -> str:
        return self.job.action.target


class Hand(Protocol):
    """One way to act on the world."""

    async def act(self, task: Task) -> Outcome:
        """Do it, once. Raises nothing of its own: what goes wrong is an outcome."""
        ...

    async def inquire(self, task: Task) -> Outcome:
        """Whether it happened, by its target's word; where possible, make sure that it no longer can. Raises nothing of its own."""
        ...


def failed(code: str, summary: str) -> Outcome:
    """It did not happen, and will not."""
    return Outcome(outcome="failure", summary=summary[:1000], error=code)


def cannot_tell_yet(summary: str) -> Outcome:
    """Nobody here can tell now; later, or elsewhere, somebody may."""
    return cannot_tell(summary, NOT_YET)


def cannot_tell(summary: str, code: str = "cannot_tell") -> Outcome:
    """Nobody can tell whether it happened; a person decides."""
    return Outcome(outcome="unknown", summary=summary[:1000], error=code)


def told(body: bytes, *, cut: bool = False) -> str:
    """The start of what a target said, as much as an outcome may tell and a little more, so that what is cut is seen to be; nothing of
    what is no UTF-8 text. `cut`: it said more, so the last character may be half of one."""
    start = body[: 4 * (MAX_OUTPUT + 1)]
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if (len(body) == len(start) and not cut) or error.start < len(start) - 3:
            return ""
        text = start[: error.start].decode()
    return "" if "\0" in text else text[: MAX_OUTPUT + 1]
