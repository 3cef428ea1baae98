"""What the limited scopes of personas have done of the day: how much, whether there is room, and what a claim adds.

Theory of operation. Each persona has one subject, whose newest event tells all its scopes' counts of one day (`allowance.used`). A claim
says it anew, in one batch with itself, for its persona and for each above it whose limits the action counts against, guarded by the
sequence that was read. So of two actuators at one limit one is refused and looks again, nothing is between a claim and its counting, and
whoever is killed has either claimed and counted or neither. What is claimed counts, whatever came of it.

A day never goes back: where one clock is behind another's, it counts on in the later day. Where the newest cannot be read nothing is left.

Invariant: of a scope, actions and cost of one day are within its limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from shared.contracts.boundaries import allowance
from shared.contracts.capabilities import DailyLimit
from shared.contracts.events import AllowanceUsed, ProposalKey, ScopeUse
from shared.log.port import Log

DAY_S = 86_400


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What one persona's scopes have done, up to `seq` of its subject. `said` None: nothing yet; `readable` False: nobody can tell."""

    swarm: str
    persona: str
    seq: int = 0
    said: AllowanceUsed | None = None
    readable: bool = True

    def used(self, scope: int, day: int) -> ScopeUse:
        """Of that scope, on that day or a later one that it has been already."""
        said = () if self.said is None or self.said.day < day else self.said.used
        return next((use for use in said if use.scope == scope), ScopeUse(scope=scope))


def day_of(now: datetime) -> int:
    """Days since 1970, UTC."""
    return int(now.timestamp()) // DAY_S


async def standings(log: Log, limits: Sequence[DailyLimit]) -> tuple[Standing, ...]:
    """Of each persona whose limits these are. Raises `LogUnavailable`."""
    whose = tuple(dict.fromkeys((limit.swarm, limit.persona) for limit in limits))
    if not whose:
        return ()
    subjects = tuple(allowance(*who) for who in whose)
    ends = await log.ends(subjects)
    newest = {recorded.subject: recorded for recorded in await log.last(subjects)} if any(ends) else {}
    return tuple(
        _standing(*who, end, newest.get(subject)) for who, subject, end in zip(whose, subjects, ends, strict=True)
    )


def no_room(limits: Sequence[DailyLimit], known: Sequence[Standing], cost: int, now: datetime) -> str:
    """Whose limit is in the way of an action of that cost, in a sentence; empty when none is."""
    by_whose = {(one.swarm, one.persona): one for one in known}
    for limit in limits:
        standing, whose = (
            by_whose[limit.swarm, limit.persona],
            f"scope {limit.scope} of {limit.persona} in {limit.swarm}",
        )
        if not standing.readable:
            return f"nobody can read what {whose} has done today"
        use = standing.used(limit.scope, day_of(now))
        if limit.per_day is not None and use.actions >= limit.per_day:
            return f"{whose} has done {use.actions} of {limit.per_day} today"
        if limit.microusd_per_day is not None and use.microusd + cost > limit.microusd_per_day:
            return f"{whose} has spent {use.microusd} of {limit.microusd_per_day} microusd today, and this costs {cost}"
    return ""


def used(
    limits: Sequence[DailyLimit], known: Sequence[Standing], cost: int, now: datetime, by: ProposalKey
) -> tuple[tuple[AllowanceUsed, ...], tuple[tuple[str, int], ...]]:
    """What a claim says beside itself, and what guards it. For what has room."""
    events: list[AllowanceUsed] = []
    for standing in known:
        day = max(day_of(now), 0 if standing.said is None else standing.said.day)
        mine = {limit.scope for limit in limits if (limit.swarm, limit.persona) == (standing.swarm, standing.persona)}
        before = () if standing.said is None or standing.said.day < day else standing.said.used
        kept = tuple(use for use in before if use.scope not in mine)
        new = tuple(_one_more(standing.used(scope, day), cost) for scope in sorted(mine))
        events.append(AllowanceUsed(swarm=standing.swarm, persona=standing.persona, day=day, used=kept + new, by=by))
    return tuple(events), tuple((allowance(one.swarm, one.persona), one.seq) for one in known)


def _one_more(use: ScopeUse, cost: int) -> ScopeUse:
    return msgspec.structs.replace(use, actions=use.actions + 1, microusd=use.microusd + cost)


def _standing(swarm: str, persona: str, end: int, newest: object) -> Standing:
    seq, said = getattr(newest, "seq", 0), getattr(newest, "event", None)
    if not end:
        return Standing(swarm=swarm, persona=persona)
    if seq < end or not isinstance(said, AllowanceUsed):
        return Standing(swarm=swarm, persona=persona, seq=end, readable=False)
    return Standing(swarm=swarm, persona=persona, seq=seq, said=said)
