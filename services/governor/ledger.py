"""Who may spend how much this minute: the fold of `budget.*` over the lineage, and the decisions that rest on it.

Credits are debited, not copied: a grant is charged to the persona, to each of its ancestors and to the swarm, each
against its own limit per minute. While it is outstanding it counts in full; settled, it counts at what it cost. The swarm's limit is
the share of the global budget that was last written for it (`sharing.py`); without one it has nothing, and everybody waits. What is
lent to a child in a swarm of its own is spent there, so here its ancestors have that much less.

A grant is exactly what was needed. Whoever finds too little left stands in line, and `budget.exhausted` says so. The line is
served by whatever makes room, a settled grant or a new minute, without anybody asking again; who waited longest comes first,
and nobody overtakes on the account that another waits for.
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
from shared.contracts.events import (
    BudgetExhausted,
    BudgetGranted,
    BudgetLimited,
    BudgetRefused,
    BudgetSettled,
    Credits,
    GrantRequested,
    PersonaDraining,
    PersonaReaped,
)
from shared.contracts.ids import EVERYONE, caused_id
from shared.decider import NOTHING, Decision, Delivered, Result, Tick

Resource = Literal["tokens", "compute_ms", "actions", "cost_microusd"]
RESOURCES: tuple[Resource, ...] = ("tokens", "compute_ms", "actions", "cost_microusd")
WINDOW_S = 60
KEPT_WINDOWS = 5
SWARM = "*"
"""The account of the whole swarm; no persona can have this id."""
CITED_FOR_S = 900.0
"""So long after a grant has ended a thought may still cite it: longer than any thought takes."""
COME_AGAIN_S, APART_S, MAX_SPREAD_S = 15.0, 0.05, 30.0
"""Whoever stands in line is served when there is room. Should that fail it asks again, so long after the minute began, each a
little later than the one before it in the line."""


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What a thought says it cost, and the grant it cites."""

    persona: str
    grant_id: str | None
    credits: Credits
    seq: int


class ExpiredGrants(Result, frozen=True, kw_only=True):
    """Facts of a tick that is the ledger's: settle what has expired. `spent`: by thoughts since the last tick."""

    spent: tuple[Spent, ...] = ()


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Credits somebody may be spending."""

    persona: str
    window: int
    credits: Credits
    expires_at: datetime


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the line; forgotten at `until`, for by then it has asked again or is gone."""

    need: Credits
    until: datetime


class Ledger(msgspec.Struct, kw_only=True):
    """One swarm's accounts: what is charged in each of the last windows, by persona with all its descendants.

    `answered` holds the requests answered lately, by id, with the time of the answer; `waiting` the line, first come first.
    `ended` are grants settled lately and whose they were: a thought may cite one a little later. `audited` is the sequence up to
    which a persona's unpaid thoughts are charged. `share` is what the swarm may spend a minute, from the minute `share_window` on.
    """

    outstanding: dict[str, Grant] = {}
    charged: dict[int, dict[str, Credits]] = {}
    answered: dict[str, datetime] = {}
    waiting: dict[str, Waiting] = {}
    ended: dict[str, tuple[str, datetime]] = {}
    audited: dict[str, int] = {}
    share: Credits = Credits()
    share_window: int = 0

    def oldest_window(self) -> int:
        """Windows before this one are forgotten."""
        return max(self.charged, default=0) - KEPT_WINDOWS + 1


MOST_CREDITS = 2**53
"""The bound of each of `Credits`."""
_NONE = Credits()
_MOST = Credits(tokens=2**40, compute_ms=2**40, actions=0, cost_microusd=2**40)
"""What a thought claims to have cost is charged up to here."""


