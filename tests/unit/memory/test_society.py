"""Who descends from whom, as far as somebody alive may ask for it: as large as those who live, whoever has ever lived."""

from __future__ import annotations

import random

import pytest
from memory_model import at, record

from services.memory_compactor import society as module
from services.memory_compactor.society import Society
from shared.contracts.envelope import Message
from shared.contracts.events import AnyEvent, BeliefAsserted, BeliefRevised, PersonaReaped, PersonaSpawned
from shared.contracts.persona import Identity, PersonaPolicy
from shared.log.memory import MemoryLog


def born(name: str, parent: str | None = None, *, shares: bool = True, above: str | None = None) -> PersonaSpawned:
    identity = Identity(id=name, name=name, role="r", charter="c", swarm_id="alpha", parent_id=parent, created_at=at(0))
    policy = PersonaPolicy(share_memory=shares)
    return PersonaSpawned(swarm="alpha", persona=name, identity=identity, policy=policy, parent_swarm=above)


def believed(key: str, confidence: float) -> BeliefAsserted:
    whose = {"swarm": "alpha", "persona": "ann", "by": "ann", "belief_id": f"b-{key}", "key_id": key}
    return BeliefAsserted(
        **whose, belief_key=key, claim=f"{key} is full", confidence=confidence, valid_from=at(0), review_after=at(9)
    )


def stale(key: str) -> BeliefRevised:
    whose = {"swarm": "alpha", "persona": "ann", "by": "ann", "belief_id": f"b-{key}", "key_id": key}
    return BeliefRevised(**whose, status="stale", confidence=0.9, reason="old", review_after=at(9))


def reaped(name: str) -> PersonaReaped:
    return PersonaReaped(swarm="alpha", persona=name, reason="done")


def told(*events: AnyEvent, log: MemoryLog | None = None) -> Society:
    society = Society(log)
    for seq, event in enumerate(events, 1):
        society.add(record(event, seq))
    return society


FAMILY = (born("root"), born("a", "root"), born("b", "root", shares=False), born("c", "b"), born("d", "c"))


def test_the_nearest_that_share_are_found_also_behind_one_that_does_not_and_when_they_are_dead() -> None:
    assert ["a", "c", "d"] == told(*FAMILY).descendants("alpha", "root")
    assert ["a", "c", "d"] == told(*FAMILY, reaped("d"), reaped("a")).descendants("alpha", "root")
    assert [] == told(*FAMILY).descendants("beta", "root") == told(*FAMILY).descendants("alpha", "nobody")


def test_a_child_that_begins_a_swarm_is_nobodys_there() -> None:
    assert [] == told(born("root"), born("kid", "root", above="beta")).descendants("alpha", "root")


def test_who_dies_with_nobody_above_leaves_and_those_below_go_on_without() -> None:
    society = told(*FAMILY, reaped("a"), reaped("root"))
    assert {"b", "c", "d"} == {name for _, name in society._born}
    assert ["c", "d"] == society.descendants("alpha", "b")
    for seq, name in enumerate(("d", "b"), 8):
        society.add(record(reaped(name), seq))
    assert {"c", "d"} == {name for _, name in society._born}  # `d` is dead, and `c` reads what it left
    society.add(record(reaped("c"), 10))
    assert ({}, {}) == (society._born, society._dead)


async def test_of_too_many_dead_the_first_leave_and_the_log_says_whether_they_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_DEAD", 2)
    log = MemoryLog()
    for seq, event in enumerate(FAMILY, 1):
        await log.commit([Message(event=event, envelope=record(event, seq).envelope)])
    society = told(*FAMILY, reaped("b"), reaped("c"), log=log)
    assert ["a", "c", "d"] == society.descendants("alpha", "root")
    society.add(record(reaped("d"), 8))
    society.add(record(reaped("a"), 9))
    assert ["a", "d"] == society.descendants("alpha", "root")  # `d` is its own now
    assert {"root", "d", "a"} == {name for _, name in society._born}
    expected = {"b": False, "c": True, "d": True, "nobody": False}
    assert expected == {name: await society.shares("alpha", name) for name in expected}
    assert not await told(*FAMILY[:1]).shares("alpha", "c")


def test_beliefs_are_those_that_share_words_and_where_wanted_the_surest_that_are_not_stale() -> None:
    said = (believed("disk", 0.3), believed("queue", 0.5), believed("cache", 0.7), believed("attic", 0.9))
    society = told(*said, stale("attic"))

    def found(query: str, *, also_surest: bool) -> list[int]:
        return [memory.seq for memory in society.believed(["alpha", "beta"], query, also_surest=also_surest)]

    assert [1] == found("the disk", also_surest=False) and [] == found("%", also_surest=False)
    assert [1, 3, 2] == found("the disk", also_surest=True) and [3, 2, 1] == found("%", also_surest=True)
    assert [4, 3, 2, 1] == found("attic", also_surest=True)
    many = told(*(believed(f"k{n}", 0.5) for n in range(9)))
    assert 4 == len(many.believed(["alpha"], "%", also_surest=True))


@pytest.mark.parametrize("seed", range(20))
def test_whoever_lives_finds_all_below_it_and_nobody_else_is_kept(seed: int) -> None:
    dice, society, events = random.Random(seed), Society(), []
    parents: dict[str, str | None] = {}
    living: list[str] = []

    def below(name: str) -> set[str]:
        children = {child for child, parent in parents.items() if parent == name}
        return children.union(*map(below, children))

    for n in range(120):
        if living and dice.random() < 0.45:
            living.remove(name := dice.choice(living))
            events.append(reaped(name))
        else:
            parents[f"p{n}"] = dice.choice([None, *living])
            living.append(f"p{n}")
            events.append(born(f"p{n}", parents[f"p{n}"]))
        society.add(record(events[-1], n + 1))
    for name in living:
        assert below(name) == set(society.descendants("alpha", name))
    assert set(living).union(*map(below, living)) == {name for _, name in society._born}


def test_however_many_have_lived_those_who_live_are_known() -> None:
    society = Society()
    society.add(record(born("root"), 1))
    for n in range(2, 30_000, 2):
        society.add(record(born(f"p{n}"), n))
        society.add(record(reaped(f"p{n}"), n + 1))
    assert [("alpha", "root")] == list(society._born)
