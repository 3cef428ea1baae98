"""Shares of the global budget: decreases first, increases as far as there is room, whoever writes and whoever dies.

Two governors in any interleaving; what must hold is judged from the log alone. T0 is the start of a minute.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.governor.decider import ledger_boundary
from services.governor.limits import RESOURCES, Limits
from services.governor.sharing import Living, Shares, Sharing
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AllocationChanged,
    AnyEvent,
    BudgetLimited,
    Credits,
    LimitsChanged,
    Most,
    PersonaSpawned,
    SwarmShare,
)
from shared.contracts.ids import EVERYONE
from shared.contracts.persona import Identity, PersonaPolicy
from shared.decider import Boundary, Decision, Delivered, Tick
from shared.invariants import Invariants
from shared.invariants import Limits as Judged
from shared.log.memory import Store
from shared.log.port import DuplicateEvent, StaleBoundary
from shared.runtime.handling import Commit, Ends, Fold, Read, addressed, handle
from tests.unit.governor.governor_model import at

LIMITS = Limits(
    swarm_per_minute=Credits(tokens=600, compute_ms=600, actions=60, cost_microusd=600),
    global_per_minute=Credits(tokens=1000, compute_ms=1000, actions=100, cost_microusd=1000),
    max_swarms=4,
)
NAMES = ("a", "b", "c", "d", "e")


def all_of(amount: int) -> Credits:
    return Credits(tokens=amount, compute_ms=amount, actions=amount // 10, cost_microusd=amount)


def table(**wanted: int) -> AllocationChanged:
    shares = tuple(SwarmShare(swarm=swarm, credits=all_of(amount)) for swarm, amount in wanted.items())
    return AllocationChanged(swarm=EVERYONE, persona=EVERYONE, shares=shares, reason="test")


def ceiling(swarm: str, tokens: int | None, version: int = 1) -> LimitsChanged:
    most = Most(tokens=tokens)
    return LimitsChanged(swarm=swarm, persona=EVERYONE, version=version, ceiling=most, principal="ada")


def spawned(swarm: str, second: float, name: str = "p") -> PersonaSpawned:
    identity = Identity(id=name, name=name, role="r", charter="c", swarm_id=swarm, created_at=at(second))
    return PersonaSpawned(swarm=swarm, persona=name, identity=identity, policy=PersonaPolicy(), principal="ada")


class Mesh:
    """A log with two governors' folds of the shares; every event on it is delivered to one of them, sometimes twice."""

    def __init__(self, limits: Limits = LIMITS, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.second = 0.0
        self.store = Store(lambda: self.now)
        self.sharing = Sharing(limits=limits)
        self.folds: list[Fold[Shares] | None] = [None, None]
        self.heard = self.serial = 0

    @property
    def now(self) -> datetime:
        return at(self.second)

    def say(self, event: AnyEvent) -> Recorded:
        self.serial += 1
        tick = Tick(id=f"said-{self.serial}", now=self.now, swarm=event.swarm)
        (seq,) = self.store.append(addressed(Decision(events=(event,)), tick, self.now, "test"))
        return self.store.records[seq - 1]

    def steps(self, message: Delivered | Tick, replica: int) -> Iterator[None]:
        """One governor at work on one message, one operation at a time."""
        boundary = self.sharing.boundary(message)
        if boundary is None:
            return
        fold = self.folds[replica] = self.folds[replica] or Fold(self.sharing, boundary)
        work, answer = handle(fold, message, source="governor", lags=boundary.lags), None
        while True:
            try:
                operation = work.send(answer)  # type: ignore[arg-type]
            except StopIteration:
                return
            match operation:
                case Read(filters, after):
                    answer = self.store.stored(filters, after)
                case Ends(filters):
                    answer = tuple(self.store.last_seq(f) for f in filters)
                case Commit(messages, expect):
                    try:
                        answer = self.store.append(messages, expect)
                    except (StaleBoundary, DuplicateEvent):
                        answer = None
            yield

    def settle(self) -> None:
        """Everything that was said is delivered, once."""
        while self.heard < len(self.store.records):
            self.heard += 1
            message = Delivered(recorded=self.store.records[self.heard - 1], now=self.now)
            for _ in self.steps(message, self.random.randrange(2)):
                pass

    def tick(self, *living: str) -> None:
        self.serial += 1
        message = Tick(id=f"tick-{self.serial}", now=self.now, swarm=EVERYONE, facts=Living(swarms=living))
        for _ in self.steps(message, 0):
            pass
        self.settle()

    def do(self, event: AnyEvent, second: float) -> None:
        self.second = second
        self.say(event)
        self.settle()

    def tokens(self) -> dict[str, int]:
        shares = {
            r.event.swarm: r.event.credits.tokens for r in self.store.records if isinstance(r.event, BudgetLimited)
        }
        return {swarm: amount for swarm, amount in shares.items() if swarm != EVERYONE}

    def written(self) -> list[tuple[str, int]]:
        events = (r.event for r in self.store.records if isinstance(r.event, BudgetLimited))
        return [(event.swarm, event.credits.tokens) for event in events if event.swarm != EVERYONE]

    def left(self) -> int:
        return [r.event.credits.tokens for r in self.store.read(("budget.limited.all.all",))][-1]  # type: ignore[union-attr]

    def violations(self) -> list[str]:
        judged = Judged(
            swarm_per_minute=Credits(),
            actions_per_minute=0,
            lifetime_children=9,
            global_per_minute=self.sharing.limits.global_per_minute,
        )
        invariants = Invariants(judged)
        for recorded in self.store.records:
            invariants.absorb(recorded)
        return invariants.violations


# -- examples --------------------------------------------------------------------------------------------------------


def test_a_first_persona_brings_its_swarm_a_part_of_the_room_and_leaves_some_for_the_next() -> None:
    mesh = Mesh()
    for second, swarm in enumerate(("a", "b", "c")):
        mesh.do(spawned(swarm, second), second)
    assert {"a": 250, "b": 187, "c": 140} == mesh.tokens()
    assert 1000 - 250 - 187 - 140 == mesh.left()
    mesh.do(spawned("a", 5, "q"), 5)
    assert 3 == len(mesh.written())  # a second persona brings nothing


def test_only_so_many_swarms_have_a_share() -> None:
    mesh = Mesh()
    for second, swarm in enumerate(NAMES):
        mesh.do(spawned(swarm, second), second)
    assert {"a", "b", "c", "d"} == set(mesh.tokens())
    mesh.do(table(a=0), 61)
    mesh.tick("b", "c", "d", "e")
    assert mesh.tokens()["e"] > 0


def test_a_table_is_written_decreases_first_and_what_another_pays_for_when_the_next_minute_begins() -> None:
    mesh = Mesh()
    mesh.do(table(a=600, b=400), 1)
    assert [("a", 600), ("b", 400)] == mesh.written()
    mesh.do(table(a=400, b=600), 10)
    assert [("a", 400)] == mesh.written()[2:]  # a may have spent 600 in this minute
    mesh.tick("a", "b")
    assert {"a": 400, "b": 400} == mesh.tokens()
    mesh.second = 60
    mesh.tick("a", "b")
    assert {"a": 400, "b": 600} == mesh.tokens()
    before = len(mesh.store.records)
    mesh.tick("a", "b")
    assert before == len(mesh.store.records)  # nothing at rest


def test_what_a_swarm_had_in_this_minute_it_may_have_again_at_once() -> None:
    mesh = Mesh()
    mesh.do(table(a=600, b=400), 1)
    mesh.do(ceiling("a", 100), 10)
    assert {"a": 100, "b": 400} == mesh.tokens()
    mesh.do(ceiling("a", None, 2), 20)
    assert {"a": 600, "b": 400} == mesh.tokens()


def test_what_a_person_set_wins_over_the_table_also_over_a_later_one() -> None:
    mesh = Mesh()
    mesh.do(ceiling("a", 50), 1)
    mesh.do(table(a=600), 2)
    assert {"a": 50} == mesh.tokens()
    reasons = [r.event.reason for r in mesh.store.records if isinstance(r.event, BudgetLimited)]
    assert "limited" == reasons[-1]


def test_without_an_allocator_a_person_has_a_limit_lowered_and_raised() -> None:
    mesh = Mesh()
    mesh.do(spawned("a", 1), 1)
    mesh.do(ceiling("a", 10), 2)
    assert {"a": 10} == mesh.tokens()
    mesh.do(ceiling("a", 500, 2), 3)
    assert {"a": 500} == mesh.tokens()


def test_an_old_log_without_shares_gets_them_once_from_its_personas() -> None:
    mesh = Mesh()
    for name in ("p", "q", "r"):
        mesh.say(spawned("a", 0, name))
    mesh.second = 7200
    mesh.settle()
    mesh.tick("a")
    assert [("a", 250)] == mesh.written()


def test_a_swarm_that_lives_again_has_a_share_again() -> None:
    mesh = Mesh()
    mesh.do(spawned("a", 1), 1)
    mesh.do(table(a=0), 61)
    assert {"a": 0} == mesh.tokens()
    mesh.do(spawned("a", 130, "q"), 130)
    assert {"a": 250} == mesh.tokens()


def test_a_redelivered_table_decides_nothing_twice() -> None:
    mesh = Mesh()
    wanted = mesh.say(table(a=300, b=300))
    mesh.settle()
    before = len(mesh.store.records)
    for _ in mesh.steps(Delivered(recorded=wanted, now=mesh.now, attempt=2), 1):
        pass
    assert before == len(mesh.store.records)


# -- properties ------------------------------------------------------------------------------------------------------


def _chaos(seed: int, sharing: Sharing = Sharing(limits=LIMITS), steps: int = 120) -> Mesh:  # noqa: B008 - it is frozen
    """Two governors at work on any two messages at once, each dying between any two of its operations."""
    mesh = Mesh(seed=seed)
    mesh.sharing = sharing
    dice = mesh.random
    at_work: list[Iterator[None] | None] = [None, None]
    version = 0
    for _ in range(steps):
        throw = dice.random()
        if throw < 0.08:
            cut = sorted(dice.randrange(1001) for _ in range(len(NAMES) - 1))
            parts = [b - a for a, b in zip((0, *cut), (*cut, 1000), strict=True)]
            mesh.say(table(**{n: p for n, p in zip(NAMES, parts, strict=True) if dice.random() < 0.8}))
        elif throw < 0.14:
            version += 1
            mesh.say(ceiling(dice.choice(NAMES), dice.choice((None, 0, 100, 900)), version))
        elif throw < 0.2:
            mesh.serial += 1
            mesh.say(spawned(dice.choice(NAMES), mesh.second, f"p{mesh.serial}"))
        elif throw < 0.28:
            mesh.second += dice.choice((0.5, 5, 30, 61))
        elif throw < 0.32:
            crashed = dice.randrange(2)
            at_work[crashed] = mesh.folds[crashed] = None
        else:
            replica = dice.randrange(2)
            work = at_work[replica]
            if work is None and mesh.store.records:
                recorded = dice.choice(mesh.store.records[-12:])
                skew = mesh.now if dice.random() < 0.7 else at(mesh.second - 5)
                work = at_work[replica] = mesh.steps(Delivered(recorded=recorded, now=skew), replica)
            if work is not None and next(work, "done") == "done":
                at_work[replica] = None
    return mesh


@pytest.mark.parametrize("chunk", range(4))
def test_whoever_writes_and_whoever_dies_all_shares_of_a_minute_are_within_the_global_budget(chunk: int) -> None:
    written = 0
    for seed in range(chunk * 150, chunk * 150 + 150):
        mesh = _chaos(seed)
        assert [] == mesh.violations(), seed
        written += len(mesh.written())
    assert written > 500


def test_a_governor_that_does_not_guard_what_all_have_is_found_out() -> None:
    class Unguarded(Sharing, frozen=True, kw_only=True):
        def decide(self, state, message):  # type: ignore[no-untyped-def]
            decision = super().decide(state, message)
            return msgspec.structs.replace(decision, guards=(decision.guards or ())[1:])

    assert any(_chaos(seed, Unguarded(limits=LIMITS)).violations() for seed in range(300))


amounts = st.integers(0, 1000)


@settings(max_examples=150, deadline=None)
@given(st.lists(amounts, min_size=4, max_size=4), st.lists(amounts, min_size=4, max_size=4), st.integers(0, 2**16))
def test_a_table_within_the_global_budget_is_what_is_written_two_minutes_later(
    first: list[int], second: list[int], seed: int
) -> None:
    mesh = Mesh(Limits(global_per_minute=all_of(1000), swarm_per_minute=all_of(1000), max_swarms=9), seed)
    for minute, wanted in enumerate((first, second)):
        scale = max(1.0, sum(wanted) / 1000)
        told = {name: int(amount / scale) for name, amount in zip(NAMES, wanted, strict=False)}
        mesh.do(table(**told), 60 * minute + 1)
    mesh.second = 121
    mesh.tick()
    has = {name: amount for name, amount in mesh.tokens().items() if amount}
    assert {name: amount for name, amount in told.items() if amount} == has
    assert [] == mesh.violations()
    assert all(getattr(LIMITS.global_per_minute, name) for name in RESOURCES)


def test_a_grant_reads_and_guards_what_it_did_before_there_were_shares() -> None:
    """A share lies on the boundary of grants, so one costs the same requests as ever."""
    assert Boundary(reads=("persona.*.s.>", "budget.*.s.>"), guards=("budget.*.s.>",)) == ledger_boundary("s")
