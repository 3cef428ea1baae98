"""Answers by rules: what was asked becomes counts for somebody else to make, and what was counted, found or recalled the answer.

In reflect each thing to be measured is raised as a hypothesis that cites the assignment; in test its check is asked for, and when all
results are in, they are the answer. No number here is an opinion: it comes from a check, and the answer cites the check's result and
lines it counted. What a rule cannot tell, or never perceived, it declines, and says so. The same context gives the same answer.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

from shared.contracts.events import EvidenceRef, LogSearch, Probe
from shared.contracts.text import plain
from shared.thinker.asking.questions import Question, parse
from shared.thinker.asking.reports import is_confirmed, written
from shared.thinker.perceiving.rates import WARM_LINES
from shared.thinker.port import (
    AnswerDraft,
    CheckDraft,
    Context,
    Finding,
    Goal,
    HypothesisDraft,
    OpenHypothesis,
    SourceSeen,
    Thought,
)

RULES = "By rules, not by a model."
CANNOT = (
    "No rule answers this. By rules it can be said whether anything is out of the ordinary in a source (since a time), how often "
    "something was said there, and what is known about something."
)
COUNTED, LOOKED_AT = "count", "lines"
"""Topics of what is measured besides findings."""
MAX_FINDINGS = 4
MOST_CITED = 24
SURE, UNSURE, FEW_LINES = 0.95, 0.5, 0.4
_ABOUT_A_SOURCE = re.compile(r"^(?:the|source|log|logs|file)\s+|\s+(?:log|logs|source|file|log file)$")
_YES = frozenset({"yes", "y", "true", "ja", "j", "wahr"})
_NO = frozenset({"no", "n", "false", "nein", "falsch"})


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """A question as this persona can answer it: the sources it is about, by their names; or `unable`, why it cannot."""

    question: Question
    sources: tuple[SourceSeen, ...] = ()
    named: str = ""
    unable: str = ""

    @property
    def since(self) -> str:
        since = self.question.since
        return f" since {since.isoformat(timespec='seconds')}" if since else ""

    @property
    def where(self) -> str:
        return f" in {plain(self.named, 200)}" if self.named else " in all that it perceives"


def answer(context: Context, goal: Goal) -> Thought:
    """The step that the goal needs in this phase."""
    question = parse(goal.text, goal.asked_at)
    if question is None:
        return _declines(CANNOT)
    sought = _sought(question, context.sources)
    if sought.unable:
        return _declines(sought.unable)
    if question.kind == "known":
        return _known(context, goal, sought)
    mine = tuple(h for h in context.hypotheses if h.for_goal)
    match context.phase:
        case "test" if any(h.result is None for h in mine):
            return _asks(context, sought, mine)
        case "test" if goal.report and any(is_confirmed(h) for h in mine):
            return Thought(text="All is measured. The answer comes with its report.")
        case "test" | "compress" if mine:
            said = _counted(goal, sought, mine) if question.kind == "count" else _unusual(context, goal, sought, mine)
            return written(context, goal, said, mine)
        case "reflect":
            return _raises(context, goal, sought)
        case _:
            return Thought(text="Nothing is measured for what was asked yet.")


def _declines(why: str) -> Thought:
    return Thought(text=f"Declines what it was asked: {why}", answer=AnswerDraft(text=f"{why} {RULES}", declined=True))


# -- what is asked ---------------------------------------------------------------------------------------------------


def _sought(question: Question, sources: tuple[SourceSeen, ...]) -> Sought:
    if question.unclear:
        return Sought(question=question, unable=f"It does not understand {question.unclear} that is asked.")
    if question.kind == "known":
        return Sought(question=question)
    if not sources:
        return Sought(question=question, unable="It has perceived nothing yet, from any source.")
    if not question.source:
        return Sought(question=question, sources=sources)
    found = _named(question.source, sources)
    if len(found) == 1:
        return Sought(question=question, sources=found, named=found[0].name)
    listed = ", ".join(plain(s.name, 80) for s in (found or sources)[:8])
    if not found:
        said = f"It has never perceived a source {plain(question.source, 120)!r}; it knows {listed}."
        return Sought(question=question, unable=said)
    return Sought(question=question, unable=f"Several sources are meant by {plain(question.source, 120)!r}: {listed}.")


def _named(written: str, sources: tuple[SourceSeen, ...]) -> tuple[SourceSeen, ...]:
    """The sources that may be meant, the closest reading first: the name, its last part, without its ending, a part of it."""
    whole = written.strip().casefold()
    wanted = _ABOUT_A_SOURCE.sub("", whole)
    names = {s: s.name.casefold() for s in sources}
    for wants in (whole, wanted):
        for shorter in range(3):
            if found := tuple(s for s, name in names.items() if _reading(name, shorter) == wants):
                return found
    return tuple(s for s, name in names.items() if len(wanted) >= 3 and wanted in name)


def _reading(name: str, shorter: int) -> str:
    """The name of a source, its last part, or that without its ending."""
    last = name.rpartition("/")[2] if shorter else name
    return last.partition(".")[0] if shorter > 1 else last


# -- measuring -------------------------------------------------------------------------------------------------------


def _raises(context: Context, goal: Goal, sought: Sought) -> Thought:
    """One hypothesis for each thing to be measured; each cites the assignment."""
    question = sought.question
    if question.kind == "count":
        claim = f"{plain(question.what, 200)!r} was said{sought.where}{sought.since}"
        drafts = [HypothesisDraft(topic=COUNTED, claim=claim, confidence=UNSURE, evidence=(goal.ref,))]
    else:
        claim = f"There are lines{sought.where}{sought.since}"
        drafts = [HypothesisDraft(topic=LOOKED_AT, claim=claim, confidence=UNSURE, evidence=(goal.ref,))]
        drafts += [
            HypothesisDraft(
                topic=f.topic[:300], claim=f.claim[:2000], confidence=f.confidence, evidence=(goal.ref, *f.evidence)
            )
            for f in _findings(context, sought)[:MAX_FINDINGS]
        ]
    return Thought(text=f"Was asked {plain(goal.text, 300)!r}. To measure: {len(drafts)}.", hypotheses=tuple(drafts))


def _findings(context: Context, sought: Sought) -> list[Finding]:
    """What stands out there, the latest first. What brings no time may be from then."""
    names = {s.name for s in sought.sources}
    since = sought.question.since
    found = [f for f in context.findings if f.source in names and (since is None or f.at is None or f.at >= since)]
    return sorted(found, key=lambda f: (-f.seq, f.topic))


def _asks(context: Context, sought: Sought, mine: tuple[OpenHypothesis, ...]) -> Thought:
    waiting = [h for h in mine if h.result is None]
    checks = tuple(CheckDraft(hypothesis_id=h.hypothesis_id, probe=_probe(context, sought, h)) for h in waiting)
    return Thought(
        text=f"To count for what it was asked ({len(checks)}): " + " | ".join(h.claim[:200] for h in waiting),
        checks=checks,
    )


def _probe(context: Context, sought: Sought, hypothesis: OpenHypothesis) -> Probe:
    if hypothesis.finding is not None:
        return hypothesis.finding.probe
    return LogSearch(
        text=sought.question.what[:300] if hypothesis.topic == COUNTED else "",
        source=sought.named or None,
        first_seq=1,
        last_seq=max(1, context.percept.last_seq, *(ref.seq for ref in hypothesis.evidence)),
        since=sought.question.since,
    )


# -- answering -------------------------------------------------------------------------------------------------------


def _counted(goal: Goal, sought: Sought, mine: tuple[OpenHypothesis, ...]) -> Thought:
    counted = next((h for h in mine if h.topic == COUNTED), None)
    if counted is None or counted.result is None:
        return _declines("The count it asked for was not answered in time.")
    count, exact = counted.result.measured, counted.result.outcome != "inconclusive"
    if not exact and not count:
        return _declines(f"The count it asked for came to nothing: {plain(counted.result.findings, 300)}.")
    times = f"{'' if exact else 'at least '}{count} {'time' if count == 1 else 'times'}"
    what = plain(sought.question.what, 200)
    told = f"{what!r} was said {times}{sought.where}{sought.since}: as many lines contain it, whatever their case."
    if sought.question.whether:
        told = f"{'Yes' if count else 'No'}: {told}"
    yes = count > 0 if sought.question.whether else None
    return _answers(goal, told, SURE if exact else UNSURE, _cites([counted]), yes=yes, number=count if exact else None)


def _unusual(context: Context, goal: Goal, sought: Sought, mine: tuple[OpenHypothesis, ...]) -> Thought:
    looked_at = next((h for h in mine if h.topic == LOOKED_AT), None)
    if looked_at is None or looked_at.result is None:
        return _declines("How many lines there are was not answered in time.")
    lines = looked_at.result.measured
    if not lines:
        return _declines(f"There is no line{sought.where}{sought.since}, so nothing can be said of them.")
    held = {h.topic: h for h in mine}
    confirmed = [h for h in mine if h is not looked_at and is_confirmed(h)]
    unsure = [h for h in mine if h is not looked_at and (h.result is None or h.result.outcome == "inconclusive")]
    more = sum(f.topic not in held for f in _findings(context, sought))
    if not confirmed and (unsure or more):
        return _declines(
            f"{len(unsure) + more} things stand out{sought.where}{sought.since}, and none could be checked."
        )
    told = [f"{len(confirmed) or 'Nothing'} out of the ordinary{sought.where}{sought.since}, in {lines} lines."]
    told += [f"{plain(h.claim, 300)} (counted again: {h.result.measured})." for h in confirmed if h.result is not None]
    if unsure or more:
        told.append(f"And {len(unsure) + more} more that were not checked.")
    confidence = min((h.confidence for h in confirmed), default=SURE)
    if not confirmed:
        seen = sum(s.lines for s in sought.sources)
        if seen < WARM_LINES:
            confidence = FEW_LINES
            told.append(f"It has seen {seen} lines of it only, too few to know what is usual.")
        else:
            told.append("Each kind of line came at its usual rate.")
    return _answers(
        goal, " ".join(told), confidence, _cites([*confirmed, looked_at]), yes=bool(confirmed) != sought.question.normal
    )


def _cites(measured: list[OpenHypothesis]) -> tuple[EvidenceRef, ...]:
    """The checks' results first, then lines of each in turn."""
    results = [h.result_ref for h in measured if h.result_ref is not None]
    counted = [list(h.result.evidence) for h in measured if h.result is not None]
    turns = max(map(len, counted), default=0)
    shown = [refs[turn] for turn in range(turns) for refs in counted if turn < len(refs)]
    return tuple(dict.fromkeys((*results, *shown)))[:MOST_CITED]


