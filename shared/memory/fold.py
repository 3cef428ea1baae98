"""Folding events into the thought graph: one transaction's working copy, and the rules of merging. Pure but for what it is given.

Whatever the batch size, the outcome is that of one event after another: neighbours come from the index *and* from the
transaction so far, and cosines are computed here from the stored bits, never taken from the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from shared.memory.dedup import SIMILAR_COSINE, Said, compare, exact_key
from shared.memory.items import MAX_LINKS, Draft
from shared.memory.port import Edge, Hit, MemoryItem, Vector

NEIGHBOURS = 8
SIMILAR_EDGES = 4
MAX_MERGED = 256
"""Ids one item may absorb; after that a new one starts, so an item (and the cost of writing it again) stays bounded."""

MAX_EVIDENCE = 1024
MARGIN = 0.01
"""What the engine's cosine may differ from ours."""

TIE = 1e-4
"""Scores of the engine closer than this are as good as equal."""

CROWD = 64
"""So many items equally near are near to nothing in particular: a new one is neither merged with nor linked to any of them."""


class Outcome(msgspec.Struct, kw_only=True):
    """What happened to the events of a transaction."""

    added: int = 0
    merged: int = 0
    linked: int = 0


class Transaction:
    """Items changed since the index was last written, over what was read from it."""

    def __init__(self, read: Iterable[MemoryItem]) -> None:
        self.items: dict[str, MemoryItem] = {}
        self.vectors: dict[str, Vector] = {}
        self.changed: dict[str, None] = {}
        self.outcome = Outcome()
        self._holder: dict[str, str] = {}
        self._changed_of: dict[str, list[str]] = {}
        self._by_key: dict[str, list[str]] = {}
        self._said: dict[str, Said] = {}
        self.read(read)

    def read(self, items: Iterable[MemoryItem]) -> None:
        """Take in items of the index, unless they are known already (and perhaps changed)."""
        for item in items:
            if item.id not in self.items:
                self._put(item)

    def read_twins(self, items: Iterable[MemoryItem]) -> None:
        """Take in all of the index that reads the same as any draft of this transaction."""
        for item in items:
            self.read((item,))
            self._by_key.setdefault(_key(item), []).append(item.id)

    def knows(self, event_id: str) -> bool:
        item = self._of(event_id)
        return item is not None and event_id in item.ids

    def fold(self, draft: Draft, vector: Vector, hits: Sequence[Hit]) -> None:
        """Add the drafted item, or merge it into the one that says the same. `hits` are the index's nearest of the same owner."""
        self.read(hit.item for hit in hits)
        for hit in hits:
            if hit.vector is not None:
                self.vectors.setdefault(hit.item.id, hit.vector)
        item = self._complete(draft)
        key = _key(item)
        twin = self._twin(key)
        if twin is None:
            similar = []
            for cosine, near in self._nearest(item, vector, hits):
                match compare(self._text(item), self._text(near), cosine):
                    case "same" if _may_merge(item, near):
                        twin = near
                        break
                    case "same" | "similar":
                        similar.append(Edge("similar", near.id))
            if twin is None:
                item = msgspec.structs.replace(item, edges=(*item.edges, *similar[:SIMILAR_EDGES]))
                self.outcome.added += 1
                self.outcome.linked += len(similar[:SIMILAR_EDGES])
                self._by_key.setdefault(key, []).append(item.id)
                self._change(item, vector)
                return
        self.outcome.merged += 1
        self._change(merge(twin, item), self.vectors.get(twin.id, vector))

    def _complete(self, draft: Draft) -> MemoryItem:
        """The item with what only its surroundings tell: taint, and edges to what is in memory."""
        item, sources = draft.item, [self._of(s, draft.item.owner) for s in draft.sources]
        inside = [s for s in sources if s is not None]
        because = [Edge("because", s.id) for s in inside]
        replaced = [self._of(s, item.owner) for s in draft.replaces]
        supersedes = [Edge("supersedes", r.id) for r in replaced if r is not None and r.kind == "thought"]
        # what a distillation supersedes it does not rest on, or nothing distilled could ever leave
        gone = {edge.target for edge in supersedes}
        edges = dict.fromkeys((*item.edges, *(b for b in because if b.target not in gone), *supersedes))
        return msgspec.structs.replace(
            item,
            tainted=bool(sources) and all(s is None or s.tainted for s in sources)
            if draft.tainted is None
            else draft.tainted,
            edges=tuple(edges)[:MAX_LINKS],
        )

    def _twin(self, key: str) -> MemoryItem | None:
        """The latest item that reads the same and has room."""
        found = [self.items[i] for i in self._by_key.get(key, ())]
        return max((i for i in found if _has_room(i)), key=lambda i: i.seq, default=None)

    def _nearest(self, item: MemoryItem, vector: Vector, hits: Sequence[Hit]) -> list[tuple[float, MemoryItem]]:
        near = {hit.item.id for hit in hits}
        near.update(self._changed_of.get(item.owner, ()))
        wide = vector.astype(np.float64)
        scored = [(float(wide @ self.vectors[i].astype(np.float64)), self.items[i]) for i in near if i != item.id]
        scored.sort(key=lambda pair: (-pair[0], pair[1].seq))
        nearest = [pair for pair in scored[:NEIGHBOURS] if pair[0] >= SIMILAR_COSINE]
        if len(nearest) == NEIGHBOURS:
            last = nearest[-1][0]
            if sum(abs(cosine - last) < TIE / 2 for cosine, _ in scored) >= CROWD:
                return [pair for pair in nearest if pair[0] - last >= TIE / 2]
        return nearest

    def _text(self, item: MemoryItem) -> Said:
        """An item's text, which never changes, taken apart once."""
        if (said := self._said.get(item.id)) is None:
            said = self._said[item.id] = Said(item.text)
        return said

    def _of(self, any_id: str, owner: str | None = None) -> MemoryItem | None:
        item = self.items.get(self._holder.get(any_id, ""))
        return item if item is not None and (owner is None or item.owner == owner) else None

    def _change(self, item: MemoryItem, vector: Vector) -> None:
        self._put(item)
        self.vectors[item.id] = vector
        if item.id not in self.changed:
            self.changed[item.id] = None
            self._changed_of.setdefault(item.owner, []).append(item.id)

    def _put(self, item: MemoryItem) -> None:
        self.items[item.id] = item
        for event_id in item.ids:
            self._holder[event_id] = item.id


