"""Fold of the credits ledger into one line a swarm. Pure; bounded by the number of swarms and of outstanding grants."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from services.gateway.wire.ids import as_given
from services.gateway.wire.views import SwarmBudget
from shared.contracts.envelope import Recorded
from shared.contracts.events import BudgetExhausted, BudgetGranted, BudgetSettled, Credits

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
    """One swarm; `window` in minutes since 1970 is the newest with a grant."""

    window: int = 0
    granted: Credits = Credits()
    settled: Credits = Credits()
    open: dict[str, Credits] = {}
    paused: set[str] = set()


class Ledger:
    """Accounts by swarm."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}

    def view(self) -> list[SwarmBudget]:
        return [
            SwarmBudget(
                swarm_id=as_given(swarm),
                window_started_at=datetime.fromtimestamp(account.window * 60, UTC),
                granted=account.granted,
                settled=account.settled,
                outstanding=total(list(account.open.values())),
                paused_personas=tuple(sorted(as_given(persona) for persona in account.paused)),
            )
            for swarm, account in sorted(self._accounts.items(), key=lambda entry: as_given(entry[0]))
        ]

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
        if not isinstance(event, BudgetGranted | BudgetSettled | BudgetExhausted):
            return
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
            case BudgetExhausted():
                account.paused.add(event.persona)
