"""How items and cursors lie in Qdrant, the same for the embedded engine and the server.

A point's payload holds `item` (the item as JSON) and what is filtered by: `owner`, `ids` (every event id it stands for and
the token it is about), `hash` (`dedup.exact_key`). Points with `meta` instead are cursors, and tombstones of items on their
way out.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.log.marks import Mark
from shared.memory.dedup import exact_key
from shared.memory.port import LOG, MemoryItem

KEYWORDS = ("owner", "ids", "hash", "meta")
"""Payload keys with a keyword index."""

CURSOR, TOMBSTONE = "cursor", "tombstone"
_SPACE = uuid.UUID("0f0c6e0a-8f0f-5a53-8f5a-b0a4d1a1c001")
_DECODER = msgspec.json.Decoder(MemoryItem)
_MARKS = msgspec.json.Decoder(tuple[Mark, ...])

Payload = dict[str, Any]
"""Qdrant's own JSON; typed again by `item_of` and `cursor_of`."""


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


def item_of(payload: Mapping[str, Any] | None) -> MemoryItem:
    """Raises `msgspec.MsgspecError` or `KeyError` when it is no item of ours."""
    return _DECODER.decode((payload or {})["item"])


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
