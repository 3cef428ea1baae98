"""What a persona knows in one step, and which citations of a thinker are true to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from services.persona_runner.mind.guard import COOL_DOWN, LOOP
from services.persona_runner.mind.state import Held, State
from shared.contracts.events import EvidenceRef, LogResolve, Phase, Probe
from shared.contracts.persona import Identity
from shared.thinker.port import Context, Finding, OpenHypothesis, Percept

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
) -> Context:
    """The context of the next step. `begins`: it opens a new cycle. `findings` by topic, for the open hypotheses."""
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
        hypotheses=tuple(_open(h, findings.get(h.topic)) for h in state.hypotheses),
        notice=" ".join(notices),
    )


def _open(held: Held, finding: Finding | None) -> OpenHypothesis:
    return OpenHypothesis(
        hypothesis_id=held.id,
        topic=held.topic,
        claim=held.claim,
        confidence=held.confidence,
        evidence=held.evidence,
        finding=finding,
        result=held.result,
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
    found += [ref for ref, _ in reversed(context.percept.samples)]
    found += [EvidenceRef(id=m.id, seq=m.seq) for m in context.memories if m.seq >= 1]
    return tuple(dict.fromkeys(found))


def context_ids(context: Context) -> tuple[str, ...]:
    """Ids of what the thought was made from: earlier thoughts, what is cited in it, memories."""
    ids = [note.id for note in context.recent] + [m.id for m in context.memories]
    ids += [ref.id for ref in references(context)]
    return tuple(dict.fromkeys(ids))[:MAX_CONTEXT_IDS]


def cited(evidence: Iterable[EvidenceRef], known: Iterable[EvidenceRef]) -> tuple[EvidenceRef, ...]:
    """The citations that are in the context, each once; made-up ones are left out."""
    allowed = set(known)
    return tuple(dict.fromkeys(ref for ref in evidence if ref in allowed))[:MAX_EVIDENCE]


def true_probe(probe: Probe, known: Iterable[EvidenceRef]) -> Probe | None:
    """The probe without made-up evidence; None when nothing is left to look for."""
    if isinstance(probe, LogResolve):
        evidence = cited(probe.evidence, known)
        return LogResolve(evidence=evidence) if evidence else None
    return probe
