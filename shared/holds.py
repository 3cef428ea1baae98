"""Who holds a target: an exclusive action has it from its claim to its outcome, or to a person's word on one that was unknown.

The outcome itself frees: it is in the log for ever, and who takes the target next is guarded by what was said of the target, so whatever is
read in between, of two takers one is refused.
"""

from __future__ import annotations

from shared.contracts.boundaries import hold
from shared.contracts.events import ActionExecuted, ProposalKey, TargetHeld
from shared.contracts.ids import EVERYONE
from shared.log.port import Log


async def holder_of(log: Log, target_id: str) -> tuple[ProposalKey | None, int]:
    """Who holds the target now, if anybody, and the last that is said of it: at least what that rests on. Raises `LogUnavailable`."""
    (end,) = await log.ends((hold(target_id),))
    if not end:
        return None, 0
    said = await log.last((f"target.held.{EVERYONE}.{target_id}", f"target.freed.{EVERYONE}.{target_id}"))
    newest = said[-1].event if said else None
    if not isinstance(newest, TargetHeld) or await _is_over(log, newest.holder):
        return None, end
    return newest.holder, end


async def _is_over(log: Log, holder: ProposalKey) -> bool:
    """Whether its action has an outcome that somebody knows. Where its claim, said with the hold, is gone, its life has ended long ago."""
    key = f"{holder.swarm}.{holder.persona}.{holder.proposal_id}"
    for recorded in await log.last((f"action.executed.{key}",)):
        return isinstance(recorded.event, ActionExecuted) and recorded.event.outcome != "unknown"
    (claimed,) = await log.ends((f"action.claimed.{key}",))
    return not claimed