def _known(context: Context, goal: Goal, sought: Sought) -> Thought:
    """From memory, and from what stands out; only what speaks of it."""
    what = sought.question.what
    words = [word for word in re.findall(r"[\w.-]+", what.casefold()) if len(word) >= 3] or [what.casefold()]

    def of_it(text: str) -> int:
        folded = text.casefold()
        return sum(word in folded for word in words)

    memories = [m for m in context.memories if m.seq >= 1 and of_it(m.text)]
    memories.sort(key=lambda m: -of_it(m.text))
    findings = [f for f in context.findings if of_it(f"{f.claim} {f.source} {f.topic} {f.sample}")]
    findings.sort(key=lambda f: (-of_it(f.claim), -f.seq))
    if not memories and not findings:
        return _declines(f"Nothing it perceived or could recall speaks of {plain(what, 200)!r}.")
    told = [f"Of {plain(what, 200)!r}, as perceived and not counted again:"]
    told += [f"{plain(f.claim, 300)}{_at(f.at)}." for f in findings[:MAX_FINDINGS]]
    told += [
        f"Remembered of {m.at.isoformat(timespec='minutes')}: {plain(m.text, 300)}" for m in memories[:MAX_FINDINGS]
    ]
    rest = max(0, len(findings) - MAX_FINDINGS) + max(0, len(memories) - MAX_FINDINGS)
    if rest:
        told.append(f"And {rest} more.")
    evidence = [EvidenceRef(id=m.id, seq=m.seq) for m in memories[:MAX_FINDINGS]]
    evidence += [ref for f in findings[:MAX_FINDINGS] for ref in f.evidence[:4]]
    whole = max(of_it(f.claim) for f in findings) if findings else of_it(memories[0].text)
    confidence = UNSURE + 0.2 * (whole == len(words))
    return _answers(goal, " ".join(told), confidence, tuple(dict.fromkeys(evidence))[:MOST_CITED])


def _at(at: datetime | None) -> str:
    return f", last at {at.isoformat(timespec='seconds')}" if at else ""


def _answers(
    goal: Goal,
    told: str,
    confidence: float,
    evidence: tuple[EvidenceRef, ...],
    *,
    yes: bool | None = None,
    number: int | None = None,
) -> Thought:
    """The answer; where one of several is to be chosen, only the one it means."""
    choice = ""
    if goal.options:
        means = frozenset[str]() if yes is None else _YES if yes else _NO
        means |= frozenset() if number is None else {str(number)}
        choice = next((option for option in goal.options if option.strip().casefold() in means), "")
        if not choice:
            offered = ", ".join(plain(option, 60) for option in goal.options[:8])
            return _declines(f"What it found chooses none of {offered}: {told}")
    draft = AnswerDraft(text=f"{told} {RULES}", choice=choice, confidence=confidence, evidence=evidence)
    return Thought(text=f"Answers what it was asked: {told}", answer=draft)
