"""Files as they really are: growing, rotated, truncated, compressed, binary."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from services.cli.lines import MAX_CHARS, LineReader, read_lines


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
    assert reader.chunk() == []
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
