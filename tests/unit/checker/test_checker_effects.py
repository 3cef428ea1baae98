"""What the checker measures in a real (in-memory) log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.checker.answers import Answers
from services.checker.decider import Checker, Measured, RunProbe
from services.checker.desk import READ_AT_ONCE, Desk
from services.checker.effects import CheckerEffects
from services.checker.inside.spans import PAGE
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    BeliefLookup,
    CheckRequested,
    CheckResult,
    Counted,
    EvidenceRef,
    LogCount,
    LogResolve,
    LogSearch,
    Memory,
    MemoryRecall,
    RecallAnswered,
    RecallRequested,
    Recollection,
)
from shared.contracts.events.probes import MAX_MEMORY
from shared.contracts.ids import caused_id
from shared.log.memory import MemoryLog
from shared.policy.library import Library
from shared.runtime.handling import Done
from tests.unit.gate.given import T0, WHOSE, Mesh, message_of, observed, record, replaced, spawned


def ref(recorded: Any) -> EvidenceRef:
    return EvidenceRef(id=recorded.id, seq=recorded.seq)


async def test_a_search_counts_lines_that_contain_the_words_whatever_their_case_source_and_time() -> None:
    mesh = Mesh()
    lines = (
        ("2020-11-22T09:00:00Z Failed password for root", "auth.log"),
        ("2020-11-22T10:00:00Z FAILED PASSWORD for ada", "auth.log"),
        ("2020-11-22T10:30:00Z Accepted publickey for ada", "auth.log"),
        ("2020-11-22T10:45:00Z failed password", "other.log"),
    )
    refs = [ref(await mesh.say(observed(text, source=source), f"o{n}")) for n, (text, source) in enumerate(lines)]
    ten = datetime(2020, 11, 22, 10, tzinfo=UTC)

    async def found(**what: Any) -> tuple[EvidenceRef, ...]:
        probe = LogSearch(first_seq=1, last_seq=refs[-1].seq, **what)
        measured = await measure(mesh, probe)
        assert measured.complete and len(measured.evidence) == measured.value
        return measured.evidence

    assert (refs[0], refs[1], refs[3]) == await found(text="failed password")
    assert (refs[0], refs[1]) == await found(text="Failed Password", source="auth.log")
    assert (refs[1], refs[2]) == await found(source="auth.log", since=ten)
    assert (refs[0],) == await found(until=ten)
    assert () == await found(text="never said")


async def test_counting_what_outsiders_wrote_makes_it_no_truer() -> None:
    mesh = Mesh()
    await mesh.say(observed("disk full", tainted=False), "o1")
    probe = LogCount(template="disk full", first_seq=1, last_seq=9, at_least=1)
    assert not (await measure(mesh, probe)).tainted
    await mesh.say(observed("disk full"), "o2")
    assert (await measure(mesh, probe)).tainted
    assert (await measure(mesh, replaced(probe, template="never said"))).tainted


async def test_a_search_of_lines_without_a_time_goes_by_when_they_were_stored() -> None:
    mesh = Mesh()
    stored = await mesh.say(observed("disk full"), "o1")
    probe = LogSearch(text="disk", first_seq=1, last_seq=stored.seq, since=stored.stored_at)
    late = LogSearch(text="disk", first_seq=1, last_seq=stored.seq, since=stored.stored_at + timedelta(seconds=1))
    assert (1, 0) == (
        (await measure(mesh, probe)).value,
        (await measure(mesh, late)).value,
    )


def run_probe(probe: Any, **changed: Any) -> RunProbe:
    asked: dict[str, Any] = {**WHOSE, "check_event_id": "k1", "correlation": "c0", "asked_at": T0}
    return RunProbe(probe=probe, **{**asked, **changed})


async def measure(mesh: Mesh, probe: Any, **settings: Any) -> Measured:
    answers = Answers(mesh.log)
    following = asyncio.create_task(answers.follow())
    measured = await CheckerEffects(Desk(log=mesh.log, library=Library(mesh.log), answers=answers, **settings)).perform(
        run_probe(probe)
    )
    await answers.stop()
    await following
    assert isinstance(measured, Measured)
    return measured


async def test_counting_takes_template_source_range_and_namespace_into_account() -> None:
    mesh = Mesh()
    await mesh.say(observed("disk sda1 failed"), "before")
    hits = [ref(await mesh.say(observed(f"disk sd{i} failed"), f"o{i}")) for i in range(12)]
    await mesh.say(observed("disk sda1 healthy again"), "other")
    await mesh.say(observed("disk sda1 failed", persona="p02"), "private")
    await mesh.say(observed("disk sda1 failed", swarm="beta"), "foreign")
    last = await mesh.say(observed("disk sda1 failed", persona="p01"), "mine")
    await mesh.say(observed("disk sda1 failed"), "after")
    probe = LogCount(template="disk <*> failed", source="syslog", first_seq=2, last_seq=last.seq, at_least=1)
    measured = await measure(mesh, probe)
    assert (13, True) == (measured.value, measured.complete)
    assert (*hits[:4], *hits[-3:], ref(last)) == measured.evidence
    elsewhere = LogCount(template="disk <*> failed", source="journal", first_seq=1, last_seq=last.seq)
    assert 0 == (await measure(mesh, elsewhere)).value
    nothing = LogCount(template="disk <*> failed", first_seq=9, last_seq=3)
    assert Measured(value=0, found=Counted(count=0)) == await measure(mesh, nothing)


async def test_what_was_before_is_counted_beside_it_within_the_same_bound() -> None:
    mesh = Mesh()
    for i in range(10):
        await mesh.say(observed("disk sda failed" if i in (0, 3, 7, 8, 9) else "all is well"), f"o{i}")
    probe = LogCount(template="disk <*> failed", first_seq=6, last_seq=10, at_least=3, before_seq=1)
    measured = await measure(mesh, probe)
    assert (3, 2, True, "") == (measured.value, measured.before, measured.complete, measured.detail)
    assert {8, 9, 10} == {cited.seq for cited in measured.evidence}
    short = await measure(mesh, probe, max_events_read=8)
    assert (3, 1, True) == (short.value, short.before, short.complete) and "only a part" in short.detail
    assert (await measure(mesh, probe, max_events_read=4)).before is None
    assert (await measure(mesh, replaced(probe, before_seq=None))).before is None


async def test_counting_stops_at_its_limit_and_says_so() -> None:
    mesh = Mesh()
    for i in range(30):
        await mesh.say(observed(), f"o{i}")
    probe = LogCount(template="disk <*> failed", first_seq=1, last_seq=30)
    measured = await measure(mesh, probe, max_events_read=20)
    assert (20, False) == (measured.value, measured.complete) and "20" in measured.detail


async def test_counting_goes_on_over_pages() -> None:
    mesh = Mesh()
    events = [message_of(observed(), id=f"o{i}") for i in range(PAGE + 3)]
    mesh.log.store.append(events)
    measured = await measure(mesh, LogCount(template="disk <*> failed", first_seq=1, last_seq=10**9))
    assert (PAGE + 3, True) == (measured.value, measured.complete)


async def test_however_many_ask_for_a_count_only_a_few_read_the_log_at_once() -> None:
    mesh = Mesh()
    for i in range(30):
        await mesh.say(observed(), f"o{i}")
    reading = most = 0

    class Watched(MemoryLog):
        async def read(self, *args: Any, **options: Any) -> list[Recorded]:
            nonlocal reading, most
            reading += 1
            most = max(most, reading)
            for _ in range(3):
                await asyncio.sleep(0)
            reading -= 1
            return await mesh.log.read(*args, **options)

    effects = CheckerEffects(Desk(log=Watched(), library=Library(Watched()), answers=Answers(mesh.log)))
    probes = [LogCount(template="disk <*> failed", first_seq=1, last_seq=30 + n) for n in range(50)]
    measured = await asyncio.gather(*(effects.perform(run_probe(probe)) for probe in probes))
    assert [30] * 50 == [m.value for m in measured if isinstance(m, Measured)]
    assert READ_AT_ONCE == most


async def test_resolving_counts_different_readable_events() -> None:
    mesh = Mesh()
    real = ref(await mesh.say(observed(), "o1"))
    private = ref(await mesh.say(observed(persona="p02"), "o2"))
    measured = await measure(mesh, LogResolve(evidence=(real, real, private, EvidenceRef(id="x", seq=9))))
    assert (1, (real,)) == (measured.value, measured.evidence)


async def answer(mesh: Mesh, *memories: Memory, refused: str | None = None) -> None:
    """What memory does: wait for the question, answer it (and another's answer before it)."""
    questions = mesh.log.tail(["recall.requested.alpha.p01.*"], stream="RECALL")
    async for question in questions:
        assert isinstance(question.event, RecallRequested)
        other = RecallAnswered(**WHOSE, memories=())
        await mesh.log.commit([message_of(other, id="someone-elses")])
        envelope = Envelope(
            id=caused_id(question.id, "recall.answered"), source="m", time=T0, correlation="c0", causation=question.id
        )
        await mesh.log.commit(
            [Message(event=RecallAnswered(**WHOSE, memories=memories, refused=refused), envelope=envelope)]
        )
        return


def memory(semantic: float) -> Memory:
    scores = {"score": 0.1, "semantic": semantic, "recency": 0.0, "importance": 0.0}
    return Memory(id=f"m{semantic}", seq=7, kind="thought", text="t", at=T0, persona="p01", **scores)


async def test_memory_is_asked_and_its_answer_to_exactly_this_question_measured() -> None:
    mesh = Mesh()
    async with asyncio.TaskGroup() as group:
        group.create_task(answer(mesh, memory(0.4), memory(0.812)))
        measured = await measure(mesh, MemoryRecall(query="disk"))
    assert (812, True, (EvidenceRef(id="m0.812", seq=7),)) == (measured.value, measured.complete, measured.evidence)
    (question,) = mesh.log.recall.records[:1]
    assert "k1" == question.envelope.causation


async def test_what_is_recalled_is_told_the_closest_first_cut_to_its_bound_and_with_its_label() -> None:
    mesh = Mesh()
    long = replaced(memory(0.9), text="\x1b[31m" + "x" * 900, tainted=True)
    others = replaced(memory(0.95), persona="p02")
    async with asyncio.TaskGroup() as group:
        group.create_task(answer(mesh, memory(0.4), others, long, memory(0.7)))
        measured = await measure(mesh, MemoryRecall(query="disk", most=2))
    told = measured.found
    assert isinstance(told, Recollection) and measured.tainted
    assert (900, [0.9, 0.7], [True, False]) == (
        measured.value,
        [one.semantic for one in told.memories],
        [one.tainted for one in told.memories],
    )
    assert MAX_MEMORY == len(told.memories[0].text) and "\x1b" not in told.memories[0].text
    assert "1 more; some are shortened" == told.cut == measured.detail
    assert not (await recalled(Mesh(), MemoryRecall(query="disk"), memory(0.4))).tainted


async def recalled(mesh: Mesh, probe: Any, *memories: Memory) -> Measured:
    async with asyncio.TaskGroup() as group:
        group.create_task(answer(mesh, *memories))
        return await measure(mesh, probe)


async def test_of_what_is_believed_only_what_speaks_of_it_is_told() -> None:
    mesh = Mesh()
    belief = replaced(memory(2.0), kind="belief", persona="p02", text="[by 2] The DISK is failing")
    other = replaced(memory(0.0), kind="belief", text="[by 1] the weather is fine")
    measured = await recalled(mesh, BeliefLookup(query="is the disk all right"), belief, other)
    told = measured.found
    assert isinstance(told, Recollection)
    assert (1, ["p02"], ("", True)) == (
        measured.value,
        [one.by for one in told.memories],
        (told.cut, measured.complete),
    )
    (question,) = mesh.log.recall.records[:1]
    assert isinstance(question.event, RecallRequested) and "beliefs" == question.event.wanted
    refused = Mesh()
    async with asyncio.TaskGroup() as group:
        group.create_task(answer(refused, refused="too_many_waiting"))
        again = await measure(refused, BeliefLookup(query="disk"))
    assert (False, True) == (again.complete, again.passing)


async def test_what_memory_did_not_answer_is_asked_again() -> None:
    mesh = Mesh()
    answers = Answers(mesh.log)
    desk = Desk(log=mesh.log, library=Library(mesh.log), answers=answers, recall_timeout_s=0.2)
    effects = CheckerEffects(desk)
    probe = run_probe(MemoryRecall(query="disk"))
    following = asyncio.create_task(answers.follow())
    silent = await effects.perform(probe)
    async with asyncio.TaskGroup() as group:
        group.create_task(answer_newest(mesh, memory(0.5)))
        told = await effects.perform(probe)
    await answers.stop()
    await following
    assert isinstance(silent, Measured) and isinstance(told, Measured)
    assert (False, True, 500) == (silent.complete, told.complete, told.value)


async def answer_newest(mesh: Mesh, *memories: Memory) -> None:
    """Answer the second question."""
    questions = mesh.log.tail(["recall.requested.alpha.p01.*"], stream="RECALL")
    seen = 0
    async for question in questions:
        seen += 1
        if seen == 2:
            envelope = Envelope(id="second", source="m", time=T0, correlation="c0", causation=question.id)
            await mesh.log.commit([Message(event=RecallAnswered(**WHOSE, memories=memories), envelope=envelope)])
            return


async def test_an_empty_memory_is_an_answer_too() -> None:
    mesh = Mesh()
    async with asyncio.TaskGroup() as group:
        group.create_task(answer(mesh))
        measured = await measure(mesh, MemoryRecall(query="disk"))
    assert (0, True) == (measured.value, measured.complete)


async def test_a_memory_that_refuses_was_not_asked() -> None:
    mesh = Mesh()
    async with asyncio.TaskGroup() as group:
        group.create_task(answer(mesh, refused="too_many_waiting"))
        measured = await measure(mesh, MemoryRecall(query="disk"))
    assert (0, False) == (measured.value, measured.complete) and "too_many_waiting" in measured.detail


async def test_no_answer_in_time_leaves_the_check_open() -> None:
    mesh = Mesh()
    await mesh.say(spawned(), "s1")
    check = CheckRequested(**WHOSE, check_id="c-1", hypothesis_id="h-1", probe=MemoryRecall(query="disk"))
    recorded = await mesh.say(check, "k1")
    effects = CheckerEffects(
        Desk(log=mesh.log, library=Library(mesh.log), answers=Answers(mesh.log), recall_timeout_s=0.01)
    )
    for _ in range(2):
        assert isinstance(await mesh.handle(Checker(), effects.perform, recorded), Done)
    (result,) = mesh.events(CheckResult)
    assert "inconclusive" == result.outcome and "0.01 s" in result.findings


async def test_a_strangers_effect_is_a_bug() -> None:
    log = Mesh().log
    with pytest.raises(TypeError, match="no effect"):
        await CheckerEffects(Desk(log=log, library=Library(log), answers=Answers(log))).perform(record(observed()))  # type: ignore[arg-type]
