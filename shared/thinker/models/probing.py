"""How a model is told of the probes, what it asks for in the form a check has, and what was found in lines of the prompt.

What cannot be asked for so is refused with a reason that is counted and a sentence that the model reads in its next step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from shared.contracts.events import (
    Answer,
    BeliefLookup,
    CheckResult,
    Counted,
    EvidenceRef,
    Filed,
    Found,
    History,
    LogAround,
    LogCount,
    LogResolve,
    LogSearch,
    LogValues,
    MemoryRecall,
    OutsideLook,
    Probe,
    ProposalHistory,
    Recollection,
    Report,
    ReportRead,
    Share,
    Surroundings,
    Table,
    TemplateTable,
    Values,
    Varying,
)
from shared.contracts.events.probes import MAX_MEMORIES
from shared.contracts.probe_kinds import PROBE_KINDS, decides
from shared.thinker.models.schema import Asked
from shared.thinker.perceiving.templates import CUT
from shared.thinker.port import CheckDraft, OpenHypothesis

MOST_SHOWN = 64
"""Lines of what was found in one prompt; how many more there were is said."""
MOST_BESIDE = 3
"""Checks of one hypothesis beside the one that decides."""
Reason = Literal["no_hypothesis", "unknown_probe", "incomplete", "too_many"]
MAX_TEMPLATE, MAX_WORDS = 2000, 300


class Refused(msgspec.Struct, frozen=True):
    """A check that cannot be asked for so."""

    reason: Reason
    why: str


def told() -> str:
    """The probes, in a line each."""
    return "\n".join(f"`{name}`: {kind.told}" for name, kind in PROBE_KINDS.items())


def checks(
    hypotheses: Sequence[OpenHypothesis], asked: Sequence[Asked], cited: Sequence[EvidenceRef], last_seq: int
) -> tuple[list[CheckDraft], list[Refused]]:
    """What is asked for of the numbered hypotheses. What perception counted decides on what came from it, else the first that can, else the
    citations; everything else is told beside it."""
    drafts: list[CheckDraft] = []
    refused: list[Refused] = []
    room = {hypothesis.hypothesis_id: MOST_BESIDE - len(hypothesis.told) for hypothesis in hypotheses}
    decided = {hypothesis.hypothesis_id for hypothesis in hypotheses if hypothesis.result is not None}
    for one in asked:
        if not 1 <= one.hypothesis <= len(hypotheses):
            refused.append(Refused("no_hypothesis", f"there is no hypothesis {one.hypothesis}"))
            continue
        hypothesis = hypotheses[one.hypothesis - 1]
        probe = _probe(hypothesis, one, cited, last_seq)
        if isinstance(probe, Refused):
            refused.append(probe)
            continue
        whose, own = hypothesis.hypothesis_id, True
        if whose not in decided:
            decided.add(whose)
            first = _deciding(hypothesis, probe)
            own = first != probe
            drafts.append(CheckDraft(hypothesis_id=whose, probe=first))
        if not own or any(draft.hypothesis_id == whose and draft.probe == probe for draft in drafts):
            continue
        if room[whose] <= 0:
            refused.append(Refused("too_many", f"{MOST_BESIDE} more checks of one hypothesis are the most"))
            continue
        room[whose] -= 1
        drafts.append(CheckDraft(hypothesis_id=whose, probe=probe))
    return drafts, refused


def _deciding(hypothesis: OpenHypothesis, probe: Probe) -> Probe:
    if hypothesis.finding is not None:
        return hypothesis.finding.probe
    return probe if decides(probe) else LogResolve(evidence=hypothesis.evidence)


def _probe(hypothesis: OpenHypothesis, asked: Asked, cited: Sequence[EvidenceRef], last_seq: int) -> Probe | Refused:
    """Spans begin with the first line the hypothesis cites."""
    template, text = _encodable(asked.template.strip()), _encodable(asked.text.strip())
    source = _encodable(asked.source.strip())[:200] or None
    name = asked.probe or ("log.count" if template else "log.search" if text else "log.resolve")
    seqs = [ref.seq for ref in hypothesis.evidence] or [max(1, last_seq)]
    first, last = min(seqs), max(last_seq, *seqs)
    at_least = max(1, min(asked.at_least, 2**53))
    match name:
        case "log.resolve" if hypothesis.finding is not None:
            return hypothesis.finding.probe
        case "log.resolve":
            return LogResolve(evidence=hypothesis.evidence)
        case "log.count" if template:
            before = max(1, 2 * first - last - 1)  # as long a span, where there is one
            return LogCount(
                template=_within(template, MAX_TEMPLATE),
                source=source,
                first_seq=first,
                last_seq=last,
                at_least=at_least,
                before_seq=before if before < first else None,
                by_source=source is None,
            )
        case "log.search" if text:
            words = text[:MAX_WORDS].strip()
            return LogSearch(text=words, source=source, first_seq=first, last_seq=last, at_least=at_least)
        case "memory.recall" if text:
            return MemoryRecall(query=text[:2000], most=MAX_MEMORIES)
        case "log.around" if 1 <= asked.line <= len(cited):
            return LogAround(line=cited[asked.line - 1])
        case "log.around":
            return Refused("incomplete", f"`log.around` needs `line`, from 1 to {len(cited)}, not {asked.line}")
        case "log.values":
            counted = hypothesis.finding.probe if hypothesis.finding is not None else None
            if not template and isinstance(counted, LogCount):
                template = counted.template
            if not template:
                return Refused("incomplete", "`log.values` needs `template`")
            slot = asked.slot if 1 <= asked.slot <= 64 else None
            return LogValues(
                template=_within(template, MAX_TEMPLATE), source=source, first_seq=first, last_seq=last, slot=slot
            )
        case "template.table":
            return TemplateTable(source=source, first_seq=first, last_seq=last)
        case "belief.lookup" if text:
            return BeliefLookup(query=text[:2000])
        case "proposal.history":
            return ProposalHistory(whose="swarm" if text == "swarm" else "own")
        case "report.read" if text:
            return ReportRead(target=text[:300])
        case "outside.look" if text:
            return _outside(text)
        case _ if name in PROBE_KINDS:
            return Refused("incomplete", f"`{name}` needs `{'template' if name == 'log.count' else 'text'}`")
        case _:
            return Refused("unknown_probe", f"there is no probe {_quoted(name, 40)}, only {', '.join(PROBE_KINDS)}")


def _outside(text: str) -> OutsideLook | Refused:
    """`row name=value other=3`: a number is one where it is written so."""
    row, *given = text.split()
    pairs = [pair.partition("=") for pair in given]
    arguments = {
        name: int(value) if value.removeprefix("-").isdecimal() and len(value) < 16 else value
        for name, _, value in pairs
    }
    try:
        return msgspec.convert({"probe": "outside.look", "row": row, "arguments": arguments}, OutsideLook)
    except msgspec.ValidationError:
        return Refused("incomplete", "`outside.look` needs `text`, such as `row name=value`")


def _encodable(said: str) -> str:
    return said.encode("utf-8", "replace").decode()


def _within(template: str, limit: int) -> str:
    """A template up to so many characters: what is cut off it may be anything."""
    if len(template) <= limit:
        return template
    return f"{template[: limit - 1]}{CUT}"


# -- what was found --------------------------------------------------------------------------------------------------


def shown(results: Sequence[CheckResult], number: Callable[[EvidenceRef], int], most: int = MOST_SHOWN) -> list[str]:
    """Each thing that was found, in a line; what can be cited has its number. Of each result is said whether outsiders' words are in it."""
    lines: list[str] = []
    for result in results:
        if result.found is None:
            continue
        room = most - len(lines)
        # what is not shown takes no numbers
        found = _lines(result.found, number) if room > 0 else []
        where = "from outside" if result.tainted else "not from outside"
        lines += [f"  looked at, {where}: {_quoted(result.findings, 400)}", *found[:room]]
        over = len(found) - max(0, room)
        left_out = "; ".join(
            cut
            for cut in (result.found.cut, f"{over} more lines of it" if over > 0 else "all of it" if room <= 0 else "")
            if cut
        )
        if left_out:
            lines.append(f"    left out: {_quoted(left_out, 300)}")
    return lines


