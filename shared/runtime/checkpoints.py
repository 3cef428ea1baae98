"""Checkpoints of long boundaries: a cache with the sequence it is at, in the bucket `checkpoints`.

Losing one costs a longer read and nothing else. Never the truth, only a head start: one that cannot be decoded is ignored, and
one of another log, or of more than the log still holds (a backup, a power loss), is known by the event it ends with.
"""

from __future__ import annotations

import hashlib
from typing import Generic, TypeVar

import msgspec
import structlog
import zstandard

from shared.log.port import KeyValue, Log, LogUnavailable
from shared.runtime.handling import Fold

log = structlog.get_logger()

S = TypeVar("S")
EVERY_EVENTS = 1000
MAX_BYTES = 900_000


class _Checkpoint(msgspec.Struct):
    version: int
    position: int
    newest: str
    guards: dict[str, int]
    state: msgspec.Raw


class Checkpoints(Generic[S]):
    """Saves and restores folds whose state is of type `state_type`; raise `version` when the fold's meaning changes."""

    def __init__(self, log_: Log, bucket: KeyValue, prefix: str, state_type: type[S], *, version: int = 1) -> None:
        self._log = log_
        self._bucket = bucket
        self._prefix = prefix
        self._type = state_type
        self._version = version

    async def restore(self, fold: Fold[S]) -> None:
        """Start the fold from its checkpoint, if there is a good one."""
        key = self._key(fold)
        try:
            entry = await self._bucket.get(key)
            if entry is None:
                return
            saved = msgspec.msgpack.decode(zstandard.decompress(entry.value), type=_Checkpoint)
            if saved.version != self._version:
                return
            state = msgspec.msgpack.decode(saved.state, type=self._type)
            ends_with = await self._log.get(saved.position)
        except (msgspec.MsgspecError, zstandard.ZstdError, LogUnavailable) as error:
            log.warning("checkpoint_ignored", key=key, why=str(error))
            return
        if ends_with is None or ends_with.id != saved.newest:
            log.warning("checkpoint_ignored", key=key, why="it is not of this log")
            return
        fold.state, fold.guards = state, dict(saved.guards)
        fold.position, fold.newest = saved.position, saved.newest

    async def offer(self, fold: Fold[S]) -> None:
        """Save the fold when enough has been absorbed since it was last saved."""
        if fold.unsaved < EVERY_EVENTS:
            return
        key = self._key(fold)
        state = msgspec.Raw(msgspec.msgpack.encode(fold.state))
        whole = _Checkpoint(self._version, fold.position, fold.newest, fold.guards, state)
        value = zstandard.compress(msgspec.msgpack.encode(whole), 3)
        fold.unsaved = 0
        if len(value) > MAX_BYTES:
            log.warning("checkpoint_too_large", key=key, size_bytes=len(value), limit_bytes=MAX_BYTES)
            return
        try:
            await self._bucket.put(key, value)
        except LogUnavailable as error:
            log.warning("checkpoint_not_saved", key=key, why=str(error))

    def _key(self, fold: Fold[S]) -> str:
        digest = hashlib.sha256("\n".join(fold.boundary.reads).encode()).hexdigest()[:24]
        return f"{self._prefix}.{digest}"
