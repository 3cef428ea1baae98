"""Lines of a file that may grow, be rotated, be truncated, be compressed, or be no text at all; or of a pipe."""

from __future__ import annotations

import asyncio
import gzip
import os
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

MAX_CHARS = 8192
"""The longest text of one observation."""
CHUNK = 256 * 1024
POLL_S = 0.2

Notice = Callable[[str], None]


class Lines:
    """Bytes in, whole lines out; blank ones are left out, and long ones are cut."""

    def __init__(self, notice: Notice) -> None:
        self._notice = notice
        self._rest = b""
        self._cutting = False

    def feed(self, data: bytes) -> list[str]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines = [text for raw in whole if (text := self._text(raw))]
        if (
            len(self._rest) > 4 * MAX_CHARS
        ):  # no text of MAX_CHARS characters is longer in UTF-8: the rest can only be cut off
            if (text := self._text(self._rest)) is not None:
                lines.append(text)
            self._rest, self._cutting = b"", True
        return lines

    def end(self) -> list[str]:
        """The last line, when the file does not end with a line break."""
        rest, self._rest = self._rest, b""
        return [text] if (text := self._text(rest)) else []

    def _text(self, raw: bytes) -> str | None:
        if self._cutting:  # the tail of a line that was cut already
            self._cutting = False
            return None
        text = raw.decode("utf-8", errors="replace").replace("\x00", "�").strip("\r\n\ufeff")
        if not text.strip():
            return None
        if len(text) > MAX_CHARS:
            self._notice(f"a line of more than {MAX_CHARS} characters was cut")
            text = text[: MAX_CHARS - 1] + "…"
        return text


class LineReader:
    """Reads whole lines of a file from where it stands. Everything here raises `OSError`."""

    def __init__(self, path: Path, notice: Notice, *, at_end: bool = False) -> None:
        self._path, self._notice = path, notice
        self._file, self._compressed = self._open()
        self._lines = Lines(notice)
        if at_end:
            self._file.seek(0, os.SEEK_END)

    def chunk(self) -> list[str] | None:
        """The next lines, up to a chunk's worth; None when there is nothing new."""
        try:
            data = self._file.read(CHUNK)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise OSError(f"{self._path} is no whole gzip file: {error}") from error
        return self._lines.feed(data) if data else None

    def end(self) -> list[str]:
        """The last line, when what there is does not end with a line break."""
        return self._lines.end()

    def moved(self) -> bool:
        """Whether the path now names another file (rotated) or a shorter one (truncated)."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        return self._rotated(now) or (not self._compressed and now.st_size < self._file.tell())

    def reopen(self) -> None:
        """Go on from the start of what the path names now, if it is still there."""
        try:
            file, compressed = self._open()
        except FileNotFoundError:
            return
        rotated = self._rotated(os.fstat(file.fileno()))
        how = "was rotated, going on with the new file" if rotated else "was truncated, going on from its start"
        self._notice(f"{self._path} {how}")
        self._file.close()
        self._file, self._compressed, self._lines = file, compressed, Lines(self._notice)

    def close(self) -> None:
        self._file.close()

    def _rotated(self, now: os.stat_result) -> bool:
        here = os.fstat(self._file.fileno())
        return (now.st_ino, now.st_dev) != (here.st_ino, here.st_dev)

    def _open(self) -> tuple[IO[bytes], bool]:
        """The file, and whether it is compressed."""
        raw = self._path.open("rb")
        if raw.read(2) == b"\x1f\x8b":
            raw.close()
            return gzip.open(self._path, "rb"), True  # type: ignore[return-value]
        raw.seek(0)
        return raw, False


async def read_lines(
    path: Path, notice: Notice, *, follow: bool = False, at_end: bool = False
) -> AsyncIterator[list[str]]:
    """Lists of lines as they come; ends at the end of the file, or never with `follow`. Raises `OSError`."""
    reader = LineReader(path, notice, at_end=at_end)
    try:
        while True:
            if (lines := reader.chunk()) is not None:
                yield lines
            elif not follow:
                yield reader.end()
                return
            elif reader.moved():
                while (last := reader.chunk()) is not None:  # what came between the last read and the look at the path
                    yield last
                yield reader.end()
                reader.reopen()
            else:
                await asyncio.sleep(POLL_S)
    finally:
        reader.close()


async def pipe_lines(descriptor: int, notice: Notice) -> AsyncIterator[list[str]]:
    """Lists of lines as somebody writes them; ends when the writer does. Raises `OSError`."""
    lines = Lines(notice)
    while True:
        await _readable(descriptor)
        if not (data := os.read(descriptor, CHUNK)):
            yield lines.end()
            return
        yield lines.feed(data)


async def _readable(descriptor: int) -> None:
    """Returns when reading would not wait."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:  # epoll(7) takes no regular file, nor /dev/null: those never wait
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
