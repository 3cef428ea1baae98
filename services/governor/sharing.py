"""Each swarm's share of the global budget, written into its own boundary: the fold of `budget.limited` of all swarms, of the
allocator's table and of what people set, and the next share to write.

Theory of operation. The table (`allocation.changed`) is a wish; a swarm may spend what `budget.limited.<swarm>.all` says, which lies
in the boundary its grants are guarded by. One commit writes one share, and beside it what no swarm has (the swarm `all`): it guards
the swarm's own boundary and that of all shares, so whoever else writes one meanwhile refuses it. What was written is delivered again,
and decides the next; so it goes on until everybody has what is wanted, whoever dies between. Who was crossed out first is first:
decreases, and an increase only as far as there is room. Where nobody has said what a swarm is to have, it takes a part of the room.

Room is counted by the minute: what a swarm had at any time in this one may be spent already, so an increase that another pays for is
written when the next begins.

Invariants, at every prefix of the log, with any number of governors:
- Σ of what the swarms have at any time in one minute <= the global budget; so is, therefore, what they are granted in it;
- a share is at most what a person set, from the first that is written after they did;
- at most `max_swarms` have one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

import msgspec

from services.governor.ledger import RESOURCES, WINDOW_S, each
from services.governor.limits import Limits
from shared.contracts import boundaries
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AllocationChanged,
    BudgetLimited,
    Credits,
    LimitsChanged,
    Most,
    PersonaSpawned,
)
from shared.contracts.ids import EVERYONE
from shared.decider import NOTHING, Boundary, Decision, Delivered, Input, Performed, Result, Tick

NOTHING_LEFT = Credits()
NEWCOMERS_PART = 4
"""A swarm of which nobody has said anything takes one part in so many of the room: so there is some for the next one."""
ANSWERED_FOR = timedelta(minutes=10)
FRESH, ALLOCATED, LIMITED = "fresh", "allocated", "limited"


class Living(Result, frozen=True, kw_only=True):
    """Facts of a tick: the swarms somebody lives in."""

    swarms: tuple[str, ...] = ()


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What a swarm has: since which sequence, why, and the most it had at once in `window`, the minute of that."""

    credits: Credits
    peak: Credits
    window: int
    seq: int
    reason: str


class Shares(msgspec.Struct, kw_only=True):
    """`table` is what the allocator wants, since `table_seq`; `ceilings` what people set; `answered` what decided lately."""

    written: dict[str, Share] = {}
    window: int = 0
    table: dict[str, Credits] = {}
    table_seq: int = 0
    ceilings: dict[str, Most] = {}
    answered: dict[str, datetime] = {}


def capped(credits: Credits, most: Most | None, default: Credits) -> Credits:
    """No more than a person set, or than the settings say where nobody did."""
    return _within(credits, ceiling(most, default))


def ceiling(most: Most | None, default: Credits) -> Credits:
    """What a swarm may have at most."""
    told = most or Most()
    return Credits(
        **{name: getattr(default, name) if (own := getattr(told, name)) is None else own for name in RESOURCES}
    )


# -- fold ------------------------------------------------------------------------------------------------------------


def _evolve(shares: Shares, recorded: Recorded) -> None:
    match recorded.event:
        case BudgetLimited(swarm=swarm) as event:
            _remember(shares, recorded)
            _turn(shares, event.window)
            if swarm != EVERYONE:
                before = shares.written.get(swarm)
                peak = event.credits if before is None else each(max, event.credits, _peak(before, shares.window))
                shares.written[swarm] = Share(
                    credits=event.credits, peak=peak, window=shares.window, seq=recorded.seq, reason=event.reason
                )
        case AllocationChanged() as event:
            shares.table = {share.swarm: share.credits for share in event.shares if share.swarm != EVERYONE}
            shares.table_seq = recorded.seq
        case LimitsChanged(swarm=swarm) as event:
            shares.ceilings[swarm] = event.ceiling
        case _:
            pass


def _turn(shares: Shares, window: int) -> None:
    """A new minute: who has nothing, and had nothing in it, is forgotten."""
    if window > shares.window:
        shares.window = window
        for name in [n for n, share in shares.written.items() if share.credits == NOTHING_LEFT]:
            del shares.written[name]


def _remember(shares: Shares, recorded: Recorded) -> None:
    cause, now = recorded.envelope.causation, recorded.envelope.time
    if cause is not None:
        shares.answered[cause] = now
    while shares.answered and shares.answered[first := next(iter(shares.answered))] < now - ANSWERED_FOR:
        del shares.answered[first]


def _peak(share: Share, window: int) -> Credits:
    """The most it had at any time in a minute; what it had when the minute began counts."""
    return share.peak if share.window >= window else share.credits


# -- decisions -------------------------------------------------------------------------------------------------------