def merge(kept: MemoryItem, said_again: MemoryItem) -> MemoryItem:
    """`kept` with the ids, evidence and edges of an item that says the same. Its text, id and first time stay."""
    edges = dict.fromkeys(e for e in (*kept.edges, *said_again.edges) if e.target not in (kept.id, said_again.id))
    return msgspec.structs.replace(
        kept,
        seen_seq=max(kept.seen_seq, said_again.seen_seq),
        seen_at=max(kept.seen_at, said_again.seen_at),
        importance=max(kept.importance, said_again.importance),
        pinned=kept.pinned or said_again.pinned,
        tainted=kept.tainted and said_again.tainted,
        evidence=tuple(dict.fromkeys((*kept.evidence, *said_again.evidence))),
        merged=tuple(dict.fromkeys((*kept.merged, *said_again.ids))),
        edges=tuple(edges),
        source_bytes=kept.source_bytes + said_again.source_bytes,
    )


def _may_merge(item: MemoryItem, near: MemoryItem) -> bool:
    """Pinned items are merged only when they read the same to the letter; what is about different things, never."""
    return (
        item.kind == near.kind and item.about == near.about and not item.pinned and not near.pinned and _has_room(near)
    )


def _has_room(item: MemoryItem) -> bool:
    return len(item.merged) < MAX_MERGED and len(item.evidence) + len(item.edges) < MAX_EVIDENCE


def _key(item: MemoryItem) -> str:
    return exact_key(item.owner, item.kind, item.about, item.text)
