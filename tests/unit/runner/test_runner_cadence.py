"""When a persona thinks: never too soon, ever more rarely while nothing happens, at once when something does."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from services.persona_runner.mind.guard import COOL_DOWN, LOOP, digest_of, novelty
from shared.contracts.events import Credits, ObservationRecorded, ThoughtGenerated
from shared.contracts.persona import PersonaPolicy
from shared.decider import NOTHING
from tests.unit.runner.runner_model import LOOP_MS, PERSONA, SWARM, Runner, World, fails, says


def live(world: World, runner: Runner, for_s: int, say: str | None = None) -> list[ThoughtGenerated]:
    """Look at the persona every tenth of a second."""
    before = len(world.thoughts())
    for _ in range(for_s * 10):
        world.pass_time(0.1)
        runner.step(says(say) if say else None)
        world.govern()
        world.verify()
    return world.thoughts()[before:]


def test_no_step_comes_sooner_than_the_loop_interval() -> None:
    world = World()
    runner = Runner(world)
    for _ in range(20):
        world.observe(topic="disk")
        live(world, runner, 3)
    times = [r.envelope.time for r in world.store.records if isinstance(r.event, ThoughtGenerated)]
    assert len(times) > 40
    assert min((b - a).total_seconds() for a, b in pairwise(times)) >= LOOP_MS / 1000


def test_an_idle_persona_backs_off_to_the_bound() -> None:
    world = World()
    runner = Runner(world)
    rests = [t.next_in_ms for t in live(world, runner, 1800, "nothing new")]
    assert rests[0] <= 2 * LOOP_MS
    assert rests == sorted(rests)
    assert rests[-1] == runner.limits.rest_max_ms
    assert len(rests) < 20


def test_a_persona_rests_no_shorter_than_it_was_told_to() -> None:
    world = World()
    world.observe()
    assert Runner(world).think(fails("model_error", 29.9999)).next_in_ms == 30_000


def test_new_input_wakes_an_idle_persona_at_once() -> None:
    world = World()
    runner = Runner(world)
    live(world, runner, 1800, "nothing new")
    world.observe()
    world.pass_time(0.1)
    runner.step()
    world.govern()
    runner.step()
    assert world.thoughts()[-1].phase == "observe"


def test_an_observation_for_it_alone_wakes_it_too() -> None:
    world = World()
    runner = Runner(world)
    live(world, runner, 600, "nothing new")
    recorded = world.put(ObservationRecorded(swarm=SWARM, persona=PERSONA, text="psst"))
    world.heard = recorded.seq
    (thought, *_) = live(world, runner, 2)
    assert (thought.phase, thought.observed_seq) == ("observe", recorded.seq)


@pytest.mark.parametrize(("hibernates", "sleeps"), [(True, True), (False, False)])
def test_a_persona_that_hibernates_is_not_looked_at_after_its_idle_time_until_something_happens(
    hibernates: bool, sleeps: bool
) -> None:
    world = World(policy=PersonaPolicy(idle_ttl_secs=60))
    runner = Runner(world)
    runner.state = msgspec.structs.replace(runner.catch_up(), hibernates=hibernates)
    live(world, runner, 70, "nothing new")
    assert sleeps == (live(world, runner, 400, "nothing new") == [])
    seq = world.observe()
    (thought, *_) = live(world, runner, 2)
    assert (thought.phase, thought.observed_seq) == ("observe", seq)


def test_the_third_repetition_is_noticed_and_the_fifth_is_paused() -> None:
    world = World()
    runner = Runner(world)
    notices = [t.notice for t in live(world, runner, 600, "The same  again")]
    assert notices[:6] == ["", "", LOOP, LOOP, COOL_DOWN, COOL_DOWN]


def test_repetition_is_never_progress() -> None:
    world = World()
    runner = Runner(world)
    for _ in range(8):
        world.observe(topic="disk")
        live(world, runner, 4, "It is always the disk")
    useful = [t for t in world.thoughts() if t.progress]
    assert len(useful) <= 3
    assert len(world.thoughts()) > 10


def test_a_persona_that_repeats_itself_over_ordinary_input_is_paused_until_something_stands_out() -> None:
    world = World()
    runner = Runner(world)
    for _ in range(40):
        world.observe()
        live(world, runner, 1, "All is well")
    paused = len(world.thoughts())
    assert runner.state.cooling
    for _ in range(20):
        world.observe()
        live(world, runner, 1, "All is well")
    assert len(world.thoughts()) == paused
    world.observe(topic="disk")
    assert live(world, runner, 2)


def test_digest_folds_case_and_spacing() -> None:
    assert digest_of(" A  b\n") == digest_of("a B")
    assert digest_of("a b") != digest_of("a c")


def test_novelty_is_distance_to_the_closest_earlier_text() -> None:
    assert novelty("the disk is full", []) == 1.0
    assert novelty("the disk is full", ["unrelated words", "The disk is full!"]) < 1e-9
    assert 0.1 < novelty("the disk is empty", ["the disk is full"]) < 0.5
    assert novelty("...", ["the disk is full"]) == 0.0


def test_without_credits_it_asks_once_and_waits() -> None:
    world = World()
    runner = Runner(world)
    world.pass_time(1)
    assert len(runner.step().events) == 1
    for _ in range(90):
        world.pass_time(0.1)
        assert runner.step() == NOTHING
    world.pass_time(2)
    assert len(runner.step().events) == 1
    assert runner.state.asks == 2


def test_a_grant_too_small_for_one_thought_is_not_asked_for_in_a_loop() -> None:
    world = World(grant=Credits(tokens=1, compute_ms=1))
    runner = Runner(world)
    live(world, runner, 60)
    assert world.thoughts() == []
    assert runner.state.asks <= 7
