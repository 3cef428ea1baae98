"""What a scope may do and spend a day: how it is counted, what has no room, and what a log in which it does not hold looks like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.actuator import decider
from services.actuator.terms import Allot, Allotted, Check, Checked
from shared.allowances import DAY_S, Standing, day_of, no_room, standings, used
from shared.contracts.capabilities import DailyLimit
from shared.contracts.events import (
    ActionClaimed,
    ActionExecuted,
    AllowanceUsed,
    ProposalKey,
    ScopeUse,
    TargetHeld,
)
from shared.contracts.kinds.files import own_folder
from shared.decider import Performed
from shared.invariants.allowances import AllowanceInvariants
from tests.unit.gate.given import (
    LIFE,
    NOTE,
    T0,
    Mesh,
    at,
    authorized,
    delivered,
    folded,
    proposed,
    record,
    replaced,
    verified,
)

DAY = day_of(T0)
BY = ProposalKey(**LIFE)
MINE = DailyLimit(swarm="alpha", persona="p01", scope=1, per_day=2)
ROOTS = DailyLimit(swarm="alpha", persona="root", scope=0, microusd_per_day=100)


def said(persona: str, *uses: tuple[int, int, int], day: int = DAY) -> AllowanceUsed:
    spent = tuple(ScopeUse(scope=scope, actions=actions, microusd=cost) for scope, actions, cost in uses)
    return AllowanceUsed(swarm="alpha", persona=persona, day=day, used=spent, by=BY)


def standing(persona: str, *uses: tuple[int, int, int], day: int = DAY, seq: int = 7) -> Standing:
    return Standing(swarm="alpha", persona=persona, seq=seq, said=said(persona, *uses, day=day) if uses else None)


@pytest.mark.parametrize(
    ("mine", "roots", "cost", "why"),
    [
        (standing("p01"), standing("root"), 100, ""),
        (standing("p01", (1, 1, 0)), standing("root", (0, 9, 90)), 10, ""),
        (standing("p01", (1, 2, 0)), standing("root"), 0, "scope 1 of p01 in alpha has done 2 of 2 today"),
        (standing("p01", (0, 9, 0)), standing("root"), 0, ""),
        (standing("p01", (1, 2, 0), day=DAY - 1), standing("root"), 0, ""),
        (standing("p01", (1, 2, 0), day=DAY + 1), standing("root"), 0, "has done 2 of 2"),
        (standing("p01"), standing("root", (0, 9, 91)), 10, "has spent 91 of 100 microusd today, and this costs 10"),
        (standing("p01"), standing("root", (0, 9, 100)), 0, ""),
        (standing("p01"), replaced(standing("root"), readable=False), 0, "nobody can read"),
    ],
)
def test_whose_limit_is_in_the_way(mine: Standing, roots: Standing, cost: int, why: str) -> None:
    found = no_room((MINE, ROOTS), (mine, roots), cost, T0)
    assert why in found if why else "" == found


def test_a_claim_counts_one_more_of_each_for_itself_and_all_above_it_and_keeps_what_others_did() -> None:
    known = (standing("p01", (0, 5, 3), (1, 1, 0)), standing("root", (0, 9, 90), day=DAY - 1, seq=0))
    events, guards = used((MINE, ROOTS), known, 10, T0, BY)
    assert (said("p01", (0, 5, 3), (1, 2, 10)), said("root", (0, 1, 10))) == events
    assert (("allowance.used.alpha.p01", 7), ("allowance.used.alpha.root", 0)) == guards
    late = (standing("p01", (1, 1, 0), day=DAY + 3),)
    assert (said("p01", (1, 2, 0), day=DAY + 3),) == used((MINE,), late, 0, T0, BY)[0], "a day never goes back"
    assert ((), ()) == used((), (), 10, T0, BY)


async def test_the_newest_that_was_said_counts_and_what_nobody_can_read_leaves_nothing() -> None:
    mesh = Mesh()
    limits = (MINE, replaced(MINE, scope=0), ROOTS)
    assert (standing("p01", seq=0), standing("root", seq=0)) == await standings(mesh.log, limits)
    for n in (1, 2):
        await mesh.say(said("p01", (1, n, 0)), f"e{n}")
    assert (standing("p01", (1, 2, 0), seq=2), standing("root", seq=0)) == await standings(mesh.log, limits)
    await mesh.say(said("root", (0, 1, 0)), "e3")
    ends = mesh.log.ends

    async def further(filters: Any) -> Any:  # as where something that is no event was stored behind it
        return [end + 5 if "root" in name else end for name, end in zip(filters, await ends(filters), strict=True)]

    mesh.log.ends = further  # type: ignore[method-assign]
    mine, roots = await standings(mesh.log, limits)
    assert (True, False, 8) == (mine.readable, roots.readable, roots.seq)
    assert () == await standings(mesh.log, ())


CREATED = proposed(NOTE)
PERMITTED = authorized(CREATED)


def decided(known: tuple[Standing, ...], approvals: tuple[str, ...] = (), **changed: Any) -> Any:
    """What the actuator says of a note that counts against both limits and costs 10."""
    word: dict[str, Any] = {"risk": "medium", "scope": "free", "limits": (MINE, ROOTS), "cost_microusd": 10, **changed}
    permitted = replaced(PERMITTED, approvals=approvals)
    state = folded(decider, verified(CREATED, **word), permitted)
    cause = delivered(permitted, 2)
    first = decider.decide(state, cause).effect
    assert isinstance(first, Check) and word["limits"] == first.limits
    checked = Performed(cause=cause, effect=first, result=Checked(actuator="a/1", standings=known), now=at(1))
    asked = decider.decide(state, checked)
    if asked.events:
        return asked
    assert isinstance(asked.effect, Allot)
    return decider.decide(state, Performed(cause=cause, effect=asked.effect, result=Allotted(lot_id="l"), now=at(1)))


def test_the_claim_and_what_it_counts_are_one_batch_under_the_guards_of_what_was_read() -> None:
    decision = decided((standing("p01"), standing("root", (0, 1, 10))))
    claim, held, *counted = decision.events
    assert isinstance(claim, ActionClaimed) and isinstance(held, TargetHeld)
    assert [said("p01", (1, 1, 10)), said("root", (0, 2, 20))] == counted
    assert (("allowance.used.alpha.p01", 7), ("allowance.used.alpha.root", 7)) == decision.expects[-2:]


@pytest.mark.parametrize(
    ("known", "changed", "error"),
    [
        ((standing("p01", (1, 2, 0)), standing("root")), {"approvals": ("g1",)}, "limit_of_day"),
        ((standing("p01"), standing("root", (0, 1, 95))), {"approvals": ("g1",)}, "limit_of_day"),
        ((), {"scope": "ask", "limits": (), "approvals": ("g1",)}, None),
        ((), {"scope": "unstated", "limits": ()}, "not_own_folder"),
    ],
)
def test_what_has_no_room_is_refused_whoever_approved_it(known: Any, changed: Any, error: str | None) -> None:
    (first, *_) = decided(known, **changed).events
    assert (error if isinstance(first, ActionExecuted) else None) == error
    assert isinstance(first, ActionExecuted if error else ActionClaimed)
    assert error is None or error == first.error


def test_what_costs_something_is_refused_without_a_scope_for_it_or_people() -> None:
    mine = replaced(NOTE, target=own_folder("alpha", "p01") + "a.md")
    created = proposed(mine)
    for approvals, scope, error in ((("g",), "own", None), ((), "own", "cost_not_allowed"), ((), "free", None)):
        permitted = replaced(authorized(created), approvals=approvals)
        state = folded(decider, verified(created, scope=scope, cost_microusd=5), permitted)
        cause = delivered(permitted, 2)
        check = decider.decide(state, cause).effect
        result = Checked(actuator="a/1")
        decision = decider.decide(state, Performed(cause=cause, effect=check, result=result, now=at(1)))  # type: ignore[arg-type]
        assert error == (decision.events[0].error if decision.events else None)  # type: ignore[union-attr]


@given(
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.integers(-1, 2)), max_size=20),
    per_day=st.integers(0, 4),
)
def test_whatever_is_claimed_when_no_day_has_more_than_its_limits(
    steps: list[tuple[str, int, int]], per_day: int
) -> None:
    """Children of one root, with clocks that are days apart."""
    broken: list[str] = []
    invariants = AllowanceInvariants(lambda recorded, what: broken.append(what))
    known: dict[str, Standing] = {name: standing(name, seq=0) for name in ("a", "b", "c", "root")}
    seq = 0

    def store(event: Any) -> None:
        nonlocal seq
        seq += 1
        invariants.absorb(record(event, seq))
        if isinstance(event, AllowanceUsed):
            known[event.persona] = Standing(swarm="alpha", persona=event.persona, seq=seq, said=event)

    for n, (child, cost, days) in enumerate(steps):
        limits = (replaced(MINE, persona=child, per_day=per_day), ROOTS)
        now, mine = T0 + timedelta(days=days), (known[child], known["root"])
        key = replaced(BY, persona=child, proposal_id=f"p-{n}")
        if not no_room(limits, mine, cost, now):
            whose = {"persona": child, "proposal_id": key.proposal_id}
            store(replaced(verified(CREATED, limits=limits, cost_microusd=cost), **whose))
            store(
                ActionClaimed(swarm="alpha", **whose, digest=CREATED.digest, actuator="a/1", timeout_ms=1, lot_id="l")
            )
            for event in used(limits, mine, cost, now, key)[0]:
                store(event)
    assert [] == broken


def test_a_log_in_which_it_does_not_hold_is_told() -> None:
    word = verified(CREATED, limits=(MINE,), cost_microusd=10)
    claim = ActionClaimed(**LIFE, digest=CREATED.digest, actuator="a/1", timeout_ms=1, lot_id="l")

    def broken(*events: Any) -> str:
        found: list[str] = []
        invariants = AllowanceInvariants(lambda recorded, what: found.append(what))
        for seq, event in enumerate(events, start=1):
            invariants.absorb(record(event, seq))
        return "; ".join(found)

    good = said("p01", (1, 1, 10))
    assert "" == broken(word, claim, good)
    assert "should have been said" in broken(word, claim, word)
    assert "without its claim" in broken(word, good)
    assert "should be" in broken(word, claim, said("p01", (1, 2, 10)))
    assert "3 actions of a day" in broken(
        word, claim, good, claim, said("p01", (1, 2, 20)), claim, said("p01", (1, 3, 30))
    )
    assert "is before" in broken(word, claim, good, claim, said("p01", (1, 1, 10), day=DAY - 1))


def test_a_day_is_one_of_utc() -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    assert day_of(first) + 1 == day_of(first + timedelta(seconds=DAY_S)) == day_of(first - timedelta(seconds=1)) + 2
