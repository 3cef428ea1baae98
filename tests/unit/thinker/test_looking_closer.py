"""What rules look at beside a count, and what a report is the better for it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.contracts.events import (
    CheckResult,
    Counted,
    Filed,
    Found,
    LogAround,
    LogCount,
    LogResolve,
    LogValues,
    Numbers,
    Report,
    ReportRead,
    SeenLine,
    Share,
    Surroundings,
    Table,
    TemplateRow,
    TemplateTable,
    Values,
    Varying,
)
from shared.contracts.text import trouble
from shared.thinker.looking import baseline, beside, gist, sections
from shared.thinker.port import Finding, OpenHypothesis
from shared.thinker.rules import MAX_LOOKS, report
from tests.unit.thinker.test_rules import ADA, FINDING, NOW, REFS, hypothesis, thought

COUNT = LogCount(template="a <*> failed", source="auth", first_seq=101, last_seq=150, at_least=9)
SLOT = Varying(
    slot=1,
    after="from",
    distinct=3,
    shares=(Share(value="203.0.113.9", count=90), Share(value="::1", count=9)),
    others=1,
)


def finding(kind: str, probe: Any = COUNT) -> Finding:
    return msgspec.structs.replace(FINDING, kind=kind, probe=probe)


def told(*found: Found | None, decided: Found | None = None) -> OpenHypothesis:
    body = {"swarm": "alpha", "persona": "ada", "check_id": "c-1", "hypothesis_id": "h-1", "outcome": "inconclusive"}
    one = CheckResult(**body, findings="looked", beside=True)  # type: ignore[arg-type]
    results = tuple(msgspec.structs.replace(one, found=each) for each in found)
    known = hypothesis("confirmed")
    assert known.result is not None
    return msgspec.structs.replace(known, told=results, result=msgspec.structs.replace(known.result, found=decided))


def test_a_count_is_held_against_as_long_a_span_before_it() -> None:
    assert msgspec.structs.replace(COUNT, before_seq=51) == baseline(COUNT)
    for own in (msgspec.structs.replace(COUNT, first_seq=1), msgspec.structs.replace(COUNT, before_seq=7)):
        assert own == baseline(own)
    resolve = LogResolve(evidence=REFS)
    assert resolve == baseline(resolve)


@pytest.mark.parametrize(
    ("found", "kinds"),
    [
        (finding("burst"), [LogValues, LogAround, ReportRead]),
        (finding("new_message"), [LogAround, ReportRead, LogCount]),
        (finding("rate_jump"), [TemplateTable, ReportRead]),
        (finding("metric_shift", LogResolve(evidence=REFS)), [ReportRead]),
        (msgspec.structs.replace(finding("burst"), evidence=()), [LogValues, ReportRead]),
    ],
)
def test_each_kind_of_finding_is_looked_at_in_its_own_way(found: Finding, kinds: list[type]) -> None:
    assert kinds == [type(probe) for probe in beside(found, "r.md")]


async def test_of_many_findings_as_many_are_looked_at_closer_as_there_is_room_for() -> None:
    many = [
        msgspec.structs.replace(hypothesis(), hypothesis_id=f"h-{n}", topic=f"t{n}", finding=finding("burst"))
        for n in range(8)
    ]
    checks = (await thought("test", *many)).checks
    assert 8 + MAX_LOOKS == len(checks) and [f"h-{n}" for n in range(8)] == [c.hypothesis_id for c in checks[:8]]


def test_a_report_tells_what_was_before_what_varies_what_is_around_and_what_was_reported() -> None:
    filed = Filed(
        ref=REFS[0], persona="ada", proposal_id="p-1", kind="file.write", at=NOW, ended="success", title="Report: `x`"
    )
    rising = Numbers(count=9, first=1.0, last=7.5, least=1.0, most=7.5, mean=3.0, trend="rising")
    looked = told(
        Values(
            lines=100,
            slots=(SLOT, Varying(slot=2, distinct=90, others=100, numbers=rising), Varying(slot=3, distinct=1)),
            cut="1 more",
        ),
        Surroundings(lines=(SeenLine(ref=REFS[0], source="auth", at=NOW, text="[x](http://evil) <b>\n# no"),)),
        Counted(count=3, by_source=(Share(value="web", count=3),)),
        Table(lines=9, rows=(TemplateRow(template="a <*>", source="s", count=7, first=REFS[0]),), others=2),
        Report(filed=filed, text="# old", size=5),
        None,
        decided=Counted(count=100, before=2),
    )
    text = report(context_of(looked), looked)
    for part in (
        "## Before\n\n- 100 in this span, 2 in as long a span before it",
        "- after `from`: 3 different: `203.0.113.9` 90 %, `::1` 9 %, others 1 %",
        "- word 2 that varies: 90 different, rising from 1 to 7.5, none of them frequent",
        "- Left out: 1 more",
        "## Around the first line\n\n- sequence 1: `",
        "## Where it was said\n\n- `web`: 3",
        "- 7 of 9: `a <*>`\n- 2 others",
        "success: `Report: 'x'` (proposal `p-1`)",
    ):
        assert part in text
    assert "word 3" not in text
    assert "" == trouble(text, is_markdown=True) and "\n# no" not in text
    assert "100 now, 2 in as long a span before. 3 different after 'from', most '203.0.113.9' (90 %)." == gist(looked)


def context_of(looked: OpenHypothesis) -> Any:
    from shared.thinker.port import Context

    return Context(identity=ADA, phase="compress", cycle=3, step=12, now=NOW, hypotheses=(looked,))


def test_of_nothing_found_nothing_is_told() -> None:
    assert ([], "") == (sections(told(None)), gist(told(None)))
    assert [] == sections(told(Values(lines=0, slots=()), Surroundings(lines=())))
