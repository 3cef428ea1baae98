"""Following a file over what happens to logs: no line that is still on disk is lost, none comes twice, and what happened is told."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cli.observe.files import generations
from services.cli.observe.follow import Follower, Places


class Watch:
    """A follower that may be stopped and started again from its places, as another process would be."""

    def __init__(self, path: Path, **options: bool) -> None:
        self.path, self.seen, self.notices = path, list[str](), list[str]()
        self.places: Places = ()
        self.follower = Follower(path, self.notices.append, linger_s=0, at_end=options.get("at_end", False))
        self.places = self.follower.places

    def look(self, upto: int | None = None) -> list[str]:
        """What came; with `upto` it dies after so many lines were taken."""
        before = len(self.seen)
        quiet = False
        while not quiet:
            quiet = True
            for chunk in self.follower.look():
                quiet = False
                if upto is not None and len(chunk.lines) >= upto:
                    self.seen += [line.text for line in chunk.lines[:upto]]
                    self.places = chunk.at[upto - 1] if upto else self.places
                    self.again()
                    return self.seen[before:]
                self.seen += [line.text for line in chunk.lines]
                self.places = chunk.rest
        return self.seen[before:]

    def again(self) -> None:
        self.close()
        self.follower = Follower(self.path, self.notices.append, linger_s=0, places=self.places)

    def close(self) -> None:
        self.follower.close()


class Log:
    """A log file, its writer, and what rotates it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.written = folder / "app.log", list[str]()
        self.out = self.path.open("ab", buffering=0)
        self.clock_ns = 10**18
        self.touch()

    def write(self, *lines: str) -> None:
        for line in lines:
            self.out.write(line.encode() + b"\n")
            self.written.append(line)
        self.touch()

    def touch(self) -> None:
        """Two writes are never at one moment here; a real clock is fine enough only mostly."""
        self.clock_ns += 10**6
        os.utime(self.path, ns=(self.clock_ns, self.clock_ns))

    def shift(self) -> None:
        for n in range(20, 0, -1):
            for ending in ("", ".gz"):
                old = self.path.with_name(f"app.log.{n}{ending}")
                if old.exists():
                    old.rename(self.path.with_name(f"app.log.{n + 1}{ending}"))

    def rename(self, *, late: tuple[str, ...] = ()) -> None:
        self.shift()
        self.path.rename(self.path.with_name("app.log.1"))
        new = self.path.open("ab", buffering=0)
        self.touch()
        for line in late:  # its writer is told later
            self.out.write(line.encode() + b"\n")
            self.written.append(line)
        self.clock_ns += 10**6
        os.utime(self.path.with_name("app.log.1"), ns=(self.clock_ns, self.clock_ns))
        self.out.close()
        self.out = new

    def copy_and_truncate(self) -> None:
        self.shift()
        shutil.copyfile(self.path, self.path.with_name("app.log.1"))
        self.clock_ns += 10**6
        os.utime(self.path.with_name("app.log.1"), ns=(self.clock_ns, self.clock_ns))
        os.truncate(self.path, 0)
        self.touch()

    def compress(self) -> None:
        """As gzip(1) does: the time stays."""
        for n in range(1, 22):
            plain = self.path.with_name(f"app.log.{n}")
            if plain.exists():
                at = plain.stat().st_mtime_ns
                packed = plain.with_name(f"{plain.name}.gz")
                packed.write_bytes(gzip.compress(plain.read_bytes()))
                os.utime(packed, ns=(at, at))
                plain.unlink()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    made.out.close()


def test_a_half_line_waits_for_its_other_half(log: Log) -> None:
    log.write("one")
    log.out.write(b"tw")
    watch = Watch(log.path)
    assert watch.look() == ["one"]
    log.out.write(b"o\n")
    assert watch.look() == ["two"]
    assert watch.look() == []
    assert watch.notices == []


def test_only_what_is_new_begins_at_the_end_also_for_the_one_after_it(log: Log) -> None:
    log.write("old")
    watch = Watch(log.path, at_end=True)
    watch.again()
    log.write("new")
    assert watch.look() == ["new"]


def test_who_writes_to_a_file_that_was_moved_away_is_heard(log: Log) -> None:
    log.write("one")
    watch = Watch(log.path)
    watch.look()
    log.rename()
    assert watch.look() == []
    with log.path.with_name("app.log.1").open("ab") as late:
        late.write(b"late\n")
    assert watch.look() == ["late"]
    log.write("two")
    assert watch.look() == ["two"]
    assert any("rotated" in notice for notice in watch.notices)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("restarted", [False, True], ids=["alive", "restarted"])
