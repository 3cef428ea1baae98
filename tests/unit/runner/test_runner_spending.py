"""Credits: nothing is spent that was not granted, and what is left over is given back."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec

from services.persona_runner.mind.cadence import Limits
from services.persona_runner.mind.drafts import well_formed
from services.persona_runner.mind.spending import affordable, ask, close, covered
from services.persona_runner.mind.state import Grant, State
from services.persona_runner.mind.steps import Think, Thoughtless, Unaffordable
from shared.contracts.events import BudgetExhausted, BudgetGranted, Credits, GrantRequested, ThoughtGenerated, Usage
from shared.contracts.persona import PersonaPolicy
from shared.decider import NOTHING, Result
from tests.unit.runner.runner_model import PERSONA, SWARM, WORST, Runner, World, says, seconds

PLENTY = Credits(tokens=10_000, compute_ms=10_000)
NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
GRANT = Grant(id="g1", credits=PLENTY, expires_at=NOW + timedelta(seconds=90))


def gives_back(state: State, rest_s: int) -> bool:
    thought = ThoughtGenerated(
        swarm=SWARM,
        persona=PERSONA,
        cycle=1,
        step=1,
        phase="reflect",
        text="",
        thinker="rules",
        digest="0" * 64,
        useful_at=NOW,
        grant_id="g1",
        next_in_ms=rest_s * 1000,
    )
    return close(state, thought, None, NOW, 1000, Limits()) is not None


def settled(world: World) -> dict[str, Credits]:
    return {e.closing: e.used for e in world.events(GrantRequested) if isinstance(e, GrantRequested) and e.closing}


def spent(world: World) -> Counter[str]:
    tokens: Counter[str] = Counter()
    for thought in world.thoughts():
        tokens[thought.grant_id or ""] += thought.usage.tokens
    return tokens


def test_every_thought_cites_a_grant_it_fits_into() -> None:
    world = World()
    runner = Runner(world)
    for _ in range(100):
        world.observe()
        runner.think()
        world.govern()
    granted = {e.grant_id: e.credits.tokens for e in world.events(BudgetGranted) if isinstance(e, BudgetGranted)}
    assert len(granted) > 1
    assert all(tokens <= granted[grant] for grant, tokens in spent(world).items())


def test_a_busy_persona_asks_ahead_and_closes_with_what_it_really_used() -> None:
    world = World()
    runner = Runner(world)
    for _ in range(60):
        world.observe()
        runner.think()
        world.govern()
    closed = settled(world)
    assert closed
    assert all(closed[grant].tokens == spent(world)[grant] for grant in closed)
    waits = sum(1 for e in world.events(GrantRequested) if isinstance(e, GrantRequested) and e.closing is None)
    assert waits == 1


def test_a_grant_that_is_low_after_its_first_thought_is_closed_with_it() -> None:
    world = World(grant=Credits(tokens=WORST.tokens + 10, compute_ms=1000))
    runner = Runner(world)
    for _ in range(20):
        world.observe()
        runner.think()
        world.govern()
    asked = [e for e in world.events(GrantRequested) if isinstance(e, GrantRequested)]
    assert [e.closing is None for e in asked].count(True) == 1


def test_a_failed_thought_closes_a_low_grant_too() -> None:
    world = World(grant=Credits(tokens=WORST.tokens + 10, compute_ms=1000))
    runner = Runner(world)

    def nonsense(effect: Think) -> Result:
        if effect.grant_id is None or not affordable(WORST, effect.limit):
            return Unaffordable(worst=WORST)
        return Thoughtless(status="empty", detail="no", usage=Usage(tokens_in=20), worst=WORST)

    for _ in range(3):
        world.observe()
        runner.think(nonsense)
        world.govern()
        world.pass_time(8)
    asked = [e for e in world.events(GrantRequested) if isinstance(e, GrantRequested)]
    assert [e.closing is None for e in asked].count(True) == 1


def test_a_persona_needs_no_more_than_a_quarter_of_its_minute_unless_one_thought_takes_more() -> None:
    for budget, most in ((8 * WORST.tokens, 2 * WORST.tokens), (WORST.tokens, WORST.tokens)):
        world = World(policy=PersonaPolicy(token_budget_per_minute=budget))
        runner = Runner(world)
        for _ in range(60):
            world.observe()
            runner.think()
            world.govern()
        assert max(e.need.tokens for e in world.events(GrantRequested) if isinstance(e, GrantRequested)) == most


def test_what_is_asked_for_is_one_worst_case_and_what_thoughts_have_cost_of_late() -> None:
    world = World(policy=PersonaPolicy(token_budget_per_minute=100 * WORST.tokens))
    runner = Runner(world)
    for _ in range(60):
        world.observe()
        runner.think()
        world.govern()
    asked = [e.need for e in world.events(GrantRequested) if isinstance(e, GrantRequested)]
    each_ = 2 * 20  # a thought here costs 20 tokens
    assert asked[-1].tokens == WORST.tokens + (runner.limits.grant_thoughts - 1) * each_
    assert asked[-1].tokens < runner.limits.grant_thoughts * WORST.tokens


def test_a_grant_is_handed_on_after_so_many_thoughts_however_cheap_they_were() -> None:
    world = World(grant=Credits(tokens=10**6, compute_ms=10**6))
    runner = Runner(world)
    for _ in range(40):
        world.observe()
        runner.think()
        world.govern()
    thoughts = Counter(t.grant_id for t in world.thoughts())
    assert max(thoughts.values()) == runner.limits.grant_thoughts


def test_a_usage_past_all_counting_still_closes_its_grant() -> None:
    world = World()
    runner = Runner(world)
    world.observe()
    boast = Usage(tokens_in=2**60, tokens_out=2**60, compute_ms=2**60)
    runner.think(says("much", usage=boast))
    closing = [e for e in world.events(GrantRequested) if isinstance(e, GrantRequested) and e.closing]
    assert closing
    assert all(well_formed(event) for event in closing)


def test_a_persona_going_to_rest_gives_its_grant_back() -> None:
    world = World()
    runner = Runner(world)
    for _ in range(8):
        runner.think()
        world.pass_time(runner.state.next_in_ms / 1000)
    back = [e for e in world.events(GrantRequested) if isinstance(e, GrantRequested) and e.need == Credits()]
    assert back
    assert runner.state.grant is None


def test_a_closing_request_comes_before_its_thought_in_one_batch() -> None:
    world = World()
    runner = Runner(world)
    for _ in range(60):
        world.observe()
        runner.think()
        world.govern()
    records = world.store.records
    closing = [r.seq for r in records if isinstance(r.event, GrantRequested) and r.event.closing]
    assert closing
    assert all(isinstance(records[seq].event, ThoughtGenerated) for seq in closing)


def test_no_thinker_is_called_when_its_worst_case_does_not_fit() -> None:
    world = World(grant=Credits(tokens=WORST.tokens, compute_ms=WORST.compute_ms))
    runner = Runner(world)
    runner.think()
    assert runner.state.grant is None or runner.state.grant.left().tokens < WORST.tokens
    world.observe()
    world.pass_time(2)
    runner.catch_up()
    runner.begin()
    if runner.pending is not None:
        assert isinstance(runner.thinker.result(runner.pending[1]), Unaffordable)


def test_an_expired_grant_is_not_spent() -> None:
    world = World()
    runner = Runner(world)
    runner.think()
    first = world.thoughts()[0].grant_id
    world.pass_time(91)
    runner.think()
    assert world.thoughts()[1].grant_id not in (None, first)


def test_an_exhausted_budget_pauses_until_it_may_ask_again() -> None:
    world = World()
    runner = Runner(world)
    world.pass_time(1)
    runner.step()
    world.put(
        BudgetExhausted(
            swarm=SWARM, persona=PERSONA, scope="swarm", resource="tokens", retry_at=world.now + seconds(40)
        )
    )
    world.pass_time(39)
    assert runner.step() == NOTHING
    world.pass_time(2)
    assert isinstance(runner.step().events[0], GrantRequested)


def test_unanswered_requests_become_rarer_and_an_answer_starts_afresh() -> None:
    world = World()
    runner = Runner(world)
    moments: list[int] = []
    for second in range(1, 1300):
        world.pass_time(1)
        if runner.step() != NOTHING:
            moments.append(second)
    assert [later - before for before, later in pairwise(moments)] == [10, 20, 40, 80, 160, 300, 300, 300]
    world.govern()
    runner.think()
    world.pass_time(91)
    assert isinstance(runner.step().events[0], GrantRequested)
    world.pass_time(10)
    assert isinstance(runner.step().events[0], GrantRequested)


def test_two_runners_asking_at_once_ask_once() -> None:
    world = World()
    one, two = Runner(world), Runner(world)
    world.pass_time(1)
    for runner in (one, two):
        runner.catch_up()
        runner.begin()
    assert one.commit(one.finish())
    assert not two.commit(two.finish())
    assert len(world.events(GrantRequested)) == 1


def test_a_grant_is_held_over_a_rest_unless_somebody_lately_had_to_wait() -> None:
    born = State(swarm=SWARM, persona=PERSONA, grant=GRANT, asked_at=NOW, answered=True)
    waited = msgspec.structs.replace(born, waited_at=NOW - timedelta(minutes=1))
    long_ago = msgspec.structs.replace(born, waited_at=NOW - timedelta(minutes=10))
    kept = {rest_s: [gives_back(state, rest_s) for state in (born, waited, long_ago)] for rest_s in (8, 9, 16, 17)}
    assert {
        8: [False, False, False],
        9: [False, True, False],
        16: [False, True, False],
        17: [True, True, True],
    } == kept


def test_a_grant_pays_the_money_a_thought_may_cost() -> None:
    worst = Usage(tokens_in=100, compute_ms=10, cost_microusd=700)
    state = State(swarm=SWARM, persona=PERSONA)
    assert ask(state, worst, 1).need.cost_microusd == 700
    assert covered(worst, Credits(tokens=100, compute_ms=10, cost_microusd=700))
    assert not covered(worst, Credits(tokens=100, compute_ms=10, cost_microusd=699))
