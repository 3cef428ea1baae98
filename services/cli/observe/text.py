"""Bytes in, whole lines out: in the encoding that is told or that a byte order mark tells, over any kind of line end.

A line ends at LF, at CR, and where a hole begins: a run of NULs, as truncating a file under its writer leaves. Blank lines are left
out, long ones are cut and what was cut off is not another line. Each line says where the next one begins, so that whoever keeps
that place goes on there and nowhere else.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_CHARS = 8192
"""The longest text of one observation."""
HOLE = 16
"""So many NULs in a row are a hole, fewer are bytes that are no text."""
LONGEST = 4 * MAX_CHARS
"""No text of MAX_CHARS characters has more bytes: what is longer can only be cut off."""
BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
LONGEST_BOM = 4
UTF8 = "utf-8"

Notice = Callable[[str], None]


class Line(NamedTuple):
    """`end` is the byte after the line, from the start of what is read; `cut`: the rest of a long line begins there."""

    text: str
    end: int
    cut: bool


def checked(encoding: str) -> str:
    """The encoding by its name. Raises `ValueError` for one that is not known, or whose line ends cannot be found."""
    try:
        name = codecs.lookup(encoding).name
        line_end = "\n".encode(name)
    except (LookupError, UnicodeError, TypeError):
        raise ValueError(f"{encoding!r} is no encoding that is known; try utf-8, utf-16, latin-1 or cp1252") from None
    if line_end != b"\n" and not name.startswith(("utf-16", "utf-32")):
        raise ValueError(f"lines cannot be found in {encoding!r}; convert it to UTF-8 first, for instance with iconv")
    return name


def encoding_of(head: bytes, declared: str | None) -> str:
    """What text that begins with these bytes is written in. A mark says in which order the bytes of `utf-16` and `utf-32` are."""
    told = next((name for mark, name in BOMS if head.startswith(mark)), None)
    if declared in ("utf-16", "utf-32"):
        return told if told is not None and told.startswith(declared) else f"{declared}-le"
    return declared or told or UTF8


class Lines:
    """Takes bytes from `at` on; `cutting`: it begins within a long line that was cut already. `where` names it in notices."""

    def __init__(self, notice: Notice, where: str, encoding: str = UTF8, *, at: int = 0, cutting: bool = False) -> None:
        self._notice, self._where, self._encoding = notice, where, encoding
        self._width = {"utf-16": 2, "utf-32": 4}.get(encoding[:6], 1)
        units = [c.encode(encoding) for c in "\n\r\0"]
        lf, cr, nul = (re.escape(unit) for unit in units)
        self._ends = re.compile(b"(?:%b|%b)|(?:%b){%d,}" % (lf, cr, nul, HOLE))
        self._nul = units[2]
        self._rest, self._at, self._cutting, self._told = b"", at, cutting, False
        self._gap = (at, 0)

    @property
    def read(self) -> int:
        """Bytes taken so far, from the start of what is read."""
        return self._at + len(self._rest)

    @property
    def pending(self) -> bool:
        """Whether there is part of a line that has not ended."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[Line]:
        """The lines that end in `data`."""
        found: list[Line] = []
        data, start = self._rest + data, 0
        for begin, end in self._breaks(data):
            found += self._line(data[start:begin], self._at + end, cut=False)
            if end - begin >= HOLE * self._width:
                self._hole(self._at + begin, end - begin)
            self._cutting = False
            start = end
        self._rest, self._at = data[start:], self._at + start
        if self._rest.strip(b"\0"):
            self._tell()
        if len(self._rest) > LONGEST and self._rest.strip(b"\0"):
            size = len(self._rest) - len(self._rest) % self._width
            found += self._line(self._rest[:size], self._at + size, cut=True)
            self._rest, self._at, self._cutting = self._rest[size:], self._at + size, True
        return found

    def skip(self, size: int) -> list[Line]:
        """A hole of so many bytes that need not be read; the line before it ends there."""
        found = self.end()
        self._hole(self._at, size)
        self._at += size
        return found

    def end(self) -> list[Line]:
        """The last line, when what is read does not end with a line break."""
        rest, self._rest = self._rest, b""
        self._at += len(rest)
        found = list(self._line(rest, self._at, cut=False))
        self._cutting = False
        return found

    def _breaks(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where line ends and holes begin and end, at whole code units."""
        at = 0
        while (match := self._ends.search(data, at)) is not None:
            if match.start() % self._width:
                at = match.start() + 1
                continue
            at = match.end()
            yield match.span()

    def _line(self, raw: bytes, end: int, *, cut: bool) -> Iterator[Line]:
        if self._cutting:  # the tail of a line that was cut already
            return
        while raw.startswith(self._nul):  # what is left of a hole
            raw = raw[len(self._nul) :]
        text = raw.decode(self._encoding, errors="replace").strip("\ufeff")
        if not text.strip("\0").strip():
            return
        if cut or len(text) > MAX_CHARS:
            self._notice(
                f"a line of more than {MAX_CHARS} characters was cut ({self._where}, at byte {end - len(raw)})"
            )
            text = text[: MAX_CHARS - 1] + "…"
        text = text.replace("\0", "�")
        if "�" in text and not self._told:
            self._told = True
            self._notice(
                f"{self._where} has bytes that are no {self._encoding}, shown as �; --encoding says what it is in"
            )
        self._tell()
        yield Line(text, end, cut)

    def _hole(self, at: int, size: int) -> None:
        """One hole is told once, however it was read."""
        if sum(self._gap) != at:
            self._tell()
            self._gap = (at, 0)
        self._gap = (self._gap[0], self._gap[1] + size)

    def _tell(self) -> None:
        at, size = self._gap
        if size:
            self._notice(
                f"{self._where} has a hole of {size} NUL bytes at byte {at}, as truncating it under its writer leaves; "
                "it was skipped, and what comes after it is read"
            )
        self._gap = (at, 0)