def _lines(found: Found, number: Callable[[EvidenceRef], int]) -> list[str]:
    match found:
        case Counted():
            return [f"    by source: {_shares(found.by_source)}"] if found.by_source else []
        case Surroundings():
            return [
                f"    [{number(line.ref)}] {line.at.isoformat(timespec='seconds')} {_quoted(line.source, 80)} {_quoted(line.text, 240)}"
                for line in found.lines
            ]
        case Values():
            return [_varies(slot) for slot in found.slots]
        case Table():
            return [
                f"    {row.count} of {found.lines}, first [{number(row.first)}]: {_quoted(row.template, 240)} in {_quoted(row.source, 80)}"
                for row in found.rows
            ] + ([f"    {found.others} others"] if found.others else [])
        case Recollection():
            return [
                f"    [{number(one.ref)}] {'belief' if one.kind == 'belief' else 'memory'} by {one.by}, {one.at.date()}: "
                f"{_quoted(one.text, 400)}"
                for one in found.memories
            ]
        case History():
            return [f"    {_filed(filed)}" for filed in found.proposals]
        case Report():
            return [
                f"    {_filed(found.filed)}",
                f"    from character {found.offset} of {found.size}: {_quoted(found.text, 4000)}",
            ]
        case Answer():
            status = "" if found.status is None else f", {found.status}"
            return [f"    {found.row} answered{status}: {_quoted(found.text, 4000)}"]


def _varies(slot: Varying) -> str:
    numbers = slot.numbers
    level = (
        f"; numbers from {numbers.least:g} to {numbers.most:g}, mean {numbers.mean:.4g}, first {numbers.first:g}, last {numbers.last:g}, "
        f"{numbers.trend}"
        if numbers is not None
        else ""
    )
    rest = f", others {slot.others}" if slot.others else ""
    where = f"word {slot.slot} that varies, after {_quoted(slot.after, 80)}"
    return f"    {where}: {slot.distinct} different: {_shares(slot.shares)}{rest}{level}"


def _shares(shares: Sequence[Share]) -> str:
    return ", ".join(f"{_quoted(share.value, 80)} {share.count}" for share in shares)


def _filed(filed: Filed) -> str:
    what = f" {_quoted(filed.title, 72)} to {_quoted(filed.target, 200)}" if filed.title else f" by {filed.persona}"
    why = f", {_quoted(filed.why, 200)}" if filed.why else ""
    return f"{filed.at.isoformat(timespec='seconds')} {filed.kind}{what}: {filed.ended}{why}"


def _quoted(text: str, limit: int) -> str:
    return msgspec.json.encode(text[:limit].encode("utf-8", "replace").decode()).decode()
