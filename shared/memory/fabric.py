"""The memory fabric: the log folded into a thought graph, recalled, compacted, snapshotted and restored.

Theory of operation. `remember` takes events in stream order and folds each one exactly once: those at or below the index's
cursor are skipped, and a transaction's items are written together with its cursor. Everything it does, compaction included,
depends on the log alone (event times, never a clock), so an index that was lost and rebuilt from sequence 0 is equal to the
one before, whatever the batches were, and its snapshots have the same bytes.

Memory is private: reads name their owners (swarm and persona), and the filter is part of the query itself; who may read more than
their own memory, and only what others distilled, is decided by whoever calls.
One fabric writes to an index. A decider never sees it; it is reached through effects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import msgspec

from shared.contracts.catalog import class_of
from shared.contracts.envelope import Recorded
from shared.contracts.events import Memory, PersonaReaped, ThoughtGenerated
from shared.contracts.services import SERVICES
from shared.log.marks import Mark, Trail
from shared.memory import compaction
from shared.memory.dedup import SIMILAR_COSINE, exact_key
from shared.memory.fold import CROWD, MARGIN, NEIGHBOURS, TIE, Transaction
from shared.memory.items import Draft, draft
from shared.memory.port import LOG, Embedder, MemoryItem, Query, VectorIndex, owner_of
from shared.memory.score import recency, score
from shared.memory.snapshot import Captured, capture, decode

TRANSACTION_EVENTS = 256
YIELD_EVERY = 16
COMPACT_EVERY_STEPS = 256
"""Every such step of a persona starts a compaction pass over its memory: steps have no gaps, so none can be missed."""

_CANDIDATES = 4
"""Recall ranks this many times the wanted number of semantic neighbours."""

_LEAST_CANDIDATES = 32
DISTILLED = "compress"
"""The phase whose thoughts are summaries."""


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What became of some events. `refused` says, per compaction pass that was refused, why."""

    cursor: int
    added: int = 0
    merged: int = 0
    linked: int = 0
    dropped: int = 0
    refused: tuple[str, ...] = ()

    def __add__(self, later: Remembered) -> Remembered:
        return Remembered(
            cursor=later.cursor,
            added=self.added + later.added,
            merged=self.merged + later.merged,
            linked=self.linked + later.linked,
            dropped=self.dropped + later.dropped,
            refused=self.refused + later.refused,
        )


