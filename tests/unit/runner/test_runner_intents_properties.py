"""Any interleaving of assignments, releases, repetitions, restarts and two runners: at most one answer a route, and a bounded state."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.persona_runner.decider import evolve, initial
from services.persona_runner.mind.drafts import well_formed
from services.persona_runner.mind.goals import MAX_ASSIGNED, MAX_ENDED, MAX_THOUGHTS, current
from services.persona_runner.mind.state import State
from services.persona_runner.mind.steps import Think, Thoughtful
from shared.contracts.catalog import about
from shared.contracts.events import Credits, IntentAnswered, IntentAssigned, IntentReleased, ThoughtGenerated, Usage
from shared.decider import Result
from shared.thinker.port import AnswerDraft, HypothesisDraft, Thought
from tests.unit.runner.runner_model import LOOP_MS, PERSONA, SWARM, WORST, Runner, World, fails, refused

INTENTS = ("i-1", "i-2", "i-3")


def thinks(how: str, effect: Think) -> Result:
    """A thinker in one of its moods; it answers whatever it is asked, or what it is not."""
    if how in ("empty", "model_error"):
        return fails(how)(effect)
    if (no := refused(effect)) is not None:
        return no
    context, answer = effect.context, None
    if how in ("answer", "decline"):
        evidence = tuple(ref for ref, _ in context.percept.samples[-1:])
        answer = AnswerDraft(text=how, declined=how == "decline", confidence=2.0, evidence=evidence)
    drafts = ()
    if context.goal is not None and how == "raise":
        drafts = (HypothesisDraft(topic="t", claim="c", confidence=0.5, evidence=(context.goal.ref,)),)
    usage = Usage(tokens_in=60, compute_ms=5)
    return Thoughtful(thought=Thought(text=how, hypotheses=drafts, answer=answer, usage=usage), worst=WORST)


class TwoRunnersAsked(RuleBasedStateMachine):
    """`one` and `two` see the log late, forget all, think slowly and commit when they like."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(grant=Credits(tokens=2000, compute_ms=2000))
        self.world.observe()
        self.runners = [Runner(self.world), Runner(self.world)]

    @rule(
        intent=st.sampled_from(INTENTS),
        route=st.integers(1, 3),
        until_s=st.sampled_from([0.5, 5, 600]),
        tokens=st.sampled_from([0, 99, 150, 5000]),
    )
    def assign(self, intent: str, route: int, until_s: float, tokens: int) -> None:
        self.world.assign(intent, route=route, until_s=until_s, budget=Credits(tokens=tokens, compute_ms=500))

    @rule(intent=st.sampled_from(INTENTS), route=st.integers(1, 3))
    def release(self, intent: str, route: int) -> None:
        self.world.release(intent, route=route)

    @rule(s=st.sampled_from([0.5, 1.0, 6.0, 40.0]))
    def pass_time(self, s: float) -> None:
        self.world.pass_time(s)

    @rule()
    def observe(self) -> None:
        self.world.observe(topic="disk")

    @rule()
    def settle_credits_and_checks(self) -> None:
        self.world.govern()
        self.world.verify()

    @rule(which=st.sampled_from([0, 1]))
    def restart(self, which: int) -> None:
        self.runners[which] = Runner(self.world)

    @rule(which=st.sampled_from([0, 1]), lag=st.integers(0, 3))
    def look(self, which: int, lag: int) -> None:
        self.runners[which].catch_up(len(self.world.store.records) - lag)

    @rule(which=st.sampled_from([0, 1]))
    def begin(self, which: int) -> None:
        runner = self.runners[which]
        if runner.pending is None:
            runner.commit(runner.begin())

    @rule(
        which=st.sampled_from([0, 1]),
        how=st.sampled_from(["answer", "answer", "decline", "raise", "hm", "model_error"]),
    )
    def finish(self, which: int, how: str) -> None:
        runner = self.runners[which]
        if runner.pending is not None:
            runner.commit(runner.finish(lambda effect: thinks(how, effect)))

    @rule(how=st.sampled_from(["answer", "decline", "raise", "hm", "empty"]))
    def step_all(self, how: str) -> None:
        self.world.pass_time(LOOP_MS / 1000)
        for runner in self.runners:
            runner.pending = None
            runner.step(lambda effect: thinks(how, effect))
        self.world.govern()

    @rule(chance=st.integers(0, 9))
    def drain(self, chance: int) -> None:
        if chance == 0:
            self.world.drain()

    @invariant()
    def a_route_is_answered_once_and_only_after_it_was_assigned(self) -> None:
        assigned: dict[tuple[str, int], datetime] = {}
        answered: Counter[tuple[str, int]] = Counter()
        for recorded in self.world.store.records:
            match recorded.event:
                case IntentAssigned() as event:
                    key = (event.intent_id, event.route)
                    assigned[key] = max(assigned.get(key, event.until), event.until)
                case IntentAnswered() as event:
                    key = (event.intent_id, event.route)
                    answered[key] += 1
                    assert recorded.envelope.time < assigned[key]
                    assert event.declined or event.evidence
                    assert well_formed(event)
                case _:
                    pass
        assert all(n == 1 for n in answered.values())

    @invariant()
    def no_assignment_costs_more_than_its_budget_or_many_thoughts(self) -> None:
        spent: Counter[str] = Counter()
        thoughts: Counter[str] = Counter()
        budget: dict[str, int] = {}
        for recorded in self.world.store.records:
            match recorded.event:
                case IntentAssigned() as event:
                    budget[recorded.id] = event.budget.tokens
                case ThoughtGenerated(assignment=str(assignment)) as event:
                    spent[assignment] += event.usage.tokens
                    thoughts[assignment] += 1
                case _:
                    pass
        assert all(tokens <= budget[assignment] for assignment, tokens in spent.items())
        assert all(n <= MAX_THOUGHTS + 1 for n in thoughts.values())

    @invariant()
    def states_are_bounded_and_the_fold_of_what_was_seen(self) -> None:
        for runner in self.runners:
            state = runner.state
            assert len(state.assigned) <= MAX_ASSIGNED and len(state.routes_ended) <= MAX_ENDED
            fresh = initial()
            for recorded in self.world.store.read(about(SWARM, PERSONA)):
                if recorded.seq <= runner.seen:
                    fresh = evolve(fresh, recorded)
            assert current(fresh, self.world.now).assigned == current(state, self.world.now).assigned
            assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State) == state


