"""Files as they really are: growing, rotated, truncated, compressed, binary."""

from __future__ import annotations

import asyncio
import gzip
import os
from pathlib import Path

import pytest

from services.cli.lines import CHUNK, MAX_CHARS, LineReader, pipe_lines, read_lines


class Notices(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def notices() -> Notices:
    return Notices()


async def everything(path: Path, notices: Notices) -> list[str]:
    return [line async for chunk in read_lines(path, notices) for line in chunk]


async def test_blank_lines_go_and_the_last_line_needs_no_line_break(tmp_path: Path, notices: Notices) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"\xef\xbb\xbfone\r\n\n  \ntwo")
    assert await everything(file, notices) == ["one", "two"]


async def test_bytes_that_are_no_text_are_replaced(tmp_path: Path, notices: Notices) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"a\xffb\x00c\n")
    assert await everything(file, notices) == ["a�b�c"]


async def test_a_long_line_is_cut_once_with_a_notice(tmp_path: Path, notices: Notices) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"x" * (MAX_CHARS * 40) + b"\nshort\n" + "é".encode() * (MAX_CHARS + 1) + b"\nend\n")
    lines = await everything(file, notices)
    assert [len(line) for line in lines] == [MAX_CHARS, 5, MAX_CHARS, 3]
    assert len(notices) == 2


async def test_a_compressed_file_is_read_like_any_other(tmp_path: Path, notices: Notices) -> None:
    file = tmp_path / "a.log.gz"
    file.write_bytes(gzip.compress(b"one\ntwo\n"))
    assert await everything(file, notices) == ["one", "two"]


def test_a_half_line_waits_for_its_other_half(tmp_path: Path, notices: Notices) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"one\ntw")
    reader = LineReader(file, notices)
    assert reader.chunk() == ["one"]
    with file.open("ab") as out:
        out.write(b"o\n")
    assert reader.chunk() == ["two"]
    assert reader.chunk() is None
    assert not reader.moved()
    reader.close()


def test_a_rotated_file_is_followed_to_the_new_one(tmp_path: Path, notices: Notices) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"one\n")
    reader = LineReader(file, notices)
    assert reader.chunk() == ["one"]
    os.rename(file, tmp_path / "a.log.1")
    assert not reader.moved()  # the new file is not there yet
    with (tmp_path / "a.log.1").open("ab") as out:
        out.write(b"last words\n")
    file.write_bytes(b"two\n")
    assert reader.chunk() == ["last words"]
    assert reader.moved()
    reader.reopen()
    assert reader.chunk() == ["two"]
    assert "rotated" in notices[0]
    reader.close()


def test_a_truncated_file_is_read_from_its_start(tmp_path: Path, notices: Notices) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"one\ntwo\n")
    reader = LineReader(file, notices)
    assert reader.chunk() == ["one", "two"]
    file.write_bytes(b"new\n")
    assert reader.moved()
    reader.reopen()
    assert reader.chunk() == ["new"]
    assert "truncated" in notices[0]
    reader.close()


def test_following_only_what_is_new_begins_at_the_end(tmp_path: Path, notices: Notices) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"old\n")
    reader = LineReader(file, notices, at_end=True)
    with file.open("ab") as out:
        out.write(b"new\n")
    assert reader.chunk() == ["new"]
    reader.close()


@pytest.mark.parametrize("filler", [b"x", b"\n"], ids=["one long line", "blank lines"])
async def test_what_gives_no_line_for_long_is_not_the_end(tmp_path: Path, notices: Notices, filler: bytes) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"first\n" + filler * (3 * CHUNK) + b"\nlast\n")
    lines = await everything(file, notices)
    assert ("first", "last") == (lines[0], lines[-1])


async def test_the_last_line_before_a_rotation_needs_no_line_break(tmp_path: Path, notices: Notices) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"one\ntwo")
    follow = read_lines(file, notices, follow=True)
    lines = list(await anext(follow))
    os.rename(file, tmp_path / "a.log.1")
    file.write_bytes(b"three\n")
    while "three" not in lines:
        lines += await anext(follow)
    await follow.aclose()  # type: ignore[attr-defined]
    assert ["one", "two", "three"] == lines


async def test_a_new_file_that_is_gone_again_is_waited_for(tmp_path: Path, notices: Notices) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"one\n")
    reader = LineReader(file, notices)
    assert ["one"] == reader.chunk()
    file.unlink()
    reader.reopen()
    assert (None, []) == (reader.chunk(), notices)
    reader.close()


@pytest.mark.parametrize("damaged", [gzip.compress(b"one\n" * 99)[:-9], b"\x1f\x8bno gzip"], ids=["cut off", "no gzip"])
async def test_a_damaged_compressed_file_is_an_error_that_says_so(
    tmp_path: Path, notices: Notices, damaged: bytes
) -> None:
    file = tmp_path / "a.log.gz"
    file.write_bytes(damaged)
    with pytest.raises(OSError, match="no whole gzip file"):
        await everything(file, notices)


async def test_lines_of_a_pipe_come_as_they_are_written(notices: Notices) -> None:
    out, into = os.pipe()
    lines = pipe_lines(out, notices)
    async with asyncio.timeout(10):
        os.write(into, b"one\ntw")
        assert ["one"] == await anext(lines)
        os.write(into, b"o\nthree")
        assert ["two"] == await anext(lines)
        os.close(into)
        assert ["three"] == await anext(lines)
        assert [] == [chunk async for chunk in lines]
    os.close(out)
