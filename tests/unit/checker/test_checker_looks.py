"""What each look brings, of a log in memory: within its bounds, and of nobody else."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.checker.answers import Answers
from services.checker.decider import Checker, Measured, RunProbe
from services.checker.desk import Desk
from services.checker.effects import KEPT, KEPT_FOR, CheckerEffects
from services.checker.looks import LOOKS
from shared.contracts.action import Action
from shared.contracts.envelope import MAX_BODY_BYTES, Recorded
from shared.contracts.events import (
    ActionExecuted,
    CheckRequested,
    CheckResult,
    Counted,
    EvidenceRef,
    Found,
    History,
    LogAround,
    LogCount,
    LogValues,
    Probe,
    ProposalHistory,
    ProposalRejected,
    Report,
    ReportRead,
    Share,
    Surroundings,
    Table,
    TemplateTable,
    Values,
)
from shared.contracts.events.probes import MAX_LINE, MAX_REPORT, MAX_SHARES, MAX_SLOTS
from shared.contracts.probe_kinds import PROBE_KINDS
from shared.log.memory import MemoryLog
from shared.policy.library import Library
from shared.runtime.handling import Done
from tests.unit.gate.given import LIFE, SWARM, T0, WHOSE, Mesh, observed, proposed, replaced, spawned

END = 2**40
F = TypeVar("F", bound=Found)


def ref(recorded: Recorded) -> EvidenceRef:
    return EvidenceRef(id=recorded.id, seq=recorded.seq)


def asked(probe: Any, **changed: Any) -> RunProbe:
    fields: dict[str, Any] = {**WHOSE, "check_event_id": "k1", "correlation": "c0", "asked_at": T0}
    return RunProbe(probe=probe, **{**fields, **changed})


def effects(log: Any, **limits: Any) -> CheckerEffects:
    return CheckerEffects(Desk(log=log, library=Library(log), answers=Answers(log), **limits))


async def measure(mesh: Mesh, probe: Any, **limits: Any) -> Measured:
    measured = await effects(mesh.log, **limits).perform(asked(probe))
    assert isinstance(measured, Measured)
    return measured


async def found(mesh: Mesh, probe: Any, kind: type[F], **limits: Any) -> F:
    measured = await measure(mesh, probe, **limits)
    assert isinstance(measured.found, kind)
    return measured.found


def test_every_probe_has_one_row_that_says_what_it_brings_and_one_look() -> None:
    assert set(get_args(Probe)) == set(LOOKS) == {kind.params for kind in PROBE_KINDS.values()}
    brought = {kind.found for kind in PROBE_KINDS.values()} - {None}
    assert set(get_args(Found)) == brought
    assert all(kind.told for kind in PROBE_KINDS.values())


# -- log.count by source ---------------------------------------------------------------------------------------------


async def test_a_count_by_source_tells_the_most_of_them_and_what_is_left_out() -> None:
    mesh = Mesh()
    for n in range(8):
        for i in range(n + 1):
            await mesh.say(observed("disk sda failed", source=f"host{n}"), f"o{n}-{i}")
    counted = await found(
        mesh, LogCount(template="disk <*> failed", first_seq=1, last_seq=END, by_source=True), Counted
    )
    assert (36, tuple(Share(value=f"host{n}", count=n + 1) for n in (7, 6, 5, 4, 3))) == (
        counted.count,
        counted.by_source,
    )
    assert len(counted.by_source) == MAX_SHARES and counted.cut == "6 of another source"


# -- log.around ------------------------------------------------------------------------------------------------------


async def test_around_a_line_are_those_of_its_source_that_the_persona_perceives() -> None:
    mesh = Mesh()
    said = []
    for n in range(30):
        said.append(await mesh.say(observed(f"line {n}"), f"o{n}"))
        await mesh.say(observed(f"other {n}", source="cron"), f"c{n}")
        await mesh.say(observed(f"private {n}", persona="p02"), f"p{n}")
        await mesh.say(observed(f"foreign {n}", swarm="beta"), f"f{n}")
    probe = LogAround(line=ref(said[10]), before=3, after=2)
    lines = (await found(mesh, probe, Surroundings)).lines
    assert [f"line {n}" for n in range(7, 13)] == [line.text for line in lines]
    assert [ref(r) for r in said[7:13]] == [line.ref for line in lines]
    mixed = await found(mesh, replaced(probe, any_source=True), Surroundings)
    assert ["other 8", "line 9", "other 9", "line 10", "other 10", "line 11"] == [line.text for line in mixed.lines]
    alone = await found(mesh, replaced(probe, before=0, after=0), Surroundings)
    assert [said[10].seq] == [line.ref.seq for line in alone.lines]
    first = await found(mesh, LogAround(line=ref(said[0]), before=3, after=0), Surroundings)
    assert (1, "") == (len(first.lines), first.cut)


async def test_around_anothers_line_there_is_nothing_not_even_that_it_is_there() -> None:
    mesh = Mesh()
    await mesh.say(observed("mine"), "o1")
    private = await mesh.say(observed("secret", persona="p02"), "o2")
    foreign = await mesh.say(observed("secret", swarm="beta"), "o3")
    rejected = await mesh.say(ProposalRejected(**LIFE, stage="verify", reasons=("x",), digest="0" * 64), "r1")
    absent = await measure(mesh, LogAround(line=EvidenceRef(id="nobody", seq=1)))
    assert (0, None, ()) == (absent.value, absent.found, absent.evidence)
    for recorded in (private, foreign, rejected):
        assert absent == await measure(mesh, LogAround(line=ref(recorded)))


async def test_what_came_after_the_check_is_not_looked_at() -> None:
    mesh = Mesh()
    said = [await mesh.say(observed(f"line {n}"), f"o{n}") for n in range(5)]
    measured = await effects(mesh.log).perform(asked(LogAround(line=ref(said[1])), seq=said[3].seq))
    assert isinstance(measured, Measured) and isinstance(measured.found, Surroundings)
    assert said[3].seq == measured.found.lines[-1].ref.seq


# -- log.values ------------------------------------------------------------------------------------------------------


async def test_values_tell_shares_of_words_and_level_and_trend_of_numbers() -> None:
    mesh = Mesh()
    for n in range(20):
        await mesh.say(
            observed(f"Dec 10 06:55:{n:02d} web sshd[7]: user {'root' if n % 4 else 'ada'} took {10 + n}ms"), f"o{n}"
        )
    probe = LogValues(template="user <*> took <*>", first_seq=1, last_seq=END)
    told = await found(mesh, probe, Values)
    who, took = told.slots
    assert (20, (1, "user", 2)) == (told.lines, (who.slot, who.after, who.distinct))
    assert (Share(value="root", count=15), Share(value="ada", count=5)) == who.shares and who.numbers is None
    assert (2, "took", 20, 15) == (took.slot, took.after, took.distinct, took.others)
    assert took.numbers is not None
    assert (20, 10.0, 29.0, 10.0, 29.0, 19.5, "rising") == msgspec.structs.astuple(took.numbers)
    one = await found(mesh, replaced(probe, slot=2), Values)
    assert (took,) == one.slots


@pytest.mark.parametrize(
    ("numbers", "trend"),
    [
        (range(20), "rising"),
        (range(20, 0, -1), "falling"),
        ([5] * 20, "level"),
        ([1, 9] * 10, "level"),
        (range(7), "level"),
    ],
)
async def test_a_trend_is_what_the_order_explains(numbers: Any, trend: str) -> None:
    mesh = Mesh()
    for n, value in enumerate(numbers):
        await mesh.say(observed(f"queue holds {value} jobs"), f"o{n}")
    told = await found(mesh, LogValues(template="queue holds <*> jobs", first_seq=1, last_seq=END), Values)
    assert told.slots[0].numbers is not None and trend == told.slots[0].numbers.trend


async def test_values_are_told_of_access_logs_quotes_and_parts_of_words() -> None:
    mesh = Mesh()
    await mesh.say(observed('10.0.0.9 - - [12/Oct/2023:10:00:00 +0000] "GET /a?b=1 HTTP/1.1" 502 17'), "a")
    await mesh.say(observed('login of "ada lovelace" from port=2201'), "b")
    access = await found(mesh, LogValues(template="<*> GET <*> status_502", first_seq=1, last_seq=END), Values)
    assert ["10.0.0.9", "/a?b=1"] == [slot.shares[0].value for slot in access.slots]
    quoted = await found(mesh, LogValues(template="login of <*> from port=<*>", first_seq=1, last_seq=END), Values)
    assert "ada lovelace" == quoted.slots[0].shares[0].value and "2201" in quoted.slots[1].shares[0].value


# -- template.table --------------------------------------------------------------------------------------------------


async def test_a_table_tells_the_kinds_of_line_and_how_many_have_none_of_them() -> None:
    mesh = Mesh()
    for n in range(9):
        await mesh.say(observed(f"disk sd{n} failed"), f"d{n}")
    for n in range(3):
        await mesh.say(observed(f"job {n} done", source="cron"), f"j{n}")
    await mesh.say(observed("disk sd1 failed", persona="p02"), "private")
    await mesh.say(observed("a word alone"), "w")
    probe = TemplateTable(first_seq=1, last_seq=END, most=2)
    told = await found(mesh, probe, Table)
    assert (13, 1, "1 more kinds of line") == (told.lines, told.others, told.cut)
    assert [("disk <*> failed", "syslog", 9, 1), ("job <*> done", "cron", 3, 10)] == [
        (row.template, row.source, row.count, row.first.seq) for row in told.rows
    ]
    only = await found(mesh, replaced(probe, source="cron"), Table)
    assert ["cron"] == [row.source for row in only.rows]


async def test_what_a_table_shows_is_what_a_count_counts() -> None:
    mesh = Mesh()
    for n in range(12):
        await mesh.say(observed(f'peer "10.0.0.{n}" is {"up" if n % 3 else "down"}, {n}ms'), f"o{n}")
    for row in (await found(mesh, TemplateTable(first_seq=1, last_seq=END), Table)).rows:
        counted = await measure(mesh, LogCount(template=row.template, first_seq=1, last_seq=END))
        assert row.count == counted.value


# -- proposals and reports -------------------------------------------------------------------------------------------


async def propose(mesh: Mesh, n: int, persona: str = "p01", **changed: Any) -> Recorded:
    action = Action(kind="file.write", target=f"reports/r{n}.md", params={"content": f"# {persona} {n}", **changed})
    own = {"swarm": SWARM, "persona": persona, "proposal_id": f"q-{persona}-{n}"}
    return await mesh.say(
        proposed(action, title=f"Report {persona} {n}", **own), f"{persona}-{n}-{len(mesh.log.store.records)}"
    )


async def ended(mesh: Mesh, recorded: Recorded, outcome: Any) -> None:
    life = {name: getattr(recorded.event, name) for name in ("swarm", "persona", "proposal_id", "digest")}
    if outcome == "rejected":
        await mesh.say(ProposalRejected(**life, stage="policy", reasons=("no_permit",)), f"{recorded.id}-e")
    else:
        await mesh.say(ActionExecuted(**life, outcome=outcome, summary="wrote it"), f"{recorded.id}-e")


async def test_a_persona_is_told_its_own_proposals_and_how_they_ended() -> None:
    mesh = Mesh()
    mine = [await propose(mesh, n) for n in range(4)]
    await propose(mesh, 9, persona="p02")
    await ended(mesh, mine[1], "success")
    await ended(mesh, mine[2], "rejected")
    told = await found(mesh, ProposalHistory(most=3), History)
    assert [("Report p01 3", "open", ""), ("Report p01 2", "rejected", "policy: no_permit")] == [
        (filed.title, filed.ended, filed.why) for filed in told.proposals[:2]
    ]
    assert ("success", "wrote it", 3) == (told.proposals[2].ended, told.proposals[2].why, len(told.proposals))
    assert "older" in told.cut
    assert () == (await found(mesh, ProposalHistory(kind="person.ask"), History)).proposals
    assert "" == (await found(mesh, ProposalHistory(most=9), History)).cut


async def test_of_others_of_its_swarm_no_word_is_told_and_of_other_swarms_nothing() -> None:
    mesh = Mesh()
    await propose(mesh, 1)
    await ended(mesh, await propose(mesh, 2, persona="p02"), "rejected")
    await mesh.say(replaced(proposed(), swarm="beta"), "foreign")
    measured = await measure(mesh, ProposalHistory(whose="swarm"))
    assert isinstance(measured.found, History)
    other, own = measured.found.proposals
    assert ("p02", "file.write", "rejected") == (other.persona, other.kind, other.ended)
    assert ("", "", "") == (other.title, other.target, other.why) and "Report p01 1" == own.title
    assert b"p02 2" not in msgspec.json.encode(measured) and (own.ref,) == measured.evidence


async def test_a_report_is_read_as_it_was_proposed_in_parts() -> None:
    mesh = Mesh()
    await propose(mesh, 1, content="old")
    content = "x" * MAX_REPORT + "y" * 10
    newest = await propose(mesh, 1, content=content, mode="replace")
    await propose(mesh, 1, persona="p02", content="another's")
    await ended(mesh, newest, "success")
    told = await found(mesh, ReportRead(target="r1.md"), Report)
    assert (content[:MAX_REPORT], len(content), "10 characters more") == (told.text, told.size, told.cut)
    assert ("success", "reports/r1.md", ref(newest)) == (told.filed.ended, told.filed.target, told.filed.ref)
    rest = await found(mesh, ReportRead(target="reports/r1.md", offset=MAX_REPORT), Report)
    assert ("y" * 10, f"{MAX_REPORT} characters before it") == (rest.text, rest.cut)
    assert (await found(mesh, ReportRead(target="r1.md", offset=10**9), Report)).text == ""
    for other in ("r9.md", "1.md", "eports/r1.md"):
        assert (await measure(mesh, ReportRead(target=other))).found is None


# -- bounds, and what is hostile -------------------------------------------------------------------------------------

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07",
    "\x00\x01\xff" * 900,
    "\u202eevil\u2066",
    "a" * 8192,
    "\ue000\ue001 7",
    '"' * 8000,
    "€" * 8192,
)


@pytest.mark.parametrize(
    "probe",
    [
        LogCount(template="<**>", first_seq=1, last_seq=END, by_source=True),
        LogValues(template="<**>", first_seq=1, last_seq=END),
        LogValues(template="<*>", first_seq=1, last_seq=END),
        TemplateTable(first_seq=1, last_seq=END, most=24),
        LogAround(line=EvidenceRef(id="o3", seq=5), before=12, after=12),
        ProposalHistory(most=12),
        ReportRead(target="r1.md"),
    ],
)
async def test_what_is_hostile_ends_as_a_finding_that_is_harmless_and_fits(probe: Any) -> None:
    mesh = Mesh()
    await mesh.say(spawned(), "s1")
    for n, text in enumerate((*HOSTILE, *HOSTILE, *HOSTILE)):
        await mesh.say(observed(text, source=text[:200]), f"o{n}")
    for n in range(12):
        await propose(mesh, 1, content="\x1b[31m" * 6000 + str(n))
    recorded = await mesh.say(CheckRequested(**WHOSE, check_id="c-1", hypothesis_id="h-1", probe=probe), "k1")
    assert isinstance(await mesh.handle(Checker(), effects(mesh.log).perform, recorded), Done)
    (result,) = mesh.events(CheckResult)
    body = msgspec.json.encode(result)
    assert result.found is not None and result.tainted and len(body) < MAX_BODY_BYTES
    assert result == msgspec.json.decode(body, type=CheckResult)
    assert not set("\x1b\x07\x00\u202e\u2066") & set(repr_of(result.found))


def repr_of(told: Found) -> str:
    """All text in it."""
    texts: list[str] = []

    def visit(node: Any) -> None:
        if isinstance(node, str):
            texts.append(node)
        for part in node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ():
            visit(part)

    visit(msgspec.to_builtins(told))
    return "".join(texts)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=6), template=st.text(min_size=1, max_size=60)
)
def test_any_template_over_any_lines_is_a_finding(texts: list[str], template: str) -> None:
    async def run() -> None:
        mesh = Mesh()
        for n, text in enumerate(texts):
            text = text.encode("utf-8", "replace").decode()
            await mesh.say(observed(text), f"o{n}")
        template_ = template.encode("utf-8", "replace").decode()
        told = await found(mesh, LogValues(template=template_, first_seq=1, last_seq=END), Values)
        counted = await measure(mesh, LogCount(template=template_, first_seq=1, last_seq=END))
        assert counted.value == told.lines and len(told.slots) <= MAX_SLOTS
        assert all(
            len(row.template) <= MAX_LINE
            for row in (await found(mesh, TemplateTable(first_seq=1, last_seq=END), Table)).rows
        )

    asyncio.run(run())


async def test_a_reading_that_is_cut_says_so() -> None:
    mesh = Mesh()
    for n in range(30):
        await mesh.say(observed(f"disk sd{n} failed"), f"o{n}")
    for probe in (
        LogValues(template="disk <*> failed", first_seq=1, last_seq=END),
        TemplateTable(first_seq=1, last_seq=END),
    ):
        measured = await measure(mesh, probe, max_events_read=20)
        assert isinstance(measured.found, Values | Table)
        assert (False, 20) == (measured.complete, measured.found.lines) and "stopped after 20" in measured.found.cut


# -- told once -------------------------------------------------------------------------------------------------------


class Counting(MemoryLog):
    """A log that counts what is read of another."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__()
        self._of, self.reads = log, 0

    async def read(self, *args: Any, **options: Any) -> list[Recorded]:
        self.reads += 1
        await asyncio.sleep(0)
        return await self._of.read(*args, **options)


