"""Any interleaving of two runners, the world and time: one history, no overspending, nothing after the end."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.persona_runner.decider import decide, evolve, initial
from services.persona_runner.mind.drafts import well_formed
from services.persona_runner.mind.state import KEPT_NOTES, KEPT_TOPICS, MAX_OPEN_HYPOTHESES, State
from shared.contracts.catalog import about
from shared.contracts.events import (
    BudgetExhausted,
    BudgetGranted,
    CheckRequested,
    Credits,
    GrantRequested,
    HypothesisRaised,
    PersonaReaped,
    ProposalCreated,
    ProposalRejected,
    ThoughtGenerated,
)
from shared.decider import NOTHING, Performed
from tests.unit.runner.runner_model import LOOP_MS, PERSONA, SWARM, Runner, World, fails, says, seconds


class TwoRunners(RuleBasedStateMachine):
    """`one` and `two` see the log late, think slowly and commit when they like."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(grant=Credits(tokens=400, compute_ms=400))
        self.runners = (Runner(self.world), Runner(self.world))

    @rule(s=st.sampled_from([0.1, 1.0, 5.0, 31.0, 400.0]))
    def pass_time(self, s: float) -> None:
        self.world.pass_time(s)

    @rule(topic=st.sampled_from([None, "disk", "login"]))
    def observe(self, topic: str | None) -> None:
        self.world.observe(topic=topic)

    @rule()
    def govern(self) -> None:
        self.world.govern()

    @rule(outcome=st.sampled_from(["confirmed", "refuted", "inconclusive"]))
    def verify(self, outcome: str) -> None:
        self.world.verify(outcome)

    @rule()
    def refuse_credits(self) -> None:
        retry_at = self.world.now + seconds(20)
        self.world.put(
            BudgetExhausted(swarm=SWARM, persona=PERSONA, scope="swarm", resource="tokens", retry_at=retry_at)
        )

    @rule()
    def reject(self) -> None:
        for proposal in self.world.events(ProposalCreated):
            assert isinstance(proposal, ProposalCreated)
            self.world.put(
                ProposalRejected(
                    swarm=SWARM,
                    persona=PERSONA,
                    proposal_id=proposal.proposal_id,
                    stage="verify",
                    reasons=("late",),
                    digest=proposal.digest,
                )
            )

    @rule(which=st.sampled_from([0, 1]), lag=st.integers(0, 3))
    def look(self, which: int, lag: int) -> None:
        runner = self.runners[which]
        runner.catch_up(len(self.world.store.records) - lag)

    @rule(which=st.sampled_from([0, 1]))
    def begin(self, which: int) -> None:
        runner = self.runners[which]
        if runner.pending is None:
            decision = runner.begin()
            assert decide(runner.state, runner.tick()) == decision
            if decision.events:
                runner.commit(decision)

    @rule(
        which=st.sampled_from([0, 1]),
        how=st.sampled_from(["think", "think", "think", "repeat", "empty", "model_error"]),
    )
    def finish(self, which: int, how: str) -> None:
        runner = self.runners[which]
        if runner.pending is None:
            return
        tick, effect = runner.pending
        answer = {"think": None, "repeat": says("again")}.get(how, fails(how))
        result = (answer or runner.thinker.result)(effect)
        decision = runner.finish(lambda _: result)
        if runner.commit(decision):
            runner.catch_up()
            again = Performed(cause=tick, effect=effect, result=result, now=self.world.now)
            assert decide(runner.state, again) == NOTHING

    @rule()
    def settle_all(self) -> None:
        """Both see everything and take a step, so that runs get somewhere."""
        for _ in range(2):
            self.world.pass_time(LOOP_MS / 1000)
            for runner in self.runners:
                runner.pending = None
                runner.step()
            self.world.govern()

    @rule(chance=st.integers(0, 9))
    def drain(self, chance: int) -> None:
        if chance == 0:
            self.world.drain()

    @rule(chance=st.integers(0, 19))
    def reap(self, chance: int) -> None:
        if chance == 0:
            self.world.put(PersonaReaped(swarm=SWARM, persona=PERSONA, reason="test"))

    @invariant()
    def there_is_one_history(self) -> None:
        steps = [t.step for t in self.world.thoughts()]
        assert steps == list(range(1, len(steps) + 1))

    @invariant()
    def nothing_follows_the_final_thought(self) -> None:
        assert not any(t.final for t in self.world.thoughts()[:-1])

    @invariant()
    def no_grant_is_overspent_and_none_after_it_is_closed(self) -> None:
        left: dict[str, Credits] = {}
        used: Counter[str] = Counter()
        closed: dict[str, int] = {}
        for recorded in self.world.store.records:
            match recorded.event:
                case BudgetGranted() as event:
                    left[event.grant_id] = event.credits
                case GrantRequested(closing=str(grant), used=credits):
                    assert grant not in closed
                    closed[grant] = credits.tokens
                case ThoughtGenerated(grant_id=str(grant), usage=usage):
                    assert grant not in closed or closed[grant] == used[grant] + usage.tokens
                    used[grant] += usage.tokens
                case _:
                    pass
        for grant, tokens in used.items():
            assert tokens <= left[grant].tokens
        for grant, tokens in closed.items():
            assert tokens == used[grant]

    @invariant()
    def ids_are_raised_once_and_events_are_well_formed(self) -> None:
        ids = [r.id for r in self.world.store.records]
        assert len(ids) == len(set(ids))
        checked = [e.hypothesis_id for e in self.world.events(CheckRequested) if isinstance(e, CheckRequested)]
        proposed = [e.hypothesis_id for e in self.world.events(ProposalCreated) if isinstance(e, ProposalCreated)]
        raised = [e.hypothesis_id for e in self.world.events(HypothesisRaised) if isinstance(e, HypothesisRaised)]
        assert len(checked) == len(set(checked))
        assert len(proposed) == len(set(proposed))
        assert set(proposed) <= set(checked) <= set(raised)
        assert all(well_formed(r.event) for r in self.world.store.records)

    @invariant()
    def states_stay_small_and_folds_agree(self) -> None:
        for runner in self.runners:
            state = runner.state
            assert len(state.recent) <= KEPT_NOTES
            assert len(state.topics) <= KEPT_TOPICS
            assert len(state.hypotheses) <= MAX_OPEN_HYPOTHESES
            assert state == fold(self.world, runner.seen)
            assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State) == state


