"""Each swarm's share of the global budget, written into its own boundary: the fold of `budget.limited` of all swarms, of the
allocator's table and of what people set, and the next share to write.

Theory of operation. The table (`allocation.changed`) is a wish; a swarm may spend what `budget.limited.<swarm>.all` says, which lies
in the boundary its grants are guarded by. One commit writes one share, and beside it what no swarm has (the swarm `all`): it guards
the swarm's own boundary and that of all shares, so whoever else writes one meanwhile refuses it. What was written is delivered again,
and decides the next; so it goes on until everybody has what is wanted, whoever dies between. Who was crossed out first is first:
decreases, and an increase only as far as there is room. Where nobody has said what a swarm is to have, it takes a part of the room.

Room is counted by the minute: what a swarm had at any time in this one may be spent already, so an increase that another pays for is
written when the next begins.

A swarm that a persona of another began has its credits from there (`founding.py`): the first share of such a *daughter* names its
`source` and how much was `carved`, and that one's share fell in the same commit. Until a table names the daughter, what a table says of
the source is for both; so they never have more together than it had alone. When nobody lives there any more the share goes back.

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
from shared.contracts.ceilings import ceiling
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
FRESH, ALLOCATED, LIMITED, FOUNDED, ENDED = "fresh", "allocated", "limited", "founded", "ended"


class Living(Result, frozen=True, kw_only=True):
    """Facts of a tick: the swarms somebody lives in, by all that was said up to sequence `seq`, and perhaps more."""

    swarms: tuple[str, ...] = ()
    seq: int = 0


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What a swarm has: since which sequence, why, and the most it had at once in `window`, the minute of that."""

    credits: Credits
    peak: Credits
    window: int
    seq: int
    reason: str


class Carved(msgspec.Struct, frozen=True, kw_only=True):
    """Credits of `source` with which a swarm began at `seq`."""

    source: str
    credits: Credits
    seq: int


class Shares(msgspec.Struct, kw_only=True):
    """`table` is what the allocator wants, since `table_seq`; `ceilings` what people set; `answered` what decided lately. `carved` by
    daughter, while it has a share; `back` is what ended daughters leave to a source of which no table says anything.
    """

    written: dict[str, Share] = {}
    window: int = 0
    table: dict[str, Credits] = {}
    table_seq: int = 0
    ceilings: dict[str, Most] = {}
    answered: dict[str, datetime] = {}
    carved: dict[str, Carved] = {}
    back: dict[str, Credits] = {}

    def is_named(self, swarm: str) -> bool:
        """Whether the allocator has reckoned with the daughter."""
        carved = self.carved.get(swarm)
        return carved is None or (self.table_seq > carved.seq and swarm in self.table)

    def carved_of(self, source: str) -> Iterator[Credits]:
        """What is to come out of what the source is entitled to, for the table does not say it yet."""
        yield from (c.credits for name, c in self.carved.items() if c.source == source and not self.is_named(name))


def capped(credits: Credits, most: Most | None, default: Credits) -> Credits:
    """No more than a person set, or than the settings say where nobody did."""
    return _within(credits, ceiling(most, default))


# -- fold ------------------------------------------------------------------------------------------------------------


def evolve(shares: Shares, recorded: Recorded) -> None:
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
                if event.source is not None:
                    shares.carved[swarm] = Carved(source=event.source, credits=event.carved, seq=recorded.seq)
                elif event.credits == NOTHING_LEFT:
                    _give_back(shares, swarm)
                elif (owed := shares.back.pop(swarm, None)) is not None:
                    had = NOTHING_LEFT if before is None else before.credits
                    if (still := _less(owed, _less(event.credits, had))) != NOTHING_LEFT:
                        shares.back[swarm] = still
        case AllocationChanged() as event:
            shares.table = {share.swarm: share.credits for share in event.shares if share.swarm != EVERYONE}
            shares.table_seq = recorded.seq
            shares.back.clear()
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