class _Books:
    """What is wanted and what there is room for, as of one moment."""

    def __init__(self, shares: Shares, limits: Limits, now: datetime) -> None:
        self._shares, self._limits = shares, limits
        self.window = max(int(now.timestamp()) // WINDOW_S, shares.window)
        self.room = limits.global_per_minute
        self.spare = limits.global_per_minute
        for share in shares.written.values():
            self.room = _less(self.room, each(max, share.credits, _peak(share, self.window)))
            self.spare = _less(self.spare, share.credits)
        self._holders = sum(share.credits != NOTHING_LEFT for share in shares.written.values())

    def has(self, swarm: str) -> Credits:
        share = self._shares.written.get(swarm)
        return NOTHING_LEFT if share is None else share.credits

    def decreases(self) -> Iterator[tuple[str, Credits, str]]:
        """Who is to have less, and how much is left to it."""
        for swarm in sorted(self._shares.written):
            has = self.has(swarm)
            wanted, why = self._wanted(swarm)
            if (less := _within(has, wanted)) != has:
                yield swarm, less, why

    def increases(self) -> Iterator[tuple[str, Credits, str]]:
        """Who is to have more, as far as there is room; what it had in this minute needs none."""
        for swarm in sorted({*self._shares.written, *self._shares.table}):
            has = self.has(swarm)
            wanted, why = self._wanted(swarm)
            share = self._shares.written.get(swarm)
            had = NOTHING_LEFT if share is None else each(max, has, _peak(share, self.window))
            more = each(max, has, _within(wanted, _more(had, self.room)))
            if more != has and (has != NOTHING_LEFT or self._holders < self._limits.max_swarms):
                yield swarm, more, why

    def newcomer(self, swarm: str) -> Iterator[tuple[str, Credits, str]]:
        """The first share of a swarm that has none, and of which the table says nothing."""
        wants = self._shares.table.get(swarm, NOTHING_LEFT)
        if swarm == EVERYONE or self.has(swarm) != NOTHING_LEFT or wants != NOTHING_LEFT:
            return
        part = Credits(**{name: getattr(self.room, name) // NEWCOMERS_PART for name in RESOURCES})
        share = self._cap(swarm, part)
        if share != NOTHING_LEFT and self._holders < self._limits.max_swarms:
            yield swarm, share, FRESH

    def _wanted(self, swarm: str) -> tuple[Credits, str]:
        share, has = self._shares.written.get(swarm), self.has(swarm)
        asked = self._shares.table.get(swarm)
        if asked is None or (share is not None and share.reason == FRESH and share.seq > self._shares.table_seq):
            # nobody says what it is to have: what it has, or what a person lets it have when there is no allocator
            asked = has
            if not self._shares.table_seq and swarm in self._shares.ceilings and has != NOTHING_LEFT:
                asked = _more(has, self.room)
        capped_ = self._cap(swarm, asked)
        return capped_, ALLOCATED if capped_ == asked else LIMITED

    def _cap(self, swarm: str, credits: Credits) -> Credits:
        return capped(credits, self._shares.ceilings.get(swarm), self._limits.swarm_per_minute)


def _next(books: _Books, living: Collection[str] = ()) -> Decision:
    """The next share to be written, if any."""
    found = next(books.decreases(), None) or next(books.increases(), None)
    found = found or next((new for swarm in living for new in books.newcomer(swarm)), None)
    return NOTHING if found is None else _write(books, *found)


def _write(books: _Books, swarm: str, credits: Credits, why: str) -> Decision:
    left = _less(_more(books.spare, books.has(swarm)), credits)
    return Decision(
        events=(
            BudgetLimited(swarm=EVERYONE, persona=EVERYONE, credits=left, window=books.window, reason="left"),
            BudgetLimited(swarm=swarm, persona=EVERYONE, credits=credits, window=books.window, reason=why),
        ),
        guards=(boundaries.SHARES, boundaries.budget(swarm)),
    )


class Sharing(msgspec.Struct, frozen=True, kw_only=True):
    """A `shared.decider.Decider` under these limits."""

    limits: Limits = Limits()

    def initial(self) -> Shares:
        return Shares()

    def boundary(self, message: Delivered | Tick) -> Boundary | None:
        event = None if isinstance(message, Tick) else message.recorded.event
        match event:
            case None | AllocationChanged() | LimitsChanged() | PersonaSpawned():
                pass
            case BudgetLimited(swarm=swarm) if swarm != EVERYONE:
                pass
            case _:
                return None
        return Boundary(
            reads=(boundaries.SHARES, boundaries.ALLOCATION, boundaries.limits("*")),
            guards=(boundaries.SHARES,),
            lags=isinstance(event, PersonaSpawned),  # a swarm that has a share has got all it brings about
        )

    def decide(self, state: Shares, message: Input) -> Decision:
        if isinstance(message, Performed):
            return NOTHING
        books = _Books(state, self.limits, message.now)
        if isinstance(message, Tick):
            return _next(books, message.facts.swarms if isinstance(message.facts, Living) else ())
        if message.recorded.id in state.answered:
            return NOTHING
        event = message.recorded.event
        if isinstance(event, PersonaSpawned):
            found = next(books.newcomer(event.swarm), None)
            return NOTHING if found is None else _write(books, *found)
        return _next(books)

    def evolve(self, state: Shares, recorded: Recorded) -> Shares:
        _evolve(state, recorded)
        return state


def _within(credits: Credits, most: Credits) -> Credits:
    return each(min, credits, most)


def _less(credits: Credits, what: Credits) -> Credits:
    return each(lambda a, b: a - b, credits, what)


def _more(credits: Credits, what: Credits) -> Credits:
    return each(lambda a, b: a + b, credits, what)
