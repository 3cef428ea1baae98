"""What must hold of limits of a day: a claim that counts against some says so in its batch, one more each time, never beyond them."""

from __future__ import annotations

from collections.abc import Callable

from shared.contracts.capabilities import DailyLimit
from shared.contracts.envelope import Recorded
from shared.contracts.events import ActionClaimed, AllowanceUsed, AnyEvent, ProposalVerified, ScopeUse, TargetHeld
from shared.invariants.targets import key_of

Whose = tuple[str, str]


class AllowanceInvariants:
    """Fed with every event that counts, in order."""

    def __init__(self, broken: Callable[[Recorded, str], None]) -> None:
        self._broken = broken
        self._limits: dict[str, tuple[tuple[DailyLimit, ...], int]] = {}
        """Of each proposal that has some, with what it costs."""
        self._said: dict[Whose, AllowanceUsed] = {}
        self._claim = ""
        self._owed: set[Whose] = set()

    def absorb(self, recorded: Recorded) -> None:
        event = recorded.event
        if self._owed and not self._is_beside(event):
            self._broken(
                recorded, f"allowances of {sorted(self._owed)} should have been said with the claim of {self._claim}"
            )
            self._owed = set()
        match event:
            case ProposalVerified(limits=limits) if limits:
                self._limits.setdefault(key_of(event), (limits, event.cost_microusd))
            case ActionClaimed():
                self._claim = key_of(event)
                self._owed = {(one.swarm, one.persona) for one in self._limits.get(self._claim, ((), 0))[0]}
            case AllowanceUsed():
                self._used(recorded, event)
            case _:
                pass

    def _is_beside(self, event: AnyEvent) -> bool:
        return isinstance(event, TargetHeld) or (isinstance(event, AllowanceUsed) and key_of(event.by) == self._claim)

    def _used(self, recorded: Recorded, event: AllowanceUsed) -> None:
        whose = event.swarm, event.persona
        if whose not in self._owed or key_of(event.by) != self._claim:
            self._broken(recorded, "an allowance without its claim")
            return
        self._owed.discard(whose)
        limits, cost = self._limits[self._claim]
        mine = {limit.scope: limit for limit in limits if (limit.swarm, limit.persona) == whose}
        last = self._said.get(whose)
        if last is not None and event.day < last.day:
            self._broken(recorded, f"the allowance's day {event.day} is before {last.day}")
        before = {} if last is None or last.day != event.day else {use.scope: use for use in last.used}
        for scope, limit in mine.items():
            use = before.get(scope, ScopeUse(scope=scope))
            before[scope] = ScopeUse(scope=scope, actions=use.actions + 1, microusd=use.microusd + cost)
            if limit.per_day is not None and before[scope].actions > limit.per_day:
                self._broken(recorded, f"{before[scope].actions} actions of a day, its limit is {limit.per_day}")
            if limit.microusd_per_day is not None and before[scope].microusd > limit.microusd_per_day:
                self._broken(
                    recorded, f"{before[scope].microusd} microusd of a day, its limit is {limit.microusd_per_day}"
                )
        if {use.scope: use for use in event.used} != before:
            self._broken(recorded, f"the allowance is {event.used}, and should be {tuple(before.values())}")
        self._said[whose] = event
