"""Checkpoints of folds: a head start that changes nothing, whatever became of it or of the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from shared.contracts.envelope import Message, Recorded
from shared.decider import NOTHING, Boundary, Decision, Delivered, Input, Tick
from shared.log.marks import Mark
from shared.log.memory import MemoryKeyValue, MemoryLog
from shared.log.port import LogUnavailable
from shared.runtime.handling import Fold
from shared.runtime.keeping import checkpoints as checkpoints_module
from shared.runtime.keeping import parts as parts_module
from shared.runtime.keeping.checkpoints import Checkpoints
from tests.contract.test_log import observation

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
BOUNDARY = Boundary(reads=("observation.recorded.alpha.all",), guards=("observation.recorded.alpha.all",))


class Counting:
    """Counts what it has seen."""

    def initial(self) -> int:
        return 0

    def boundary(self, message: Delivered | Tick) -> Boundary:
        return BOUNDARY

    def decide(self, state: int, message: Input) -> Decision:
        return NOTHING

    def evolve(self, state: int, recorded: Recorded) -> int:
        return state + 1


def fold() -> Fold[int]:
    return Fold(Counting(), BOUNDARY)


def checkpoints(log: MemoryLog, bucket: MemoryKeyValue, version: int = 1) -> Checkpoints[int]:
    return Checkpoints(log, bucket, "test", int, version=version)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints_module, "EVERY_EVENTS", 5)


def named(event_id: str) -> Message:
    message = observation(event_id)
    return msgspec.structs.replace(message, envelope=msgspec.structs.replace(message.envelope, id=event_id))


async def saved(events: int = 5) -> tuple[MemoryLog, MemoryKeyValue, Fold[int]]:
    """A log of so many events, and a checkpoint at its end."""
    log, bucket, whole = MemoryLog(), MemoryKeyValue(), fold()
    for n in range(events):
        await log.commit([observation(str(n))])
    whole.absorb(await log.read(BOUNDARY.reads))
    await checkpoints(log, bucket).offer(whole)
    return log, bucket, whole


def what(of: Fold[int]) -> tuple[int, int, tuple[Mark, ...], dict[str, int]]:
    return of.state, of.position, of.trail.marks, of.guards


async def test_a_restored_fold_is_the_one_that_was_saved() -> None:
    log, bucket, whole = await saved()
    again = fold()
    await checkpoints(log, bucket).restore(again)
    assert what(whole) == what(again) and 5 == again.last(BOUNDARY.guards[0])


async def test_few_events_are_not_worth_a_checkpoint_and_the_same_state_is_not_saved_twice() -> None:
    _, bucket, _ = await saved(events=4)
    assert [] == await bucket.entries()
    log, bucket, whole = await saved()
    (before,) = await bucket.entries()
    await checkpoints(log, bucket).offer(whole)
    assert [before] == await bucket.entries()


async def test_a_checkpoint_of_more_than_the_log_holds_does_not_count() -> None:
    _, bucket, _ = await saved()
    cut, again = MemoryLog(), fold()
    await cut.commit([observation("0")])
    await checkpoints(cut, bucket).restore(again)
    assert what(fold()) == what(again)


async def test_a_checkpoint_of_another_log_does_not_count() -> None:
    _, bucket, _ = await saved()
    other, again = (await saved())[0], fold()
    await checkpoints(other, bucket).restore(again)
    assert what(fold()) == what(again)


async def test_a_checkpoint_of_another_version_or_of_garbage_does_not_count() -> None:
    log, bucket, _ = await saved()
    again = fold()
    await checkpoints(log, bucket, version=2).restore(again)
    assert what(fold()) == what(again)
    (entry,) = await bucket.entries()
    for garbage in (b"", b"garbage", entry.value[:-3]):
        await bucket.put(entry.key, garbage)
        await checkpoints(log, bucket).restore(again)
        assert what(fold()) == what(again)


async def test_a_checkpoint_is_not_of_a_log_that_was_cut_and_has_grown_past_it_again_with_the_same_ids() -> None:
    """What is decided again has the same ids, at the same sequences; only the time it was stored tells."""
    start, ids = datetime(2026, 11, 1, tzinfo=UTC), [f"id-{n}" for n in range(9)]

    async def grown(log: MemoryLog, first: int, last: int) -> MemoryLog:
        for event_id in ids[first:last]:
            await log.commit([named(event_id)])
        return log

    now = start
    log, bucket, whole = await grown(MemoryLog(lambda: now), 0, 5), MemoryKeyValue(), fold()
    whole.absorb(await log.read(BOUNDARY.reads))
    await checkpoints(log, bucket).offer(whole)
    cut = await grown(MemoryLog(lambda: now), 0, 4)
    now = start + timedelta(minutes=5)
    await grown(cut, 4, 9)
    again = fold()
    await checkpoints(cut, bucket).restore(again)
    assert what(fold()) == what(again)
    await checkpoints(log, bucket).restore(again)
    assert what(whole) == what(again)


async def test_own_commits_are_saved_with_the_time_the_log_stored_them() -> None:
    log, bucket, whole = MemoryLog(), MemoryKeyValue(), fold()
    for n in range(5):
        await log.commit([observation(str(n))])
    whole.absorb([msgspec.structs.replace(r, stored_at=LONG_AGO) for r in await log.read(BOUNDARY.reads)], own=True)
    assert [None] * 3 == [m.stored_at for m in whole.trail.marks]
    await checkpoints(log, bucket).offer(whole)
    again = fold()
    await checkpoints(log, bucket).restore(again)
    stored = {r.seq: r.stored_at for r in await log.read(BOUNDARY.reads)}
    assert [stored[5], stored[4], stored[2]] == [m.stored_at for m in again.trail.marks]


async def test_a_state_of_any_size_is_saved_in_parts_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "PART_BYTES", 16)
    log, bucket, whole = await saved()
    assert len(await bucket.entries()) > 4
    again = fold()
    await checkpoints(log, bucket).restore(again)
    assert what(whole) == what(again)


async def test_a_bucket_that_is_away_costs_only_the_checkpoint() -> None:
    class Away(MemoryKeyValue):
        async def put(self, key: str, value: bytes, *, revision: int | None = None, ttl_s: int | None = None) -> int:
            raise LogUnavailable("away")

    log, _, whole = await saved()
    whole.unsaved = 5
    await checkpoints(log, Away()).offer(whole)
    assert 5 == whole.state
