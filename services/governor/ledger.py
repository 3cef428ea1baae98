"""Who may spend how much this minute: the fold of `budget.*` over the lineage, and the decisions that rest on it.

Credits are debited, not copied: a grant is charged to the persona, to each of its ancestors and to the swarm, each
against its own limit per minute. While it is outstanding it counts in full; settled, it counts at what it cost.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal

import msgspec

from services.governor.limits import Limits
from services.governor.lineage import Lineage
from shared.contracts.envelope import Recorded
from shared.contracts.events import BudgetExhausted, BudgetGranted, BudgetSettled, Credits, GrantRequested
from shared.contracts.ids import caused_id
from shared.decider import NOTHING, Decision, Delivered, Result, Tick

Resource = Literal["tokens", "compute_ms", "actions"]
RESOURCES: tuple[Resource, ...] = ("tokens", "compute_ms", "actions")
WINDOW_S = 60
KEPT_WINDOWS = 5
SWARM = "*"
"""The account of the whole swarm; no persona can have this id."""


class ExpiredGrants(Result, frozen=True, kw_only=True):
    """Facts of a tick that is the ledger's: settle what has expired. It says nothing more."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Credits somebody may be spending."""

    persona: str
    window: int
    credits: Credits
    expires_at: datetime


class Ledger(msgspec.Struct, kw_only=True):
    """One swarm's accounts: what is charged in each of the last windows, by persona with all its descendants.

    `answered` holds the requests answered lately, by id, with the time of the answer.
    """

    outstanding: dict[str, Grant] = {}
    charged: dict[int, dict[str, Credits]] = {}
    answered: dict[str, datetime] = {}

    def oldest_window(self) -> int:
        """Windows before this one are forgotten."""
        return max(self.charged, default=0) - KEPT_WINDOWS + 1


def each(of: Callable[[int, int], int], a: Credits, b: Credits) -> Credits:
    """The same function of each resource; what would fall below zero is zero."""
    return Credits(
        tokens=max(0, of(a.tokens, b.tokens)),
        compute_ms=max(0, of(a.compute_ms, b.compute_ms)),
        actions=max(0, of(a.actions, b.actions)),
    )


# -- fold ------------------------------------------------------------------------------------------------------------


def evolve(ledger: Ledger, lineage: Lineage, recorded: Recorded, limits: Limits) -> None:
    """Takes one event in, in place. The lineage must be folded up to it."""
    match recorded.event:
        case BudgetGranted() as event:
            if event.grant_id not in ledger.outstanding:
                ledger.outstanding[event.grant_id] = Grant(
                    persona=event.persona, window=event.window, credits=event.credits, expires_at=event.expires_at
                )
                _charge(ledger, lineage, event.persona, event.window, event.credits, operator.add)
                _remember(ledger, recorded, limits)
        case BudgetExhausted():
            _remember(ledger, recorded, limits)
        case BudgetSettled() as event:
            grant = ledger.outstanding.pop(event.grant_id, None)
            if grant is not None:
                unspent = each(operator.sub, grant.credits, event.credits)
                _charge(ledger, lineage, grant.persona, grant.window, unspent, operator.sub)
        case _:
            pass


def _charge(
    ledger: Ledger, lineage: Lineage, persona: str, window: int, credits: Credits, how: Callable[[int, int], int]
) -> None:
    if window < ledger.oldest_window():
        return
    accounts = ledger.charged.setdefault(window, {})
    for name in (*(name for name, _ in lineage.ancestors(persona)), SWARM):
        accounts[name] = each(how, accounts.get(name, Credits()), credits)
    for old in [w for w in ledger.charged if w < ledger.oldest_window()]:
        del ledger.charged[old]


def _remember(ledger: Ledger, recorded: Recorded, limits: Limits) -> None:
    """Half as long again as a request may be old, so a repeated one is either remembered or too old to be answered."""
    if recorded.envelope.causation is not None:
        ledger.answered[recorded.envelope.causation] = recorded.envelope.time
    horizon = recorded.envelope.time - timedelta(seconds=1.5 * limits.request_ttl_s)
    while ledger.answered and ledger.answered[first := next(iter(ledger.answered))] < horizon:
        del ledger.answered[first]


# -- decisions -------------------------------------------------------------------------------------------------------


