"""The allocator and the governors' shares together, on a log in memory: twenty swarms, bursts, and one that lies.

What personas would spend is made up, second by second; grants, what they cost and refusals are said as the ledger says them. Shares are
written by two governors, tables said by two meta-orchestrators that die now and then. Time is made up too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from services.governor.limits import Limits
from services.governor.sharing import Shares, Sharing
from services.meta_orchestrator.allocation.decider import Allocator, Claims, Table
from services.meta_orchestrator.allocation.measuring import CLASSES, Measures
from services.meta_orchestrator.allocation.target import Claim, target
from shared.contracts.catalog import class_of
from shared.contracts.envelope import Message, Recorded, decode, enveloped
from shared.contracts.events import (
    AllocationChanged,
    AnyEvent,
    BudgetExhausted,
    BudgetGranted,
    BudgetLimited,
    BudgetSettled,
    Credits,
    LimitsChanged,
    Most,
    PersonaDraining,
)
from shared.contracts.ids import EVERYONE, fresh_id
from shared.decider import NOTHING, Delivered, Tick
from shared.log.port import Expect, StaleBoundary
from shared.runtime.handling import Fold, matches_one
from tests.examples import on_the_wire
from tests.unit.contracts.test_survival import history
from tests.unit.gate.given import record
from tests.unit.governor.governor_model import at
from tests.unit.governor.test_shares import Mesh, spawned

TOTAL = Credits(tokens=20_000, compute_ms=20_000, actions=100, cost_microusd=1000)
LIMITS = Limits(swarm_per_minute=TOTAL, global_per_minute=TOTAL, max_swarms=30)
NAMES = tuple(f"s{n:02}" for n in range(20))
STEP_S = 2
Appetite = Callable[[str, int], int]
"""Tokens a minute a swarm would spend, by its name and the minute."""


class World(Mesh):
    """`appetite` is real; `lies` claims much and spends nothing."""

    def __init__(self, appetite: Appetite, *, lies: str | None = None, seed: int = 0) -> None:
        super().__init__(LIMITS, seed)
        self.appetite, self.lies = appetite, lies
        self.allocators = [Allocator(total=TOTAL), Allocator(total=TOTAL)]
        self.tables: list[Fold[Table]] = []
        self.measures: list[Measures] = []
        self.read = [0, 0]
        self.spent: dict[int, Counter[str]] = defaultdict(Counter)
        self.may: dict[str, int] = {}
        self.living = list(NAMES)
        self.looked = 0
        self.granted: Counter[tuple[str, int]] = Counter()
        for n in (0, 1):
            self.begin(n)
        for name in NAMES:
            self.say(spawned(name, 0))
        self.settle()

    def begin(self, n: int) -> None:
        """A meta-orchestrator starts anew, and reads the log from its beginning."""
        self.measures[n:] = [Measures(), *self.measures[n + 1 :]]
        boundary = self.allocators[n].boundary(self.look(n, ()))
        assert boundary is not None
        self.tables[n:] = [Fold(self.allocators[n], boundary), *self.tables[n + 1 :]]
        self.read[n] = 0

    def look(self, n: int, claims: tuple[Claim, ...]) -> Tick:
        limits = max((s.limits_seq for s in self.measures[n].swarms.values()), default=0)
        facts = Claims(claims=claims, limits_seq=limits)
        return Tick(id=fresh_id(), now=self.now, swarm=EVERYONE, facts=facts)

    def allocate(self, n: int) -> None:
        for recorded in self.store.records[self.read[n] :]:
            if class_of(recorded.event) in CLASSES:
                self.measures[n].apply(recorded)
        self.read[n] = len(self.store.records)
        fold, tick = self.tables[n], self.look(n, self.measures[n].claims(self.now, TOTAL))
        fold.absorb(self.store.stored(fold.boundary.reads, fold.position))
        decision = self.allocators[n].decide(fold.state, tick)
        if decision != NOTHING:
            self.say(decision.events[0])

    def live(self, minutes: int, *, dying: bool = False) -> None:
        """So much time passes."""
        end = self.second + 60 * minutes
        while self.second < end:
            self.second += STEP_S
            window = int(self.now.timestamp()) // 60
            for name in NAMES:
                self.want(name, window)
            for n in (0, 1):
                if dying and self.random.random() < 0.02:
                    self.begin(n)
                self.allocate(n)
            if self.second % 6 == 0:
                self.tick(*self.living)
            self.settle()

    def want(self, name: str, window: int) -> None:
        """One persona of the swarm asks for what it would spend in this step, and gives back what it did not."""
        lie = name == self.lies
        need = 900 if lie else self.appetite(name, int(self.second - 0.5) // 60) * STEP_S // 60
        if not need:
            return
        share = self.now_written().get(name, 0)
        whose = {"swarm": name, "persona": "p"}
        if self.granted[name, window] + need > share:
            at = self.now + timedelta(seconds=60)
            self.say(BudgetExhausted(**whose, scope="swarm", resource="tokens", retry_at=at, need=Credits(tokens=need)))
            return
        self.serial += 1
        grant = f"g{self.serial}"
        expires = self.now + timedelta(seconds=90)
        credits = Credits(tokens=need)
        self.say(BudgetGranted(**whose, grant_id=grant, window=window, credits=credits, expires_at=expires))
        cost = 0 if lie else need
        self.say(BudgetSettled(**whose, grant_id=grant, window=window, credits=Credits(tokens=cost)))
        self.granted[name, window] += cost
        self.spent[int(self.second - 0.5) // 60][name] += cost

    def now_written(self) -> dict[str, int]:
        """What each may spend now."""
        for recorded in self.store.records[self.looked :]:
            if isinstance(recorded.event, BudgetLimited):
                self.may[recorded.event.swarm] = recorded.event.credits.tokens
        self.looked = len(self.store.records)
        return self.may

    def tables_said(self) -> list[Recorded]:
        return [r for r in self.store.records if isinstance(r.event, AllocationChanged)]


def entitled(appetite: Appetite, minute: int, lies: str | None = None) -> dict[str, int]:
    """What a fair allocator that knows all appetites would let each spend that is honest; who lies has room for one wish."""
    claims = [
        Claim(swarm=name, demand=Credits(tokens=900 if name == lies else appetite(name, minute)), ceiling=TOTAL)
        for name in NAMES
    ]
    got = target(claims, TOTAL)
    return {c.swarm: min(c.demand.tokens, got[c.swarm].tokens) for c in claims if c.swarm != lies}


def bursts(name: str, minute: int) -> int:
    """From minute 2 on five swarms want much more than their part, one of them all there is."""
    if minute >= 2 and name in NAMES[:5]:
        return 20_010 if name == NAMES[0] else 5010
    return 300


@pytest.mark.parametrize("lies", [None, NAMES[7]])
@pytest.mark.parametrize("dying", [False, True])
def test_a_burst_has_its_fair_part_within_three_windows_whoever_lies_or_dies(lies: str | None, dying: bool) -> None:
    world = World(bursts, lies=lies)
    world.live(6, dying=dying)
    assert [] == world.violations()
    due = entitled(bursts, 5, lies)
    piece = {n: bursts(n, 5) * STEP_S // 60 for n in NAMES}  # nobody can spend less than a grant
    short = {n: (world.spent[5][n], due[n]) for n in due if world.spent[5][n] < 0.95 * (due[n] - piece[n])}
    assert {} == short
    assert sum(world.spent[5].values()) > 0.85 * 20_000
    assert sum(world.spent[5].values()) <= 20_000


def test_at_rest_nothing_is_said() -> None:
    world = World(lambda name, minute: 300 if minute < 2 else 0)
    world.live(4)
    before = len(world.store.records)
    world.live(4)
    assert before == len(world.store.records)


def test_steady_work_within_what_each_has_moves_nothing() -> None:
    world = World(lambda name, minute: 600)
    world.live(3)
    before = len(world.tables_said())
    world.live(5)
    assert before == len(world.tables_said())


def test_a_swarm_that_is_gone_gives_back_what_it_had_and_a_new_one_finds_room() -> None:
    world = World(lambda name, minute: 0)
    world.live(2)
    assert world.tokens()[NAMES[3]] > 0
    world.living.remove(NAMES[3])
    world.say(PersonaDraining(swarm=NAMES[3], persona="p", reason="test", deadline=world.now))
    world.live(2)
    assert world.tokens()[NAMES[3]] == 0
    world.say(spawned("late", world.second))
    world.settle()
    assert world.tokens()["late"] > 0  # before the allocator has looked
    world.live(2)
    assert [] == world.violations()


def test_a_person_lowers_a_limit_and_raises_it_again() -> None:
    world = World(lambda name, minute: 3000 if name == NAMES[1] else 0)
    world.live(3)
    had = world.tokens()[NAMES[1]]
    assert had >= 3000
    said = {"swarm": NAMES[1], "persona": EVERYONE, "principal": "ada"}
    world.say(LimitsChanged(**said, version=1, ceiling=Most(tokens=120)))
    world.settle()
    assert world.tokens()[NAMES[1]] == 120
    world.live(2)
    assert world.tokens()[NAMES[1]] == 120 and world.spent[4][NAMES[1]] <= 120
    world.say(LimitsChanged(**said, version=2))
    world.live(3)
    assert world.spent[7][NAMES[1]] > 0.9 * 3000
    assert [] == world.violations()


def test_a_floor_is_lent_while_it_is_idle_and_recalled_when_it_is_wanted() -> None:
    def appetite(name: str, minute: int) -> int:
        return {NAMES[0]: 0 if minute < 4 else 9000}.get(name, 3000)

    world = World(appetite)
    world.say(LimitsChanged(swarm=NAMES[0], persona=EVERYONE, version=1, floor=Credits(tokens=9000), principal="ada"))
    world.live(4)
    assert sum(world.spent[3].values()) > 0.85 * 20_000
    world.live(4)
    assert world.spent[5][NAMES[0]] > 0.9 * 9000  # the next window
    assert world.spent[7][NAMES[0]] > 0.9 * 9000
    assert [] == world.violations()


def test_of_two_that_say_a_table_at_once_one_is_heard() -> None:
    world = World(lambda name, minute: 0)
    tick = world.look(0, (Claim(swarm="s00", ceiling=TOTAL),))
    (event,) = world.allocators[0].decide(Table(), tick).events
    boundary = world.allocators[0].boundary(tick)
    assert boundary is not None and boundary.guards == boundary.reads

    def said(event: AnyEvent) -> Message:
        return Message(event=event, envelope=enveloped(fresh_id(), source="meta_orchestrator", time=world.now))

    world.store.append([said(event)], [Expect(boundary.guards[0], 0)])
    with pytest.raises(StaleBoundary):
        world.store.append([said(event)], [Expect(boundary.guards[0], 0)])


@pytest.mark.parametrize("seed", range(12))
def test_whatever_decodes_is_measured_shared_and_written(seed: int) -> None:
    """Events at the edges of their types, in any order; decisions stay within what an event may say."""
    sharing, measures, table = Sharing(limits=LIMITS), Measures(), Table()
    shares, allocator = sharing.initial(), Allocator(total=TOTAL)
    for recorded in history(seed):
        if class_of(recorded.event) in CLASSES:
            measures.apply(recorded)
        message = Delivered(recorded=recorded, now=at(0))
        if (boundary := sharing.boundary(message)) is not None:
            shares = sharing.evolve(shares, recorded) if matches_one(boundary.reads, recorded.subject) else shares
            for event in sharing.decide(shares, message).events:
                decode(
                    *on_the_wire(Message(event=event, envelope=recorded.envelope)), seq=1, stored_at=recorded.stored_at
                )
        table = allocator.evolve(table, recorded)
    claims = Claims(claims=measures.claims(at(0), TOTAL))
    tick = Tick(id="t", now=at(0), swarm=EVERYONE, facts=claims)
    for event in allocator.decide(table, tick).events:
        message_ = Message(event=event, envelope=history(seed)[-1].envelope)
        decode(*on_the_wire(message_), seq=1, stored_at=tick.now)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(shares), type=Shares) == shares


def test_of_a_swarm_nobody_lives_in_nothing_is_kept_but_what_a_person_said_and_whom_the_living_descend_from() -> None:
    measures, seq = Measures(), 0

    def hear(*events: AnyEvent) -> set[str]:
        nonlocal seq
        for event in events:
            seq += 1
            measures.apply(record(event, seq))
        return set(measures.swarms)

    def ends(swarm: str) -> tuple[AnyEvent, ...]:
        return (
            PersonaDraining(swarm=swarm, persona="p", reason="done", deadline=at(9)),
            BudgetLimited(swarm=swarm, persona=EVERYONE, credits=Credits(), window=0),
        )

    some = BudgetLimited(swarm="s00", persona=EVERYONE, credits=TOTAL, window=0)
    for n in range(1000):
        name = f"w{n}"
        hear(spawned(name, 0), msgspec.structs.replace(some, swarm=name), *ends(name))
        hear(BudgetSettled(swarm=name, persona="p", grant_id="g", window=0, credits=TOTAL))
    assert set() == hear()
    born = [
        msgspec.structs.replace(spawned(name, 0), parent_swarm=mother) for name, mother in (("a", None), ("b", "a"))
    ]
    hear(*born, msgspec.structs.replace(spawned("c", 0), parent_swarm="b"))
    assert {"a", "b", "c"} == hear(*ends("b"), *ends("a"))
    assert ["a"] == [claim.family for claim in measures.claims(at(9), TOTAL)]
    assert set() == hear(*ends("c"))
    assert {"k"} == hear(
        LimitsChanged(swarm="k", persona=EVERYONE, version=1, principal="op"), spawned("k", 0), *ends("k")
    )
