"""Fold of the credits ledger into one line a swarm. Pure; bounded by the number of swarms and of outstanding grants."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from services.gateway.wire.ids import as_given
from services.gateway.wire.mesh import SwarmBudget
from shared.contracts.ceilings import ceiling
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    BudgetExhausted,
    BudgetGranted,
    BudgetLimited,
    BudgetSettled,
    Credits,
    LimitsChanged,
    Most,
)
from shared.contracts.ids import EVERYONE

KEEP_GRANTS = 20_000
MOST = 2**53
"""No number of a view is larger, whatever was said."""


def total(credits: list[Credits]) -> Credits:
    """Their sum, at most what an event can say: a view that is not decodable is none."""
    return Credits(
        tokens=min(MOST, sum(c.tokens for c in credits)),
        compute_ms=min(MOST, sum(c.compute_ms for c in credits)),
        actions=min(MOST, sum(c.actions for c in credits)),
        cost_microusd=min(MOST, sum(c.cost_microusd for c in credits)),
    )


class Account(msgspec.Struct, kw_only=True):
    """One swarm; `window` in minutes since 1970 is the newest with a grant. `share`: what it may spend a minute; `limits`: what people
    set."""

    window: int = 0
    granted: Credits = Credits()
    settled: Credits = Credits()
    open: dict[str, Credits] = {}
    paused: set[str] = set()
    share: Credits | None = None
    share_reason: str = ""
    limits: LimitsChanged | None = None


RESOURCES = ("tokens", "compute_ms", "actions", "cost_microusd")


class Ledger:
    """Accounts by swarm."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}

    def view(self, default: Credits) -> list[SwarmBudget]:
        """All of them by name. `default`: the ceiling where nobody set another."""
        accounts = sorted(self._accounts.items(), key=lambda entry: as_given(entry[0]))
        return [self._view(swarm, account, default) for swarm, account in accounts]

    def one(self, swarm: str, default: Credits) -> SwarmBudget:
        return self._view(swarm, self._accounts.get(swarm, Account()), default)

    def _view(self, swarm: str, account: Account, default: Credits) -> SwarmBudget:
        limits = account.limits
        return SwarmBudget(
            swarm_id=as_given(swarm),
            window_started_at=datetime.fromtimestamp(account.window * 60, UTC),
            granted=account.granted,
            settled=account.settled,
            outstanding=total(list(account.open.values())),
            paused_personas=tuple(sorted(as_given(persona) for persona in account.paused)),
            share=account.share,
            share_reason=account.share_reason,
            floor=Credits() if limits is None else limits.floor,
            ceiling=ceiling(Most() if limits is None else limits.ceiling, default),
            set=None if limits is None else limits.ceiling,
            weight=100 if limits is None else limits.weight,
            version=0 if limits is None else limits.version,
            set_by="" if limits is None else limits.principal,
            reason="" if limits is None else limits.reason,
            in_force=self.in_force(swarm, default),
        )

    def in_force(self, swarm: str, default: Credits) -> bool:
        """Whether the swarm's share, if it has one, is within what people set."""
        account = self._accounts.get(swarm, Account())
        if account.share is None or account.limits is None:
            return True
        most = ceiling(account.limits.ceiling, default)
        return all(getattr(account.share, name) <= getattr(most, name) for name in RESOURCES)

    def floors(self, *, but: str) -> Credits:
        """What all other swarms are to have at least."""
        return total([a.limits.floor for swarm, a in self._accounts.items() if a.limits is not None and swarm != but])

    def limited(self) -> int:
        """How many swarms have limits of their own."""
        return sum(account.limits is not None for account in self._accounts.values())

    def has_limits(self, swarm: str) -> bool:
        return self._accounts.get(swarm, Account()).limits is not None

    def sharing(self) -> set[str]:
        """The swarms that have a share."""
        return {swarm for swarm, a in self._accounts.items() if a.share is not None and a.share != Credits()}

    def capture(self) -> dict[str, Account]:
        """Copies of all accounts."""
        return {
            swarm: msgspec.structs.replace(account, open=dict(account.open), paused=set(account.paused))
            for swarm, account in self._accounts.items()
        }

    def restore(self, accounts: dict[str, Account]) -> None:
        self._accounts = accounts

    def apply(self, recorded: Recorded) -> None:
        event = recorded.event
        if not isinstance(event, BudgetGranted | BudgetSettled | BudgetExhausted | BudgetLimited | LimitsChanged):
            return
        if event.swarm == EVERYONE:
            return  # what no swarm has
        account = self._accounts.setdefault(event.swarm, Account())
        match event:
            case BudgetGranted():
                if event.window > account.window:
                    account.window, account.granted, account.settled = event.window, Credits(), Credits()
                if event.window == account.window:
                    account.granted = total([account.granted, event.credits])
                account.open[event.grant_id] = event.credits
                account.paused.discard(event.persona)
                while len(account.open) > KEEP_GRANTS:
                    del account.open[next(iter(account.open))]
            case BudgetSettled():
                account.open.pop(event.grant_id, None)
                if event.window == account.window:
                    account.settled = total([account.settled, event.credits])
            case BudgetLimited():
                account.share, account.share_reason = event.credits, event.reason
            case LimitsChanged():
                account.limits = event
            case BudgetExhausted():
                account.paused.add(event.persona)
