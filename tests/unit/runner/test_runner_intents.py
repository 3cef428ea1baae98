"""What a persona is asked, by example: it is taken up at once, paid from its own budget, and ends by one answer, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from services.persona_runner.mind.goals import MAX_ASSIGNED, MAX_THOUGHTS, MAX_WORKED, current
from services.persona_runner.mind.state import State
from services.persona_runner.mind.steps import Think, Thoughtful
from shared.contracts.action import Action
from shared.contracts.catalog import class_of
from shared.contracts.events import (
    CheckRequested,
    Credits,
    EvidenceRef,
    HypothesisRaised,
    IntentAnswered,
    ProposalCreated,
    Usage,
)
from shared.contracts.persona import PersonaPolicy
from shared.decider import NOTHING, Result
from shared.thinker.port import AnswerDraft, CheckDraft, HypothesisDraft, ProposalDraft, Thought
from tests.unit.runner.runner_model import LOOP_MS, WORST, Runner, World, fails, finding, ref, refused, says

SPENT = Usage(tokens_in=10, compute_ms=5)


def answering(**draft: object) -> Callable[[Think], Result]:
    """A thinker that answers whatever it is asked, citing the newest line it sees."""

    def answer(effect: Think) -> Result:
        if (no := refused(effect)) is not None:
            return no
        shown = tuple(ref for ref, _ in effect.context.percept.samples[-1:])
        given = AnswerDraft(**{"text": "12 times", "confidence": 0.9, "evidence": shown, **draft})  # type: ignore[arg-type]
        return Thoughtful(thought=Thought(text="I answer", answer=given, usage=SPENT), worst=WORST)

    return answer


def settled(*, lines: int = 1, policy: PersonaPolicy | None = None) -> tuple[World, Runner]:
    """A persona at rest: it has seen so many lines, and has nothing to do."""
    world = World(policy=policy)
    for _ in range(lines):
        world.observe()
    runner = Runner(world)
    while not (runner.state.resting and runner.state.step):
        runner.think()
    return world, runner


def asked(**assigned: object) -> tuple[World, Runner]:
    """One at rest that was just asked something."""
    world, runner = settled()
    world.assign(**assigned)  # type: ignore[arg-type]
    return world, runner


def look(world: World, runner: Runner, answer: Callable[[Think], Result], times: int = 40) -> None:
    """So many looks, a loop interval each, with credits and checks answered in between."""
    for _ in range(times):
        world.pass_time(LOOP_MS / 1000)
        runner.step(answer)
        world.govern()
        world.verify()


# -- taken up and answered -------------------------------------------------------------------------------------------


def test_an_assignment_wakes_a_persona_at_rest_and_one_that_hibernates() -> None:
    world, runner = settled(policy=PersonaPolicy(idle_ttl_secs=60))
    runner.state = msgspec.structs.replace(runner.catch_up(), hibernates=True)
    look(world, runner, says("nothing new"), 900)
    steps, said = runner.state.step, len(world.store.records)
    for _ in range(10):
        world.pass_time(600)
        assert runner.step(says("nothing new")) == NOTHING
    world.assign()
    world.pass_time(0.1)
    runner.step(answering())
    world.govern()
    runner.step(answering())
    assert runner.state.step == steps + 1 and len(world.answers()) == 1
    assert len(world.store.records) > said


def test_the_answer_is_in_the_batch_of_the_thought_that_gave_it_and_says_what_was_spent() -> None:
    world, runner = asked()
    thought = runner.think(answering())
    record, said = world.store.records[-2:]
    assignment = next(r for r in world.store.records if r.subject.startswith("intent.assigned"))
    assert record.event == IntentAnswered(
        swarm="alpha",
        persona="ada",
        intent_id="i-1",
        home="home",
        route=1,
        answer="12 times",
        confidence=0.9,
        evidence=(ref(world.heard),),
        spent=Credits(tokens=10, compute_ms=5),
        tainted=True,
        slot="r1",
    )
    assert (said.event, record.envelope.causation) == (msgspec.structs.replace(thought, slot="r1"), said.id)
    assert (thought.assignment, thought.progress, thought.context_ids[0]) == (assignment.id, True, assignment.id)
    assert said.envelope.causation == assignment.id
    assert record.envelope.correlation == assignment.envelope.correlation
    assert runner.state.assigned == ()
    look(world, runner, answering(text="again"))
    assert len(world.answers()) == 1


def test_what_follows_from_it_cites_the_assignment_and_is_charged_to_it() -> None:
    world, runner = asked(budget=Credits(tokens=1000, compute_ms=1000))
    assigned = world.store.records[-1]
    asked_ref = EvidenceRef(id=assigned.id, seq=assigned.seq)

    def works(effect: Think) -> Result:
        if (no := refused(effect)) is not None:
            return no
        context, thought = effect.context, Thought(text="works", usage=SPENT)
        if context.goal is None:
            return Thoughtful(thought=thought, worst=WORST)
        (hypothesis,) = context.hypotheses or (None,)
        match context.phase:
            case "reflect":
                draft = HypothesisDraft(
                    topic="disk", claim="it is", confidence=0.5, evidence=(context.goal.ref, ref(2))
                )
                thought = msgspec.structs.replace(thought, hypotheses=(draft,))
            case "test" if hypothesis is not None and hypothesis.result is None:
                check = CheckDraft(hypothesis_id=hypothesis.hypothesis_id, probe=finding("disk", 2).probe)
                thought = msgspec.structs.replace(thought, checks=(check,))
            case "compress" if hypothesis is not None and hypothesis.result_ref is not None:
                proposal = ProposalDraft(
                    title="Report",
                    rationale="because",
                    action=Action(kind="file.write", target="findings/x.md", params={"content": "x"}),
                    evidence=(ref(2),),
                    hypothesis_id=hypothesis.hypothesis_id,
                )
                answer = AnswerDraft(text="it is", confidence=0.9, evidence=(hypothesis.result_ref,))
                thought = msgspec.structs.replace(thought, proposals=(proposal,), answer=answer)
        return Thoughtful(thought=thought, worst=WORST)

    look(world, runner, works, 8)
    (raised,) = (e for e in world.events(HypothesisRaised) if isinstance(e, HypothesisRaised))
    (check,) = (e for e in world.events(CheckRequested) if isinstance(e, CheckRequested))
    (proposal,) = (e for e in world.events(ProposalCreated) if isinstance(e, ProposalCreated))
    (answer,) = world.answers()
    assert {raised.assignment, check.assignment, proposal.assignment} == {assigned.id}
    assert asked_ref in raised.evidence and asked_ref in proposal.evidence
    result = next(r for r in world.store.records if r.subject.startswith("check.result"))
    assert answer.evidence == (EvidenceRef(id=result.id, seq=result.seq),)
    thoughts = [t for t in world.thoughts() if t.assignment == assigned.id]
    assert [t.phase for t in thoughts] == ["reflect", "test", "test", "compress"]
    assert answer.spent == Credits(tokens=40, compute_ms=20)
    assert runner.state.topics == ()


def test_what_comes_in_meanwhile_waits_for_one_cycle_and_is_perceived_then() -> None:
    world, runner = asked()
    world.observe(topic="disk")
    assert runner.think(says("on it")).assignment is not None
    thought = runner.think()
    assert (thought.phase, thought.assignment, thought.observed_seq) == ("observe", None, world.heard)
    while runner.think().assignment is None:
        world.verify()
    assert [e.topic for e in world.events(HypothesisRaised) if isinstance(e, HypothesisRaised)] == ["disk"]


def test_the_more_important_comes_first_and_of_equals_the_more_urgent() -> None:
    world, runner = asked(intent_id="i-1")
    world.assign("i-2", priority=9)
    world.assign("i-3", until_s=60)
    look(world, runner, answering(), 6)
    assert [a.intent_id for a in world.answers()] == ["i-2", "i-3", "i-1"]


# -- not answered ----------------------------------------------------------------------------------------------------


def test_no_answer_and_no_thought_for_it_after_its_time() -> None:
    world, runner = asked(until_s=5)
    runner.think(says("on it"))
    world.pass_time(5)
    look(world, runner, answering(), 20)
    assert world.answers() == []
    assert sum(t.assignment is not None for t in world.thoughts()) == 1
    assert runner.state.assigned == ()


@pytest.mark.parametrize("ends", ["released", "its time"])
def test_a_thought_that_was_under_way_when_it_ended_is_kept_without_an_answer(ends: str) -> None:
    world, runner = asked(until_s=5)
    world.pass_time(1)
    runner.catch_up()
    runner.begin()
    while runner.pending is None:
        world.govern()
        runner.catch_up()
        runner.begin()
    world.pass_time(6) if ends == "its time" else world.release()
    runner.catch_up()
    runner.commit(runner.finish(answering()))
    assert world.answers() == [] and world.thoughts()[-1].text == "I answer"


def test_work_stops_when_it_is_released() -> None:
    world, runner = asked()

    def raises(effect: Think) -> Result:
        goal = effect.context.goal
        drafts = () if goal is None else (HypothesisDraft(topic="t", claim="c", confidence=1, evidence=(goal.ref,)),)
        return says("raises", hypotheses=drafts)(effect)

    assert runner.think(raises).assignment is not None
    assert len(runner.state.hypotheses) == 1
    world.release()
    runner.catch_up()
    assert runner.state.resting and runner.state.assigned == ()
    look(world, runner, answering(), 5)
    assert world.answers() == [] and world.events(CheckRequested) == []


def test_an_assignment_that_comes_again_after_its_end_is_over() -> None:
    world, runner = asked()
    runner.think(answering())
    world.assign(route=1)
    look(world, runner, answering(), 5)
    assert len(world.answers()) == 1
    world.assign(route=2)
    look(world, runner, answering(), 5)
    assert [a.route for a in world.answers()] == [1, 2]


def test_a_release_before_its_assignment_is_not_forgotten() -> None:
    world, runner = settled()
    world.release(route=3)
    world.assign(route=3)
    assert runner.catch_up().assigned == ()
    world.assign(route=4)
    assert [a.route for a in runner.catch_up().assigned] == [4]


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_without_a_budget_it_declines_before_anything_is_spent() -> None:
    world, runner = asked(budget=Credits())
    look(world, runner, answering(), 2)
    (answer,) = world.answers()
    assert (answer.declined, answer.spent) == (True, Credits())
    assert "100 tokens and 20 ms" in answer.answer and "0 tokens and 0 ms" in answer.answer
    assert world.thoughts()[-1].thinker == "runner" and world.thoughts()[-1].usage == Usage()


def test_before_its_budget_is_exceeded_it_says_so() -> None:
    world, runner = asked(budget=Credits(tokens=120, compute_ms=1000))
    look(world, runner, says("thinking"), 20)
    (answer,) = world.answers()
    assert answer.declined and "budget" in answer.answer
    assert answer.spent.tokens == 30 <= 120  # each thought takes 10 of at most 100


def test_when_its_budget_ends_it_answers_with_what_was_confirmed() -> None:
    world, runner = settled()
    world.observe(topic="disk")
    for _ in range(5):
        runner.think()
        world.verify()
    world.assign(budget=Credits(tokens=125, compute_ms=1000))

    def raises(effect: Think) -> Result:
        context = effect.context
        if context.goal is None or context.phase != "reflect":
            return runner.thinker.result(effect)
        found = context.findings[0]
        draft = HypothesisDraft(topic=found.topic, claim=found.claim, confidence=0.8, evidence=(context.goal.ref,))
        return says("raises", hypotheses=(draft,))(effect)

    look(world, runner, raises, 12)
    (answer,) = world.answers()
    assert not answer.declined and answer.answer.startswith("So far: disk happens too often. Its budget ends here")
    assert answer.confidence == 0.5 and answer.spent.tokens <= 125


def test_what_comes_to_nothing_is_given_up() -> None:
    world, runner = asked(budget=Credits(tokens=10**6, compute_ms=10**6))
    look(world, runner, says("hm"), 3 * MAX_THOUGHTS)
    (answer,) = world.answers()
    assert answer.declined and f"{MAX_THOUGHTS} thoughts" in answer.answer
    assert sum(t.assignment is not None for t in world.thoughts()) == MAX_THOUGHTS + 1


def test_a_thinker_that_fails_is_given_up_too_and_not_asked_any_sooner() -> None:
    world, runner = asked(until_s=10**6, budget=Credits(tokens=10**6, compute_ms=10**6))
    look(world, runner, fails("model_error"), 8000)
    (answer,) = world.answers()
    assert answer.declined
    failed = [t.next_in_ms for t in world.thoughts() if t.status == "model_error" and t.assignment is not None]
    assert len(failed) == MAX_THOUGHTS and failed[:4] == [5000, 10_000, 20_000, 40_000]


def test_of_too_many_the_least_urgent_are_declined_at_once_and_beyond_that_none_is_taken_up() -> None:
    world, runner = settled()
    for n in range(MAX_ASSIGNED + 3):
        world.assign(f"i-{n}", until_s=600 + n)
    assert len(runner.catch_up().assigned) == MAX_ASSIGNED
    runner.think(answering())
    said = world.answers()
    assert [a.intent_id for a in said] == ["i-0", *(f"i-{n}" for n in range(MAX_WORKED, MAX_ASSIGNED))]
    assert [a.declined for a in said] == [False] + [True] * (MAX_ASSIGNED - MAX_WORKED)
    look(world, runner, answering(), 20)
    assert len(world.answers()) == MAX_ASSIGNED


def test_who_is_asked_again_and_again_the_same_is_in_no_loop() -> None:
    world, runner = settled()
    for n in range(9):
        world.assign(f"i-{n}")
        look(world, runner, answering(), 2)
    assert len(world.answers()) == 9
    assert {t.notice for t in world.thoughts() if t.assignment is not None} == {""}
    assert len(runner.state.said) <= 3 + sum(t.assignment is None for t in world.thoughts())


def test_a_persona_that_drains_declines_all_with_its_last_thought() -> None:
    world, runner = asked()
    world.assign("i-2")
    world.drain()
    thought = runner.think(says("farewell"))
    assert thought.final
    assert [(a.intent_id, a.declined) for a in world.answers()] == [("i-1", True), ("i-2", True)]


# -- thinkers can be wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draft",
    [
        {"evidence": ()},
        {"evidence": (EvidenceRef(id="made-up", seq=7),)},
        {"text": " "},
        {"choice": "neither", "text": "x"},
    ],
)
def test_an_answer_that_rests_on_nothing_or_chooses_nothing_is_none(draft: dict[str, object]) -> None:
    world, runner = asked(options=("yes", "no"))
    thought = runner.think(answering(**{"choice": "yes", **draft}))
    assert world.answers() == [] and thought.text == "I answer"


def test_a_choice_is_said_as_it_was_offered() -> None:
    world, runner = asked(options=("Yes, it is", "No"))
    runner.think(answering(choice=" yes,  IT is"))
    assert [a.choice for a in world.answers()] == ["Yes, it is"]


def test_made_up_citations_and_the_question_itself_are_no_evidence() -> None:
    world, runner = asked()
    runner.catch_up()
    (assigned,) = runner.state.assigned
    runner.think(answering(evidence=(EvidenceRef(id="x", seq=3), assigned.ref, ref(world.heard), ref(world.heard))))
    assert [a.evidence for a in world.answers()] == [(ref(world.heard),)]


def test_an_endless_or_indecent_answer_is_cut_and_its_confidence_bounded() -> None:
    world, runner = asked()
    runner.think(answering(text="\x1b[2J" + "a" * 20_000, confidence=float("nan")))
    (answer,) = world.answers()
    assert len(answer.answer) == 8000 and "\x1b" not in answer.answer and answer.confidence == 0.0


def test_an_answer_to_nothing_is_left_out() -> None:
    world, runner = settled()
    world.observe()
    look(world, runner, answering(), 6)
    assert world.answers() == []


@pytest.mark.parametrize("known", range(1, 4))
def test_who_knows_only_part_of_the_batch_with_an_answer_gives_no_second_one(known: int) -> None:
    """A tail brings a batch event by event; a step may begin in between."""
    world, one = asked()
    two = Runner(world)
    before = len(world.store.records)
    one.think(answering(text="one"))
    world.pass_time(5)
    two.catch_up(before + known)
    two.begin()
    if two.pending is not None:
        two.commit(two.finish(answering(text="two")))
    assert [a.answer for a in world.answers()] == ["one"]


# -- two runners, restarts -------------------------------------------------------------------------------------------


def test_of_two_runners_that_answer_one_is_heard() -> None:
    world, one = asked()
    two = Runner(world)
    for runner in (one, two):
        runner.catch_up()
    world.pass_time(5)
    for runner in (one, two):
        runner.begin()
    if one.pending is None:
        world.govern()
        for runner in (one, two):
            runner.catch_up()
            runner.begin()
    committed = [runner.commit(runner.finish(answering(text=name))) for runner, name in ((one, "one"), (two, "two"))]
    assert committed == [True, False]
    assert [a.answer for a in world.answers()] == ["one"]
    two.catch_up()
    look(world, two, answering(), 3)
    assert len(world.answers()) == 1


def test_what_was_asked_and_spent_survives_a_restart_and_a_checkpoint() -> None:
    world, runner = asked()
    runner.think(says("on it"))
    state = runner.catch_up()
    assert state.assigned[0].spent == Credits(tokens=10, compute_ms=5)
    fresh = Runner(world)
    assert fresh.catch_up() == state
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State) == state
    fresh.think(answering())
    assert [a.spent.tokens for a in world.answers()] == [20]


def test_the_state_at_a_time_is_the_same_however_often_it_is_looked_at() -> None:
    world, runner = asked(until_s=5)
    state = runner.catch_up()
    later = world.now + timedelta(seconds=5)
    assert current(state, world.now) is state
    once = current(state, later)
    assert once.assigned == () and current(once, later) is once


def test_a_persona_that_is_asked_nothing_says_what_it_said_before_and_spends_no_more() -> None:
    """As counted before personas could be asked anything."""
    world, runner = settled(lines=3)
    world.observe(topic="disk")
    look(world, runner, runner.thinker.result, 30)
    assert [t.phase for t in world.thoughts()] == [
        *("observe", "reflect", "compress"),
        *("observe", "reflect", "test", "test", "compress"),
        *5 * ["reflect"],
    ]
    assert [t.next_in_ms for t in world.thoughts()][-5:] == [1715, 3185, 5915, 10985, 20401]
    assert Counter(class_of(r.event) for r in world.store.records) == {
        "thought.generated": 13,
        "observation.recorded": 4,
        "grant.requested": 3,
        "budget.granted": 2,
        "persona.spawned": 1,
        "hypothesis.raised": 1,
        "check.requested": 1,
        "check.result": 1,
        "proposal.created": 1,
    }
    assert all(getattr(r.event, "assignment", None) is None for r in world.store.records)
