"""What is fair, against a reference that shares out one small piece after the other, and as properties of any claims."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.meta_orchestrator.allocation.target import KEPT_PART, RESOURCES, Claim, fair, target, vector
from shared.contracts.events import Credits

TOTAL = Credits(tokens=1000, compute_ms=2000, actions=100, cost_microusd=10**6)
PIECES = 4000
amounts = st.integers(0, 1500)
ceilings = st.sampled_from((Credits(tokens=1000, compute_ms=2000, actions=100, cost_microusd=10**6),)) | st.builds(
    Credits, tokens=amounts, compute_ms=amounts, actions=st.integers(0, 120), cost_microusd=st.integers(0, 10**6)
)
demands = st.builds(
    Credits, tokens=amounts, compute_ms=amounts, actions=st.integers(0, 120), cost_microusd=st.integers(0, 10**6)
)
weights = st.sampled_from((50, 100, 100, 300))


def claims_of(demand: st.SearchStrategy[Credits], floor: st.SearchStrategy[Credits]) -> st.SearchStrategy[list[Claim]]:
    one = st.builds(Claim, swarm=st.just(""), demand=demand, floor=floor, ceiling=ceilings, weight=weights)
    named = st.lists(one, min_size=1, max_size=6)
    return named.map(lambda found: [msgspec.structs.replace(c, swarm=f"s{n}") for n, c in enumerate(found)])


none = st.just(Credits())
floors = st.builds(Credits, tokens=st.integers(0, 160), compute_ms=st.integers(0, 300), actions=st.integers(0, 16))


def tokens(name: str, demand: int, *, floor: int = 0, ceiling: int = 1000, weight: int = 100) -> Claim:
    return Claim(
        swarm=name,
        demand=Credits(tokens=demand),
        floor=Credits(tokens=floor),
        ceiling=Credits(tokens=ceiling),
        weight=weight,
    )


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ((tokens("a", 100), tokens("b", 900), tokens("c", 900)), {"a": 100, "b": 450, "c": 450}),
        ((tokens("a", 2000, weight=300), tokens("b", 2000)), {"a": 750, "b": 250}),
        ((tokens("a", 2000, ceiling=200), tokens("b", 2000)), {"a": 200, "b": 800}),
        ((tokens("a", 0, floor=500), tokens("b", 2000)), {"a": 0, "b": 1000}),
        ((tokens("a", 900, floor=700), tokens("b", 900), tokens("c", 900)), {"a": 700, "b": 150, "c": 150}),
        ((tokens("a", 10), tokens("b", 10)), {"a": 468, "b": 468}),
        ((tokens("a", 10, ceiling=50), tokens("b", 10, ceiling=0)), {"a": 50, "b": 0}),
    ],
    ids=["max-min", "weights", "ceiling", "an idle floor is lent", "a floor is recalled", "spread", "nothing more"],
)
def test_examples(claims: Sequence[Claim], expected: dict[str, int]) -> None:
    assert expected == {name: credits.tokens for name, credits in target(claims, TOTAL).items()}


def test_the_dominant_shares_of_the_paper() -> None:
    """Ghodsi et al., section 4.1: of 9 CPUs and 18 GB, A wants <1, 4> a task and B <3, 1>; A runs 3 tasks, B 2."""
    total = Credits(tokens=9, compute_ms=18)
    a = Claim(swarm="a", demand=Credits(tokens=9 // 2 * 1, compute_ms=9 // 2 * 4), ceiling=total)
    b = Claim(swarm="b", demand=Credits(tokens=9, compute_ms=3), ceiling=total)
    got = fair((a, b), total)
    assert pytest.approx([3, 12]) == got["a"][:2] and pytest.approx([6, 2]) == got["b"][:2]


def by_pieces(claims: Sequence[Claim]) -> dict[str, list[float]]:
    """The lowest weighted dominant share gets the next small piece of its demand, as long as all it needs of is there.

    A resource of which somebody's piece is no longer there is used up for all: what is left of it is less than a piece, and who needs
    next to nothing of it could go on with that for long.
    """
    have = vector(TOTAL)
    want = {
        c.swarm: [min(*each) for each in zip(vector(c.demand), vector(c.ceiling), have, strict=True)] for c in claims
    }
    dominant = {
        name: max((w / h for w, h in zip(wants, have, strict=True) if h), default=0) for name, wants in want.items()
    }
    part = {c.swarm: 0.0 for c in claims}
    left, weight = list(have), {c.swarm: c.weight for c in claims}
    open_ = {name for name in part if dominant[name]}
    used_up: set[int] = set()
    while open_:
        name = min(open_, key=lambda n: (part[n] * dominant[n] / weight[n], n))
        piece = min(1 - part[name], 1 / PIECES / dominant[name])
        needs = [piece * amount for amount in want[name]]
        used_up |= {r for r, need in enumerate(needs) if need > left[r] + 1e-9}
        if piece <= 0 or any(needs[r] for r in used_up):
            open_.discard(name)
            continue
        part[name] += piece
        left = [there - need for there, need in zip(left, needs, strict=True)]
    return {name: [part[name] * amount for amount in want[name]] for name in part}


@settings(max_examples=60, deadline=None)
@given(claims_of(demands, none))
def test_what_is_fair_is_what_piece_by_piece_would_be(claims: list[Claim]) -> None:
    got, reference = fair(claims, TOTAL), by_pieces(claims)
    for name in got:
        for has, was, all_ in zip(got[name], reference[name], vector(TOTAL), strict=True):
            assert abs(has - was) <= 8 * all_ * max(c.weight for c in claims) / 50 / PIECES, (name, got, reference)


@settings(max_examples=300, deadline=None)
@given(claims_of(demands, floors))
def test_bounds_floors_and_that_nothing_of_use_is_left(claims: list[Claim]) -> None:
    got = target(claims, TOTAL)
    assert [c.swarm for c in claims] == list(got)
    for name in RESOURCES:
        all_ = getattr(TOTAL, name)
        total = sum(getattr(credits, name) for credits in got.values())
        assert total <= all_
        wants = {c.swarm: min(getattr(c.demand, name), getattr(c.ceiling, name), all_) for c in claims}
        for claim in claims:
            has = getattr(got[claim.swarm], name)
            assert has <= getattr(claim.ceiling, name)
            assert has >= min(getattr(claim.floor, name), wants[claim.swarm]) - 1
        if any(getattr(got[swarm], name) < want - 1 for swarm, want in wants.items()):
            assert total >= all_ - len(claims)
        elif all(getattr(c.ceiling, name) >= all_ for c in claims):
            assert total >= all_ - all_ // KEPT_PART - len(claims) - 1


def used(got: Sequence[float], claim: Claim) -> float:
    """How much of what it wants a swarm can do with these: all resources in proportion, within its ceiling."""
    wants = [min(w, c, t) for w, c, t in zip(vector(claim.demand), vector(claim.ceiling), vector(TOTAL), strict=True)]
    return min((has / want for has, want in zip(got, wants, strict=True) if want), default=1.0)


@settings(max_examples=300, deadline=None)
@given(claims_of(demands, none))
def test_nobody_would_rather_have_what_another_has(claims: list[Claim]) -> None:
    got = fair(claims, TOTAL)
    for one in claims:
        mine = used(got[one.swarm], one)
        for other in claims:
            scaled = [amount * one.weight / other.weight for amount in got[other.swarm]]
            assert min(1.0, used(scaled, one)) <= mine + 1e-6


@settings(max_examples=300, deadline=None)
@given(claims_of(demands, none), demands)
def test_a_lie_about_the_demand_gains_nothing_of_use(claims: list[Claim], lie: Credits) -> None:
    honest = used(fair(claims, TOTAL)["s0"], claims[0])
    told = [msgspec.structs.replace(claims[0], demand=lie), *claims[1:]]
    assert min(1.0, used(fair(told, TOTAL)["s0"], claims[0])) <= honest + 1e-6


@settings(max_examples=100, deadline=None)
@given(claims_of(demands, floors))
def test_the_order_of_the_claims_is_nothing(claims: list[Claim]) -> None:
    one, other = target(claims, TOTAL), target(claims[::-1], TOTAL)
    for name in one:
        for resource in RESOURCES:
            assert abs(getattr(one[name], resource) - getattr(other[name], resource)) <= 1


@settings(max_examples=300, deadline=None)
@given(
    claims=claims_of(demands, floors),
    parts=st.lists(st.tuples(demands, demands, floors, ceilings, weights), min_size=1, max_size=5),
)
def test_a_swarm_has_no_more_by_having_daughters(
    claims: list[Claim], parts: list[tuple[Credits, Credits, Credits, Credits, int]]
) -> None:
    """However a swarm divides its demand and its wishes, and whatever was set for the names it begins swarms under."""
    mother, *others = claims
    family = [msgspec.structs.replace(mother, family=mother.swarm, wish=Credits())]
    for n, (demand, wish, floor, ceiling, weight) in enumerate(parts):
        firm = dict.fromkeys(RESOURCES, 0) | {r: max(0, getattr(demand, r) - getattr(wish, r)) for r in RESOURCES}
        declared = {r: getattr(demand, r) - firm[r] for r in RESOURCES}
        family.append(
            Claim(
                swarm=f"d{n}",
                family=mother.swarm,
                demand=demand,
                wish=Credits(**declared),
                floor=floor,
                ceiling=ceiling,
                weight=weight,
            )
        )
    whole = {
        r: sum(getattr(c.demand, r) - getattr(c.wish, r) for c in family) + max(getattr(c.wish, r) for c in family)
        for r in RESOURCES
    }
    alone = target([msgspec.structs.replace(mother, demand=Credits(**whole)), *others], TOTAL)
    together = target([*family, *others], TOTAL)
    for r in RESOURCES:
        assert sum(getattr(together[c.swarm], r) for c in family) <= getattr(alone[mother.swarm], r)
    assert {c.swarm: alone[c.swarm] for c in others} == {c.swarm: together[c.swarm] for c in others}


def test_a_familys_part_goes_to_whoever_of_it_has_use_for_it() -> None:
    claims = [tokens("a", 100), msgspec.structs.replace(tokens("d", 900), family="a"), tokens("b", 900)]
    got = {name: credits.tokens for name, credits in target(claims, TOTAL).items()}
    assert {"a": 100, "d": 400, "b": 500} == got
