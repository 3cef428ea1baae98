"""What the verifier finds in a real (in-memory) log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.verifier import decider
from services.verifier.answers import Answers
from services.verifier.decider import Measured, Resolve, Resolved, RunProbe
from services.verifier.effects import COUNTS_AT_ONCE, PAGE, VerifierEffects, count
from services.verifier.library import Library
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    ActionExecuted,
    BeliefAsserted,
    BudgetGranted,
    CheckRequested,
    CheckResult,
    Credits,
    EvidenceRef,
    HypothesisRaised,
    LogCount,
    LogResolve,
    LogSearch,
    Memory,
    MemoryRecall,
    PersonaDraining,
    ProposalRejected,
    ProposalVerified,
    RecallAnswered,
    RecallRequested,
    ThoughtGenerated,
)
from shared.contracts.ids import caused_id
from shared.contracts.persona import PersonaPolicy
from shared.log.memory import MemoryLog
from shared.policy.reading import Readings
from shared.runtime.handling import Done
from tests.policies import InForce
from tests.unit.gate.given import CHARTER, SWARM, T0, WHOSE, Mesh, at, message_of, observed, proposed, record, spawned


def ref(recorded: Any) -> EvidenceRef:
    return EvidenceRef(id=recorded.id, seq=recorded.seq)


async def resolve(mesh: Mesh, *evidence: EvidenceRef, readings: Readings | None = None) -> Resolved:
    effects = VerifierEffects(log=mesh.log, library=Library(mesh.log, readings), answers=Answers(mesh.log))
    found = await effects.perform(Resolve(**WHOSE, proposal_id="p-1", evidence=evidence))
    assert isinstance(found, Resolved)
    return found


async def test_own_swarm_wide_and_believed_events_may_be_cited_others_are_foreign() -> None:
    mesh = Mesh()
    for_all = ref(await mesh.say(observed(), "o1"))
    for_me = ref(await mesh.say(observed(persona="p01"), "o2"))
    believed = ref(await mesh.say(belief("p02"), "b1"))
    others = ref(await mesh.say(belief("p02", swarm="beta"), "b2"))
    private = ref(await mesh.say(observed(persona="p02"), "o3"))
    elsewhere = ref(await mesh.say(observed(swarm="beta"), "o4"))
    policies = InForce(mesh.log)
    await policies.put()
    cited = (for_all, for_me, believed, others, private, elsewhere)
    found = await resolve(mesh, *cited, readings=policies.readings)
    assert ((for_all, for_me, believed), (others, private, elsewhere)) == (found.found, found.foreign)
    closed = await resolve(mesh, *cited)
    assert (believed, others, private, elsewhere) == closed.foreign  # before any policy is in force memory is private


def belief(persona: str, swarm: str = SWARM, *, tainted: bool = False) -> BeliefAsserted:
    return BeliefAsserted(
        swarm=swarm,
        persona=persona,
        by=persona,
        key_id="k-1",
        belief_id="b-1",
        belief_key="k",
        claim="c",
        confidence=0.9,
        tainted=tainted,
        valid_from=at(0),
        review_after=at(9),
    )


async def test_a_belief_is_more_than_ones_own_word_only_where_another_holds_it_on_no_outsiders_word() -> None:
    mesh = Mesh()
    policies = InForce(mesh.log)
    await policies.put()
    refs = [ref(await mesh.say(said, f"b{n}")) for n, said in enumerate((belief("p01"), belief("p02", tainted=True)))]
    assert (await resolve(mesh, *refs, readings=policies.readings)).independent == 0
    good = ref(await mesh.say(belief("p02"), "b9"))
    assert (await resolve(mesh, good, readings=policies.readings)).independent == 1


async def test_what_a_descendant_distilled_may_be_cited_where_it_shares() -> None:
    mesh = Mesh()
    await mesh.say(spawned(), "s1")
    policies = InForce(mesh.log)
    await policies.put()
    cited = {}
    for name, parent, shares in (("c1", "p01", True), ("c2", "c1", True), ("c3", "p01", False), ("c4", None, True)):
        born = spawned()
        identity = msgspec.structs.replace(born.identity, id=name, parent_id=parent)
        policy = msgspec.structs.replace(born.policy, share_memory=shares)
        await mesh.say(msgspec.structs.replace(born, persona=name, identity=identity, policy=policy), f"s-{name}")
        for phase in ("compress", "reflect"):
            said = ThoughtGenerated(
                swarm=SWARM, persona=name, step=1, cycle=1, phase=phase, text="t", thinker="rules", digest="0" * 64,
                useful_at=T0,
            )  # fmt: skip
            cited[name, phase] = ref(await mesh.say(said, f"t-{name}-{phase}"))
    found = await resolve(mesh, *cited.values(), readings=policies.readings)
    assert found.found == (cited["c1", "compress"], cited["c2", "compress"])


async def test_what_cannot_change_is_read_once_and_what_can_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.verifier.library.KNOWN", 2)
    mesh = Mesh()
    await mesh.say(spawned(), "s1")
    cited = [ref(await mesh.say(observed(), f"o{n}")) for n in range(3)]
    seqs = [c.seq for c in cited]
    read: list[int] = []
    get = mesh.log.get

    async def counted(seq: int) -> Recorded | None:
        if seq in seqs:
            read.append(seq)
        return await get(seq)

    monkeypatch.setattr(mesh.log, "get", counted)
    effects = VerifierEffects(log=mesh.log, library=Library(mesh.log), answers=Answers(mesh.log))

    async def again(*evidence: EvidenceRef) -> Resolved:
        found = await effects.perform(Resolve(**WHOSE, proposal_id="p-1", evidence=evidence))
        assert isinstance(found, Resolved) and evidence == found.found
        return found

    assert (await again(cited[0])).live and (await again(cited[0])).live
    assert seqs[:1] == read
    await mesh.say(PersonaDraining(swarm=SWARM, persona="p01", reason="r", deadline=at(9)), "d1")
    drained = await again(cited[1], cited[2])
    assert not drained.live and CHARTER == drained.charter
    await again(cited[0])
    assert [*seqs, seqs[0]] == read


async def test_evidence_under_the_wrong_id_or_beyond_the_log_is_missing() -> None:
    mesh = Mesh()
    real = ref(await mesh.say(observed(), "o1"))
    wrong = (EvidenceRef(id="other", seq=real.seq), EvidenceRef(id="o1", seq=99))
    assert wrong == (await resolve(mesh, *wrong)).missing


async def test_neither_outsiders_nor_the_personas_own_words_are_independent() -> None:
    mesh = Mesh()
    tainted = ref(await mesh.say(observed(), "o1"))
    own = HypothesisRaised(**WHOSE, hypothesis_id="h-1", topic="t", claim="c", confidence=1.0, evidence=(tainted,))
    hypothesis = ref(await mesh.say(own, "h1"))
    assert 0 == (await resolve(mesh, tainted, hypothesis)).independent
    trusted = ref(await mesh.say(observed(tainted=False), "o2"))
    result = CheckResult(
        **WHOSE, check_id="c-1", hypothesis_id="h-1", outcome="confirmed", findings="12 times", tainted=False
    )
    measured = ref(await mesh.say(result, "c1"))
    assert 2 == (await resolve(mesh, tainted, hypothesis, trusted, measured)).independent


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
        measured = await count(mesh.log, SWARM, "p01", probe)
        assert measured.complete and len(measured.evidence) == measured.value
        return measured.evidence

    assert (refs[0], refs[1], refs[3]) == await found(text="failed password")
    assert (refs[0], refs[1]) == await found(text="Failed Password", source="auth.log")
    assert (refs[1], refs[2]) == await found(source="auth.log", since=ten)
    assert (refs[0],) == await found(until=ten)
    assert () == await found(text="never said")


async def test_a_search_of_lines_without_a_time_goes_by_when_they_were_stored() -> None:
    mesh = Mesh()
    stored = await mesh.say(observed("disk full"), "o1")
    probe = LogSearch(text="disk", first_seq=1, last_seq=stored.seq, since=stored.stored_at)
    late = LogSearch(text="disk", first_seq=1, last_seq=stored.seq, since=stored.stored_at + timedelta(seconds=1))
    assert (1, 0) == (
        (await count(mesh.log, SWARM, "p01", probe)).value,
        (await count(mesh.log, SWARM, "p01", late)).value,
    )


async def test_counting_what_outsiders_wrote_makes_it_no_truer() -> None:
    mesh = Mesh()
    await mesh.say(observed("disk full"), "o1")
    probe = LogCount(template="disk full", first_seq=1, last_seq=9, at_least=1)
    assert (await count(mesh.log, **WHOSE, probe=probe)).tainted
    await mesh.say(observed("disk full", tainted=False), "o2")
    assert not (await count(mesh.log, **WHOSE, probe=probe)).tainted
    counted = CheckResult(**WHOSE, check_id="c-1", hypothesis_id="h-1", outcome="confirmed", findings="once")
    assert 0 == (await resolve(mesh, ref(await mesh.say(counted, "c1")))).independent


async def test_what_a_persona_brings_about_by_asking_is_not_independent() -> None:
    mesh = Mesh()
    probe = LogCount(template="t", first_seq=1, last_seq=2, at_least=1)
    asked = CheckRequested(**WHOSE, check_id="c-1", hypothesis_id="h-1", probe=probe)
    refuted = CheckResult(**WHOSE, check_id="c-1", hypothesis_id="h-1", outcome="refuted", findings="never")
    granted = BudgetGranted(**WHOSE, grant_id="g", window=1, credits=Credits(), expires_at=at(60))
    done = ActionExecuted(**WHOSE, proposal_id="p-0", digest="0" * 64, outcome="success", summary="written")
    cited = [ref(await mesh.say(event, f"e{n}")) for n, event in enumerate((asked, refuted, granted, done))]
    assert 0 == (await resolve(mesh, *cited)).independent


async def test_a_persona_lives_from_its_spawning_until_it_drains() -> None:
    mesh = Mesh()
    assert not (await resolve(mesh)).live
    await mesh.say(spawned(policy=PersonaPolicy(allowed_tools=("file.write",))), "s1")
    alive = await resolve(mesh)
    assert (True, CHARTER, ("file.write",)) == (alive.live, alive.charter, alive.allowed_tools)
    await mesh.say(PersonaDraining(**WHOSE, reason="manual_reap", deadline=at(60)), "d1")
    assert not (await resolve(mesh)).live


async def test_a_proposal_passes_through_the_kernel_to_one_verdict_however_often_it_is_delivered() -> None:
    mesh = Mesh()
    await mesh.say(spawned(), "s1")
    seen = ref(await mesh.say(observed(tainted=False), "o1"))
    created = await mesh.say(proposed(evidence=(seen,)), "p1")
    perform = VerifierEffects(log=mesh.log, library=Library(mesh.log), answers=Answers(mesh.log)).perform
    for attempt in (1, 1, 2):
        assert isinstance(await mesh.handle(decider, perform, created, attempt), Done)
    (verdict,) = mesh.events(ProposalVerified)
    assert not mesh.events(ProposalRejected) and verdict.evidence == (seen,)
    assert CHARTER == mesh.newest(ProposalVerified).envelope.charter


# -- probes ----------------------------------------------------------------------------------------------------------


def run_probe(probe: Any) -> RunProbe:
    return RunProbe(**WHOSE, probe=probe, check_event_id="k1", correlation="c0", asked_at=T0)


async def measure(mesh: Mesh, probe: Any, **settings: Any) -> Measured:
    answers = Answers(mesh.log)
    following = asyncio.create_task(answers.follow())
    measured = await VerifierEffects(log=mesh.log, library=Library(mesh.log), answers=answers, **settings).perform(
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
    assert Measured(value=0) == await measure(mesh, nothing)


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

    effects = VerifierEffects(log=Watched(), library=Library(Watched()), answers=Answers(mesh.log))
    probe = run_probe(LogCount(template="disk <*> failed", first_seq=1, last_seq=30))
    measured = await asyncio.gather(*(effects.perform(probe) for _ in range(50)))
    assert [30] * 50 == [m.value for m in measured if isinstance(m, Measured)]
    assert COUNTS_AT_ONCE == most


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
    effects = VerifierEffects(log=mesh.log, library=Library(mesh.log), answers=Answers(mesh.log), recall_timeout_s=0.01)
    for _ in range(2):
        assert isinstance(await mesh.handle(decider, effects.perform, recorded), Done)
    (result,) = mesh.events(CheckResult)
    assert "inconclusive" == result.outcome and "0.01 s" in result.findings


async def test_a_strangers_effect_is_a_bug() -> None:
    log = Mesh().log
    with pytest.raises(TypeError, match="no effect"):
        await VerifierEffects(log=log, library=Library(log), answers=Answers(log)).perform(record(observed()))  # type: ignore[arg-type]
