"""What must hold of credits: what is charged is conserved, within each limit on the way up, and spent within its grant."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionClaimed,
    BudgetGranted,
    BudgetLimited,
    BudgetSettled,
    Credits,
    LotGranted,
    ThoughtGenerated,
)
from shared.invariants.families import FamilyInvariants
from shared.invariants.personas import PersonaInvariants

_FIELDS = ("tokens", "compute_ms", "actions", "cost_microusd")
_MOST = 2**53
_WINDOWS = 8


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits the log was written under. `swarm_per_minute` held for each swarm until shares were written."""

    swarm_per_minute: Credits
    actions_per_minute: int
    lifetime_children: int
    global_per_minute: Credits = Credits(tokens=_MOST, compute_ms=_MOST, actions=_MOST, cost_microusd=_MOST)


class _Grant(msgspec.Struct):
    persona: tuple[str, str]
    window: int
    credits: Credits
    spent: dict[str, int]
    open: bool = True


class _Shares:
    """What each swarm may spend a minute, and the most it might in each of the last minutes: a share that it had when one began, or
    was given in it."""

    def __init__(self) -> None:
        self.written: dict[str, Credits] = {}
        self.window = 0
        self._most: dict[int, dict[str, dict[str, int]]] = {}

    def write(self, event: BudgetLimited) -> None:
        if event.window > self.window:
            self.window = event.window
            self._most[event.window] = {swarm: _amounts(credits) for swarm, credits in self.written.items()}
            for old in [w for w in self._most if w <= event.window - _WINDOWS]:
                del self._most[old]
        self.written[event.swarm] = event.credits
        most, now = self._most[self.window].setdefault(event.swarm, {}), _amounts(event.credits)
        self._most[self.window][event.swarm] = {field: max(now[field], most.get(field, 0)) for field in _FIELDS}

    def most(self, swarm: str, window: int) -> dict[str, int]:
        """The most the swarm might spend in the minute."""
        if window > self.window:
            return _amounts(self.written.get(swarm, Credits()))
        known = self._most.get(max((w for w in self._most if w <= window), default=-1), {})
        return known.get(swarm, _amounts(Credits()))

    def sums(self) -> dict[str, int]:
        """Of all swarms, in the present minute."""
        now = self._most.get(self.window, {}).values()
        return {field: sum(most[field] for most in now) for field in _FIELDS}


def _amounts(credits: Credits) -> dict[str, int]:
    return {field: getattr(credits, field) for field in _FIELDS}


