"""Checkpoints of long boundaries: a cache with the sequence it is at, in the bucket `checkpoints`, in parts where it is large.

Losing one costs a longer read and nothing else. Never the truth, only a head start: one that cannot be decoded is ignored, and
one of another log, or of more than the log still holds (a backup, a power loss), is known by the marks it carries.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Generic, TypeVar

import msgspec
import structlog
import zstandard

from shared.log.marks import Mark, Trail, dated, foreign
from shared.log.port import KeyValue, Log, LogUnavailable, StaleBoundary
from shared.runtime.handling import Fold
from shared.runtime.keeping.parts import Parts, TooLarge

log = structlog.get_logger()

S = TypeVar("S")
EVERY_EVENTS = 1000
BYTES_AN_EVENT = 64
"""A large state is saved less often, so that saving costs no more than this for each event taken in."""


class _Checkpoint(msgspec.Struct):
    version: int
    position: int
    marks: tuple[Mark, ...]
    guards: dict[str, int]
    state: msgspec.Raw


class Checkpoints(Generic[S]):
    """Saves and restores folds whose state is of type `state_type`; raise `version` when the fold's meaning changes.

    `writer`: this process's name, a token of a key.
    """

    def __init__(
        self, log_: Log, bucket: KeyValue, prefix: str, state_type: type[S], *, version: int = 1, writer: str = "w"
    ) -> None:
        self._log = log_
        self._parts = Parts(bucket, writer)
        self._prefix = prefix
        self._type = state_type
        self._version = version
        self._sizes: dict[str, int] = {}

    async def restore(self, fold: Fold[S]) -> None:
        """Start the fold from its checkpoint, if there is a good one."""
        key = self._key(fold)
        try:
            value = await self._parts.get(key)
            if value is None:
                return
            saved = await asyncio.to_thread(_decode, value)
            if saved.version != self._version:
                return
            state = msgspec.msgpack.decode(saved.state, type=self._type)
            mark = await foreign(self._log, saved.marks)
        except (msgspec.MsgspecError, zstandard.ZstdError, LogUnavailable) as error:
            log.warning("checkpoint_ignored", key=key, why=str(error))
            return
        if mark is not None or not saved.marks:
            log.warning("checkpoint_ignored", key=key, seq=mark.seq if mark else 0, why="it is not of this log")
            return
        fold.state, fold.guards = state, dict(saved.guards)
        fold.position, fold.trail = saved.position, Trail(saved.marks)

    async def offer(self, fold: Fold[S]) -> None:
        """Save the fold when enough has been absorbed since it was last saved."""
        if fold.unsaved < EVERY_EVENTS:
            return
        key = self._key(fold)
        if fold.unsaved < self._sizes.get(key, 0) // BYTES_AN_EVENT:
            return
        fold.unsaved = 0
        state = msgspec.Raw(msgspec.msgpack.encode(fold.state))
        position, guards, trail = fold.position, dict(fold.guards), fold.trail.marks
        try:
            marks = await dated(self._log, trail)
            if marks is None:
                log.warning("checkpoint_not_saved", key=key, why="what it rests on is not in the log")
                return
            value = await asyncio.to_thread(_encode, _Checkpoint(self._version, position, marks, guards, state))
            self._sizes[key] = len(value)
            await self._parts.put(key, value)
        except StaleBoundary:
            return  # another process saved it at the same moment
        except (LogUnavailable, TooLarge) as error:
            log.warning("checkpoint_not_saved", key=key, why=str(error))

    def _key(self, fold: Fold[S]) -> str:
        digest = hashlib.sha256("\n".join(fold.boundary.reads).encode()).hexdigest()[:24]
        return f"{self._prefix}.{digest}"


def _encode(checkpoint: _Checkpoint) -> bytes:
    return zstandard.compress(msgspec.msgpack.encode(checkpoint), 3)


def _decode(value: bytes) -> _Checkpoint:
    return msgspec.msgpack.decode(zstandard.decompress(value), type=_Checkpoint)
