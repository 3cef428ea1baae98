"""RuleThinker says what was counted, asks for it to be checked, and proposes a report for what was confirmed."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from shared.contracts.action import action_digest
from shared.contracts.events import CheckResult, EvidenceRef, LogCount, LogResolve, Phase
from shared.contracts.persona import Identity
from shared.contracts.probe_kinds import decides
from shared.thinker.port import Context, Finding, OpenHypothesis, Percept, Thought
from shared.thinker.rules import RuleThinker, slug_of

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
ADA = Identity(id="ada", name="Ada", role="watcher", charter="Watch.", swarm_id="alpha", created_at=NOW)
REFS = (EvidenceRef(id="o-1", seq=1), EvidenceRef(id="o-9", seq=9))
FINDING = Finding(
    topic="line-sshd-failed-password-1a2b3c",
    kind="burst",
    seq=9,
    claim="sshd: 'Failed password for <*>' occurred 212 times in 60 s; before that about 0.4 per minute",
    confidence=0.97,
    evidence=REFS,
    probe=LogCount(template="sshd: Failed password for <*>", source="auth", first_seq=1, last_seq=9, at_least=212),
    source="auth",
    sample="sshd: Failed password for `root`\n# not a heading",
)


NOTHING_NEW = Percept()


def hypothesis(outcome: str | None = None, finding: Finding | None = FINDING) -> OpenHypothesis:
    result = None
    if outcome is not None:
        body = {"swarm": "alpha", "persona": "ada", "check_id": "c-1", "hypothesis_id": "h-1", "outcome": outcome}
        result = msgspec.convert(
            {**body, "findings": "212 lines match", "measured": 212, "type": "check.result"}, CheckResult
        )
    return OpenHypothesis(
        hypothesis_id="h-1",
        topic=FINDING.topic,
        claim=FINDING.claim,
        confidence=FINDING.confidence,
        evidence=REFS,
        finding=finding,
        result=result,
    )


async def thought(phase: Phase, *hypotheses: OpenHypothesis, percept: Percept = NOTHING_NEW) -> Thought:
    context = Context(identity=ADA, phase=phase, cycle=3, step=12, now=NOW, percept=percept, hypotheses=hypotheses)
    thinker = RuleThinker()
    first, second = await thinker.think(context), await thinker.think(context)
    assert msgspec.structs.replace(first, usage=second.usage) == second
    assert first.usage.tokens == 0 and first.usage.compute_ms <= thinker.worst_case(context).compute_ms
    assert first.model is None
    return first


FULL = Percept(
    first_seq=1, last_seq=9, new=212, total=400, templates=7, findings=(FINDING,), samples=((REFS[1], "the last line"),)
)


async def test_observe_sums_up_with_numbers() -> None:
    assert (await thought("observe", percept=FULL)).text == (
        f"212 lines new (sequence 1 to 9), 400 in all, 7 known kinds of line. 1 out of the ordinary: {FINDING.claim}"
    )
    assert "Nothing new since sequence 9" in (await thought("observe", percept=Percept(last_seq=9, total=400))).text


async def test_reflect_raises_a_hypothesis_for_each_finding_that_is_not_open() -> None:
    (draft,) = (await thought("reflect", percept=FULL)).hypotheses
    assert (draft.topic, draft.claim, draft.confidence, draft.evidence) == (FINDING.topic, FINDING.claim, 0.97, REFS)
    again = await thought("reflect", hypothesis(), percept=FULL)
    assert again.hypotheses == () and "hypotheses already" in again.text


async def test_reflect_says_honestly_that_nothing_stands_out() -> None:
    quiet = await thought("reflect", percept=Percept(first_seq=1, last_seq=9, new=9, total=9))
    assert quiet.hypotheses == () and quiet.text.startswith("Nothing new stands out: 9 lines looked at in cycle 3")


async def test_test_asks_for_the_findings_own_probe_and_else_for_the_citations() -> None:
    check, *beside = (await thought("test", hypothesis())).checks
    assert (check.hypothesis_id, check.probe) == ("h-1", FINDING.probe)
    assert {"h-1"} == {look.hypothesis_id for look in beside} and not any(decides(look.probe) for look in beside)
    (check,) = (await thought("test", hypothesis(finding=None))).checks
    assert check.probe == LogResolve(evidence=REFS)
    assert (await thought("test", hypothesis("confirmed"))).checks == ()


async def test_compress_proposes_a_report_only_for_what_was_confirmed() -> None:
    for outcome in (None, "refuted", "inconclusive"):
        assert (await thought("compress", hypothesis(outcome), percept=FULL)).proposals == ()
    told = await thought("compress", hypothesis("confirmed"), percept=FULL)
    (draft,) = told.proposals
    assert draft.action.kind == "file.write"
    assert draft.action.target == "findings/alpha/ada/line-sshd-failed-password-1a2b3c.md"
    assert draft.action.params["mode"] == "create_or_replace"
    assert len(draft.title) <= 72 and len(draft.rationale) <= 900
    assert (draft.evidence, draft.hypothesis_id) == (REFS, "h-1")
    report = str(draft.action.params["content"])
    for part in (
        "occurred 212 times in 60 s",
        "sequence 9, event `o-9`",
        "confirmed, measured 212",
        "Suggested next step",
        "not by a model",
    ):
        assert part in report
    assert "\n# not a heading" not in report
    assert action_digest(swarm="alpha", persona="ada", charter="0" * 64, action=draft.action)


async def test_a_confirmed_hypothesis_without_a_finding_is_reported_from_its_claim() -> None:
    (draft,) = (await thought("compress", hypothesis("confirmed", finding=None))).proposals
    assert FINDING.claim.split(";")[0] in str(draft.action.params["content"])


async def test_thoughts_about_different_things_read_differently() -> None:
    texts = {
        (await thought(phase, hypothesis("confirmed"), percept=FULL)).text
        for phase in ("observe", "reflect", "test", "compress")
    }
    assert len(texts) == 4


def test_a_slug_is_a_safe_file_name() -> None:
    assert [slug_of(t) for t in ("../../etc/passwd", "Ärger & so", "", "a" * 200)] == [
        "etc-passwd",
        "rger-so",
        "finding",
        "a" * 80,
    ]