TestTwoRunnersAsked = TwoRunnersAsked.TestCase
TestTwoRunnersAsked.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)

said = st.tuples(st.booleans(), st.integers(0, 200), st.integers(1, 64))


@given(st.lists(said, max_size=300))
@settings(deadline=None)
def test_whatever_is_assigned_and_released_the_state_stays_small(orders: list[tuple[bool, int, int]]) -> None:
    world = World()
    for assigns, intent, route in orders:
        if assigns:
            world.assign(f"i-{intent}", route=route)
        else:
            world.release(f"i-{intent}", route=route)
    state = Runner(world).catch_up()
    assert len(state.assigned) <= MAX_ASSIGNED and len(state.routes_ended) <= MAX_ENDED
    assert len({a.intent_id for a in state.assigned}) == len(state.assigned)


@given(st.lists(said, max_size=40), st.integers(0, 40))
@settings(deadline=None)
def test_a_missing_prefix_and_what_comes_twice_open_nothing_that_was_ended_after(
    orders: list[tuple[bool, int, int]], missing: int
) -> None:
    world = World()
    for assigns, intent, route in orders:
        name = f"i-{intent % 4}"
        world.assign(name, route=route % 5 + 1) if assigns else world.release(name, route=route % 5 + 1)
    spawned, *records = world.store.read(about(SWARM, PERSONA))
    whole, part = evolve(initial(), spawned), evolve(initial(), spawned)
    for n, recorded in enumerate(records):
        whole = evolve(evolve(whole, recorded), recorded)
        if n >= missing:
            part = evolve(part, recorded)
    last: dict[str, int] = {}
    for recorded in records[missing:]:
        if isinstance(recorded.event, IntentReleased):
            last[recorded.event.intent_id] = max(last.get(recorded.event.intent_id, 0), recorded.event.route)
    for state in (whole, part):
        assert all(a.route > last.get(a.intent_id, 0) for a in state.assigned)
