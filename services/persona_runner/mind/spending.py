"""Credits: what may be spent, when to ask for more, and when a grant is given back.

A thought is paid for only if its worst case fits, but most cost a fraction of that. So what is asked for is one worst case and,
for the thoughts after it, what this persona's thoughts have cost of late, with a margin: a reservation nobody spends would
starve the others of its family.

A grant is closed only in the batch of a thought, and before the thought in it: whoever knows of the last thought then knows
that the grant is closed, so no other runner can still be spending it. A request alone closes nothing; what it leaves behind
is charged in full when it expires.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from services.persona_runner.mind.cadence import Limits, patience
from services.persona_runner.mind.state import Grant, State
from shared.contracts.events import Credits, GrantRequested, ThoughtGenerated, Usage

MAX_COUNT = 2**53
"""The most a count of the contract can say."""
MARGIN = 2
"""Times what thoughts have cost of late."""
UNKNOWN_SHARE = 8
"""Of the worst case: what a further thought is reckoned with before there was one."""


def usable(grant: Grant | None, now: datetime) -> Grant | None:
    """The grant while it may be spent."""
    return grant if grant is not None and now < grant.expires_at else None


def affordable(worst: Usage, left: Credits) -> bool:
    """Whether the worst case fits what is left."""
    return worst.tokens <= left.tokens and worst.compute_ms <= left.compute_ms


def covered(worst: Usage, left: Credits) -> bool:
    """Whether the worst case fits what is left of a grant, which pays money too."""
    return affordable(worst, left) and worst.cost_microusd <= left.cost_microusd


def ask_at(state: State, now: datetime, limits: Limits) -> datetime:
    """When more may be asked for: one request at a time, and one that brought too little is not repeated at once."""
    if state.asked_at is None:
        return now
    again = state.asked_at + patience(state, limits)
    if not state.answered:
        return again
    if state.exhausted_until is not None:
        return max(state.exhausted_until, state.asked_at + timedelta(seconds=1))
    grant = usable(state.grant, now)
    return again if grant is not None and grant.spent == Credits() else now


def may_ask(state: State, now: datetime, limits: Limits) -> bool:
    """Whether more may be asked for now."""
    return ask_at(state, now, limits) <= now


def ask(state: State, worst: Usage, thoughts: int) -> GrantRequested:
    """A request for so many thoughts, that closes nothing."""
    return GrantRequested(swarm=state.swarm, persona=state.persona, need=_need(state, worst, thoughts))


def close(
    state: State, thought: ThoughtGenerated, worst: Usage | None, now: datetime, loop_interval_ms: int, limits: Limits
) -> GrantRequested | None:
    """What goes before the thought: the grant is given back before a long rest, or for more when little or no time is left.

    Also after `grant_thoughts` thoughts, however cheap they were: others may be waiting in line for what it reserves.
    """
    grant = state.grant
    if grant is None or grant.id != thought.grant_id:
        return None
    used = Credits(
        tokens=min(grant.spent.tokens + thought.usage.tokens, MAX_COUNT),
        compute_ms=min(grant.spent.compute_ms + thought.usage.compute_ms, MAX_COUNT),
        cost_microusd=min(grant.spent.cost_microusd + thought.usage.cost_microusd, MAX_COUNT),
    )
    back = GrantRequested(swarm=state.swarm, persona=state.persona, need=Credits(), closing=grant.id, used=used)
    if thought.final or thought.next_in_ms > _hold_ms(state, now, limits):
        return back
    spent = msgspec.structs.replace(grant, spent=used)
    if worst is None or not may_ask(msgspec.structs.replace(state, grant=spent), now, limits):
        return None
    low = not covered(worst, spent.left()) or grant.thoughts + 1 >= limits.grant_thoughts
    late = now + timedelta(milliseconds=thought.next_in_ms + 2 * loop_interval_ms) >= grant.expires_at
    return msgspec.structs.replace(back, need=_need(state, worst, limits.grant_thoughts)) if low or late else None


def _hold_ms(state: State, now: datetime, limits: Limits) -> int:
    """The longest rest over which a grant is held: shorter where credits are scarce."""
    scarce = state.waited_at is not None and now - state.waited_at < timedelta(seconds=limits.scarce_s)
    return limits.share_grant_ms if scarce else limits.hold_grant_ms


def _need(state: State, worst: Usage, thoughts: int) -> Credits:
    """Enough for some thoughts, but not more than a quarter of a minute's budget unless one thought alone takes more.

    The governor grants all that is needed or nothing: who needs the whole minute gets nothing once a thought was paid in it.
    """
    ahead = thoughts - 1
    lately = state.cost
    tokens = _usual(worst.tokens, None if lately is None else lately.tokens)
    compute_ms = _usual(worst.compute_ms, None if lately is None else lately.compute_ms)
    cost = _usual(worst.cost_microusd, None if lately is None else lately.cost_microusd)
    quarter = Credits(
        tokens=state.policy.token_budget_per_minute // 4, compute_ms=state.policy.compute_ms_per_minute // 4
    )
    return Credits(
        tokens=min(worst.tokens + ahead * tokens, max(worst.tokens, quarter.tokens)),
        compute_ms=max(1, min(worst.compute_ms + ahead * compute_ms, max(worst.compute_ms, quarter.compute_ms))),
        cost_microusd=min(worst.cost_microusd + ahead * cost, MAX_COUNT),
    )


def _usual(worst: int, lately: int | None) -> int:
    """What to reckon with for a further thought."""
    return worst // UNKNOWN_SHARE if lately is None else min(worst, MARGIN * lately)
