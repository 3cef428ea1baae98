"""Who holds a target: an exclusive action has it from its claim to its outcome, or to a person's word on one that was unknown."""

from __future__ import annotations

from shared.contracts.boundaries import hold
from shared.contracts.events import ProposalKey, TargetHeld
from shared.contracts.ids import EVERYONE
from shared.log.port import Log


async def holder_of(log: Log, target_id: str) -> tuple[ProposalKey | None, int]:
    """Who holds the target now, if anybody, and the last that is said of it: at least what that rests on. Raises `LogUnavailable`."""
    (end,) = await log.ends((hold(target_id),))
    if not end:
        return None, 0
    said = await log.last((f"target.held.{EVERYONE}.{target_id}", f"target.freed.{EVERYONE}.{target_id}"))
    newest = said[-1].event if said else None
    return (newest.holder if isinstance(newest, TargetHeld) else None), end
