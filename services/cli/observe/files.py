"""Files as logs are kept: one that is written, and what rotation made of it, perhaps compressed; and how one is known again.

A file is known by device and inode, and by what it holds: the digest of its head, and of what stands before the place that was
reached. So a renamed one is found again, and so is a copy or a compressed one; and one that was truncated and has grown past
that place since is another.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

HEAD, BEFORE = 1024, 1024
"""Bytes of a file's head, and before a place, that tell what it is."""
NUMBER = r"[0-9][0-9TZ_.:+-]*|old"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where reading a file goes on: `offset` bytes of it (as text, where it is compressed) are done; `cutting`: within a long line
    that was cut. `head` and `before` are digests of the first `min(HEAD, offset)` bytes and the last before `offset`."""

    device: int
    inode: int
    offset: int
    head: str
    before: str
    written_ns: int
    cutting: bool = False


class Damaged(OSError):
    """A compressed file that ends too early, or is none."""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Opened:
    """A regular file, open for reading anywhere. Everything here raises `OSError`; `Damaged` for what cannot be decompressed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            os.close(self._descriptor)
            raise OSError(f"{path} is no regular file")
        self.compressed = os.pread(self._descriptor, 2, 0) == b"\x1f\x8b"
        self._raw: BinaryIO | None = None
        self._text: gzip.GzipFile | None = None

    @property
    def stat(self) -> os.stat_result:
        return os.fstat(self._descriptor)

    @property
    def key(self) -> tuple[int, int]:
        return self.stat.st_dev, self.stat.st_ino

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from there, fewer only at the end."""
        if not self.compressed:
            return os.pread(self._descriptor, size, offset)
        found = b""
        try:
            text = self._decompressing(offset)
            while len(found) < size and (more := text.read1(size - len(found))):
                found += more
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self._forget()
            if not found:
                raise Damaged(f"{self.path} is no whole gzip file: {error}") from error
        return found

    def size(self) -> int:
        """Bytes there are; of a compressed file, bytes of its text."""
        if not self.compressed:
            return self.stat.st_size
        found = 0
        while part := len(self.read(found, 2**18)):
            found += part
        return found

    def after_hole(self, offset: int) -> int:
        """Where data begins again; the end where there is none. Finds only holes the file system knows."""
        try:
            return os.lseek(self._descriptor, offset, os.SEEK_DATA)
        except OSError:
            return max(offset, self.stat.st_size)

    def close(self) -> None:
        self._forget()
        os.close(self._descriptor)

    def _decompressing(self, offset: int) -> gzip.GzipFile:
        if self._text is None or self._text.tell() > offset:
            self._forget()
            self._raw = os.fdopen(os.dup(self._descriptor), "rb")
            self._raw.seek(0)
            self._text = gzip.GzipFile(fileobj=self._raw, mode="rb")
        if self._text.tell() < offset:
            self._text.seek(offset)
        return self._text

    def _forget(self) -> None:
        if self._raw is not None:
            self._raw.close()
        self._raw = self._text = None


def holds(file: Opened, place: Place) -> bool:
    """Whether the file has, up to that place, what was read there."""
    head = min(HEAD, place.offset)
    before = min(BEFORE, place.offset)
    try:
        if digest(file.read(0, head)) != place.head:
            return False
        return digest(file.read(place.offset - before, before)) == place.before
    except Damaged:
        return False


def generations(path: Path) -> list[Path]:
    """What rotation made of the file and left beside it, the oldest first: `a.log.1`, `a.log-20260101.gz`, `a.2026-01-01.log`."""
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    name = re.compile(rf"(?:{re.escape(path.name)}[._-](?:{NUMBER})|{stem}[._-](?:{NUMBER}){suffix})(?:\.gz)?\Z")
    found = []
    for entry in _entries(path.parent):
        if entry.name != path.name and name.match(entry.name):
            try:
                if entry.is_file():
                    found.append((entry.stat().st_mtime_ns, -_number(entry.name), Path(entry.path)))
            except FileNotFoundError:
                continue
    return [path for _, _, path in sorted(found)]


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries


def _number(name: str) -> int:
    """The number of `a.log.3` or `a.log.3.gz`: of two written at one moment the higher is older."""
    last = name.removesuffix(".gz").rpartition(".")[2]
    return int(last) if last.isdigit() and len(last) < 6 else 0