async def test_the_same_look_in_a_cycle_is_taken_once_and_by_each_persona_itself() -> None:
    mesh = Mesh()
    await mesh.say(observed("disk sda failed"), "o1")
    await mesh.say(observed("disk sdb failed", persona="p02"), "o2")
    log = Counting(mesh.log)
    checking = effects(log)
    probe = LogCount(template="disk <*> failed", first_seq=1, last_seq=END)
    told = await asyncio.gather(*(checking.perform(asked(probe, check_event_id=f"k{n}")) for n in range(9)))
    once = log.reads
    assert 9 == len(told) and all(one is told[0] for one in told)
    (other,) = [await checking.perform(asked(probe, persona="p02"))]
    assert isinstance(other, Measured) and (2, 2 * once) == (other.value, log.reads)
    await mesh.say(observed("disk sdc failed"), "o3")
    assert told[0] is await checking.perform(asked(probe))
    for later in (asked(probe, correlation="c1"), asked(probe, asked_at=T0 + 2 * KEPT_FOR)):
        again = await checking.perform(later)
        assert isinstance(again, Measured) and 2 == again.value


async def test_no_more_looks_are_kept_than_a_bound() -> None:
    mesh = Mesh()
    await mesh.say(observed("disk sda failed"), "o1")
    log = Counting(mesh.log)
    checking = effects(log)
    for n in range(KEPT + 1):
        await checking.perform(asked(TemplateTable(first_seq=1, last_seq=n + 1)))
    before = log.reads
    await checking.perform(asked(TemplateTable(first_seq=1, last_seq=KEPT + 1)))
    assert before == log.reads
    await checking.perform(asked(TemplateTable(first_seq=1, last_seq=1)))
    assert before < log.reads
