"""Checkpoints of projections: the state of a long fold in a file, with the event it is at. Never the truth, only a head start.

Theory of operation. `offer` takes a copy of the state that nobody changes any more, encodes and compresses it in a thread,
piece by piece so that the event loop gets its turn in between and the whole is never in memory at once, and puts it in place by
writing beside it, fsync and rename: after a crash at any moment the old checkpoint or the new one is there, whole. `load` gives
it back only when

- the file is whole (zstd's checksum, the types) - else it is moved aside to `<name>.bad` and said;
- the same code wrote it: a digest over the sources of the fold and its contracts, so nobody has to raise a version;
- the log is the one it was made from: it still holds the events the checkpoint's marks name, stored at the same time. So a
  checkpoint of another log, or of one that was cut short, also if it has grown past that point again, does not count.

What does not count costs a longer read and nothing else. Small boundaries are checkpointed in a bucket instead (`checkpoints`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Generic, Protocol, TypeVar

import msgspec
import structlog
import zstandard

from shared.log.marks import Mark, Trail, foreign
from shared.log.port import Log
from shared.settings import Settings

_log = structlog.get_logger()

S = TypeVar("S", bound=msgspec.Struct)
C = TypeVar("C", bound=msgspec.Struct, covariant=True)
FORMAT = 2
EVERY_S, EVERY_EVENTS = 60.0, 5000
"""A checkpoint is offered so often, and written when the log went on by so many sequences."""
MAX_BYTES = 256 * 2**20
"""Of a state, before compression; a larger one is not written."""
_encode = msgspec.msgpack.Encoder().encode


class Projection(Protocol[C]):
    """What can be checkpointed."""

    @property
    def trail(self) -> Trail:
        """Of the messages taken in since the start."""

    def capture(self) -> C:
        """The state as of the newest of them, in a copy that nobody changes."""


class _File(msgspec.Struct, array_like=True):
    format: int
    code: str
    marks: tuple[Mark, ...]
    state: msgspec.Raw


class CheckpointFile(Generic[S]):
    """One projection's checkpoint. `state_type` is an `array_like` struct; a large part of it should be a list.

    `code`: the modules and packages whose sources say what the state means.
    """

    def __init__(self, path: Path, state_type: type[S], *code: ModuleType, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self.saved_seq = 0
        """The sequence of the last checkpoint written or loaded."""
        self._type = state_type
        self._code = _digest(code)
        self._max_bytes = max_bytes
        self._loaded: tuple[Mark, ...] = ()
        self._writing = asyncio.Lock()

    async def load(self, log: Log) -> S | None:
        """The state of the last checkpoint, if there is one of this log. Raises `LogUnavailable`."""
        found = await asyncio.to_thread(self._read)
        if found is None:
            return None
        marks, state = found
        if not marks or (mark := await foreign(log, marks)) is not None:
            at = mark.seq if marks and mark is not None else 0
            _log.warning("checkpoint_ignored", file=self.path.name, seq=at, why="it is not of this log")
            return None
        self.saved_seq, self._loaded = marks[0].seq, marks
        _log.info("checkpoint_restored", file=self.path.name, seq=self.saved_seq)
        return state

    async def offer(self, projection: Projection[S], *, events: int = EVERY_EVENTS) -> None:
        """Save the projection if the log went on by `events` sequences since the last time. A disk that refuses is said."""
        async with self._writing:
            newest = projection.trail.newest
            if newest is None or newest.seq - self.saved_seq < events:
                return
            marks, state = Trail((*self._loaded, *projection.trail.marks)).marks, projection.capture()
            try:
                size = await asyncio.to_thread(self._write, marks, state)
            except OSError as error:
                _log.warning("checkpoint_not_saved", file=self.path.name, why=str(error))
                return
            self.saved_seq = newest.seq
            if size > self._max_bytes:
                _log.warning("checkpoint_too_large", file=self.path.name, limit_bytes=self._max_bytes)
            else:
                _log.info("checkpoint_saved", file=self.path.name, seq=newest.seq, size_bytes=size)

    def _write(self, marks: tuple[Mark, ...], state: S) -> int:
        """The size before compression; above the limit the file is as it was. Raises `OSError`."""
        head = b"\x94" + _encode(FORMAT) + _encode(self._code) + _encode(marks)
        size = 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(self.path.name + ".tmp")
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            compressor = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
            for piece in chain((head,), _pieces(state)):
                size += len(piece)
                if size > self._max_bytes:
                    break
                file.write(compressor.compress(piece))
            file.write(compressor.flush())
            file.flush()
            os.fsync(file.fileno())
        if size > self._max_bytes:
            beside.unlink()
            return size
        os.replace(beside, self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return size

    def _read(self) -> tuple[tuple[Mark, ...], S] | None:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("checkpoint_ignored", file=self.path.name, why=str(error))
            return None
        try:
            with zstandard.ZstdDecompressor().stream_reader(data) as reader:
                body = reader.read(self._max_bytes + 1)
            if len(body) > self._max_bytes:
                raise zstandard.ZstdError("it is larger than the limit")
            found = msgspec.msgpack.decode(body, type=_File)
            if (found.format, found.code) != (FORMAT, self._code):
                _log.info("checkpoint_ignored", file=self.path.name, why="other code wrote it")
                return None
            return found.marks, msgspec.msgpack.decode(found.state, type=self._type)
        except (msgspec.MsgspecError, zstandard.ZstdError, ValueError) as error:
            _log.warning("checkpoint_unreadable", file=self.path.name, why=str(error))
            self._set_aside()
            return None

    def _set_aside(self) -> None:
        try:
            os.replace(self.path, self.path.with_name(self.path.name + ".bad"))
        except OSError as error:
            _log.warning("checkpoint_not_moved", file=self.path.name, why=str(error))


def checkpoint_path(settings: Settings, instance: str) -> Path:
    """Where a process keeps its projection's checkpoint."""
    return Path(settings.data_dir) / "checkpoints" / f"{instance}.zst"


def _pieces(state: msgspec.Struct) -> Iterator[bytes]:
    """The state as MessagePack, the items of its lists one by one: a single call would hold the interpreter throughout."""
    fields = state.__struct_fields__
    yield b"\xdc" + len(fields).to_bytes(2, "big")
    for name in fields:
        value = getattr(state, name)
        if isinstance(value, list):
            yield b"\xdd" + len(value).to_bytes(4, "big")
            yield from map(_encode, value)
        else:
            yield _encode(value)


def _digest(code: tuple[ModuleType, ...]) -> str:
    digest = hashlib.sha256()
    for module in code:
        path = Path(str(module.__file__))
        for source in sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]:
            text = source.read_bytes()
            digest.update(f"{module.__name__}/{source.name}:{len(text)}\n".encode() + text)
    return digest.hexdigest()
