"""Checkpoints of long boundaries: a cache with the sequence it is at, in the bucket `checkpoints`.

Losing one costs a longer read and nothing else; one that cannot be decoded is ignored. Never the truth, only a head start.
"""

from __future__ import annotations

import hashlib
from typing import Generic, TypeVar

import msgspec
import structlog
import zstandard

from shared.log.port import KeyValue, LogUnavailable
from shared.runtime.handling import Fold

log = structlog.get_logger()

S = TypeVar("S")
EVERY_EVENTS = 1000
MAX_BYTES = 900_000


class _Checkpoint(msgspec.Struct):
    version: int
    position: int
    guards: dict[str, int]
    state: msgspec.Raw


class Checkpoints(Generic[S]):
    """Saves and restores folds whose state is of type `state_type`; raise `version` when the fold's meaning changes."""

    def __init__(self, bucket: KeyValue, prefix: str, state_type: type[S], *, version: int = 1) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._type = state_type
        self._version = version
        self._saved: dict[str, int] = {}
        self._absorbed: dict[str, int] = {}

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
        except (msgspec.MsgspecError, zstandard.ZstdError, LogUnavailable) as error:
            log.warning("checkpoint_ignored", key=key, why=str(error))
            return
        fold.state, fold.position, fold.guards = state, saved.position, dict(saved.guards)
        self._saved[key] = saved.position

    async def offer(self, fold: Fold[S]) -> None:
        """Save the fold when enough has been absorbed since it was last saved."""
        key = self._key(fold)
        self._absorbed[key] = self._absorbed.get(key, 0) + 1
        if self._absorbed[key] < EVERY_EVENTS or fold.position == self._saved.get(key):
            return
        state = msgspec.Raw(msgspec.msgpack.encode(fold.state))
        whole = _Checkpoint(self._version, fold.position, fold.guards, state)
        value = zstandard.compress(msgspec.msgpack.encode(whole), 3)
        self._absorbed[key] = 0
        if len(value) > MAX_BYTES:
            log.warning("checkpoint_too_large", key=key, size_bytes=len(value), limit_bytes=MAX_BYTES)
            return
        try:
            await self._bucket.put(key, value)
            self._saved[key] = fold.position
        except LogUnavailable as error:
            log.warning("checkpoint_not_saved", key=key, why=str(error))

    def _key(self, fold: Fold[S]) -> str:
        digest = hashlib.sha256("\n".join(fold.boundary.reads).encode()).hexdigest()[:24]
        return f"{self._prefix}.{digest}"
