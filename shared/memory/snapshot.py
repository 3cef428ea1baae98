"""The snapshot format: one persona's whole warm memory and its distilled state of mind, at a stream sequence.

MessagePack with structs as arrays, zstd level 3. Deterministic: the same items and sequence give the same bytes, so the
content-addressed key of a snapshot taken twice is the same. Vectors are left out; they derive from the texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
import zstandard

from shared.contracts.events import SnapshotCounts
from shared.contracts.text import plain
from shared.memory.port import ColdCorrupt, MemoryItem

VERSION = 1
MAX_SUMMARY_CHARS = 4000
MAX_BYTES = 256 * 2**20
_LAST_THOUGHTS = 3
_LINE_CHARS = 400


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """`seq` is the last event folded into the items; the log after it gives everything since."""

    version: int
    swarm: str
    persona: str
    seq: int
    charter: str
    summary: str
    items: tuple[MemoryItem, ...]


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot on its way to cold storage. `ratio` is source text bytes per stored byte."""

    snapshot: Snapshot
    data: bytes
    sha256: str
    key: str
    counts: SnapshotCounts
    ratio: float


class UnknownVersion(Exception):
    """The snapshot was written by a newer release. Remedy: run that release, or rebuild from the log."""


_DECODER = msgspec.msgpack.Decoder(Snapshot)


def capture(swarm: str, persona: str, items: Iterable[MemoryItem]) -> Captured:
    """Take a snapshot of one persona's items."""
    ordered = tuple(sorted(items, key=lambda item: (item.seq, item.id)))
    snapshot = Snapshot(
        version=VERSION,
        swarm=swarm,
        persona=persona,
        seq=max((item.seen_seq for item in ordered), default=0),
        charter=next((item.text for item in reversed(ordered) if item.kind == "charter"), ""),
        summary=distil(ordered),
        items=ordered,
    )
    data = zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(snapshot))
    digest = hashlib.sha256(data).hexdigest()
    merged = sum(len(item.merged) for item in ordered)
    return Captured(
        snapshot=snapshot,
        data=data,
        sha256=digest,
        key=f"snapshots/{swarm}/{persona}/{snapshot.seq}-{digest}.zst",
        counts=SnapshotCounts(
            thoughts=len(ordered) + merged,
            kept=len(ordered),
            merged=merged,
            pinned=sum(item.pinned for item in ordered),
            edges=sum(len(item.edges) for item in ordered),
        ),
        ratio=round(sum(item.source_bytes for item in ordered) / len(data), 4),
    )


def decode(data: bytes) -> Snapshot:
    """Raises `ColdCorrupt` or `UnknownVersion`."""
    try:
        if zstandard.frame_content_size(data) > MAX_BYTES:  # a declared size overrides `max_output_size`
            raise ColdCorrupt(f"no readable snapshot: it claims to hold more than {MAX_BYTES} bytes")
        body = zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_BYTES)
        version = msgspec.msgpack.decode(body, type=list[msgspec.Raw])
        if version and (found := msgspec.msgpack.decode(version[0])) != VERSION:
            raise UnknownVersion(f"snapshot version {found}, this release reads {VERSION}")
        return _DECODER.decode(body)
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise ColdCorrupt(f"no readable snapshot: {error}") from error


def distil(items: tuple[MemoryItem, ...]) -> str:
    """The state of mind in words, at most 4000 characters: the last compressing thoughts, then what is pinned, newest first."""
    recent = sorted(items, key=lambda item: (item.seen_seq, item.id), reverse=True)
    thoughts = [item for item in recent if item.phase == "compress"][:_LAST_THOUGHTS]
    pinned = [item for item in recent if item.pinned]
    lines, room = [], MAX_SUMMARY_CHARS
    for item in (*thoughts, *pinned):
        line = plain(f"[{item.kind}] {' '.join(item.text.split())}", _LINE_CHARS)
        if len(line) + 1 > room:
            break
        lines.append(line)
        room -= len(line) + 1
    return "\n".join(lines)
