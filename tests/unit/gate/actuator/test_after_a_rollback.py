"""The log went back: what was claimed in what is gone is never done again, what was authorised before is void, and it is said."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.actuator import decider
from services.actuator.journal import KEPT, Entry, Journal
from services.actuator.losses import say_lost
from services.actuator.terms import Check
from shared.contracts.events import ActionClaimed, ActionExecuted, AnyEvent, LostAction, MeshHalted, MeshResumed
from shared.contracts.ids import EVERYONE
from shared.halts import BOUNDARY
from shared.log.memory import MemoryLog
from shared.runtime.halting import Halting, say_went_back
from tests.unit.gate.actuator.test_actuator_effects import Act
from tests.unit.gate.given import FINDING, LIFE, Mesh, at, message_of, proposed, verified

KEY = "alpha.p01.p-1"
HALTED = MeshHalted(swarm=EVERYONE, persona=EVERYONE, cause="person", reason="looking", principal="ann")
WENT_BACK = MeshHalted(swarm=EVERYONE, persona=EVERYONE, cause="log_went_back")
RESUMED = MeshResumed(swarm=EVERYONE, persona=EVERYONE, principal="ann")


@pytest.fixture
def act(tmp_path: Path) -> Iterator[Act]:
    act = Act(tmp_path / "workspace")
    yield act
    for workspace in act.opened:
        workspace.close()


def gone(act: Act) -> None:
    """An older store was put back, one without any of it."""
    act.log = MemoryLog(clock=lambda: act.now)


async def test_an_action_claimed_in_what_is_gone_is_not_done_again_and_is_unknown(act: Act) -> None:
    await act.deliver(await act.authorize(), act.actuator())
    assert "success" == act.outcome.outcome
    (act.root / FINDING.target).unlink()
    gone(act)
    await act.deliver(await act.authorize(), act.actuator())
    assert ("unknown", "claim_lost", None) == (act.outcome.outcome, act.outcome.error, act.outcome.claim_id)
    assert [] == act.files and [] == act.events(ActionClaimed)


async def test_another_actuator_does_not_do_it_either_once_it_was_said(act: Act) -> None:
    actuator = act.actuator("one")
    await act.deliver(await act.authorize(), actuator)
    gone(act)
    assert 1 == await say_lost(act.log, actuator.journal, source="actuator")
    await act.say(RESUMED, "r1")
    await act.deliver(await act.authorize(), act.actuator("two"))
    assert ("unknown", "claim_lost") == (act.outcome.outcome, act.outcome.error)


async def test_a_claim_is_on_disk_before_anything_is_done(act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    actuator = act.actuator()
    seen: list[set[str]] = []

    def write(*_: Any, **__: Any) -> Any:
        seen.append(set(Journal(act.root.parent / "claims-one.jsonl", act.now).entries))
        raise OSError("the machine dies here")

    monkeypatch.setattr(act.opened[-1], "write", write)
    with pytest.raises(OSError, match="dies"):
        await act.deliver(await act.authorize(), actuator)
    assert [{KEY}] == seen


async def test_a_journal_that_cannot_be_written_means_that_nothing_is_done(
    act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    actuator = act.actuator()

    async def put(entry: Entry) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(actuator.journal, "put", put)
    await act.deliver(await act.authorize(), actuator)
    assert ("failure", "journal_unwritable") == (act.outcome.outcome, act.outcome.error) and [] == act.files


async def test_what_was_authorised_before_the_log_went_back_is_void(act: Act) -> None:
    message = await act.authorize()
    await act.say(WENT_BACK, "h1")
    await act.say(RESUMED, "r1")
    await act.deliver(message, act.actuator())
    assert ("failure", "void_after_rollback", None) == (act.outcome.outcome, act.outcome.error, act.outcome.claim_id)
    assert [] == act.files


async def test_while_halted_it_waits_and_goes_on_when_somebody_resumes(act: Act) -> None:
    actuator, message = act.actuator(), await act.authorize()
    await act.say(HALTED, "h1")
    verdict = await act.deliver(message, actuator)
    assert decider.HALTED_S == verdict.delay_s and [] == act.events(ActionClaimed)
    assert "the mesh is halted by ann: looking; `swarm resume` goes on" == actuator.halting.why
    await act.say(RESUMED, "r1")
    await act.deliver(message, actuator)
    assert "success" == act.outcome.outcome and actuator.halting.why is None


async def test_a_halt_between_the_check_and_the_effect_stops_it(act: Act) -> None:
    actuator = act.actuator()

    async def halted_after_the_check(effect: Any) -> Any:
        result = await actuator.perform(effect)
        if isinstance(effect, Check):
            await act.say(HALTED, "h1")
        return result

    await act.handle(decider, halted_after_the_check, await act.authorize())
    assert ("failure", "halted") == (act.outcome.outcome, act.outcome.error) and [] == act.files


async def test_more_lost_claims_than_are_listed_are_said_once_and_none_of_them_is_done(
    act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.halts.MAX_LOST", 100)
    lost = [
        LostAction(swarm="alpha", persona="p01", proposal_id=f"p-{n}", digest="0" * 64, claimed_at=act.now)
        for n in range(300)
    ]
    for _ in range(2):
        async with asyncio.timeout(20):
            await say_went_back(
                act.log, source="actuator", reason="an older store", reached=9, before=act.now, lost=lost
            )
    assert 300 == sum(len(halt.lost) for halt in act.events(MeshHalted))
    halts = await Halting(act.log).look()
    assert 100 == len(halts.lost) == len(halts.unseen)
    assert all(halts.is_lost(f"alpha.p01.p-{n}") for n in range(300)) and not halts.is_lost("alpha.p01.p-300")


async def test_lost_claims_are_said_once_with_what_is_known_of_them(act: Act, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "claims.jsonl", act.now)
    for number in range(70):
        whose = {**LIFE, "proposal_id": f"p-{number}"}
        await journal.put(Entry(**whose, digest="0" * 64, claim_id=f"claim-{number}", at=act.now))
    created = proposed(FINDING)
    await act.say(created, "p1")
    await act.say(verified(created, "low"), "v1")
    assert 70 == await say_lost(act.log, journal, source="actuator")
    halts = act.events(MeshHalted)
    assert [64, 6] == [len(halt.lost) for halt in halts] and {70} == {halt.lost_total for halt in halts}
    assert ["p-1"] == [action.proposal_id for halt in halts for action in halt.lost if action.known]
    assert ("unknown", "claim_lost") == (act.outcome.outcome, act.outcome.error)
    assert 70 == await say_lost(act.log, journal, source="actuator")
    assert halts == act.events(MeshHalted) and 1 == len(act.events(ActionExecuted))
    journal.close()


async def test_all_that_come_while_one_is_written_go_to_disk_together_and_a_failure_is_all_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, synced = Journal(tmp_path / "claims.jsonl", at(0)), []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(file) or real(file))
    entries = [
        Entry(**{**LIFE, "proposal_id": f"p-{number}"}, digest="0" * 64, claim_id="c", at=at(0)) for number in range(50)
    ]
    await asyncio.gather(*(journal.put(entry) for entry in entries))
    assert 50 == len(journal.entries) == len(Journal(tmp_path / "claims.jsonl", at(0)).entries)
    assert len(synced) < 10

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    more = [msgspec.structs.replace(entry, proposal_id=f"{entry.proposal_id}-more") for entry in entries[:3]]
    failed = await asyncio.gather(*(journal.put(entry) for entry in more), return_exceptions=True)
    assert all(isinstance(error, OSError) for error in failed) and 50 == len(journal.entries)
    journal.close()


async def test_a_claim_that_is_in_the_log_is_not_lost(act: Act) -> None:
    actuator = act.actuator()
    await act.deliver(await act.authorize(), actuator)
    assert 0 == await say_lost(act.log, actuator.journal, source="actuator")
    assert [] == act.events(MeshHalted)


async def test_a_journal_outlives_its_process_without_a_torn_line_and_what_is_too_old(tmp_path: Path) -> None:
    file = tmp_path / "claims.jsonl"
    journal = Journal(file, at(0))
    old, new = ({**LIFE, "proposal_id": name, "digest": "0" * 64, "claim_id": "c"} for name in ("old", "new"))
    await journal.put(Entry(**old, at=at(0)))
    await journal.put(Entry(**new, at=at(60)))
    journal.close()
    with file.open("ab") as torn:
        torn.write(b'{"swarm":"alpha","pers')
    again = Journal(file, at(30) + KEPT)
    await again.put(Entry(**{**new, "proposal_id": "newest"}, at=at(90)))
    again.close()
    assert {"alpha.p01.new", "alpha.p01.newest"} == set(Journal(file, at(31) + KEPT).entries)


async def said(log: MemoryLog) -> list[AnyEvent]:
    return [r.event for r in await log.read((BOUNDARY,))]


async def test_of_many_that_notice_one_says_it_and_one_said_since_covers_it() -> None:
    mesh = Mesh()
    told = {"reason": "it ends at 3", "reached": 9, "before": mesh.now - timedelta(seconds=5)}
    await asyncio.gather(*(say_went_back(mesh.log, source=f"s{n}", **told) for n in range(5)))
    (event,) = await said(mesh.log)
    assert isinstance(event, MeshHalted) and ("log_went_back", 9) == (event.cause, event.reached)
    await mesh.log.commit([message_of(RESUMED, id="r1", time=mesh.now)])
    await say_went_back(mesh.log, source="late", **told)
    assert 2 == len(await said(mesh.log))
    await say_went_back(mesh.log, source="again", **{**told, "before": mesh.now + timedelta(seconds=5)})
    halts = await Halting(mesh.log).look()
    assert (3, 3, 3) == (len(await said(mesh.log)), halts.epoch, halts.seq) and halts.halt is not None


async def test_a_person_who_halts_begins_no_epoch() -> None:
    mesh = Mesh()
    await mesh.log.commit([message_of(WENT_BACK, id="h1", time=mesh.now)])
    await mesh.log.commit([message_of(HALTED, id="h2", time=mesh.now)])
    halts = await Halting(mesh.log).look()
    assert (1, 2) == (halts.epoch, halts.halt and halts.halt.seq)
