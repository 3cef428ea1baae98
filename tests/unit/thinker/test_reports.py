"""The answer that is to be written down: proposed once it is measured, the same file whoever answers."""

from __future__ import annotations

from datetime import UTC, datetime

from shared.contracts.action_kinds import read
from shared.contracts.events import CheckResult, EvidenceRef
from shared.contracts.kinds.files import FileWrite, intent_report
from shared.contracts.persona import Identity
from shared.thinker.asking.answering import COUNTED, answer
from shared.thinker.port import Context, Goal, OpenHypothesis, SourceSeen, Thought

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ASKED = EvidenceRef(id="asked", seq=7)
LINE = EvidenceRef(id="line", seq=5)


def said(phase: str, *, outcome: str = "confirmed", report: bool = True, swarm: str = "web") -> Thought:
    """What rules say to "how often", measured, in a phase."""
    who = Identity(id="ada", name="Ada", role="watcher", charter="Watch", swarm_id=swarm, created_at=NOW)
    goal = Goal(
        ref=ASKED,
        intent_id="i-1",
        text='How often did "timeout" occur in nginx?',
        asked_at=NOW,
        report=intent_report("i-1") if report else None,
    )
    result = CheckResult(
        swarm=swarm,
        persona="ada",
        check_id="c-1",
        hypothesis_id="h-1",
        outcome=outcome,  # type: ignore[arg-type]
        findings="12 lines",
        measured=12 if outcome == "confirmed" else 0,
        evidence=(LINE,),
        tainted=True,
    )
    counted = OpenHypothesis(
        hypothesis_id="h-1",
        topic=COUNTED,
        claim="timeout was said",
        confidence=0.5,
        evidence=(ASKED, LINE),
        result=result,
        result_ref=EvidenceRef(id="result", seq=9),
        for_goal=True,
    )
    context = Context(
        identity=who,
        phase=phase,  # type: ignore[arg-type]
        cycle=1,
        step=3,
        now=NOW,
        goal=goal,
        hypotheses=(counted,),
        sources=(SourceSeen(name="nginx", lines=40),),
    )
    return answer(context, goal)


def test_the_answer_waits_for_the_phase_that_proposes_and_then_both_come() -> None:
    assert said("test").answer is None
    thought = said("compress")
    assert thought.answer is not None and not thought.answer.declined
    (proposal,) = thought.proposals
    assert ("file.write", "findings/intents/i-1.md") == (proposal.action.kind, proposal.action.target)
    assert ("h-1", thought.answer.evidence) == (proposal.hypothesis_id, proposal.evidence)
    params = read(proposal.action)
    assert isinstance(params, FileWrite)
    assert "12 times" in params.content and "event `line`" in params.content and "swarm `web`" in params.content


def test_all_who_answer_propose_the_same_file() -> None:
    files = {said("compress", swarm=swarm).proposals[0].action.target for swarm in ("web", "db")}
    assert {"findings/intents/i-1.md"} == files


def test_what_was_not_confirmed_or_not_asked_for_is_not_written() -> None:
    assert () == said("compress", outcome="refuted").proposals
    assert () == said("compress", report=False).proposals
    assert said("test", report=False).answer is not None and said("test", outcome="refuted").answer is not None
