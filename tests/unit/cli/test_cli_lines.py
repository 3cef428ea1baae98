"""Files as they really are: growing, rotated, truncated, compressed, binary."""

from __future__ import annotations

import asyncio
import gzip
import os
from pathlib import Path

import pytest

from services.cli.observe.follow import CHUNK, read_once
from services.cli.observe.pipe import pipe_lines
from services.cli.observe.text import HOLE, MAX_CHARS, checked


class Notices(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def notices() -> Notices:
    return Notices()


async def everything(path: Path, notices: Notices) -> list[str]:
    return [line for chunk in read_once(path, notices) for line in chunk]


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


@pytest.mark.parametrize("filler", [b"x", b"\n"], ids=["one long line", "blank lines"])
async def test_what_gives_no_line_for_long_is_not_the_end(tmp_path: Path, notices: Notices, filler: bytes) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"first\n" + filler * (3 * CHUNK) + b"\nlast\n")
    lines = await everything(file, notices)
    assert ("first", "last") == (lines[0], lines[-1])


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


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-16", None),
        ("utf-8-sig", None),
        ("utf-32", None),
        ("utf-16-le", "utf-16"),
        ("utf-16-be", "utf-16-be"),
        ("latin-1", "latin-1"),
        ("cp1252", "windows-1252"),
        ("shift-jis", "shift-jis"),
    ],
)
async def test_the_encoding_is_told_by_a_mark_or_declared(
    tmp_path: Path, notices: Notices, encoding: str, declared: str | None
) -> None:
    words = ["Anfang", "ende\u30c6\u30b9\u30c8" if encoding not in ("latin-1", "cp1252") else "K\u00e4se", "zuletzt"]
    for ends in ("\n", "\r\n", "\r"):
        file = tmp_path / f"a{len(ends)}.log"
        file.write_bytes((ends.join(words) + ends).encode(encoding))
        name = None if declared is None else checked(declared)
        assert words == [line for chunk in read_once(file, notices, name) for line in chunk]
    assert [] == notices


async def test_a_line_of_two_byte_units_that_look_like_line_ends_is_one_line(tmp_path: Path, notices: Notices) -> None:
    file = tmp_path / "a.log"
    file.write_bytes("\u0a00\u000d\u0d0a\u0a0d\u000aend".encode("utf-16"))
    assert await everything(file, notices) == ["\u0a00", "\u0d0a\u0a0d", "end"]


async def test_what_is_not_utf8_is_told_with_a_remedy(tmp_path: Path, notices: Notices) -> None:
    file = tmp_path / "a.log"
    file.write_bytes("K\u00e4se\nS\u00fc\u00df\n".encode("latin-1"))
    assert len(await everything(file, notices)) == 2
    assert len(notices) == 1
    assert "--encoding" in notices[0]


@pytest.mark.parametrize("name", ["nonsense", "cp037", "base64", "utf-7x"])
def test_an_encoding_whose_lines_cannot_be_found_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        checked(name)


@pytest.mark.parametrize("size", [HOLE, 5000, 3 * CHUNK + 7])
async def test_a_hole_ends_a_line_and_is_told_once(tmp_path: Path, notices: Notices, size: int) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"one" + bytes(size) + b"two\n")
    assert await everything(file, notices) == ["one", "two"]
    assert len(notices) == 1
    assert "at byte 3" in notices[0]
