"""By its receipt: whether something outside was begun, for hands whose targets cannot be asked."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from services.actuator.hands.hand import Task, cannot_tell, cannot_tell_yet, failed
from services.actuator.hands.receipts import KEEP_RECEIPTS_S, Receipts
from services.actuator.terms import Outcome


async def begin(receipts: Receipts, task: Task) -> Outcome | None:
    """Right before the point of no return; why not, if so."""
    if (refused := task.hindered()) is not None:
        return refused
    try:
        if not await asyncio.to_thread(receipts.begin, task.job.key, task.claim.id):
            return failed("fenced", "there is a receipt already: an inquiry fenced it off")
    except OSError as error:
        return failed("io_error", f"the receipt cannot be written: {error.strerror}")
    return None


async def fenced(receipts: Receipts, task: Task) -> Outcome | None:
    """That it was not begun, and now cannot be, or that nobody can tell; None: it began."""
    if f"/{receipts.identity}/" not in task.mark:
        return cannot_tell_yet(f"it was claimed elsewhere, by {task.mark}")
    if task.age > timedelta(seconds=KEEP_RECEIPTS_S / 2):
        return cannot_tell("the claim is older than receipts are kept")
    try:
        word = await asyncio.to_thread(receipts.fence, task.job.key, task.claim.id)
    except OSError as error:
        return cannot_tell_yet(f"the receipts cannot be read: {error.strerror}")
    return failed("not_executed", "it had not begun, and is now fenced off") if word == "fenced" else None