def each(of: Callable[[int, int], int], a: Credits, b: Credits) -> Credits:
    """The same function of each resource, within what credits can be: what would fall below zero is zero."""
    return Credits(
        tokens=min(MOST_CREDITS, max(0, of(a.tokens, b.tokens))),
        compute_ms=min(MOST_CREDITS, max(0, of(a.compute_ms, b.compute_ms))),
        actions=min(MOST_CREDITS, max(0, of(a.actions, b.actions))),
        cost_microusd=min(MOST_CREDITS, max(0, of(a.cost_microusd, b.cost_microusd))),
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
                ledger.waiting.pop(event.persona, None)
        case BudgetExhausted() as event:
            _remember(ledger, recorded, limits)
            _stand_in_line(ledger, event, recorded.envelope.time, limits)
        case PersonaDraining(persona=persona):
            ledger.waiting.pop(persona, None)
        case PersonaReaped(persona=persona):
            ledger.waiting.pop(persona, None)
            ledger.audited.pop(persona, None)
        case BudgetSettled() as event:
            grant = ledger.outstanding.pop(event.grant_id, None)
            if grant is not None:
                unspent = each(operator.sub, grant.credits, event.credits)
                _charge(ledger, lineage, grant.persona, grant.window, unspent, operator.sub)
                _end(ledger, event.grant_id, grant.persona, recorded.envelope.time)
        case BudgetRefused() as event:
            _remember(ledger, recorded, limits)
            if event.credits != Credits():
                _charge(ledger, lineage, event.persona, event.window, event.credits, operator.add)
            if event.upto:
                ledger.audited[event.persona] = max(event.upto, ledger.audited.get(event.persona, 0))
        case BudgetLimited(persona=persona) as event if persona == EVERYONE:
            ledger.share, ledger.share_window = event.credits, max(event.window, ledger.share_window)
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


def _end(ledger: Ledger, grant_id: str, persona: str, now: datetime) -> None:
    ledger.ended[grant_id] = persona, now
    horizon = now - timedelta(seconds=CITED_FOR_S)
    while ledger.ended[first := next(iter(ledger.ended))][1] < horizon:
        del ledger.ended[first]


def _stand_in_line(ledger: Ledger, event: BudgetExhausted, now: datetime, limits: Limits) -> None:
    """Who asks again keeps its place; who could never be served has none."""
    place = ledger.waiting.get(event.persona)
    if event.need == Credits() or (place is not None and place.until <= now):
        ledger.waiting.pop(event.persona, None)
    if event.need != Credits():
        until = event.retry_at + timedelta(seconds=limits.request_ttl_s)
        ledger.waiting[event.persona] = Waiting(need=event.need, until=until)
    while ledger.waiting and ledger.waiting[first := next(iter(ledger.waiting))].until <= now:
        del ledger.waiting[first]


def _remember(ledger: Ledger, recorded: Recorded, limits: Limits) -> None:
    """Half as long again as a request may be old, so a repeated one is either remembered or too old to be answered."""
    if recorded.envelope.causation is not None:
        ledger.answered[recorded.envelope.causation] = recorded.envelope.time
    horizon = recorded.envelope.time - timedelta(seconds=1.5 * limits.request_ttl_s)
    while ledger.answered and ledger.answered[first := next(iter(ledger.answered))] < horizon:
        del ledger.answered[first]


# -- decisions -------------------------------------------------------------------------------------------------------


def answer(ledger: Ledger, lineage: Lineage, delivered: Delivered, request: GrantRequested, limits: Limits) -> Decision:
    """Settles the grant the request closes, and serves the line with the request at its end, in one commit.

    A request that needs nothing only closes. `used` is believed up to what was granted.
    """
    if delivered.recorded.id in ledger.answered:
        return NOTHING
    events: list[BudgetSettled | BudgetGranted | BudgetExhausted | BudgetRefused] = []
    teller = _Teller(ledger, lineage, limits, delivered.recorded.id, delivered.now)
    closing = ledger.outstanding.get(request.closing or "")
    if closing is not None and closing.persona == request.persona and request.closing is not None:
        spent = each(min, request.used, closing.credits)
        teller.give_back(closing, spent)
        events.append(_settled(request.swarm, request.closing, closing, spent, in_full=False))
    elif request.closing is not None and (reason := _fault(ledger, request.persona, request.closing)) is not None:
        refused = BudgetRefused(
            swarm=request.swarm,
            persona=request.persona,
            reason=reason,
            grant_id=request.closing,
            window=teller.window,
        )
        events.append(refused)
    age = delivered.now - delivered.recorded.envelope.time
    if request.need != Credits() and age <= timedelta(seconds=limits.request_ttl_s):
        events += teller.serve(request.swarm, request)
    elif events:
        events += teller.serve(request.swarm)
    if not events:
        return NOTHING
    member = lineage.members.get(request.persona)
    return Decision(events=tuple(events), charter=None if member is None else member.charter)


def widen(ledger: Ledger, lineage: Lineage, delivered: Delivered, limits: Limits) -> Decision:
    """Another share was written: perhaps there is room for those in line."""
    if delivered.recorded.id in ledger.answered or not ledger.waiting:
        return NOTHING
    teller = _Teller(ledger, lineage, limits, delivered.recorded.id, delivered.now)
    return Decision(events=tuple(teller.serve(delivered.recorded.event.swarm)))


def reconcile(ledger: Ledger, lineage: Lineage, tick: Tick, limits: Limits) -> Decision:
    """Grants nobody closed in time count as spent, and a new minute has room for those in line; `limits.batch` at most.

    What was spent without a grant is refused and charged: whoever spends so has the less for what it may.
    """
    expired = (
        _settled(tick.swarm, grant_id, grant, grant.credits, in_full=True)
        for grant_id, grant in ledger.outstanding.items()
        if grant.expires_at <= tick.now
    )
    teller = _Teller(ledger, lineage, limits, tick.id, tick.now)
    facts = tick.facts if isinstance(tick.facts, ExpiredGrants) else ExpiredGrants()
    unpaid = list(islice(_unpaid(ledger, tick.swarm, facts.spent, teller.window), limits.batch))
    for event in unpaid:
        teller.charge(event)
    ended = list(islice(expired, limits.batch - len(unpaid)))
    served = teller.serve(tick.swarm) if ledger.waiting else []
    return Decision(events=(*unpaid, *ended, *served)[: limits.batch])


def _fault(ledger: Ledger, persona: str, grant_id: str) -> Literal["unknown_grant", "anothers_grant"] | None:
    """Why a grant is not, and was not lately, the persona's."""
    grant = ledger.outstanding.get(grant_id)
    holder = grant.persona if grant is not None else ledger.ended.get(grant_id, (None,))[0]
    if holder is None:
        return "unknown_grant"
    return None if holder == persona else "anothers_grant"


def _unpaid(ledger: Ledger, swarm: str, spent: tuple[Spent, ...], window: int) -> Iterator[BudgetRefused]:
    """What thoughts cost that no grant of their persona's paid for, in one event a persona and grant."""
    found: dict[tuple[str, str | None], Credits] = {}
    upto: dict[str, int] = {}
    for thought in spent:
        if thought.seq <= ledger.audited.get(thought.persona, 0):
            continue
        upto[thought.persona] = max(thought.seq, upto.get(thought.persona, 0))
        if thought.grant_id is None or _fault(ledger, thought.persona, thought.grant_id) is not None:
            key = thought.persona, thought.grant_id
            found[key] = each(operator.add, found.get(key, _NONE), thought.credits)
    for (persona, grant_id), credits in found.items():
        yield BudgetRefused(
            swarm=swarm,
            persona=persona,
            reason="no_grant" if grant_id is None else _fault(ledger, persona, grant_id) or "unknown_grant",
            grant_id=grant_id,
            window=window,
            credits=each(min, credits, _MOST),
            upto=upto[persona],
        )


class _Teller:
    """What is left in each account as one decision goes on. `cause` is the id of what is being decided."""

    def __init__(self, ledger: Ledger, lineage: Lineage, limits: Limits, cause: str, now: datetime) -> None:
        self._ledger, self._lineage, self._limits, self._cause, self._now = ledger, lineage, limits, cause, now
        self.window = max(int(now.timestamp()) // WINDOW_S, ledger.oldest_window(), ledger.share_window)
        self._charged = dict(ledger.charged.get(self.window, {}))
        self._awaited: set[tuple[str, Resource]] = set()
        """What somebody further ahead waits for, by account: nobody overtakes there."""

    def charge(self, unpaid: BudgetRefused) -> None:
        """What was spent without a grant is no longer there for one."""
        self._book(unpaid.persona, unpaid.credits, operator.add)

    def give_back(self, grant: Grant, spent: Credits) -> None:
        """A grant that is closed makes room in its own minute."""
        if grant.window == self.window:
            self._book(grant.persona, each(operator.sub, grant.credits, spent), operator.sub)

    def serve(self, swarm: str, request: GrantRequested | None = None) -> list[BudgetGranted | BudgetExhausted]:
        """Grants for those in line, and the answer to the request, which keeps its place if it had one."""
        line = [(name, place.need) for name, place in self._ledger.waiting.items() if place.until > self._now]
        if request is not None:
            never = self._never(request)
            if never is not None:
                return [self._exhausted(request, *never, in_line=None)]
            if request.persona in self._ledger.waiting:
                line = [(name, request.need if name == request.persona else need) for name, need in line]
            if request.persona not in (name for name, _ in line):
                line.append((request.persona, request.need))
        events: list[BudgetGranted | BudgetExhausted] = []
        for position, (persona, need) in enumerate(line):
            asked = request is not None and persona == request.persona
            if len(events) >= self._limits.batch and not asked:
                continue
            missing = self._missing(persona, need)
            if missing is None:
                self._book(persona, need, operator.add)
                events.append(self._granted(swarm, persona, need, own=asked))
            elif asked and request is not None:
                events.append(self._exhausted(request, *missing, in_line=position))
        return events

    def _never(self, request: GrantRequested) -> tuple[str, Resource] | None:
        """What no waiting would bring: a whole minute of an account is less, or of all swarms together, or the persona does not live."""
        if not self._lineage.is_live(request.persona):
            return "not_live", "tokens"
        if request.need.actions:
            return request.persona, "actions"  # they come in lots, to who does them
        for name, limit in _limits_of(self._lineage, request.persona, self._limits, self._limits.global_per_minute):
            for resource in RESOURCES:
                if getattr(request.need, resource) > getattr(limit, resource):
                    return name, resource
        return None

    def _missing(self, persona: str, need: Credits) -> tuple[str, Resource] | None:
        """The first account, from its own upwards, that has too little left or is waited for by somebody ahead."""
        if not self._lineage.is_live(persona):
            return "not_live", "tokens"
        wanted = [resource for resource in RESOURCES if getattr(need, resource)]
        if self._awaited:
            for name in (*(name for name, _ in self._lineage.ancestors(persona)), SWARM):
                for resource in wanted:
                    if (name, resource) in self._awaited:
                        return name, resource
        for name, limit in _limits_of(self._lineage, persona, self._limits, self._ledger.share):
            charged = self._charged.get(name, _NONE)
            for resource in wanted:
                if getattr(need, resource) > getattr(limit, resource) - getattr(charged, resource):
                    self._awaited.add((name, resource))
                    return name, resource
        return None

    def _book(self, persona: str, credits: Credits, how: Callable[[int, int], int]) -> None:
        for name in (*(name for name, _ in self._lineage.ancestors(persona)), SWARM):
            self._charged[name] = each(how, self._charged.get(name, _NONE), credits)

    def _granted(self, swarm: str, persona: str, credits: Credits, *, own: bool) -> BudgetGranted:
        name = "budget.granted" if own else f"budget.granted.{persona}"
        return BudgetGranted(
            swarm=swarm,
            persona=persona,
            grant_id=caused_id(self._cause, name),
            window=self.window,
            credits=credits,
            expires_at=self._now + timedelta(seconds=self._limits.grant_ttl_s),
        )

    def _exhausted(
        self, request: GrantRequested, account: str, resource: Resource, *, in_line: int | None
    ) -> BudgetExhausted:
        retry_at = datetime.fromtimestamp((self.window + 1) * WINDOW_S, UTC)
        if in_line is not None:
            retry_at += timedelta(seconds=COME_AGAIN_S + min(in_line * APART_S, MAX_SPREAD_S))
        return BudgetExhausted(
            swarm=request.swarm,
            persona=request.persona,
            scope={request.persona: "persona", SWARM: "swarm"}.get(account, account),
            resource=resource,
            retry_at=retry_at,
            need=Credits() if in_line is None else request.need,
        )


def _limits_of(lineage: Lineage, persona: str, limits: Limits, share: Credits) -> Iterator[tuple[str, Credits]]:
    """Each account a grant to the persona is charged to, its own first, with what it may spend a minute; `share` is the swarm's."""
    for name, member in lineage.ancestors(persona):
        yield (
            name,
            Credits(
                tokens=member.tokens,
                compute_ms=member.compute_ms,
                actions=limits.actions_per_minute,
                cost_microusd=MOST_CREDITS,
            ),
        )
    yield SWARM, share


def _settled(swarm: str, grant_id: str, grant: Grant, spent: Credits, *, in_full: bool) -> BudgetSettled:
    return BudgetSettled(
        swarm=swarm, persona=grant.persona, grant_id=grant_id, window=grant.window, credits=spent, in_full=in_full
    )
