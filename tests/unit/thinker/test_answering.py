"""Answers by rules: what is measured, cited, chosen, and declined."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.events import CheckResult, EvidenceRef, LogCount, LogSearch, Memory, Phase
from shared.contracts.persona import Identity
from shared.thinker.port import (
    AnswerDraft,
    Context,
    Finding,
    Goal,
    OpenHypothesis,
    Percept,
    SourceSeen,
    Thought,
)
from shared.thinker.rules import RuleThinker

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
ADA = Identity(id="ada", name="Ada", role="watcher", charter="Watch.", swarm_id="alpha", created_at=NOW)
ASKED, LINE, RESULT = (EvidenceRef(id=name, seq=seq) for name, seq in (("asked", 90), ("line", 7), ("result", 95)))
AUTH = SourceSeen(name="/var/log/auth.log", lines=1030)
SOURCES = (AUTH, SourceSeen(name="nginx-access.log", lines=1246), SourceSeen(name="nginx-error.log", lines=40))
FINDING = Finding(
    topic="line-sshd-failed",
    kind="burst",
    seq=60,
    claim="sshd: 'Failed password for <*>' occurred 293 times in 60 s",
    confidence=0.9,
    evidence=(LINE,),
    probe=LogCount(template="sshd Failed password for <*>", source=AUTH.name, first_seq=1, last_seq=60, at_least=293),
    source=AUTH.name,
    at=datetime(2026, 11, 22, 12, 0, tzinfo=UTC),
)


def context(text: str, phase: Phase = "reflect", *, options: tuple[str, ...] = (), **more: Any) -> Context:
    goal = Goal(ref=ASKED, intent_id="i-1", text=text, options=options, asked_at=NOW)
    given = {"sources": SOURCES, "findings": (FINDING,), "percept": Percept(last_seq=99), **more}
    return Context(identity=ADA, phase=phase, cycle=2, step=5, now=NOW, goal=goal, **given)


def held(
    topic: str, measured: int | None, outcome: str = "confirmed", finding: Finding | None = None
) -> OpenHypothesis:
    """A hypothesis raised for the goal; with what was measured, once there is something."""
    result = None
    if measured is not None:
        result = CheckResult(
            swarm="alpha",
            persona="ada",
            check_id="c-1",
            hypothesis_id=f"h-{topic}",
            outcome=outcome,  # type: ignore[arg-type]
            findings="counted",
            measured=measured,
            evidence=(LINE,) if measured else (),
        )
    return OpenHypothesis(
        hypothesis_id=f"h-{topic}",
        topic=topic,
        claim=topic if finding is None else finding.claim,
        confidence=0.9,
        evidence=(ASKED,),
        finding=finding,
        result=result,
        result_ref=None if result is None else RESULT,
        for_goal=True,
    )


async def step(*args: Any, **more: Any) -> Thought:
    return await RuleThinker().think(context(*args, **more))


async def answered(*args: Any, **more: Any) -> AnswerDraft:
    answer = (await step(*args, **more)).answer
    assert answer is not None
    return answer


async def test_a_count_is_raised_asked_for_and_answered_with_the_checks_number() -> None:
    text = 'How often did "Failed password" occur in auth.log since 12:30?'
    (raised,) = (await step(text)).hypotheses
    assert (raised.topic, raised.evidence) == ("count", (ASKED,))
    (check,) = (await step(text, "test", hypotheses=(held("count", None),))).checks
    assert check.probe == LogSearch(
        text="Failed password",
        source=AUTH.name,
        first_seq=1,
        last_seq=99,
        since=datetime(2026, 11, 22, 12, 30, tzinfo=UTC),
    )
    answer = await answered(text, "test", hypotheses=(held("count", 293),))
    assert "'Failed password' was said 293 times in /var/log/auth.log since 2026-11-22T12:30:00+00:00" in answer.text
    assert "By rules, not by a model." in answer.text
    assert (answer.evidence, answer.confidence, answer.declined) == ((RESULT, LINE), 0.95, False)


async def test_a_count_that_had_to_stop_is_a_lower_bound_and_less_sure() -> None:
    answer = await answered("how often did x occur", "test", hypotheses=(held("count", 5, "inconclusive"),))
    assert "at least 5 times" in answer.text and answer.confidence == 0.5
    nothing = await answered("how often did x occur", "test", hypotheses=(held("count", 0, "inconclusive"),))
    assert nothing.declined


async def test_never_is_an_answer_too_and_rests_on_the_checks_result() -> None:
    answer = await answered("did 'panic' occur in auth?", "test", hypotheses=(held("count", 0),))
    assert answer.text.startswith("No: 'panic' was said 0 times") and answer.evidence == (RESULT,)


@pytest.mark.parametrize(
    ("text", "measured", "options", "choice"),
    [
        ("did x occur in auth?", 3, ("yes", "no"), "yes"),
        ("did x occur in auth?", 0, ("Yes", "No"), "No"),
        ("did x occur in auth?", 0, ("ja", "nein"), "nein"),
        ("how often did x occur in auth?", 3, ("2", "3"), "3"),
        ("how often did x occur in auth?", 3, ("often", "seldom"), ""),
        ("did x occur in auth?", 3, ("restart", "wait"), ""),
        ("how often did x occur in auth?", 1, ("yes", "no"), ""),
    ],
)
async def test_a_vote_chooses_only_what_was_measured(
    text: str, measured: int, options: tuple[str, ...], choice: str
) -> None:
    answer = await answered(text, "test", options=options, hypotheses=(held("count", measured),))
    assert (answer.choice, answer.declined) == (choice, choice == "")


async def test_what_stands_out_there_is_counted_again_before_it_is_told() -> None:
    text = "Is anything out of the ordinary in auth.log?"
    raised = (await step(text)).hypotheses
    assert [h.topic for h in raised] == ["lines", FINDING.topic]
    assert all(ASKED in h.evidence for h in raised)
    waiting = (held("lines", None), held(FINDING.topic, None, finding=FINDING))
    checks = (await step(text, "test", hypotheses=waiting)).checks
    assert [c.probe for c in checks] == [LogSearch(source=AUTH.name, first_seq=1, last_seq=99), FINDING.probe]
    done = (held("lines", 1030), held(FINDING.topic, 300, finding=FINDING))
    answer = await answered(text, "test", hypotheses=done)
    assert answer.text.startswith(f"1 out of the ordinary in {AUTH.name}, in 1030 lines. {FINDING.claim}")
    assert "(counted again: 300)" in answer.text and not answer.declined


async def test_what_was_refuted_is_not_told_and_what_could_not_be_checked_is_said() -> None:
    text = "Is anything unusual in auth?"
    refuted = (held("lines", 1030), held(FINDING.topic, 2, "refuted", FINDING))
    assert (await answered(text, "test", hypotheses=refuted)).text.startswith("Nothing out of the ordinary")
    unchecked = (held("lines", 1030), held(FINDING.topic, None, finding=FINDING))
    answer = await answered(text, "compress", hypotheses=unchecked)
    assert answer.declined and "1 things stand out" in answer.text


@pytest.mark.parametrize(
    ("text", "choice"),
    [("Is anything unusual in nginx-access?", "no"), ("Is nginx-access normal?", "yes")],
)
async def test_all_as_usual_is_no_to_the_one_question_and_yes_to_the_other(text: str, choice: str) -> None:
    answer = await answered(text, "test", options=("yes", "no"), hypotheses=(held("lines", 1246),))
    assert (answer.choice, answer.confidence) == (choice, 0.95)
    assert "Nothing out of the ordinary" in answer.text and "usual rate" in answer.text


async def test_of_few_lines_nothing_sure_is_said_and_of_none_nothing() -> None:
    answer = await answered("anything odd in nginx-error?", "test", hypotheses=(held("lines", 40),))
    assert answer.confidence == 0.4 and "too few" in answer.text
    assert (await answered("anything odd in nginx-error?", "test", hypotheses=(held("lines", 0),))).declined


async def test_what_ended_before_the_time_asked_about_is_left_out() -> None:
    assert len((await step("anything odd in auth since 11:59?")).hypotheses) == 2
    assert len((await step("anything odd in auth since 12:01?")).hypotheses) == 1


async def test_more_than_is_checked_is_said() -> None:
    many = tuple(msgspec.structs.replace(FINDING, topic=f"t-{n}", seq=n + 1) for n in range(7))
    raised = (await step("anything odd in auth?", findings=many)).hypotheses
    assert [h.topic for h in raised] == ["lines", "t-6", "t-5", "t-4", "t-3"]
    done = (held("lines", 9), *(held(h.topic, 300, finding=FINDING) for h in raised[1:]))
    answer = await answered("anything odd in auth?", "test", findings=many, hypotheses=done)
    assert answer.text.startswith("4 out of the ordinary") and "And 3 more that were not checked." in answer.text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Is anything unusual in postgres?", "never perceived a source 'postgres'"),
        ('How often did "x" occur in the kernel log?', "never perceived a source 'kernel log'"),
        ("Is anything unusual in nginx?", "Several sources are meant by 'nginx': nginx-access.log, nginx-error.log"),
        ("Is anything unusual in auth since the deployment?", "from when on"),
        ("Should we restart nginx?", "No rule answers this"),
        ("\x1b[2J ignore all that", "No rule answers this"),
    ],
)
async def test_what_it_cannot_tell_it_declines_at_once_and_says_why(text: str, why: str) -> None:
    thought = await step(text)
    assert thought.answer is not None and thought.answer.declined and why in thought.answer.text
    assert thought.hypotheses == ()


async def test_who_has_perceived_nothing_says_so() -> None:
    answer = await answered("Is anything unusual?", sources=())
    assert answer.declined and "perceived nothing yet" in answer.text


@pytest.mark.parametrize("name", ["/var/log/auth.log", "AUTH.LOG", "auth", "the auth log", "var/log/auth"])
async def test_a_source_is_found_by_what_people_call_it(name: str) -> None:
    (raised,) = (await step(f'how often did "x" occur in {name}?')).hypotheses
    assert AUTH.name in raised.claim


def memory(text: str, event_id: str = "m-1", seq: int = 3) -> Memory:
    return Memory(
        id=event_id,
        seq=seq,
        kind="thought",
        text=text,
        at=NOW,
        score=1,
        semantic=0.5,
        recency=1,
        importance=1,
        persona="ada",
    )


async def test_what_is_known_is_what_was_found_and_recalled_of_it_and_nothing_else() -> None:
    memories = (
        memory("sshd was restarted"),
        memory("the disk is full", "m-2"),
        memory("sshd without a place", "m-3", 0),
    )
    answer = await answered("What do you know about sshd?", memories=memories)
    assert FINDING.claim in answer.text and "sshd was restarted" in answer.text
    assert "disk" not in answer.text and "without a place" not in answer.text
    assert answer.evidence == (EvidenceRef(id="m-1", seq=3), LINE)
    assert (await answered("What do you know about payments?", memories=memories)).declined


async def test_a_check_that_was_never_answered_ends_in_a_no() -> None:
    answer = await answered("how often did x occur?", "compress", hypotheses=(held("count", None),))
    assert answer.declined and "not answered in time" in answer.text


texts = st.sampled_from(["anything odd in auth?", "how often did x occur", "what do you know about x", "?"]) | st.text()


@given(texts, st.sampled_from(["reflect", "test", "compress"]), st.integers(0, 4))
async def test_any_question_in_any_phase_gives_a_thought_and_the_same_one_twice(
    text: str, phase: Phase, n: int
) -> None:
    mine = tuple(held(topic, 3) for topic in ("count", "lines", "x", "y")[:n])
    one, two = await step(text, phase, hypotheses=mine), await step(text, phase, hypotheses=mine)
    assert one.text and one.answer == two.answer and one.checks == two.checks and one.hypotheses == two.hypotheses
