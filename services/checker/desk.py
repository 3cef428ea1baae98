"""What a look is given to look with, and what each look is: one function of a probe, reading only.

A look never judges (`decider` does), reads no more than its bounds allow and says what it left out, and is total on whatever is stored:
a text that cannot be made sense of is counted as what it is. Raises `LogUnavailable` through to the shell, which retries the delivery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from services.checker.answers import Answers
from services.checker.decider import Measured, RunProbe
from services.checker.outside.given import Outside
from shared.contracts.events import Probe
from shared.contracts.ids import CORE, EVERYONE, Slot
from shared.log.port import Log
from shared.policy.library import Library

P = TypeVar("P")

MAX_EVENTS_READ = 200_000
READ_AT_ONCE = 4
"""A long reading keeps the broker and this process busy; many personas that see the same burst all ask for one."""

RECALL_TIMEOUT_S = 5.0


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """One log, and who asks. `source` is the service's name on envelopes, `slot` this instance's."""

    log: Log
    answers: Answers
    library: Library
    source: str = "checker"
    slot: Slot = CORE
    recall_timeout_s: float = RECALL_TIMEOUT_S
    max_events_read: int = MAX_EVENTS_READ
    outside: Outside = msgspec.field(default_factory=Outside)
    reading: asyncio.Semaphore = msgspec.field(default_factory=lambda: asyncio.Semaphore(READ_AT_ONCE))


Look = Callable[[Desk, RunProbe], Awaitable[Measured]]


def look(params: type[P], looks: Callable[[Desk, RunProbe, P], Awaitable[Measured]]) -> tuple[type[Probe], Look]:
    """A row of the table of looks: what it is asked by, and the function."""

    async def looked(desk: Desk, asked: RunProbe) -> Measured:
        assert isinstance(asked.probe, params)
        return await looks(desk, asked, asked.probe)

    return params, looked  # type: ignore[return-value] # a member of the union, as the table's test says


def perceived(asked: RunProbe) -> tuple[str, str]:
    """The filters of all that whoever asks perceives: what is for its whole swarm, and for itself. Of whom, the subject of the check
    says, which the broker let pass, and no parameter can."""
    return f"observation.*.{asked.swarm}.{EVERYONE}", f"observation.*.{asked.swarm}.{asked.persona}"