class Fabric:
    """One index and its embedder. Make it with `Fabric.open`; the caller closes both ports."""

    def __init__(
        self, index: VectorIndex, embedder: Embedder, cursors: dict[str, int], marks: Sequence[Mark] = ()
    ) -> None:
        self._index = index
        self._trail = Trail(marks)
        self._embedder = embedder
        self._cursor = cursors.pop(LOG, 0)
        self._floors = cursors
        self._ends: dict[str, int] = {}
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, index: VectorIndex, embedder: Embedder) -> Fabric:
        """Raises `ValueError` when the index holds vectors of another size than the embedder makes, `IndexUnavailable`."""
        if index.dim != embedder.dim:
            raise ValueError(f"the index has {index.dim} dimensions, {embedder.name} makes {embedder.dim}")
        return cls(index, embedder, await index.cursors(), await index.marks())

    @property
    def marks(self) -> tuple[Mark, ...]:
        """What the log must still hold for this memory to be of it, the newest first."""
        return self._trail.marks

    @property
    def cursor(self) -> int:
        """The stream sequence up to which everything is in memory; 0: the caller replays from the beginning."""
        return self._cursor

    async def remember(self, events: Sequence[Recorded]) -> Remembered:
        """Fold events, given in stream order and without gaps in what concerns memory.

        Raises `IndexUnavailable` or `EmbedderUnavailable`; then call it again with the same events. Those already in are skipped.
        """
        total = Remembered(cursor=self._cursor)
        self.ended(events)
        async with self._lock:
            for chunk in _chunks([e for e in events if e.seq > self._cursor]):
                total += await self._transact(chunk)
        return total

    async def skip(self, seq: int) -> None:
        """Go on after `seq` without what is there; for an event that cannot be remembered. Raises `IndexUnavailable`."""
        async with self._lock:
            await self._index.write(cursors={LOG: seq})
            self._cursor = seq

    async def _transact(self, events: Sequence[Recorded]) -> Remembered:
        """One transaction; a compaction pass can only be its last event."""
        drafts = [d for e in events if not self._restored(e) and not self._late(e) and (d := draft(e)) is not None]
        tx = await self._begin(drafts)
        drafts = [d for d in drafts if not tx.knows(d.item.id)]
        vectors = await self._embedder.embed([d.item.text for d in drafts])
        hits = await self._index.query(
            [
                Query(
                    vector=vector,
                    owners=(d.item.owner,),
                    limit=NEIGHBOURS,
                    min_score=SIMILAR_COSINE - MARGIN,
                    ties=TIE,
                    most=CROWD + NEIGHBOURS,
                )
                for d, vector in zip(drafts, vectors, strict=True)
            ]
        )
        for n, (d, vector, near) in enumerate(zip(drafts, vectors, hits, strict=True), 1):
            if not tx.knows(d.item.id):
                tx.fold(d, vector, near)
            if n % YIELD_EVERY == 0:
                await asyncio.sleep(0)  # a transaction is long: others run in between
        drop: tuple[str, ...] = ()
        refused: tuple[str, ...] = ()
        if _starts_pass(events[-1]) and not self._restored(events[-1]):
            drop, refused = await self._compact(events[-1], tx)
        rows = [(tx.items[i], tx.vectors[i]) for i in tx.changed if i not in drop]
        cursor = events[-1].seq
        for event in events:
            self._trail.note(event)
        await self._index.write(rows, drop=drop, cursors={LOG: cursor}, marks=self._trail.marks)
        self._cursor = cursor
        done = tx.outcome
        return Remembered(
            cursor=cursor,
            added=done.added,
            merged=done.merged,
            linked=done.linked,
            dropped=len(drop),
            refused=refused,
        )

    async def _begin(self, drafts: Sequence[Draft]) -> Transaction:
        """A transaction that knows what the index holds of the drafts, their sources and their twins."""
        ids = {i for d in drafts for i in (d.item.id, *d.sources, *d.replaces)}
        keys = {exact_key(d.item.owner, d.item.kind, d.item.about, d.item.text) for d in drafts}
        tx = Transaction(await self._index.retrieve(sorted(ids)))
        tx.read_twins(await self._index.matching(sorted(keys)))
        return tx

    async def _compact(self, cause: Recorded, tx: Transaction) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Ids to drop, and why a pass was refused."""
        owner, now = owner_of(cause.event.swarm, cause.event.persona), cause.envelope.time
        known = {i.id: i for i in await self._index.scan(owner)}
        known |= {i: tx.items[i] for i in tx.changed if tx.items[i].owner == owner}
        items = sorted(known.values(), key=lambda i: (i.seq, i.id))
        drop = compaction.plan(items, now)
        objection = compaction.objection(items, drop, now)
        return (drop, ()) if objection is None else ((), (f"{owner} at {cause.seq}: {objection}",))

    async def recall(
        self,
        swarm: str,
        persona: str,
        query: str,
        limit: int,
        now: datetime,
        *,
        own: bool = True,
        distilled_of: Sequence[str] = (),
    ) -> list[Memory]:
        """The persona's own memories that matter most to `query`, best first; with them, what these others of its swarm distilled.

        Nothing of anyone else is searched. Raises `IndexUnavailable`, `EmbedderUnavailable`.
        """
        vector = (await self._embedder.embed([query]))[0]
        wanted = max(limit * _CANDIDATES, _LEAST_CANDIDATES)
        queries = [Query(vector=vector, owners=(owner_of(swarm, persona),), limit=wanted)] if own else []
        if others := tuple(owner_of(swarm, name) for name in distilled_of):
            queries.append(Query(vector=vector, owners=others, limit=_CANDIDATES * wanted))
        ours = owner_of(swarm, persona)
        memories = [
            _memory(hit.item, hit.score, now)
            for found in await self._index.query(queries)
            for hit in found
            if hit.item.owner == ours or hit.item.phase == DISTILLED
        ]
        return sorted(memories, key=lambda m: (-m.score, m.seq))[:limit]

    async def snapshot(self, swarm: str, persona: str) -> Captured:
        """The persona's memory as it stands now. `snapshot.seq` is the last of its events in it.

        Raises `IndexUnavailable`.
        """
        async with self._lock:
            return capture(swarm, persona, await self._index.scan(owner_of(swarm, persona)))

    async def restore(self, data: bytes) -> bool:
        """Put a snapshot's items back and skip the persona's events up to its sequence; False when the index is past it.

        The items are written in parts and their cursor last: after a crash in between it is to be called again.
        Raises `ColdCorrupt`, `UnknownVersion`, `IndexUnavailable`, `EmbedderUnavailable`.
        """
        snapshot = decode(data)
        owner = owner_of(snapshot.swarm, snapshot.persona)
        async with self._lock:
            if snapshot.seq <= max(self._cursor, self._floors.get(owner, 0)):
                return False
            stale = {item.id for item in await self._index.scan(owner)} - {item.id for item in snapshot.items}
            for i in range(0, len(snapshot.items), TRANSACTION_EVENTS):
                items = snapshot.items[i : i + TRANSACTION_EVENTS]
                vectors = await self._embedder.embed([item.text for item in items])
                await self._index.write(list(zip(items, vectors, strict=True)))
            await self._index.write(drop=sorted(stale), cursors={owner: snapshot.seq})
            self._floors[owner] = snapshot.seq
            return True

    def ended(self, events: Sequence[Recorded]) -> None:
        """Whose life ended where, by the `persona.reaped` among these. What a runner says of them later is not remembered.

        To be told of all below the cursor once, after opening: a few bytes for each persona that ever was.
        """
        for e in events:
            if isinstance(e.event, PersonaReaped):
                self._ends.setdefault(owner_of(e.event.swarm, e.event.persona), e.seq)

    def _late(self, recorded: Recorded) -> bool:
        event = recorded.event
        end = self._ends.get(owner_of(event.swarm, event.persona), recorded.seq)
        return recorded.seq > end and class_of(event) in SERVICES["persona_runner"].emits

    def _restored(self, recorded: Recorded) -> bool:
        event = recorded.event
        return recorded.seq <= self._floors.get(owner_of(event.swarm, event.persona), 0)


def _chunks(events: Sequence[Recorded]) -> list[list[Recorded]]:
    """Transactions: bounded, and ended by an event that starts a compaction pass, so the pass sees a settled index."""
    chunks: list[list[Recorded]] = []
    current: list[Recorded] = []
    for event in events:
        current.append(event)
        if len(current) >= TRANSACTION_EVENTS or _starts_pass(event):
            chunks.append(current)
            current = []
    return [*chunks, current] if current else chunks


def _starts_pass(recorded: Recorded) -> bool:
    return isinstance(recorded.event, ThoughtGenerated) and recorded.event.step % COMPACT_EVERY_STEPS == 0


def _memory(item: MemoryItem, cosine: float, now: datetime) -> Memory:
    fresh = recency(item, now)
    return Memory(
        id=item.id,
        seq=item.seq,
        kind=item.kind,
        text=item.text,
        at=item.at,
        score=round(score(semantic=cosine, recency=fresh, importance=item.importance), 6),
        semantic=round(cosine, 6),
        recency=round(fresh, 6),
        importance=item.importance,
        persona=item.persona,
        tainted=item.tainted,
    )