def fold(world: World, upto: int) -> State:
    state = initial()
    for recorded in world.store.read(about(SWARM, PERSONA)):
        if recorded.seq <= upto:
            state = evolve(state, recorded)
    return state


TestTwoRunners = TwoRunners.TestCase
TestTwoRunners.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)


@given(seed=st.lists(st.sampled_from(["observe", "finding", "govern", "verify", "think", "wait"]), max_size=40))
@settings(deadline=None)
def test_an_event_delivered_twice_changes_nothing_of_the_history(seed: list[str]) -> None:
    world = World()
    runner = Runner(world)
    for what in seed:
        match what:
            case "observe":
                world.observe()
            case "finding":
                world.observe(topic="disk")
            case "govern":
                world.govern()
            case "verify":
                world.verify()
            case "think":
                runner.step()
            case _:
                world.pass_time(3)
    once, twice = initial(), initial()
    for recorded in world.store.read(about(SWARM, PERSONA)):
        once = evolve(once, recorded)
        twice = evolve(evolve(twice, recorded), recorded)
    loose = {"asks": 0, "unanswered": 0, "grant": None}
    assert msgspec.structs.replace(once, **loose) == msgspec.structs.replace(twice, **loose)


@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.booleans()),
        min_size=1,
        max_size=10,
    )
)
def test_the_next_look_is_never_before_the_loop_interval(pauses: list[tuple[int, bool]]) -> None:
    world = World()
    runner = Runner(world)
    for pause_ms, new in pauses:
        world.pass_time(pause_ms / 1000)
        if new:
            world.observe()
        before, at = runner.state.step, runner.state.at
        runner.step()
        world.govern()
        if runner.state.step > before > 0:
            assert world.now - at >= timedelta(milliseconds=LOOP_MS)
