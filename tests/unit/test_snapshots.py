"""A checkpoint on disk: whole or not there, of this log and this code or not believed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
import zstandard

from shared import contracts
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import ObservationRecorded
from shared.contracts.ids import fresh_id
from shared.log.marks import Trail
from shared.log.memory import MemoryLog
from shared.runtime.keeping import snapshots
from shared.runtime.keeping.snapshots import CheckpointFile

START = datetime(2026, 11, 1, tzinfo=UTC)


class Texts(msgspec.Struct, array_like=True):
    """A projection's state: a list, and something beside it."""

    texts: list[str]
    position: int


class Reader:
    """A projection that keeps every text."""

    def __init__(self, known: Texts | None = None) -> None:
        self.trail = Trail()
        self.texts = list(known.texts) if known else []

    def take(self, recorded: Recorded) -> None:
        self.trail.add(recorded)
        assert isinstance(recorded.event, ObservationRecorded)
        self.texts.append(recorded.event.text)

    def capture(self) -> Texts:
        return Texts(list(self.texts), self.trail.newest.seq if self.trail.newest else 0)


async def log_with(*texts: str, at: datetime = START, ids: str = "") -> MemoryLog:
    log = MemoryLog(lambda: at)
    for text in texts:
        event = ObservationRecorded(swarm="s", persona="all", text=text)
        own = f"{ids}{text}" if ids else fresh_id()
        await log.commit([Message(event=event, envelope=Envelope(id=own, source="t", time=at, correlation=own))])
    return log


async def read(log: MemoryLog, upto: int) -> Reader:
    reader = Reader()
    for recorded in await log.read(("*.*.*.>",), upto=upto):
        reader.take(recorded)
    return reader


def file(folder: Path, **options: int) -> CheckpointFile[Texts]:
    return CheckpointFile(folder / "checkpoints" / "c.zst", Texts, snapshots, **options)


async def saved(folder: Path, log: MemoryLog, upto: int) -> CheckpointFile[Texts]:
    checkpoint = file(folder)
    await checkpoint.offer(await read(log, upto), events=1)
    return checkpoint


async def test_what_was_saved_is_loaded_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    log = await log_with("a", "b", "c")
    path = (await saved(tmp_path, log, 2)).path
    again = file(tmp_path)
    assert await again.load(log) == Texts(["a", "b"], 2)
    assert again.saved_seq == 2
    assert [p.name for p in path.parent.iterdir()] == ["c.zst"]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_without_a_file_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert await file(tmp_path).load(await log_with("a")) is None


async def test_it_is_written_only_when_the_log_went_on_far_enough(tmp_path: Path) -> None:
    log = await log_with("a", "b", "c")
    checkpoint = file(tmp_path)
    await checkpoint.offer(Reader(), events=0)
    await checkpoint.offer(await read(log, 2), events=3)
    assert not checkpoint.path.exists()
    await checkpoint.offer(await read(log, 2), events=2)
    await checkpoint.offer(await read(log, 3), events=2)
    assert await file(tmp_path).load(log) == Texts(["a", "b"], 2)


async def test_a_capture_is_not_changed_by_what_comes_while_it_is_written(tmp_path: Path) -> None:
    log = await log_with("a", "b", "c")
    reader = await read(log, 2)
    writing = asyncio.create_task(file(tmp_path).offer(reader, events=1))
    await asyncio.sleep(0)
    for recorded in await log.read(("*.*.*.>",), 2):
        reader.take(recorded)
    await writing
    assert await file(tmp_path).load(log) == Texts(["a", "b"], 2)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"texts": ("x", "y", "z")}, id="another-log"),
        pytest.param({"texts": ("a",)}, id="a-log-that-was-cut-short"),
        pytest.param({"texts": ("a", "b", "c"), "at": START + timedelta(hours=1)}, id="the-same-ids-at-another-time"),
        pytest.param({"texts": ()}, id="an-empty-log"),
    ],
)
async def test_a_checkpoint_of_another_log_is_ignored(tmp_path: Path, other: dict[str, object]) -> None:
    texts, at = other["texts"], other.get("at", START)
    checkpoint = await saved(tmp_path, await log_with("a", "b", "c", ids="same-"), 3)
    again = file(tmp_path)
    assert await again.load(await log_with(*texts, at=at, ids="same-")) is None  # type: ignore[arg-type, misc]
    assert again.saved_seq == 0
    assert checkpoint.path.exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "bomb", "typed"])
