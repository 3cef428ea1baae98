"""What a persona knows in one step, and which citations of a thinker are true to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from services.persona_runner.mind.goals import Assigned, topic_of
from services.persona_runner.mind.guard import COOL_DOWN, LOOP
from services.persona_runner.mind.state import Held, State
from shared.contracts.action_kinds import KINDS
from shared.contracts.events import DeclaredRow, EvidenceRef, LogAround, LogResolve, Phase, Probe
from shared.contracts.kinds.files import intent_report
from shared.contracts.persona import Identity
from shared.contracts.reach import may_propose
from shared.thinker.port import Context, Finding, Goal, OpenHypothesis, Percept, SourceSeen

MAX_EVIDENCE = 32
MAX_CONTEXT_IDS = 64

_NOTICES = {
    LOOP: "You have said the same three times. Look at something else, or say that there is nothing new.",
    COOL_DOWN: "You kept repeating yourself and were made to pause.",
}
LAST_WORDS = "This is your last thought: leave what is worth keeping."


def build(
    state: State,
    identity: Identity,
    phase: Phase,
    now: datetime,
    percept: Percept,
    findings: Mapping[str, Finding],
    *,
    begins: bool,
    final: bool,
    assigned: Assigned | None = None,
    sources: tuple[SourceSeen, ...] = (),
    rows: tuple[DeclaredRow, ...] = (),
) -> Context:
    """The context of the next step. `begins`: it opens a new cycle. `findings` by topic, for the open hypotheses, and as a whole,
    with the `sources`, for what the persona was asked."""
    notices = [_NOTICES[state.notice]] if state.notice in _NOTICES else []
    notices += [f"Your proposal {outcome}." for outcome in state.outcomes]
    if final:
        notices.append(LAST_WORDS)
    return Context(
        identity=identity,
        phase=phase,
        cycle=state.cycle + begins,
        step=state.step + 1,
        now=now,
        percept=percept,
        recent=state.recent,
        hypotheses=tuple(_open(h, findings.get(topic_of(h))) for h in state.hypotheses),
        notice=" ".join(notices),
        outputs=state.outputs,
        goal=None if assigned is None else goal(assigned),
        findings=() if assigned is None else tuple(findings.values()),
        sources=() if assigned is None else sources,
        kinds=tuple(kind for kind in KINDS if may_propose(state.policy, kind)),
        rows=tuple(row for row in rows if may_propose(state.policy, row.kind)),
    )


def goal(assigned: Assigned) -> Goal:
    """What was asked, as a thinker sees it."""
    return Goal(
        ref=assigned.ref,
        intent_id=assigned.intent_id,
        text=assigned.goal,
        options=assigned.options,
        asked_at=assigned.at,
        tainted=assigned.tainted,
        thoughts=assigned.thoughts,
        report=intent_report(assigned.intent_id) if assigned.report else None,
    )


def _open(held: Held, finding: Finding | None) -> OpenHypothesis:
    return OpenHypothesis(
        hypothesis_id=held.id,
        topic=topic_of(held),
        claim=held.claim,
        confidence=held.confidence,
        evidence=held.evidence,
        finding=finding,
        result=held.result,
        told=held.told,
        result_ref=EvidenceRef(id=held.result_id, seq=held.result_seq) if held.result_id and held.result_seq else None,
        for_goal=held.assignment is not None,
    )


def references(context: Context) -> tuple[EvidenceRef, ...]:
    """Every event the context shows, most telling first, each once."""
    found: list[EvidenceRef] = []
    for finding in context.percept.findings:
        found += finding.evidence
    for hypothesis in context.hypotheses:
        found += hypothesis.evidence
        if hypothesis.finding is not None:
            found += hypothesis.finding.evidence
        if hypothesis.result is not None:
            found += hypothesis.result.evidence
        for beside in hypothesis.told:
            found += beside.evidence
        if hypothesis.for_goal and hypothesis.result_ref is not None:
            found.append(hypothesis.result_ref)
    for finding in context.findings:
        found += finding.evidence
    found += [output.ref for output in context.outputs]
    if context.goal is not None:
        found.append(context.goal.ref)
    found += [ref for ref, _ in reversed(context.percept.samples)]
    found += [EvidenceRef(id=m.id, seq=m.seq) for m in context.memories if m.seq >= 1]
    return tuple(dict.fromkeys(found))


def context_ids(context: Context) -> tuple[str, ...]:
    """Ids of what the thought was made from: earlier thoughts, what is cited in it, memories."""
    ids = [] if context.goal is None else [context.goal.ref.id]
    ids += [output.ref.id for output in context.outputs]
    ids += [note.id for note in context.recent] + [m.id for m in context.memories]
    ids += [ref.id for ref in references(context)]
    return tuple(dict.fromkeys(ids))[:MAX_CONTEXT_IDS]


def cited(evidence: Iterable[EvidenceRef], known: Iterable[EvidenceRef]) -> tuple[EvidenceRef, ...]:
    """The citations that are in the context, each once; made-up ones are left out."""
    allowed = set(known)
    return tuple(dict.fromkeys(ref for ref in evidence if ref in allowed))[:MAX_EVIDENCE]


def true_probe(probe: Probe, known: Iterable[EvidenceRef]) -> Probe | None:
    """The probe without made-up evidence; None when nothing is left to look for."""
    match probe:
        case LogResolve():
            evidence = cited(probe.evidence, known)
            return LogResolve(evidence=evidence) if evidence else None
        case LogAround():
            return probe if cited((probe.line,), known) else None
        case _:
            return probe
