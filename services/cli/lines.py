"""Lines of a file that may grow, be rotated, be truncated, be compressed, or be no text at all."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

MAX_CHARS = 8192
"""The longest text of one observation."""
CHUNK = 256 * 1024
POLL_S = 0.2

Notice = Callable[[str], None]


class LineReader:
    """Reads whole lines from where it stands. `chunk` gives [] when there is nothing new."""

    def __init__(self, path: Path, notice: Notice, *, at_end: bool = False) -> None:
        self._path, self._notice = path, notice
        self._file = self._open()
        self._rest = b""
        self._cutting = False
        if at_end:
            self._file.seek(0, os.SEEK_END)

    def chunk(self) -> list[str]:
        """The next lines, up to a chunk's worth."""
        if not (data := self._file.read(CHUNK)):
            return []
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

    def moved(self) -> bool:
        """Whether the path now names another file (rotated) or a shorter one (truncated); then reading goes on from its start."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(self._file.fileno())
        if (now.st_ino, now.st_dev) != (here.st_ino, here.st_dev):
            self._notice(f"{self._path} was rotated, going on with the new file")
            self._file.close()
            self._file = self._open()
        elif not self._compressed and now.st_size < self._file.tell():
            self._notice(f"{self._path} was truncated, going on from its start")
            self._file.seek(0)
        else:
            return False
        self._rest, self._cutting = b"", False
        return True

    def close(self) -> None:
        self._file.close()

    def _open(self) -> IO[bytes]:
        raw = self._path.open("rb")
        self._compressed = raw.read(2) == b"\x1f\x8b"
        if self._compressed:
            raw.close()
            return gzip.open(self._path, "rb")  # type: ignore[return-value]
        raw.seek(0)
        return raw

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


async def read_lines(
    path: Path, notice: Notice, *, follow: bool = False, at_end: bool = False
) -> AsyncIterator[list[str]]:
    """Lists of lines as they come; ends at the end of the file, or never with `follow`. Raises `OSError`."""
    reader = LineReader(path, notice, at_end=at_end)
    try:
        while True:
            if lines := reader.chunk():
                yield lines
            elif not follow:
                yield reader.end()
                return
            else:
                last = reader.chunk()  # what came between the last read and the look at the path
                if last:
                    yield last
                elif not reader.moved():
                    await asyncio.sleep(POLL_S)
    finally:
        reader.close()
