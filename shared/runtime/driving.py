"""Doing what `handle` asks for: the log and the service's effects behind one generator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator

from shared.contracts.ids import utc_now
from shared.decider import Effect, Result
from shared.log.port import DuplicateEvent, Log, StaleBoundary, jittered
from shared.metrics.table import COMMITS, REFUSALS
from shared.quotas import refused
from shared.runtime.handling import Answer, Commit, Ends, Newest, Operation, Perform, Read, Verdict

REFUSED_PAUSE_S, MAX_REFUSED_PAUSE_S = 0.001, 0.1
"""After a refused commit, twice as long each time: whoever refused it is at work on the boundary too."""
PerformEffect = Callable[[Effect], Awaitable[Result]]


async def no_effects(effect: Effect) -> Result:
    """For deciders that have none."""
    raise TypeError(f"this service performs no effects, it was asked for {type(effect).__name__}")


async def drive(log_: Log, steps: Generator[Operation, Answer, Verdict], perform: PerformEffect) -> Verdict:
    """Do what `handle` asks for until it answers. Raises `LogUnavailable` and whatever an effect raises."""
    answer: Answer = None
    conflicts = 0
    while True:
        try:
            operation = steps.send(answer)
        except StopIteration as stop:
            verdict: Verdict = stop.value
            return verdict
        match operation:
            case Commit():
                try:
                    answer = await log_.commit(operation.messages, operation.expect)
                    COMMITS.by["stored"] += 1
                    for message in operation.messages:
                        if (reason := refused(message.event)) is not None:
                            REFUSALS.by[reason] += 1
                except (StaleBoundary, DuplicateEvent):
                    answer = None
                    COMMITS.by["refused"] += 1
                    conflicts += 1
                    await asyncio.sleep(jittered(min(REFUSED_PAUSE_S * 2**conflicts, MAX_REFUSED_PAUSE_S)))
            case Read():
                answer = await log_.stored(operation.filters, operation.after)
            case Ends():
                answer = await log_.ends(operation.filters)
            case Newest():
                answer = await log_.newest(operation.filters)
            case Perform():
                answer = (await perform(operation.effect), utc_now())
