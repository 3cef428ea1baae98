"""Thinking, done: asks memory, checks the price, calls the thinker, and turns every ending into a result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec

from services.persona_runner.mind.spending import affordable, covered
from services.persona_runner.mind.steps import OverBudget, Think, Thoughtful, Thoughtless, Unaffordable
from shared.contracts.events import Memory, Usage
from shared.decider import Effect, Result
from shared.thinker.port import Context, Thinker, ThinkerFailed, ThinkerUnavailable, Thought

TIME_LIMIT_S = 300.0
"""A thinker keeps its own, shorter time limit; past this one it is cut off. Waiting for a model is not compute."""

Recall = Callable[[Context], Awaitable[tuple[Memory, ...]]]
"""Memories for a context; none when memory does not answer in time. Never raises."""


async def no_recall(context: Context) -> tuple[Memory, ...]:
    """Without a memory service nobody remembers."""
    return ()


def performer(thinker: Thinker, recall: Recall = no_recall) -> Callable[[Effect], Awaitable[Result]]:
    """What a shell performs the runner's effects with."""

    async def perform(effect: Effect) -> Result:
        if not isinstance(effect, Think):
            raise TypeError(f"the runner only thinks, it was asked for {type(effect).__name__}")
        return await think(thinker, effect, recall)

    return perform


async def think(thinker: Thinker, effect: Think, recall: Recall = no_recall) -> Result:
    """Perform one `Think`. Never raises but for cancellation."""
    context = effect.context
    worst = thinker.worst_case(context)
    if effect.allowance is not None and not affordable(worst, effect.allowance):
        return OverBudget(worst=worst)
    if effect.grant_id is None or not covered(worst, effect.limit):
        return Unaffordable(worst=worst)
    memories = await recall(context) if context.phase in ("observe", "reflect") else ()
    if memories:
        context = msgspec.structs.replace(context, memories=memories)
        more = thinker.worst_case(context)
        if not (covered(more, effect.limit) and (effect.allowance is None or affordable(more, effect.allowance))):
            context, memories = effect.context, ()
        worst = thinker.worst_case(context)
    began = time.monotonic()
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            thought = await thinker.think(context)
    except ThinkerUnavailable as error:
        return Thoughtless(
            status="model_error",
            detail=str(error),
            usage=_metered(error.usage, worst, began),
            worst=worst,
            retry_after_s=error.retry_after_s,
        )
    except ThinkerFailed as error:
        usage = _metered(error.usage, worst, began)
        return Thoughtless(status="empty", detail=str(error), usage=usage, worst=worst)
    except TimeoutError:
        detail = f"{thinker.name} overran its time limit"
        return Thoughtless(status="model_error", detail=detail, usage=worst, worst=worst)
    thought = Thought(
        text=thought.text,
        hypotheses=thought.hypotheses,
        checks=thought.checks,
        proposals=thought.proposals,
        answer=thought.answer,
        usage=_metered(thought.usage, worst, began),
        model=thought.model,
    )
    return Thoughtful(thought=thought, worst=worst, memories=memories)


def _metered(usage: Usage, worst: Usage, began: float) -> Usage:
    """The usage; of a thinker that counts nothing itself, the time it took.

    At most the worst case: what goes beyond is the process being busy with others, not this thought.
    """
    if usage != Usage():
        return usage
    took_ms = int((time.monotonic() - began) * 1000)
    return Usage(compute_ms=min(took_ms, worst.compute_ms))