class CreditInvariants:
    """Fed with grants, lots, shares, and what spends them; who stands above whom is asked of the personas."""

    def __init__(
        self,
        broken: Callable[[Recorded, str], None],
        limits: Limits,
        personas: PersonaInvariants,
        families: FamilyInvariants,
    ) -> None:
        self._broken, self._limits, self._personas, self._families = broken, limits, personas, families
        self.overshoot = 0
        self._grants: dict[str, _Grant] = {}
        self._charged: dict[tuple[str, str, int], list[int]] = {}
        self._lots: dict[str, dict[tuple[str, str], int]] = {}
        self._shares = _Shares()

    def grant(self, recorded: Recorded, event: BudgetGranted | BudgetSettled) -> None:
        if isinstance(event, BudgetGranted):
            if event.grant_id in self._grants:
                self._broken(recorded, "the grant was given before")
                return
            spent = dict.fromkeys(_FIELDS, 0)
            self._grants[event.grant_id] = _Grant((event.swarm, event.persona), event.window, event.credits, spent)
            self._charge(recorded, event.swarm, event.persona, event.window, event.credits, 1)
            self._within_share(recorded, event)
            return
        grant = self._grants.get(event.grant_id)
        if grant is None or not grant.open:
            self._broken(recorded, "it settles a grant that is not outstanding")
            return
        grant.open = False
        if any(getattr(event.credits, f) > getattr(grant.credits, f) for f in _FIELDS):
            self.overshoot += 1
            self._broken(recorded, "it settles for more than was granted")
        # a limit may have fallen since: what was granted before is not judged again
        self._charge(recorded, event.swarm, event.persona, grant.window, grant.credits, -1)
        self._charge(recorded, event.swarm, event.persona, grant.window, event.credits, 1, is_new=False)

    def lot(self, recorded: Recorded, event: LotGranted) -> None:
        if event.lot_id in self._lots:
            self._broken(recorded, "the lot was given before")
            return
        self._lots[event.lot_id] = {(event.swarm, share.persona): share.actions for share in event.shares}
        for share in event.shares:
            self._charge(recorded, event.swarm, share.persona, event.window, Credits(actions=share.actions), 1)

    def share(self, recorded: Recorded, event: BudgetLimited) -> None:
        """Conservation: what all swarms have, or had at any time in this minute, is within the global budget."""
        if event.window < self._shares.window:
            self._broken(recorded, f"a share of window {event.window} after one of {self._shares.window}")
        self._shares.write(event)
        for field, total in self._shares.sums().items():
            if total > (limit := getattr(self._limits.global_per_minute, field)):
                self._broken(recorded, f"the shares of window {event.window} are {total} {field}, the limit is {limit}")

    def spend(self, recorded: Recorded, event: ThoughtGenerated) -> None:
        """A thought is paid for by a grant that has enough left."""
        if event.grant_id is None:
            return
        grant = self._grants.get(event.grant_id)
        if grant is None:
            self._broken(recorded, f"it spends a grant nobody gave: {event.grant_id}")
            return
        grant.spent["tokens"] += event.usage.tokens
        grant.spent["compute_ms"] += event.usage.compute_ms
        if grant.spent["tokens"] > grant.credits.tokens or grant.spent["compute_ms"] > grant.credits.compute_ms:
            self.overshoot += 1
            self._broken(recorded, f"it overspends its grant: {grant.spent} of {grant.credits}")

    def take(self, recorded: Recorded, event: ActionClaimed) -> None:
        """A claim is one action of a lot that has one left for its persona."""
        left = self._lots.get(event.lot_id or "", {})
        whose = (event.swarm, event.persona)
        left[whose] = left.get(whose, 0) - 1
        if left[whose] < 0:
            self._broken(recorded, "a claim beyond its lot, or of none")

    def _within_share(self, recorded: Recorded, event: BudgetGranted) -> None:
        """A grant is within what the swarm may spend as it is given, not only within what it might before in that minute."""
        charged, share = self._charged[event.swarm, "*", event.window], self._shares.written.get(event.swarm)
        for i, field in enumerate(_FIELDS):
            if share is not None and getattr(event.credits, field) and charged[i] > getattr(share, field):
                self.overshoot += 1
                self._broken(recorded, f"{charged[i]} {field} are charged in {event.window}, the share is {share}")

    def _charge(
        self,
        recorded: Recorded,
        swarm: str,
        persona: str,
        window: int,
        credits: Credits,
        sign: int,
        *,
        is_new: bool = True,
    ) -> None:
        """Conservation: what is charged to a persona is charged to all above it and to the swarm, each within its limit."""
        share = self._limits.swarm_per_minute
        if self._shares.written:
            share = Credits(**self._shares.most(swarm, window))
        accounts: list[tuple[str, Credits]] = [("*", share)]
        name: str | None = persona
        while name is not None and (found := self._personas.get((swarm, name))) is not None:
            policy, (tokens, compute_ms) = found.spawned.policy, self._families.lent(swarm, name)
            limit = Credits(
                tokens=policy.token_budget_per_minute - tokens,
                compute_ms=policy.compute_ms_per_minute - compute_ms,
                actions=self._limits.actions_per_minute,
                cost_microusd=_MOST,
            )
            accounts.append((name, limit))
            name = found.spawned.identity.parent_id if found.spawned.parent_swarm is None else None
        for account, limit in accounts:
            charged = self._charged.setdefault((swarm, account, window), [0] * len(_FIELDS))
            for i, field in enumerate(_FIELDS):
                charged[i] += sign * getattr(credits, field)
                if is_new and sign > 0 and getattr(credits, field) and charged[i] > getattr(limit, field):
                    self.overshoot += 1
                    self._broken(
                        recorded,
                        f"{account} is charged {charged[i]} {field} in window {window}, the limit is {getattr(limit, field)}",
                    )
