"""What swarms believe, in the simulation: lives full of claims, two who keep beliefs, two who merge them, and whatever can go wrong.

`SWARM_SEEDS=12 scripts/test tests/simulation/test_believing.py` replays one.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from services.memory_compactor.believing import decider, judging
from services.memory_compactor.believing.board import Board
from services.memory_compactor.believing.decider import Believer, Looked
from services.memory_compactor.believing.effects import BelievingEffects
from services.memory_compactor.believing.merging import Merger
from shared.contracts.events import AnyEvent, BeliefContested, BeliefEvent, BeliefRevised
from shared.contracts.ids import EVERYONE
from shared.decider import Boundary, Delivered, Effect, Result, Tick
from tests.simulation.believing import STEPS, pondered
from tests.simulation.seeds import seeds

SEEDS = seeds(60)


@pytest.mark.timeout(900)
def test_no_seed_breaks_what_holds_of_beliefs_and_every_kind_of_them_is_in_it() -> None:
    kinds: Counter[str] = Counter()
    for seed in SEEDS:
        world = pondered(seed)
        assert world.check() == [], f"seed {seed}; replay with SWARM_SEEDS={seed}"
        kinds.update(_kind(r.event) for r in world.store.records if isinstance(r.event, BeliefEvent))
    told = {kind: round(count / len(SEEDS) * 1000 / STEPS, 1) for kind, count in sorted(kinds.items())}
    print(f"per 1000 steps: {told}")
    if len(SEEDS) < 50:
        return
    rare = {kind for kind in KINDS if kinds[kind] < len(SEEDS) / 5}
    assert rare == set(), told
    assert sum(kinds.values()) > 25 * len(SEEDS), told


KINDS = {
    f"{where} {kind}"
    for where in ("swarm", "mesh")
    for kind in ("asserted", "confirmed", "contested", "active", "stale", "invalidated", "archived")
}


def _kind(event: BeliefEvent) -> str:
    what = event.status if isinstance(event, BeliefRevised) else type(event).__name__.removeprefix("Belief").lower()
    return f"{'mesh' if event.swarm == EVERYONE else 'swarm'} {what}"


def test_a_seed_replays_to_the_same_beliefs() -> None:
    assert pondered(7, 300).store.records == pondered(7, 300).store.records


def found(words: str) -> bool:
    """Whether a violation with these words is found within some seeds."""
    return any(words in violation for seed in range(40) for violation in pondered(seed).check())


@pytest.mark.parametrize("who", [Believer, Merger])
def test_one_who_guards_nothing_is_found_out(who: type, monkeypatch: pytest.MonkeyPatch) -> None:
    real = who.boundary

    def unguarded(self: object, message: Delivered | Tick) -> Boundary | None:
        boundary: Boundary | None = real(self, message)
        return boundary and msgspec.structs.replace(boundary, guards=())

    monkeypatch.setattr(who, "boundary", unguarded)
    assert found("")


def test_a_contradiction_that_is_not_marked_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = judging.judge

    def silent(board: Board, claim: judging.Claim) -> tuple[AnyEvent, ...]:
        return tuple(event for event in real(board, claim) if not isinstance(event, BeliefContested))

    monkeypatch.setattr(decider, "judge", silent)
    assert found("contradicted")


def test_one_who_forgets_whose_word_it_rests_on_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = BelievingEffects.perform

    async def trusting(self: BelievingEffects, effect: Effect) -> Result:
        looked = await real(self, effect)
        assert isinstance(looked, Looked)
        return msgspec.structs.replace(looked, tainted=False)

    monkeypatch.setattr(BelievingEffects, "perform", trusting)
    assert found("an outsider's word")


def test_beliefs_of_what_was_not_confirmed_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = judging.judge

    def credulous(board: Board, claim: judging.Claim) -> tuple[AnyEvent, ...]:
        return real(board, msgspec.structs.replace(claim, confirmed=True))

    monkeypatch.setattr(decider, "judge", credulous)
    assert found("no check of its author's confirmed it")
