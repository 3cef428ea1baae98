"""Whose turn it is, against a model: round robin, nobody starves, order per persona, bounded room."""

from __future__ import annotations

from collections import Counter, defaultdict, deque

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.runtime.turns import LATELY, RESERVED, Turns, alone

ROOM, AT_ONCE, EACH = 32, 4, 2
SWARMS, PERSONAS, LANES = ("a", "b", "c"), ("p", "q"), ("x", "y", "z")
Work = tuple[str, str, str, int]


class Model(RuleBasedStateMachine):
    """Work is (swarm, persona, lane, number); lanes are shared between personas and even swarms."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: Turns[Work] = Turns(room=ROOM, at_once=AT_ONCE, at_once_each=EACH)
        self.waiting: dict[tuple[str, str], deque[Work]] = defaultdict(deque)
        self.running: list[Work] = []
        self.passed: Counter[tuple[str, str]] = Counter()
        self.number = 0
        for name in ("somebody", "else"):  # so that nobody is alone
            self.turns.put(name, "p", name, (name, "p", name, 0))
            lane, _ = self.turns.take() or ("", ())
            self.turns.done(lane)

    @precondition(lambda self: not self.turns.is_full)
    @rule(swarm=st.sampled_from(SWARMS), persona=st.sampled_from(PERSONAS), lane=st.sampled_from(LANES))
    def put(self, swarm: str, persona: str, lane: str) -> None:
        self.number += 1
        work = swarm, persona, lane, self.number
        self.waiting[swarm, persona].append(work)
        self.turns.put(swarm, persona, lane, work)

    @rule()
    def take(self) -> None:
        could = {swarm for swarm in SWARMS if self._may_run(swarm)}
        taken = self.turns.take()
        if taken is None:
            assert not could, f"{could} could have run"
            return
        lane, work = taken
        swarm, persona, own_lane, _ = work
        assert lane == own_lane
        assert work == self.waiting[swarm, persona].popleft()  # the persona's order
        for other in could - {swarm}:
            self.passed[other, swarm] += 1
            assert self.passed[other, swarm] <= 1, f"{swarm} was served twice while {other} could have run"
        for other in SWARMS:
            self.passed.pop((swarm, other), None)
        self.running.append(work)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        work = data.draw(st.sampled_from(self.running))
        self.running.remove(work)
        self.turns.done(work[2])

    def _may_run(self, swarm: str) -> bool:
        """Whether some persona's next work has a free lane. Only what was free all along counts for passing by."""
        lanes = {work[2] for work in self.running}
        heads = [queue[0][2] for (name, _), queue in self.waiting.items() if name == swarm and queue]
        mine = sum(work[0] == swarm for work in self.running)
        may = mine < EACH and len(self.running) < AT_ONCE and any(lane not in lanes for lane in heads)
        contested = {lane for lane in heads if self._heads(lane) > 1}
        if not may or contested:
            for other in SWARMS:
                self.passed.pop((swarm, other), None)
        return may and not contested

    def _heads(self, lane: str) -> int:
        return sum(bool(queue) and queue[0][2] == lane for queue in self.waiting.values())

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.running) <= AT_ONCE
        assert max(Counter(work[0] for work in self.running).values(), default=0) <= EACH
        assert len({work[2] for work in self.running}) == len(self.running)
        assert self.turns.running == len(self.running)
        held = len(self.running) + sum(map(len, self.waiting.values()))
        assert self.turns.held == held <= ROOM
        for swarm in SWARMS:
            waiting = sum(len(queue) for (name, _), queue in self.waiting.items() if name == swarm)
            assert self.turns.held_by(swarm) == waiting + sum(work[0] == swarm for work in self.running)

    def teardown(self) -> None:
        """Nobody is left behind: all that was put is taken in the end."""
        while self.running or any(self.waiting.values()):
            self.take()
            if self.running:
                self.turns.done(self.running.pop(0)[2])
        assert self.turns.held == 0


TestModel = Model.TestCase


def drained(turns: Turns[str]) -> list[str]:
    order = []
    while (taken := turns.take()) is not None:
        order.append(taken[1])
        turns.done(taken[0])
    return order


def test_turns_go_round_the_swarms_however_much_one_has_waiting() -> None:
    turns: Turns[str] = Turns(room=1000, at_once=1, at_once_each=1)
    for n in range(100):
        turns.put("loud", "p", n, f"loud-{n}")
    turns.put("quiet", "p", "x", "quiet-1")
    turns.put("quiet", "p", "y", "quiet-2")
    assert ["loud-0", "quiet-1", "loud-1", "quiet-2", "loud-2"] == drained(turns)[:5]


def test_within_a_swarm_turns_go_round_its_personas_also_in_one_lane() -> None:
    turns: Turns[str] = Turns(room=1000, at_once=8, at_once_each=8)
    for n in range(100):
        turns.put("alpha", "loud", "ledger", f"loud-{n}")
    lane, _ = turns.take() or ("", "")
    assert turns.take() is None  # one of a lane at a time
    turns.put("alpha", "quiet", "ledger", "quiet-1")
    turns.done(lane)
    assert ["loud-1", "quiet-1", "loud-2"] == drained(turns)[:3]


@given(st.integers(2, 12))
def test_whoever_comes_new_finds_room_however_many_hold_as_much_as_they_may(hogs: int) -> None:
    turns: Turns[int] = Turns(room=4096, at_once=1, at_once_each=1)
    for n in range(20_000):
        hog = n % hogs
        if not turns.is_crowded(hog) and not turns.is_full:
            turns.put(hog, "p", n, n)
    each = 4096 // (hogs + 1)
    assert all(
        abs(turns.held_by(hog) - min(each, 4096 * (RESERVED - 1) // RESERVED // hogs)) <= 1 for hog in range(hogs)
    )
    assert not turns.is_crowded("new")


def test_refusals_of_one_swarm_leave_room_for_another() -> None:
    turns: Turns[int] = Turns(room=320, at_once=1, at_once_each=1)
    n = 0
    while not turns.is_full:
        n += 1
        party = ("loud", turns.is_crowded(("loud", False)))
        turns.put(party, "p", n, n)
    assert turns.held_by(("loud", False)) == 160
    assert not turns.is_crowded(("quiet", False))


def test_who_is_alone_may_run_many_until_another_comes_and_again_when_that_is_long_gone() -> None:
    turns: Turns[int] = Turns(room=10**6, at_once=20, at_once_each=3)

    def begun(count: int) -> list[object]:
        return [taken[0] for taken in (turns.take() for _ in range(count)) if taken is not None]

    for n in range(100):
        turns.put("loud", "p", n, n)
    lanes = begun(50)
    assert 15 == len(lanes)
    turns.put("quiet", "p", "x", 0)
    turns.done(lanes.pop())
    assert ["x"] == begun(50)  # the newcomer is next, and no more of the other are begun
    turns.done("x")
    assert [] == begun(50)
    for lane in lanes:
        turns.done(lane)
    lanes = begun(50)
    assert 3 == len(lanes)
    for n in range(LATELY):
        turns.put("loud", "p", 1000 + n, n)
    turns.done(lanes.pop())
    assert 13 == len(begun(50))


def test_a_swarm_is_alone_also_with_its_own_refusals() -> None:
    turns: Turns[int] = Turns(room=400, at_once=64, at_once_each=4)
    turns.put(("a", True), "p", "refusal", 0, whose=("a", False))
    for number in range(100):
        turns.put(("a", False), "p", f"lane-{number}", number, whose=("a", False))
    while turns.take() is not None:
        pass
    assert turns.running >= alone(64)
