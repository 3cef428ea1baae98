"""What rules look at beside the count that decides, and how what was found reads in a report. What came from outside is inline code."""

from __future__ import annotations

import msgspec

from shared.contracts.events import (
    CheckResult,
    Counted,
    Filed,
    Found,
    LogAround,
    LogCount,
    LogValues,
    Numbers,
    Probe,
    Report,
    ReportRead,
    Surroundings,
    Table,
    TemplateTable,
    Values,
    Varying,
)
from shared.contracts.text import code, plain
from shared.thinker.perceiving.templates import REST
from shared.thinker.port import Finding, OpenHypothesis

FEW = 4
"""Values are few, and worth telling, where there are at least so many lines for each."""


def baseline(probe: Probe) -> Probe:
    """The same count, with those of as long a span before it, where there is one."""
    if not isinstance(probe, LogCount) or probe.before_seq is not None:
        return probe
    before = max(1, 2 * probe.first_seq - probe.last_seq - 1)
    return probe if before >= probe.first_seq else msgspec.structs.replace(probe, before_seq=before)


def beside(finding: Finding, report: str) -> tuple[Probe, ...]:
    """What tells more of a finding. `report`: the name of the file that was or will be written of it."""
    probe, reported = finding.probe, ReportRead(target=report[:300])
    if not isinstance(probe, LogCount):
        return (reported,)
    around = LogAround(line=finding.evidence[0]) if finding.evidence else None
    if probe.template.strip() == REST or finding.kind == "rate_jump":
        kinds = TemplateTable(source=probe.source, first_seq=probe.first_seq, last_seq=probe.last_seq, most=8)
        return (kinds, reported)
    if finding.kind == "new_message":
        elsewhere = LogCount(
            template=probe.template, first_seq=probe.first_seq, last_seq=probe.last_seq, by_source=True
        )
        return (reported, elsewhere) if around is None else (around, reported, elsewhere)
    varying = LogValues(
        template=probe.template, source=probe.source, first_seq=probe.first_seq, last_seq=probe.last_seq
    )
    return (varying, reported) if around is None else (varying, around, reported)


def gist(hypothesis: OpenHypothesis) -> str:
    """The most telling of what was found, in one sentence or two."""
    told: list[str] = []
    for result in _results(hypothesis):
        match result.found:
            case Counted(before=int(before), count=count):
                told.append(f"{count} now, {before} in as long a span before.")
            case Values(slots=slots, lines=lines):
                told += [_most(slot, lines) for slot in slots if _are_few(slot, lines)][:2]
            case _:
                pass
    return " ".join(told)


def sections(hypothesis: OpenHypothesis) -> list[str]:
    """Of a report, in Markdown: a section for each thing that was found."""
    told: list[str] = []
    for result in _results(hypothesis):
        if result.found is None:
            continue
        title, body = _section(result.found)
        if body:
            cut = result.found.cut
            told += [f"## {title}", "", *body, *([f"- Left out: {plain(cut)}"] if cut else []), ""]
    return told


def _results(hypothesis: OpenHypothesis) -> list[CheckResult]:
    return [result for result in (hypothesis.result, *hypothesis.told) if result is not None]


def _section(found: Found) -> tuple[str, list[str]]:
    match found:
        case Counted(before=int(before), count=count):
            return "Before", [f"- {count} in this span, {before} in as long a span before it"]
        case Counted(by_source=shares) if shares:
            return "Where it was said", [f"- {code(share.value)}: {share.count}" for share in shares]
        case Values():
            return "What varies", [_varies(slot, found.lines) for slot in found.slots if slot.distinct > 1]
        case Surroundings():
            return "Around the first line", [f"- sequence {line.ref.seq}: {code(line.text)}" for line in found.lines]
        case Table():
            rows = [f"- {row.count} of {found.lines}: {code(row.template)}" for row in found.rows]
            return "Kinds of line", [*rows, *([f"- {found.others} others"] if found.others else [])]
        case Report():
            return "Reported before", [f"- {_reported(found.filed)}"]
        case _:
            return "", []


def _varies(slot: Varying, lines: int) -> str:
    said = f"- {_place(slot)}: {slot.distinct} different{_level(slot.numbers)}"
    if not _are_few(slot, lines):
        return f"{said}, none of them frequent"
    shares = ", ".join(f"{code(share.value)} {_percent(share.count, lines)}" for share in slot.shares)
    rest = f", others {_percent(slot.others, lines)}" if slot.others else ""
    return f"{said}: {shares}{rest}"


def _level(numbers: Numbers | None) -> str:
    if numbers is None or numbers.trend == "level":
        return ""
    return f", {numbers.trend} from {numbers.first:g} to {numbers.last:g}"


def _place(slot: Varying) -> str:
    return f"after {code(slot.after)}" if slot.after else f"word {slot.slot} that varies"


def _are_few(slot: Varying, lines: int) -> bool:
    return bool(slot.shares) and slot.distinct > 1 and FEW * slot.distinct <= lines


def _most(slot: Varying, lines: int) -> str:
    share = slot.shares[0]
    most = f"most {plain(share.value, 80)!r} ({_percent(share.count, lines)})"
    return f"{slot.distinct} different after {plain(slot.after, 80)!r}, {most}."


def _percent(count: int, of: int) -> str:
    return f"{round(100 * count / of)} %" if of else "0 %"


def _reported(filed: Filed) -> str:
    at = filed.at.isoformat(timespec="minutes")
    return f"{at}, {filed.ended}: {code(filed.title)} (proposal `{filed.proposal_id}`)"
