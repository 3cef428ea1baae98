"""Which instance a process is: of two, one holds a slot, and the other is told who."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.broker import SLOTS
from shared.log.memory import MemoryKeyValue
from shared.log.port import LogUnavailable
from shared.runtime.process import slot as slots
from shared.runtime.process.slot import Candidate, Lock, Slot, candidates
from shared.settings import Nats, Settings, SettingsError

KEY = f"{SLOTS}verifier-1"


class Bucket(MemoryKeyValue):
    """One that may be away, and may store what it never acknowledges."""

    away = False
    mute = False

    async def put(self, key: str, value: bytes, *, revision: int | None = None, ttl_s: int | None = None) -> int:
        if self.away:
            raise LogUnavailable("away")
        stored = await super().put(key, value, revision=revision, ttl_s=ttl_s)
        if self.mute:
            raise LogUnavailable("no answer")
        return stored


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "RENEW_S", 0.0)


def process(bucket: MemoryKeyValue, folder: Path) -> Slot:
    return Slot(bucket, "verifier-1", Lock(folder, "verifier-1"), lost=asyncio.Event())


async def turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_of_two_with_folders_of_their_own_one_has_it_and_the_other_is_told_who(tmp_path: Path) -> None:
    bucket = MemoryKeyValue()
    first, second = process(bucket, tmp_path / "a"), process(bucket, tmp_path / "b")
    assert await first.claim() is None
    assert "process " in str(await second.claim())
    await first.release()
    assert await second.claim() is None


async def test_who_is_started_again_in_its_folder_goes_on_at_once(tmp_path: Path) -> None:
    bucket = MemoryKeyValue()
    died = process(bucket, tmp_path)
    assert await died.claim() is None
    died._lock.release()  # as the kernel does when a process ends
    assert await process(bucket, tmp_path).claim() is None


async def test_of_two_in_one_folder_the_second_cannot_even_ask(tmp_path: Path) -> None:
    lock = Lock(tmp_path, "verifier-1")
    with pytest.raises(BlockingIOError):
        Lock(tmp_path, "verifier-1")
    Lock(tmp_path, "verifier-2").release()
    lock.release()
    again = Lock(tmp_path, "verifier-1")
    assert again.place == lock.place
    again.release()


async def test_what_is_kept_stays_and_outlives_an_outage_and_an_end_of_its_time(tmp_path: Path) -> None:
    bucket = Bucket()
    mine = process(bucket, tmp_path)
    assert await mine.claim() is None
    mine.keep()
    bucket.away = True
    await turns()
    bucket.away = False
    await bucket.delete(KEY)  # its time had come
    await turns()
    assert (await bucket.get(KEY)) is not None and not mine.lost.is_set()
    bucket.mute = True
    await turns()
    bucket.mute = False
    await turns()
    assert not mine.lost.is_set()
    await mine.release()
    assert await bucket.get(KEY) is None


async def test_who_finds_its_slot_anothers_says_so_and_leaves_it_alone(tmp_path: Path) -> None:
    bucket = Bucket()
    mine, theirs = process(bucket, tmp_path / "a"), process(bucket, tmp_path / "b")
    assert await mine.claim() is None
    bucket.away = True
    mine.keep()
    await bucket.delete(KEY)
    bucket.away = False
    assert await theirs.claim() is None
    await asyncio.wait_for(mine.lost.wait(), 5)
    await mine.release()
    assert theirs._value == (await bucket.get(KEY) or pytest.fail("released by who had lost it")).value


async def test_one_of_a_copied_folder_ends_and_does_not_take_it_back(tmp_path: Path) -> None:
    bucket = MemoryKeyValue()
    mine = process(bucket, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "verifier-1").write_text((tmp_path / "a" / "verifier-1").read_text())
    assert await mine.claim() is None
    copy = process(bucket, tmp_path / "b")
    copy._value += b" "  # another process id
    assert await copy.claim() is None
    mine.keep()
    await asyncio.wait_for(mine.lost.wait(), 5)


async def test_what_cannot_be_read_is_somebodys(tmp_path: Path) -> None:
    bucket = MemoryKeyValue()
    await bucket.put(KEY, b"{")
    assert await process(bucket, tmp_path).claim() is not None


def test_a_process_may_be_whom_it_has_the_seed_of_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("verifier-10", "verifier-2", "verifier-x", "gateway-1"):
        (tmp_path / f"{name}.nk").write_text("")
    keys = Settings(nats=Nats(keys_dir=str(tmp_path)))
    assert ["verifier-2", "verifier-10"] == [choice.instance for choice in candidates("verifier", keys)]
    named = Settings(instance="verifier-10", nats=Nats(keys_dir=str(tmp_path)))
    assert [Candidate("verifier-10", tmp_path / "verifier-10.nk")] == candidates("verifier", named)
    assert [Candidate("verifier-1", None)] == candidates("verifier", Settings())
    one = Settings(instance="verifier-3", nats=Nats(seed_file="/a.nk", keys_dir=str(tmp_path)))
    assert [Candidate("verifier-3", Path("/a.nk"))] == candidates("verifier", one)
    with pytest.raises(SettingsError, match=r"there is no governor-1\.nk"):
        candidates("governor", keys)
