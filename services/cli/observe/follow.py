"""Follows a file over everything that happens to logs, so that no line that is still on disk is lost, and none comes twice.

Theory of operation: what is followed is a list of files, each with the place that was reached, the oldest first and the one the path
names last. Each round reads on in all of them. After each read it is looked whether what stood before the place still does: if it
does not, the file was truncated and written anew, and what was read is not believed. Then, and when the path names another file, the
list is made again from the places: each file is found by what it is, under whatever name, copied or compressed; what rotation made
since comes after it, whole; the path's own file is last. A file that was moved away is read for a while yet: its writer may not know.
The list of places is all there is to keep; following goes on from it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from services.cli.observe.files import BEFORE, HEAD, Damaged, Opened, Place, digest, generations, holds
from services.cli.observe.text import LONGEST_BOM, Line, Lines, Notice, encoding_of

CHUNK = 256 * 1024
POLL_S = 0.2
LINGER_S = 10.0
"""So long after its last line a file that was moved away is read."""

Places = tuple[Place, ...]


class Chunk(NamedTuple):
    """Lines, and where all that is followed stands after each of them."""

    lines: list[Line]
    at: list[Places]
    rest: Places
    """Where it stands when all of them are in; the same as the last of `at`, and there where there is no line."""


class Changed(Exception):
    """What was read is not what stands there now."""


class Reading:
    """One file and how far it is read; what was read last is kept, to tell whether the file is still the same."""

    def __init__(self, file: Opened, declared: str | None, notice: Notice, place: Place | None = None) -> None:
        self.file, self._declared, self._notice = file, declared, notice
        self.place = place or Place(
            device=file.stat.st_dev, inode=file.stat.st_ino, offset=0, head=digest(b""), before=digest(b""),
            written_ns=file.stat.st_mtime_ns,
        )  # fmt: skip
        self.place = msgspec.structs.replace(self.place, device=file.stat.st_dev, inode=file.stat.st_ino)
        if not self.place.offset:
            self.place = msgspec.structs.replace(self.place, written_ns=file.stat.st_mtime_ns)
        self.read_at = time.monotonic()
        self.damaged_at: int | None = None
        self._head = file.read(0, min(HEAD, self.place.offset))
        start = max(0, self.place.offset - BEFORE)
        self._recent = file.read(start, self.place.offset - start)
        self._lines: Lines | None = None

    @property
    def offset(self) -> int:
        return self.place.offset if self._lines is None else self._lines.read

    def go_to_end(self) -> None:
        """Leave out what is there."""
        size = self.file.size()
        self._head, start = self.file.read(0, min(HEAD, size)), max(0, size - BEFORE)
        self._recent = self.file.read(start, size - start)
        self.place = self._placed(size, cutting=False)

    def next(self, *, final: bool = False) -> list[tuple[Line, Place]] | None:
        """The lines of the next chunk, and where it stands after each; None at the end. Raises `Changed`, `OSError`."""
        offset = self.offset
        data = self.file.read(offset, CHUNK)
        if not self._same(offset):
            raise Changed
        if not data or not (lines := self._open(data, final=final)):
            return None
        self.read_at = time.monotonic()
        if len(data) == CHUNK and not data.strip(b"\0") and (hole := self.file.after_hole(offset) - offset) > CHUNK:
            placed = self._each(lines.end())
            lines.skip(hole)
            self._recent = bytes(BEFORE)
        else:
            found = lines.feed(data)
            self._recent += data
            self._head = (self._head + data)[:HEAD]
            placed = self._each(found)
            self._recent = self._recent[-BEFORE:]
        return placed

    def end(self) -> list[tuple[Line, Place]]:
        """The last line, where it has no line break."""
        if self._lines is None:
            return [*(self.next(final=True) or ()), *(self.end() if self._lines is not None else ())]
        return self._each(self._lines.end())

    def _each(self, lines: list[Line]) -> list[tuple[Line, Place]]:
        return [(line, self._placed(line.end, cutting=line.cut)) for line in lines]

    def _open(self, data: bytes, *, final: bool) -> Lines | None:
        """None while too little is there to tell the encoding."""
        if self._lines is None:
            head = self.file.read(0, LONGEST_BOM)
            if not final and len(head) < LONGEST_BOM and head[:1] in (b"\xef", b"\xff", b"\xfe", b"\0"):
                return None
            encoding = encoding_of(head, self._declared)
            self._lines = Lines(
                self._notice, str(self.file.path), encoding, at=self.place.offset, cutting=self.place.cutting
            )
        return self._lines

    def _same(self, offset: int) -> bool:
        if self.file.compressed:
            return True
        before = min(BEFORE, offset)
        return self.file.read(0, len(self._head)) == self._head and (
            self.file.read(offset - before, before) == self._recent[len(self._recent) - before :]
        )

    def _placed(self, offset: int, *, cutting: bool) -> Place:
        """`offset` is within what was read last."""
        stat, end = self.file.stat, self.offset if self._lines is not None else offset
        recent = self._recent[: len(self._recent) - (end - offset)]
        self.place = Place(
            device=stat.st_dev, inode=stat.st_ino, offset=offset, head=digest(self._head[: min(HEAD, offset)]),
            before=digest(recent[len(recent) - min(BEFORE, offset) :]), written_ns=stat.st_mtime_ns, cutting=cutting,
        )  # fmt: skip
        return self.place


class Follower:
    """Follows `path` from `places`; without any from its beginning, or with `at_end` from its end. Raises `OSError` where the file
    cannot be read."""

    def __init__(
        self,
        path: Path,
        notice: Notice,
        *,
        encoding: str | None = None,
        places: Places = (),
        at_end: bool = False,
        linger_s: float = LINGER_S,
    ) -> None:
        self._path, self._notice, self._encoding, self._linger_s = path, notice, encoding, linger_s
        self._readings: list[Reading] = []
        if places:
            self._arrange(places, [])
        else:
            first = self._reading(Opened(path))
            times = [file.stat().st_mtime_ns for file in (path, *generations(path))]
            first.place = msgspec.structs.replace(first.place, written_ns=max(times))  # what is there already stays out
            self._readings.append(first)
            if at_end:
                self._readings[0].go_to_end()

    @property
    def places(self) -> Places:
        return tuple(reading.place for reading in self._readings)

    async def chunks(self) -> AsyncIterator[Chunk]:
        """Lines as they come, for ever. The first has none: where following begins."""
        try:
            yield Chunk([], [], self.places)
            while True:
                quiet = True
                for chunk in self.look():
                    quiet = False
                    yield chunk
                if quiet:
                    await asyncio.sleep(POLL_S)
        finally:
            self.close()

    def close(self) -> None:
        for reading in self._readings:
            reading.file.close()

    async def lines(self) -> AsyncIterator[list[str]]:
        """The same, for who keeps no place."""
        async for chunk in self.chunks():
            yield [line.text for line in chunk.lines]

    def look(self) -> Iterator[Chunk]:
        """One look at everything."""
        if self._missed():
            self._anew(f"{self._path} was rotated before anything was read of it", "going on with what was written")
            yield Chunk([], [], self.places)
        for reading in list(self._readings):
            try:
                yield from self._drained(reading)
            except Changed:
                how = f"{self._path} was truncated and written anew"
                self._anew(how, f"it was read up to byte {reading.place.offset}")
                yield Chunk([], [], self.places)
                return
        if self._moved():
            self._anew(f"{self._path} was rotated", "going on with what came after it")
            yield Chunk([], [], self.places)
            return
        if not self._readings[-1].offset:
            return  # while nothing is written there, somebody may still write to the one before
        for reading in self._readings[:-1]:
            old = time.monotonic() - reading.read_at > self._linger_s
            if old or reading.file.compressed or reading.damaged_at is not None:
                last = self._chunk(reading, self._ended(reading))
                self._readings.remove(reading)
                reading.file.close()
                yield last._replace(rest=self.places)
                return

    def _drained(self, reading: Reading) -> Iterator[Chunk]:
        size = reading.file.stat.st_size
        if reading.damaged_at == size:
            return
        try:
            while (placed := reading.next()) is not None:
                if placed:
                    yield self._chunk(reading, placed)
        except Damaged as error:
            if reading.damaged_at is None:
                self._notice(f"{error}; what could be read of it was")
            reading.damaged_at = size

    def _ended(self, reading: Reading) -> list[tuple[Line, Place]]:
        try:
            return reading.end()
        except (Changed, Damaged):
            return []

    def _chunk(self, reading: Reading, placed: Sequence[tuple[Line, Place]]) -> Chunk:
        here, places = self._readings.index(reading), self.places
        at = [(*places[:here], place, *places[here + 1 :]) for _, place in placed]
        return Chunk([line for line, _ in placed], at, at[-1] if at else places)

    def _moved(self) -> bool:
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (now.st_dev, now.st_ino) != self._readings[-1].file.key

    def _missed(self) -> bool:
        """Whether something was written to a file of which nothing was read yet, and moved away from it since."""
        if self._readings[-1].offset:
            return False
        since = max(place.written_ns for place in self.places)
        for path in generations(self._path):
            file = self._open(path)
            if file is not None:
                new = file.stat.st_mtime_ns > since and not any(_within(file, one) for one in self._readings)
                file.close()
                if new:
                    return True
        return False

    def _anew(self, what: str, where: str) -> None:
        self._notice(f"{what}; {where}")
        places, kept = self.places, [reading.file for reading in self._readings]
        self._arrange(places, kept)
        for file in kept:
            if all(file is not reading.file for reading in self._readings):
                file.close()

    def _arrange(self, places: Places, kept: list[Opened]) -> None:
        """The files of these places, what came after them, and the path's own file."""
        live = self._open(self._path)
        beside = [file for path in generations(self._path) if (file := self._open(path)) is not None]
        candidates = [*kept, *([live] if live is not None else []), *reversed(beside)]
        found: list[Reading] = []
        for place in places:
            file = self._find(place, candidates)
            if file is not None and all(file.key != reading.file.key for reading in found):
                found.append(self._reading(file, place))
            elif file is None and place.offset:
                self._notice(
                    f"what {self._path} had after byte {place.offset}, if anything, is in no file beside it any more "
                    "(those of its name are looked at, plain and .gz)"
                )
        since = max((place.written_ns for place in places), default=0)
        stays = bool(found) and live is not None and found[-1].file.key == live.key and found[-1].place.offset > 0
        for file in () if stays else beside:
            if file.stat.st_mtime_ns > since and not any(_within(file, reading) for reading in found):
                self._notice(f"{file.path} came between, and is read whole")
                found.append(self._reading(file))
        at_path = next((r for r in found if live is not None and r.file.key == live.key), None)
        if at_path is not None:
            found.remove(at_path)
            found.append(at_path)
        elif live is not None:
            found.append(self._reading(live))
        used = [reading.file for reading in found]
        for file in (*beside, live):
            if file is not None and all(file is not one for one in used):
                file.close()
        self._readings = found or self._readings

    def _find(self, place: Place, candidates: list[Opened]) -> Opened | None:
        """The file of that place: the same one, or else one with the same in it."""
        same = [file for file in candidates if holds(file, place)]
        own = [file for file in same if file.key == (place.device, place.inode)]
        if (
            not place.offset
        ):  # nothing is known of it but which one it was, and when it was written, which compressing keeps
            same = [file for file in candidates if file.stat.st_mtime_ns == place.written_ns]
        return next(iter(own or same), None)

    def _open(self, path: Path) -> Opened | None:
        try:
            return Opened(path)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._notice(f"{path} cannot be read: {error}")
            return None

    def _reading(self, file: Opened, place: Place | None = None) -> Reading:
        return Reading(file, self._encoding, self._notice, place)


def _within(file: Opened, reading: Reading) -> bool:
    """Whether the file has nothing that is not in the other: the same file, a copy of it, or of its beginning."""
    if file.key == reading.file.key:
        return True
    try:
        size = file.size()
        last = min(BEFORE, size)
        return file.read(size - last, last) == reading.file.read(size - last, last)
    except Damaged:
        return False


def read_once(path: Path, notice: Notice, encoding: str | None = None) -> Iterator[list[str]]:
    """The lines of a file as it is now. Raises `OSError`."""
    reading = Reading(Opened(path), encoding, notice)
    try:
        while (placed := reading.next()) is not None:
            yield [line.text for line, _ in placed]
        yield [line.text for line, _ in reading.end()]
    except Changed:
        raise OSError(f"{path} was truncated while it was read") from None
    finally:
        reading.file.close()
