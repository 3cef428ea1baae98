"""RuleThinker: thinking by rules over what perception counted. Offline, deterministic, and honest about being rules.

It has no opinion of its own: it says in plain words what was counted, asks for the count to be checked by someone else, and
proposes a findings report for what was confirmed. The same context gives the same thought, but for `compute_ms`.
"""

from __future__ import annotations

import re
import time

import msgspec

from shared.contracts.action import Action
from shared.contracts.events import EvidenceRef, LogCount, LogResolve, LogSearch, MemoryRecall, Probe, Usage
from shared.contracts.kinds.files import own_folder
from shared.contracts.probe_kinds import PROBE_KINDS, name_of
from shared.contracts.text import code, markdown, plain
from shared.thinker import specialists
from shared.thinker.asking.answering import answer
from shared.thinker.looking import baseline, beside, gist, sections
from shared.thinker.port import (
    CheckDraft,
    Context,
    Finding,
    HypothesisDraft,
    OpenHypothesis,
    Percept,
    ProposalDraft,
    Thought,
)

WORST_MS = 100
"""More than any step here takes of a processor."""
MAX_DRAFTS = 8
"""Hypotheses, checks or proposals in one step; the rest waits for the next cycle."""
MAX_LOOKS = 8
"""Checks in one step beside those that decide."""
NEXT_STEP = {
    "burst": "Look at the cited lines and at what changed just before the first of them; check that service's health and its dependencies.",
    "new_message": "Read the cited line in its surroundings; find out whether a deployment or a fault preceded it.",
    "rate_jump": "Find out who sends the additional lines and whether capacity suffices; limit or scale if it goes on.",
    "watch": "See why the lines came, or came no more; a rule that tells too often is to be replaced or ended.",
    "metric_shift": "See which process uses the resource (field `top`) and whether that load is meant to be there.",
}


class RuleThinker:
    """The offline thinker; no state, no input or output."""

    name = "rules"

    def worst_case(self, context: Context) -> Usage:
        """No tokens; `WORST_MS` of compute."""
        return Usage(compute_ms=WORST_MS)

    async def think(self, context: Context) -> Thought:
        """One step; never raises."""
        began = time.thread_time()
        match context.phase:
            case _ if context.goal is not None:
                thought = answer(context, context.goal)
            case "observe":
                thought = Thought(text=_observe(context))
            case "reflect":
                thought = _reflect(context)
            case "test":
                thought = _test(context)
            case "compress":
                thought = _compress(context)
        spent_ms = round((time.thread_time() - began) * 1000)
        return msgspec.structs.replace(
            thought, text=thought.text[:8000], usage=Usage(compute_ms=min(max(1, spent_ms), WORST_MS))
        )

    async def close(self) -> None:
        """Nothing is held."""


def _observe(context: Context) -> str:
    percept = context.percept
    if percept.new == 0:
        return f"Nothing new since sequence {percept.last_seq}; {_lines(percept.total)} seen so far." + _remembered(
            context
        )
    told = [
        f"{_lines(percept.new)} new (sequence {percept.first_seq} to {percept.last_seq}), {percept.total} in all, "
        f"{percept.templates} known kinds of line."
    ]
    if percept.findings:
        told.append(
            f"{len(percept.findings)} out of the ordinary: "
            + " | ".join(f.claim for f in percept.findings[:MAX_DRAFTS])
        )
    elif percept.samples:
        told.append(f"Most recently: {percept.samples[-1][1][:200]}")
    return " ".join(told) + _remembered(context)


def _reflect(context: Context) -> Thought:
    known = {hypothesis.topic for hypothesis in context.hypotheses}
    new = [finding for finding in context.percept.findings if finding.topic not in known]
    if not new:
        return Thought(text=_nothing(context))
    taken = new[:MAX_DRAFTS]
    drafts = tuple(
        HypothesisDraft(topic=f.topic[:300], claim=f.claim[:2000], confidence=f.confidence, evidence=f.evidence)
        for f in taken
    )
    told = [
        f"{_KINDS.get(f.kind, f.kind)}: {f.claim} (confidence {f.confidence:.2f}, {len(f.evidence)} lines cited)."
        for f in taken
    ]
    if len(new) > len(taken):
        told.append(f"{len(new) - len(taken)} more wait.")
    return Thought(text=" ".join(told), hypotheses=drafts)


