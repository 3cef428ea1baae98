"""One result for each check, whoever asks again and whoever answers: its results are what checkers alone can move."""

from __future__ import annotations

from typing import Any

from services.checker.answers import Answers
from services.checker.decider import Checker
from services.checker.desk import Desk
from services.checker.effects import CheckerEffects
from services.verifier import decider as verifier
from services.verifier.effects import VerifierEffects
from shared.contracts.envelope import Recorded
from shared.contracts.events import CheckRequested, CheckResult, LogResolve, ProposalRejected, ProposalVerified
from shared.decider import Decider, Delivered
from shared.log.memory import MemoryLog
from shared.policy.library import Library
from shared.runtime.driving import PerformEffect
from shared.runtime.handling import Fold, handle
from shared.runtime.shell import drive
from tests.unit.gate.given import T0, WHOSE, message_of, proposed, replaced

CHECK = CheckRequested(**WHOSE, check_id="p-1", hypothesis_id="h-1", probe=LogResolve(evidence=()))
RESULTS = ("check.result.alpha.p01.p-1.*",)


async def deliver(
    log: MemoryLog, recorded: Recorded, decider: Decider[Any], perform: PerformEffect, source: str
) -> None:
    message = Delivered(recorded=recorded, now=T0)
    boundary = decider.boundary(message)
    assert boundary is not None
    await drive(log, handle(Fold(decider, boundary), message, source=source), perform)


async def checked(log: MemoryLog, event_id: str, slot: str = "c1", check: CheckRequested = CHECK) -> None:
    """The check is stored, and reaches a checker that knows nothing yet."""
    (seq,) = await log.commit([message_of(check, id=event_id)])
    recorded = await log.get(seq)
    assert isinstance(recorded, Recorded)
    effects = CheckerEffects(Desk(log=log, library=Library(log), answers=Answers(log), slot=slot))
    await deliver(log, recorded, Checker(slot=slot), effects.perform, "checker")


async def test_a_check_that_is_asked_again_is_answered_once_whoever_takes_it() -> None:
    log = MemoryLog()
    await checked(log, "e1", "c1")
    await checked(log, "e2", "c2", replaced(CHECK, slot="r2"))
    assert ["c1"] == [r.event.slot for r in await log.read(RESULTS) if isinstance(r.event, CheckResult)]


async def test_what_a_verifier_answered_before_there_were_checkers_stays_answered() -> None:
    log = MemoryLog()
    said = message_of(
        CheckResult(**WHOSE, check_id="p-1", hypothesis_id="h-1", outcome="confirmed", findings="f"), id="v1"
    )
    await log.commit([said])
    (record,) = log.store.records
    log.store.records[0] = replaced(record, subject=record.subject.removesuffix(".core"))  # as it was stored then
    await checked(log, "e1")
    assert 1 == len([r for r in log.store.records if isinstance(r.event, CheckResult)])


async def test_a_check_of_the_same_id_takes_no_verdict_away_nor_a_proposal_a_result() -> None:
    log = MemoryLog()
    await checked(log, "e1", check=replaced(CHECK, slot="r2"))
    (seq,) = await log.commit([message_of(proposed(slot="r1"), id="e2")])
    created = await log.get(seq)
    assert isinstance(created, Recorded)
    await deliver(log, created, verifier, VerifierEffects(log=log, library=Library(log)).perform, "verifier")
    await checked(log, "e3", check=replaced(CHECK, slot="r1"))
    assert 1 == len(await log.read(RESULTS))
    (verdict,) = await log.read(("*.*.alpha.p01.p-1",))
    assert isinstance(verdict.event, ProposalVerified | ProposalRejected)
