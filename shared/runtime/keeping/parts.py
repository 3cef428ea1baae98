"""Values of any size in a bucket whose entries are small: a manifest, and parts that it names.

Theory of operation. Each writer has two slots of its own beside a key, `<key>.<writer>.<slot>.<n>`, and fills the one the present
manifest does not name. Only when all parts are stored is the manifest put in place, under a guard; so at any moment the old value
or the new one is there, whole, and two writers never mix their parts. Then the parts the old manifest named are deleted. What a
crash leaves behind is overwritten by the same writer's next value: a writer never holds more than two values of space.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from shared.log.port import Entry, KeyValue, StaleBoundary

PART_BYTES = 512 * 1024
MAX_PARTS = 128
"""64 MiB a value."""


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    """What a value is made of. Values of one part are in the manifest itself."""

    sha256: bytes
    size: int
    writer: str = ""
    slot: Literal["a", "b"] = "a"
    parts: int = 0
    whole: bytes = b""


class TooLarge(Exception):
    """The value has more than `MAX_PARTS` parts; nothing was stored."""


class Parts:
    """Values in parts over one bucket. `writer` is a token that no other living writer has."""

    def __init__(self, bucket: KeyValue, writer: str) -> None:
        self._bucket = bucket
        self._writer = writer

    async def get(self, key: str) -> bytes | None:
        """The value; None when there is none, or it is not whole. Raises `LogUnavailable`."""
        for _ in range(2):  # a new one may be put in place, and the old one's parts deleted, while it is read
            found = _manifest(await self._bucket.get(key))
            if found is None:
                return None
            value = found.whole or await self._joined(key, found)
            if value is not None and hashlib.sha256(value).digest() == found.sha256:
                return value
        return None

    async def put(self, key: str, value: bytes) -> None:
        """Store it. Raises `StaleBoundary` when another writer was faster, `TooLarge`, `LogUnavailable`."""
        count = -(-len(value) // PART_BYTES)
        if count > MAX_PARTS:
            raise TooLarge(f"{len(value)} bytes, the limit is {MAX_PARTS * PART_BYTES}")
        entry = await self._bucket.get(key)
        old = _manifest(entry)
        digest = hashlib.sha256(value).digest()
        if count <= 1:
            new = Manifest(sha256=digest, size=len(value), whole=value)
        else:
            slot: Literal["a", "b"] = "b" if old and (old.writer, old.slot) == (self._writer, "a") else "a"
            new = Manifest(sha256=digest, size=len(value), writer=self._writer, slot=slot, parts=count)
            for n in range(count):
                await self._bucket.put(_part(key, new, n), value[n * PART_BYTES : (n + 1) * PART_BYTES])
        try:
            await self._bucket.put(key, msgspec.msgpack.encode(new), revision=entry.revision if entry else 0)
        except StaleBoundary:
            await self._forget(key, new)
            raise
        if old is not None:
            await self._forget(key, old)

    async def _joined(self, key: str, manifest: Manifest) -> bytes | None:
        pieces: list[bytes] = []
        for n in range(min(manifest.parts, MAX_PARTS)):
            part = await self._bucket.get(_part(key, manifest, n))
            if part is None:
                return None
            pieces.append(part.value)
        return b"".join(pieces)

    async def _forget(self, key: str, manifest: Manifest) -> None:
        for n in range(min(manifest.parts, MAX_PARTS)):
            await self._bucket.delete(_part(key, manifest, n))


def _part(key: str, manifest: Manifest, n: int) -> str:
    return f"{key}.{manifest.writer}.{manifest.slot}.{n}"


def _manifest(entry: Entry | None) -> Manifest | None:
    if entry is None:
        return None
    try:
        return msgspec.msgpack.decode(entry.value, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