_KINDS = {
    "burst": "One kind of line far above its usual rate",
    "new_message": "A message never seen before",
    "rate_jump": "More lines than usual",
    "metric_shift": "A host metric at a new level",
    "watch": "A rule of its own holds",
    "busy": "A source that leaves little room for others",
}


def _nothing(context: Context) -> str:
    percept: Percept = context.percept
    waiting = [h for h in context.hypotheses if h.result is None]
    told = f"Nothing new stands out: {_lines(percept.new)} looked at in cycle {context.cycle}, each kind within its usual rate."
    if percept.new == 0:
        told = f"No new input in cycle {context.cycle}, so no new hypothesis."
    elif percept.findings:
        told = f"The {len(percept.findings)} things that stand out are hypotheses already."
    if waiting:
        told += " Open: " + "; ".join(h.claim[:160] for h in waiting[:3])
    return told


def _test(context: Context) -> Thought:
    waiting = [h for h in context.hypotheses if h.result is None][:MAX_DRAFTS]
    settled = [
        f"{h.topic}: {h.result.outcome}, {h.result.findings[:200]}" for h in context.hypotheses if h.result is not None
    ]
    if not waiting:
        return Thought(
            text="Nothing to test." if not settled else "All checks are in. " + " | ".join(settled[:MAX_DRAFTS])
        )
    checks = [CheckDraft(hypothesis_id=h.hypothesis_id, probe=_probe(h)) for h in waiting]
    told = [f"{h.topic}: {_question(check.probe)}" for h, check in zip(waiting, checks, strict=True)]
    looks = [
        CheckDraft(hypothesis_id=h.hypothesis_id, probe=probe)
        for h in waiting
        if h.finding is not None
        for probe in beside(h.finding, f"{slug_of(h.topic)}.md")
    ][:MAX_LOOKS]
    if looks:
        names = sorted({name_of(look.probe) for look in looks})
        told.append(f"beside it, to see more: {', '.join(names)}")
    return Thought(text=f"To check ({len(checks)}): " + " | ".join(told), checks=(*checks, *looks))


def _probe(hypothesis: OpenHypothesis) -> Probe:
    if hypothesis.finding is None:
        return LogResolve(evidence=hypothesis.evidence)
    return baseline(hypothesis.finding.probe)


def _question(probe: Probe) -> str:
    match probe:
        case LogCount():
            return (
                f"are there at least {probe.at_least} lines '{probe.template[:160]}' "
                f"between sequence {probe.first_seq} and {probe.last_seq}?"
            )
        case LogSearch():
            what = f"lines with '{probe.text[:160]}'" if probe.text else "lines"
            return f"how many {what} are there between sequence {probe.first_seq} and {probe.last_seq}?"
        case LogResolve():
            return f"are the {len(probe.evidence)} cited lines in the log?"
        case MemoryRecall():
            return f"does memory hold anything like '{probe.query[:160]}'?"
        case _:
            return f"{name_of(probe)}: {PROBE_KINDS[name_of(probe)].told}"


def _compress(context: Context) -> Thought:
    confirmed = [h for h in context.hypotheses if h.result is not None and h.result.outcome == "confirmed"]
    refuted = [h for h in context.hypotheses if h.result is not None and h.result.outcome == "refuted"]
    unsure = [h for h in context.hypotheses if h.result is not None and h.result.outcome == "inconclusive"]
    waiting = [h for h in context.hypotheses if h.result is None]
    percept = context.percept
    told = [f"Cycle {context.cycle}: {_lines(percept.new)} new, {percept.total} in all, {percept.templates} kinds."]
    for name, some in (
        ("Confirmed", confirmed),
        ("Refuted", refuted),
        ("Inconclusive", unsure),
        ("Still open", waiting),
    ):
        if some:
            told.append(f"{name}: " + "; ".join(h.claim[:240] for h in some[:MAX_DRAFTS]) + ".")
    if not context.hypotheses:
        told.append("Nothing is open, nothing is proposed.")
    proposals = tuple(p for h in confirmed[:MAX_DRAFTS] if (p := _proposal(context, h)) is not None)
    reports = sum(p.action.kind == "file.write" for p in proposals)
    if reports:
        told.append(f"Proposed: {reports} findings reports.")
    told += [f"Proposed: {p.title}." for p in proposals if p.action.kind != "file.write"]
    return Thought(text=" ".join(told), proposals=proposals)