def _give_back(shares: Shares, swarm: str) -> None:
    """A daughter has nothing any more: what it had is its source's, and so are its own daughters."""
    shares.back.pop(swarm, None)
    carved = shares.carved.pop(swarm, None)
    if carved is None:
        return
    was_named = shares.table_seq > carved.seq and swarm in shares.table
    left = carved.credits
    for name, other in list(shares.carved.items()):
        if other.source == swarm:
            shares.carved[name] = msgspec.structs.replace(other, source=carved.source)
            left = _less(left, other.credits)
    if not was_named and carved.source in shares.written and shares.table.get(carved.source) is None:
        shares.back[carved.source] = _more(shares.back.get(carved.source, NOTHING_LEFT), left)


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

    def __init__(self, shares: Shares, limits: Limits, now: datetime, living: Living | None = None) -> None:
        self._shares, self._limits, self._living = shares, limits, living
        self.window = max(int(now.timestamp()) // WINDOW_S, shares.window)
        self.room = limits.global_per_minute
        self.spare = limits.global_per_minute
        for share in shares.written.values():
            self.room = _less(self.room, each(max, share.credits, _peak(share, self.window)))
            self.spare = _less(self.spare, share.credits)
        with_a_share = {name for name, share in shares.written.items() if share.credits != NOTHING_LEFT}
        self._holders = len(with_a_share | shares.carved.keys())

    @property
    def is_full(self) -> bool:
        """Whether no further swarm may have a share."""
        return self._holders >= self._limits.max_swarms

    def has(self, swarm: str) -> Credits:
        share = self._shares.written.get(swarm)
        return NOTHING_LEFT if share is None else share.credits

    def decreases(self) -> Iterator[tuple[str, Credits, str]]:
        """Who is to have less, and how much is left to it."""
        for swarm in sorted({*self._shares.written, *self._shares.carved}):
            has = self.has(swarm)
            wanted, why = self._wanted(swarm)
            if (less := _within(has, wanted)) != has or (why == ENDED and swarm in self._shares.carved):
                yield swarm, less, why

    def increases(self) -> Iterator[tuple[str, Credits, str]]:
        """Who is to have more, as far as there is room; what it had in this minute needs none."""
        for swarm in sorted({*self._shares.written, *self._shares.table, *self._shares.carved}):
            has = self.has(swarm)
            wanted, why = self._wanted(swarm)
            share = self._shares.written.get(swarm)
            had = NOTHING_LEFT if share is None else each(max, has, _peak(share, self.window))
            more = each(max, has, _within(wanted, _more(had, self.room)))
            if more != has and (has != NOTHING_LEFT or swarm in self._shares.carved or not self.is_full):
                yield swarm, more, why

    def newcomer(self, swarm: str) -> Iterator[tuple[str, Credits, str]]:
        """The first share of a swarm that has none, and of which the table says nothing."""
        wants = self._shares.table.get(swarm, NOTHING_LEFT)
        if (
            swarm == EVERYONE
            or self.has(swarm) != NOTHING_LEFT
            or wants != NOTHING_LEFT
            or swarm in self._shares.carved
        ):
            return
        part = Credits(**{name: getattr(self.room, name) // NEWCOMERS_PART for name in RESOURCES})
        share = self._cap(swarm, part)
        if share != NOTHING_LEFT and not self.is_full:
            yield swarm, share, FRESH

    def part(self, source: str, swarm: str) -> Credits:
        """What a new swarm gets of the source's share, which may be about to fall."""
        entitled = _within(self.has(source), self._wanted(source)[0])
        part = Credits(**{name: getattr(entitled, name) // NEWCOMERS_PART for name in RESOURCES})
        return self._cap(swarm, part)

    def _wanted(self, swarm: str) -> tuple[Credits, str]:
        shares, has = self._shares, self.has(swarm)
        share, carved = shares.written.get(swarm), shares.carved.get(swarm)
        if self._has_ended(swarm):
            return NOTHING_LEFT, ENDED
        is_fresh = share is not None and share.reason == FRESH
        asked = shares.table.get(swarm) if carved is None or shares.is_named(swarm) else carved.credits
        if asked is None or (share is not None and is_fresh and share.seq > shares.table_seq):
            # nobody says what it is to have: what it has, or what a person lets it have when there is no allocator
            asked = _more(has, shares.back.get(swarm, NOTHING_LEFT))
            if not shares.table_seq and swarm in shares.ceilings and has != NOTHING_LEFT:
                asked = _more(has, self.room)
            capped_ = self._cap(swarm, asked)
            return capped_, FRESH if is_fresh else ALLOCATED if capped_ == asked else LIMITED
        for credits in shares.carved_of(swarm):
            asked = _less(asked, credits)
        capped_ = self._cap(swarm, asked)
        return capped_, ALLOCATED if capped_ == asked else LIMITED

    def _has_ended(self, swarm: str) -> bool:
        """Nobody lives there who could have come before what was last written of it, and no table since has it: its next one would."""
        shares, living = self._shares, self._living
        began = shares.carved.get(swarm) or shares.written.get(swarm)
        if living is None or began is None or began.seq > living.seq or swarm in living.swarms:
            return False
        return swarm not in shares.table or began.seq > shares.table_seq

    def _cap(self, swarm: str, credits: Credits) -> Credits:
        return capped(credits, self._shares.ceilings.get(swarm), self._limits.swarm_per_minute)


def founded(shares: Shares, limits: Limits, now: datetime, source: str, swarm: str) -> Decision | None:
    """The shares with which a swarm begins: its source's falls, and it gets that, as far as there is room in this minute. None: the
    source has nothing to give."""
    books = _Books(shares, limits, now)
    part, has = books.part(source, swarm), books.has(source)
    if not (part.tokens or part.compute_ms):
        return None
    given = _within(part, books.room)
    written = shares.written[source].reason
    return Decision(
        events=(
            _limited(books, EVERYONE, _less(_more(books.spare, part), given), "left"),
            _limited(books, source, _less(has, part), FRESH if written == FRESH else FOUNDED),
            msgspec.structs.replace(_limited(books, swarm, given, FOUNDED), source=source, carved=part),
        ),
        guards=(boundaries.SHARES, boundaries.budget(source), boundaries.budget(swarm)),
    )


def is_full(shares: Shares, limits: Limits, now: datetime) -> bool:
    """Whether no further swarm may have a share."""
    return _Books(shares, limits, now).is_full


def _limited(books: _Books, swarm: str, credits: Credits, why: str) -> BudgetLimited:
    return BudgetLimited(swarm=swarm, persona=EVERYONE, credits=credits, window=books.window, reason=why)


def _next(books: _Books, living: Collection[str] = ()) -> Decision:
    """The next share to be written, if any."""
    found = next(books.decreases(), None) or next(books.increases(), None)
    found = found or next((new for swarm in living for new in books.newcomer(swarm)), None)
    return NOTHING if found is None else _write(books, *found)


def _write(books: _Books, swarm: str, credits: Credits, why: str) -> Decision:
    left = _less(_more(books.spare, books.has(swarm)), credits)
    return Decision(
        events=(
            _limited(books, EVERYONE, left, "left"),
            _limited(books, swarm, credits, why),
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
        living = message.facts if isinstance(message, Tick) and isinstance(message.facts, Living) else None
        books = _Books(state, self.limits, message.now, living)
        if isinstance(message, Tick):
            return _next(books, () if living is None else living.swarms)
        if message.recorded.id in state.answered:
            return NOTHING
        event = message.recorded.event
        if isinstance(event, PersonaSpawned):
            found = next(books.newcomer(event.swarm), None)
            return NOTHING if found is None else _write(books, *found)
        return _next(books)

    def evolve(self, state: Shares, recorded: Recorded) -> Shares:
        evolve(state, recorded)
        return state


def _within(credits: Credits, most: Credits) -> Credits:
    return each(min, credits, most)


def _less(credits: Credits, what: Credits) -> Credits:
    return each(lambda a, b: a - b, credits, what)


def _more(credits: Credits, what: Credits) -> Credits:
    return each(lambda a, b: a + b, credits, what)