async def test_a_damaged_file_is_moved_aside_and_the_next_is_written_anew(tmp_path: Path, damage: str) -> None:
    log = await log_with("a", "b", "c")
    checkpoint = await saved(tmp_path, log, 3)
    data = checkpoint.path.read_bytes()
    middle = len(data) // 2
    whole = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompressobj().decompress(data))
    checkpoint.path.write_bytes(
        {
            "cut": data[:middle],
            "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "empty": b"",
            "text": b"not a checkpoint",
            "bomb": zstandard.compress(bytes(10_000)),
            "typed": zstandard.compress(msgspec.msgpack.encode([*whole[:3], [["a", 7], 3]])),
        }[damage]
    )
    again = file(tmp_path, max_bytes=9_000)
    assert await again.load(log) is None
    assert [p.name for p in checkpoint.path.parent.iterdir()] == ["c.zst.bad"]
    await again.offer(await read(log, 3), events=1)
    assert await file(tmp_path).load(log) == Texts(["a", "b", "c"], 3)


async def test_every_flipped_bit_gives_the_same_state_or_none(tmp_path: Path) -> None:
    log = await log_with("a", "b", "c")
    checkpoint = await saved(tmp_path, log, 3)
    data = checkpoint.path.read_bytes()
    for position in range(len(data)):
        checkpoint.path.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        assert await file(tmp_path).load(log) in (None, Texts(["a", "b", "c"], 3)), position


async def test_other_code_does_not_believe_it(tmp_path: Path) -> None:
    log = await log_with("a")
    path = (await saved(tmp_path, log, 1)).path
    for code in ((contracts,), (snapshots, contracts), ()):
        assert await CheckpointFile(path, Texts, *code).load(log) is None
    assert path.exists()


async def test_a_changed_line_in_a_package_is_other_code(tmp_path: Path) -> None:
    package, path = ModuleType("fold"), tmp_path / "c.zst"
    package.__file__ = str(tmp_path / "__init__.py")
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "part.py").write_text("LIMIT = 1\n")
    log = await log_with("a")
    await CheckpointFile(path, Texts, package).offer(await read(log, 1), events=1)
    assert await CheckpointFile(path, Texts, package).load(log) is not None
    (tmp_path / "part.py").write_text("LIMIT = 2\n")
    assert await CheckpointFile(path, Texts, package).load(log) is None


async def test_a_state_above_the_limit_is_not_written(tmp_path: Path) -> None:
    log = await log_with("a" * 1000)
    checkpoint = file(tmp_path, max_bytes=900)
    await checkpoint.offer(await read(log, 1), events=1)
    assert not checkpoint.path.exists()


async def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    log = await log_with("a")
    checkpoint = await saved(tmp_path, log, 1)
    assert checkpoint.saved_seq == 0
    assert await checkpoint.load(log) is None


KILLED_AT = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.unit.test_snapshots import file, log_with, read

def end(*_):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    log = await log_with("a", "b", "c", ids="same-")
    name, nth = sys.argv[2], int(sys.argv[3])
    real, calls = getattr(os, name), []

    def step(*args):
        calls.append(args)
        return end() if len(calls) == nth else real(*args)

    setattr(os, name, step)
    await file(Path(sys.argv[1])).offer(await read(log, 3), events=1)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("step", "nth", "survivor"),
    [("open", 1, 2), ("fsync", 1, 2), ("replace", 1, 2), ("fsync", 2, 3)],
    ids=["before-writing", "before-sync", "before-rename", "after-rename"],
)
async def test_a_kill_between_two_steps_leaves_the_old_or_the_new(
    tmp_path: Path, step: str, nth: int, survivor: int
) -> None:
    log = await log_with("a", "b", "c", ids="same-")
    await saved(tmp_path, log, 2)
    command = [sys.executable, "-c", KILLED_AT, str(tmp_path), step, str(nth)]
    ended = await asyncio.to_thread(subprocess.run, command, cwd=Path(__file__).parents[2], env=os.environ)
    assert ended.returncode == -signal.SIGKILL
    assert await file(tmp_path).load(log) == Texts(["a", "b", "c"][:survivor], survivor)
    await file(tmp_path).offer(await read(log, 3), events=1)
    assert await file(tmp_path).load(log) == Texts(["a", "b", "c"], 3)