def answer(ledger: Ledger, lineage: Lineage, delivered: Delivered, request: GrantRequested, limits: Limits) -> Decision:
    """Settles the grant the request closes, and grants what it needs, or says what is exhausted, in one commit.

    A request that needs nothing only closes. `used` is believed up to what was granted.
    """
    if delivered.recorded.id in ledger.answered:
        return NOTHING
    events: list[BudgetSettled | BudgetGranted | BudgetExhausted] = []
    closing = ledger.outstanding.get(request.closing or "")
    back: tuple[int, Credits] | None = None
    if closing is not None and closing.persona == request.persona and request.closing is not None:
        spent = each(min, request.used, closing.credits)
        back = closing.window, each(operator.sub, closing.credits, spent)
        events.append(_settled(request.swarm, request.closing, closing, spent, in_full=False))
    age = delivered.now - delivered.recorded.envelope.time
    if request.need != Credits() and age <= timedelta(seconds=limits.request_ttl_s):
        events.append(_reply(ledger, lineage, delivered, request, limits, back))
    if not events:
        return NOTHING
    member = lineage.members.get(request.persona)
    return Decision(events=tuple(events), charter=None if member is None else member.charter)


def _reply(
    ledger: Ledger,
    lineage: Lineage,
    delivered: Delivered,
    request: GrantRequested,
    limits: Limits,
    back: tuple[int, Credits] | None,
) -> BudgetGranted | BudgetExhausted:
    """`back`: the window and the unspent rest of the grant that is closed with this request."""
    window = max(int(delivered.now.timestamp()) // WINDOW_S, ledger.oldest_window())

    def exhausted(scope: str, resource: Resource) -> BudgetExhausted:
        retry_at = datetime.fromtimestamp((window + 1) * WINDOW_S, UTC)
        return BudgetExhausted(
            swarm=request.swarm, persona=request.persona, scope=scope, resource=resource, retry_at=retry_at
        )

    if not lineage.is_live(request.persona):
        return exhausted("not_live", "tokens")
    charged = ledger.charged.get(window, {})
    room: Credits | None = None
    own = Credits()
    for name, limit in _limits_of(lineage, request.persona, limits):
        taken = charged.get(name, Credits())
        if back is not None and back[0] == window:
            taken = each(operator.sub, taken, back[1])
        left = each(operator.sub, limit, taken)
        for resource in RESOURCES:
            if getattr(request.need, resource) > getattr(left, resource):
                return exhausted({request.persona: "persona", SWARM: "swarm"}.get(name, name), resource)
        own = limit if room is None else own
        room = left if room is None else each(min, room, left)
    ahead = each(lambda need, limit: max(need, limit // 4) if need else 0, request.need, own)
    return BudgetGranted(
        swarm=request.swarm,
        persona=request.persona,
        grant_id=caused_id(delivered.recorded.id, "budget.granted"),
        window=window,
        credits=each(min, ahead, room or Credits()),
        expires_at=delivered.now + timedelta(seconds=limits.grant_ttl_s),
    )


def _limits_of(lineage: Lineage, persona: str, limits: Limits) -> Iterator[tuple[str, Credits]]:
    """Each account a grant to the persona is charged to, its own first, with what it may spend a minute."""
    for name, member in lineage.ancestors(persona):
        yield (
            name,
            Credits(
                tokens=member.policy.token_budget_per_minute,
                compute_ms=member.policy.compute_ms_per_minute,
                actions=limits.actions_per_minute,
            ),
        )
    yield SWARM, limits.swarm_per_minute


def reconcile(ledger: Ledger, tick: Tick, limits: Limits) -> Decision:
    """Grants nobody closed in time count as spent; `limits.batch` at most, the rest is for the next tick."""
    expired = (
        _settled(tick.swarm, grant_id, grant, grant.credits, in_full=True)
        for grant_id, grant in ledger.outstanding.items()
        if grant.expires_at <= tick.now
    )
    return Decision(events=tuple(islice(expired, limits.batch)))


def _settled(swarm: str, grant_id: str, grant: Grant, spent: Credits, *, in_full: bool) -> BudgetSettled:
    return BudgetSettled(
        swarm=swarm, persona=grant.persona, grant_id=grant_id, window=grant.window, credits=spent, in_full=in_full
    )