@pytest.mark.parametrize("how", ["rename", "copy_and_truncate"])
def test_two_rotations_between_two_looks_lose_nothing(log: Log, how: str, restarted: bool, packed: bool) -> None:
    log.write("a1", "a2")
    watch = Watch(log.path)
    watch.look()
    log.write("a3")
    getattr(log, how)()
    log.write("b1 of another length")
    getattr(log, how)()
    log.write("c1 which is longer than all that was read of the first")
    if packed:
        log.compress()
    if restarted:
        watch.again()
    assert watch.look() == log.written[2:]
    assert watch.look() == []
    assert any("came between" in notice for notice in watch.notices)


def test_a_file_truncated_and_grown_past_the_old_place_is_noticed_and_told(log: Log) -> None:
    log.write("one", "two")
    watch = Watch(log.path)
    watch.look()
    os.truncate(log.path, 0)
    log.write("and three, longer than one and two were")
    assert watch.look() == ["and three, longer than one and two were"]
    assert any("truncated" in notice for notice in watch.notices)
    assert any("is in no file beside it" in notice for notice in watch.notices)


@pytest.mark.parametrize("restarted", [False, True], ids=["alive", "restarted"])
def test_a_writer_that_goes_on_at_its_old_place_leaves_a_hole_that_is_told_and_skipped(
    tmp_path: Path, restarted: bool
) -> None:
    path = tmp_path / "app.log"
    with path.open("wb", buffering=0) as out:  # without O_APPEND
        out.write(b"first line\nsecond line\n" * 20)
        watch = Watch(path)
        assert len(watch.look()) == 40
        out.write(b"third line\n")
        shutil.copyfile(path, tmp_path / "app.log.1")
        os.truncate(path, 0)
        out.write(b"fourth line\n")
        if restarted:
            watch.again()
        assert watch.look() == ["third line", "fourth line"]
    assert any("hole" in notice for notice in watch.notices)


def test_a_vast_hole_is_not_read_byte_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    with path.open("wb") as out:
        out.write(b"one\n")
        out.seek(2**40)
        out.write(b"two\n")
    watch = Watch(path)
    assert watch.look() == ["one", "two"]
    watch.again()
    assert watch.look() == []
    assert len(watch.notices) == 1


def test_a_long_line_that_was_cut_is_not_begun_again_by_the_one_after_it(log: Log) -> None:
    log.out.write(b"x" * 100_000)
    watch = Watch(log.path)
    assert len(watch.look()) == 1
    watch.again()
    log.out.write(b"x" * 100_000 + b"\nnext\n")
    assert watch.look() == ["next"]


def test_what_is_gone_is_told_with_the_place(log: Log) -> None:
    log.write("one", "two")
    watch = Watch(log.path)
    watch.look()
    log.rename()
    log.path.with_name("app.log.1").unlink()
    log.write("three")
    watch.again()
    assert watch.look() == ["three"]
    assert any("after byte 8" in notice for notice in watch.notices)


def test_a_path_that_is_gone_for_a_while_is_waited_for(log: Log) -> None:
    log.write("one")
    watch = Watch(log.path)
    watch.look()
    log.path.unlink()
    assert watch.look() == []
    log.path.write_bytes(b"two\n")
    assert watch.look() == ["two"]


def test_another_log_of_a_like_name_is_no_generation_of_this_one(tmp_path: Path) -> None:
    theirs = (
        "app.log.1",
        "app.log.2.gz",
        "app.log-20260101",
        "app.log-20260101-17.gz",
        "app.2026-01-01.log",
        "app.log.old",
    )
    others = ("app.log", "app-errors.log", "app.log.swp", "app.log.1.tmp", "xapp.log.1", "app2.log", "app.log.lock")
    for name in (*theirs, *others):
        (tmp_path / name).write_bytes(b"x\n")
    assert {path.name for path in generations(tmp_path / "app.log")} == set(theirs)


STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 5)),
    st.tuples(st.sampled_from(["rename", "late", "copy_and_truncate", "compress", "look", "again"]), st.just(0)),
    st.tuples(st.just("die"), st.integers(0, 4)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_whatever_happens_in_whatever_order_every_line_comes_once(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder))
        watch = Watch(log.path)
        try:
            happen(log, watch, steps)
            assert Counter(watch.seen) == Counter(log.written), watch.notices
        finally:
            watch.close()
            log.out.close()


def happen(log: Log, watch: Watch, steps: list[tuple[str, int]]) -> None:
    for number, (step, count) in enumerate([*steps, ("look", 0), ("write", 1), ("look", 0)]):
        match step:
            case "write":
                log.write(*(f"line {number}.{n} " + "x" * (number * 7 % 40) for n in range(count)))
            case "late":
                log.rename(late=(f"late {number}",))
            case "look":
                watch.look()
            case "again":
                watch.again()
            case "die":
                watch.look(upto=count)
            case "compress":
                log.compress()
            case _:
                getattr(log, step)()