def _proposal(context: Context, hypothesis: OpenHypothesis) -> ProposalDraft | None:
    if hypothesis.topic.startswith(specialists.BUSY):
        return specialists.birth(context, hypothesis)
    if hypothesis.topic == f"watch {specialists.QUIET}" and specialists.source_of(context.identity.tags):
        return specialists.end(context, hypothesis)
    result = hypothesis.result
    found = result.findings if result is not None else ""
    slug = slug_of(hypothesis.topic)
    return ProposalDraft(
        title=plain(f"Report: {hypothesis.claim}", 72),
        rationale=plain(
            f"{hypothesis.claim}. Checked independently: {plain(found, 300)}. {gist(hypothesis)} "
            "The report is written to the workspace so that a person finds it; nothing else is changed.",
            900,
        ),
        action=Action(
            kind="file.write",
            target=f"{own_folder(context.identity.swarm_id, context.identity.id)}{slug}.md",
            params={"content": report(context, hypothesis), "mode": "create_or_replace"},
        ),
        evidence=hypothesis.evidence[:16],
        hypothesis_id=hypothesis.hypothesis_id,
    )


def report(context: Context, hypothesis: OpenHypothesis) -> str:
    """The findings report, as Markdown; what came from outside, and names people gave, are inline code."""
    finding, result, who = hypothesis.finding, hypothesis.result, context.identity
    kind = "claim" if finding is None else finding.kind
    told = [
        f"# {_KINDS.get(kind, 'Finding')}",
        "",
        code(hypothesis.claim),
        "",
        f"- Found by: {code(who.name)} (`{who.id}`, swarm `{who.swarm_id}`), by rules, not by a model",
        f"- Reported: {context.now.isoformat(timespec='seconds')}, cycle {context.cycle}",
        f"- Confidence: {hypothesis.confidence:.2f}",
        f"- Topic: {code(hypothesis.topic)}, hypothesis `{hypothesis.hypothesis_id}`",
        *_numbers(finding),
        "",
        "## Check",
        "",
        "None."
        if result is None
        else f"{result.outcome}, measured {result.measured}: {code(result.findings)} (check `{result.check_id}`)",
        "",
        *sections(hypothesis),
        "## Evidence",
        "",
        *(_cited(ref) for ref in hypothesis.evidence[:16]),
        "",
        "## Suggested next step",
        "",
        NEXT_STEP.get(kind, "Read the cited events and decide whether the claim matters."),
        "",
    ]
    return markdown("\n".join(told))


def _numbers(finding: Finding | None) -> list[str]:
    if finding is None:
        return []
    told = [f"- Source: {code(finding.source or 'unnamed')}"]
    if isinstance(finding.probe, LogCount):
        probe = finding.probe
        told.append(
            f"- Counted: at least {probe.at_least}, sequence {probe.first_seq} to {probe.last_seq}, lines {code(probe.template)}"
        )
    if finding.sample:
        told.append(f"- For example: {code(finding.sample)}")
    return told


def _cited(ref: EvidenceRef) -> str:
    return f"- sequence {ref.seq}, event `{ref.id}`"


def _remembered(context: Context) -> str:
    told = "".join(f" Told, {output.title}: {output.text[:200] or 'nothing'}" for output in context.outputs)
    return told + (f" Remembered: {context.memories[0].text[:200]}" if context.memories else "")


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"


def slug_of(topic: str) -> str:
    """The topic as a file name: lower-case letters, digits and single hyphens, at most 80 characters."""
    return re.sub(r"[^a-z0-9]+", "-", topic.lower()).strip("-")[:80].strip("-") or "finding"
