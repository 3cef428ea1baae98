"""Where the lines of child processes go: one file each, rotated by size, and whoever listens."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path

MAX_BYTES = 8 * 2**20
KEPT = 3
MAX_LINE = 16 * 1024

_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class LogFile:
    """Appends lines to `path`; at `max_bytes` it becomes `.1`, `.1` becomes `.2`, and the oldest of `kept` goes."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._max, self._kept = path, max_bytes, kept
        self._out = path.open("ab", buffering=0)
        self._size = self._out.tell()
        self.recent: deque[str] = deque(maxlen=20)
        """The last lines, to show when the process does not come up."""

    def write(self, line: str) -> None:
        data = line.encode(errors="replace") + b"\n"
        if self._size and self._size + len(data) > self._max:
            self._rotate()
        self._size += self._out.write(data) or 0
        self.recent.append(line)

    def close(self) -> None:
        self._out.close()

    def _rotate(self) -> None:
        self._size = 0
        for n in range(self._kept, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{n}")
            newer = self._path if n == 1 else self._path.with_name(f"{self._path.name}.{n - 1}")
            if newer.exists():
                newer.replace(older)
        full, self._out = self._out, self._path.open("ab", buffering=0)
        full.close()


class Lines:
    """Bytes in, whole lines out. Lines over `MAX_LINE` bytes are cut into pieces; control characters and colours are dropped."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > MAX_LINE:
            whole.append(self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]
        return [_text(line) for line in whole]

    def end(self) -> list[str]:
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


def _text(line: bytes) -> str:
    return _CONTROL.sub("", line.decode(errors="replace").rstrip("\r"))
