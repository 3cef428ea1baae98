"""How items and cursors lie in Qdrant, the same for the embedded engine and the server.

A point's payload holds `item` (the item as JSON) and what is filtered by: `owner`, `ids` (every event id it stands for and
the token it is about), `hash` (`dedup.exact_key`). Points with `meta` instead are cursors, and tombstones of items on their
way out.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import structlog

from shared.log.marks import Mark
from shared.memory.dedup import exact_key
from shared.memory.port import LOG, MemoryItem, Query, Vector

KEYWORDS = ("owner", "ids", "hash", "meta")
"""Payload keys with a keyword index."""

MAX_TOLD = 100
CURSOR, TOMBSTONE = "cursor", "tombstone"
_SPACE = uuid.UUID("0f0c6e0a-8f0f-5a53-8f5a-b0a4d1a1c001")
_DECODER = msgspec.json.Decoder(MemoryItem)
_MARKS = msgspec.json.Decoder(tuple[Mark, ...])
_log = structlog.get_logger()

Payload = dict[str, Any]
"""Qdrant's own JSON; typed again by `Items` and `cursor_of`."""


def point_id(item_id: str) -> str:
    """Qdrant ids are UUIDs; event ids are any short text."""
    return str(uuid.uuid5(_SPACE, item_id))


def cursor_point_id(scope: str) -> str:
    return str(uuid.uuid5(_SPACE, f"{CURSOR}\0{scope}"))


def payload_of(item: MemoryItem) -> Payload:
    return {
        "owner": item.owner,
        "ids": [*item.ids, item.about] if item.about else list(item.ids),
        "hash": exact_key(item.owner, item.kind, item.about, item.text),
        "item": msgspec.json.encode(item).decode(),
    }


class Items:
    """Reads items of one index. What is no item of ours, as an older release may have written, is left out and told once: one
    that stood for an error would stop every reading that comes upon it."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def of(self, payload: Mapping[str, Any] | None) -> MemoryItem | None:
        try:
            return _DECODER.decode((payload or {})["item"])
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            owner = str((payload or {}).get("owner"))
            if owner not in self._told and len(self._told) < MAX_TOLD:
                self._told.add(owner)
                _log.error("item_unreadable", owner=owner, why=str(error), then="left out; the log still has it")
            return None

    def all(self, payloads: Iterable[Mapping[str, Any] | None]) -> list[MemoryItem]:
        """Those that can be read, by sequence."""
        found = [item for payload in payloads if (item := self.of(payload)) is not None]
        return sorted(found, key=lambda item: (item.seq, item.id))


def vector_of(numbers: object) -> Vector:
    """The engine's list of floats, made of the same bits; thrice as fast as by numpy."""
    assert isinstance(numbers, list)
    return np.frombuffer(struct.pack(f"{len(numbers)}f", *numbers), np.float32)


def asked_for(query: Query, scores: Sequence[float]) -> int:
    """How many of the points found for a query with `ties`, best first, it asks for."""
    assert query.ties is not None
    if len(scores) <= query.limit:
        return len(scores)
    least = scores[query.limit - 1] - query.ties
    return next((n for n in range(query.limit, len(scores)) if scores[n] <= least), len(scores))


def cursor_payload(scope: str, seq: int, marks: Sequence[Mark] = ()) -> Payload:
    """The log's own cursor carries the marks."""
    payload: Payload = {"meta": CURSOR, "scope": scope, "seq": seq}
    return {**payload, "marks": msgspec.json.encode(marks).decode()} if scope == LOG else payload


def cursor_of(payload: Mapping[str, Any] | None) -> tuple[str, int]:
    return str((payload or {})["scope"]), int((payload or {})["seq"])


def marks_of(payload: Mapping[str, Any] | None) -> tuple[Mark, ...]:
    """The marks of a cursor; none of one that carries none, or none that can be read."""
    try:
        return _MARKS.decode((payload or {}).get("marks", "[]"))
    except msgspec.MsgspecError:
        return ()
