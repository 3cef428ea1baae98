"""Fold of conflicts: the newest at each target, and of those that were ruled the last `KEEP`. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from services.gateway.wire.ids import as_given
from services.gateway.wire.work import ConflictSide, ConflictView, Place
from shared.conflicts import Conflict, evolve, key_of
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionExecuted,
    ConflictEvent,
    ConflictResolved,
    ProposalKey,
    TargetFreed,
    TargetHeld,
)
from shared.contracts.text import plain

KEEP = 1000
Key = tuple[str, int]
"""Token of the target, and which conflict over it."""


class Entry(msgspec.Struct, kw_only=True):
    """One conflict. `seq` is where it was raised, `end` the last on the boundary of its target."""

    conflict: Conflict
    seq: int
    end: int
    raised_at: datetime
    resolved: ConflictResolved | None = None
    resolved_at: datetime | None = None

    @property
    def key(self) -> Key:
        return self.conflict.target_id, self.conflict.generation


def by_age(entry: Entry) -> int:
    """Its place in a list of the newest first."""
    return entry.seq


class Conflicts:
    """By target and number; open ones stay."""

    def __init__(self, keep: int = KEEP) -> None:
        self.by_key: dict[Key, Entry] = {}
        self._newest: dict[str, Key] = {}
        self._ruled: dict[Key, None] = {}
        self._keep = keep
        self.held: dict[str, ProposalKey] = {}
        """Targets that are held, and by whose action."""

    def apply(self, recorded: Recorded) -> None:
        """Take one event in; what began before the log does is shown by nobody."""
        event = recorded.event
        if isinstance(event, TargetHeld):
            self.held[event.persona] = event.holder
        elif isinstance(event, TargetFreed):
            self.held.pop(event.persona, None)
        elif isinstance(event, ActionExecuted) and event.outcome != "unknown" and self.held:
            mine = ProposalKey(swarm=event.swarm, persona=event.persona, proposal_id=event.proposal_id)
            self.held = {target: holder for target, holder in self.held.items() if holder != mine}
        if not isinstance(event, ConflictEvent):
            return
        known = self.by_key.get(self._newest.get(event.target_id, ("", 0)))
        was = Conflict() if known is None else known.conflict
        now = evolve(was, recorded)
        if now.generation > was.generation and now.open:
            self._add(Entry(conflict=now, seq=recorded.seq, end=recorded.seq, raised_at=recorded.stored_at))
            return
        if known is None:
            return
        known.conflict, known.end = now, recorded.seq
        if was.open and not now.open and isinstance(event, ConflictResolved):
            known.resolved, known.resolved_at = event, recorded.envelope.time
            self._rule(known.key)

    def newest(self, below: int | None = None) -> Iterator[Entry]:
        """The youngest first, of a lower sequence than `below`."""
        entries = sorted(self.by_key.values(), key=by_age, reverse=True)
        return (entry for entry in entries if below is None or entry.seq < below)

    @property
    def open(self) -> int:
        """How many are not ruled yet."""
        return len(self.by_key) - len(self._ruled)

    def capture(self) -> list[Entry]:
        """Copies, in the order they were raised."""
        return [msgspec.structs.replace(entry) for entry in self.by_key.values()]

    def restore(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._add(entry)
            if entry.resolved is not None:
                self._rule(entry.key)

    def _add(self, entry: Entry) -> None:
        before = self._newest.get(entry.conflict.target_id)
        if before is not None and before in self.by_key:
            self._rule(before)  # whoever raises another has seen how it ended
        self.by_key[entry.key] = entry
        self._newest[entry.conflict.target_id] = entry.key

    def _rule(self, key: Key) -> None:
        self._ruled.setdefault(key)
        while len(self._ruled) > self._keep:
            oldest = next(iter(self._ruled))
            del self._ruled[oldest], self.by_key[oldest]
            if self._newest.get(oldest[0]) == oldest:
                del self._newest[oldest[0]]


def view(entry: Entry) -> ConflictView:
    """As people see it."""
    conflict, resolved = entry.conflict, entry.resolved
    kept = set(resolved.kept) if resolved else set()
    lost = set(resolved.lost) if resolved else set()
    return ConflictView(
        id=f"{conflict.target_id}.{conflict.generation}",
        state="open" if conflict.open else "resolved",
        what=conflict.what,
        target=plain(conflict.target, 1100),
        strategy=conflict.strategy,
        raised_at=conflict.raised_at,
        until=conflict.until,
        resolved_at=entry.resolved_at,
        resolution=resolved.resolution if resolved else None,
        reason=plain(resolved.reason, 1000) if resolved else "",
        ruled_by=conflict.ruled.principal if conflict.ruled else None,
        sides=tuple(
            ConflictSide(
                proposal_id=as_given(side.proposal_id),
                persona_id=as_given(side.persona),
                swarm_id=as_given(side.swarm),
                title=plain(side.title),
                risk=side.risk,
                depth=side.depth,
                evidence=side.evidence,
                effect=side.effect[:16],
                deadline=side.deadline,
                place=_place(key_of(side) in kept, key_of(side) in lost, conflict.open),
            )
            for side in conflict.sides
        ),
    )


def _place(is_kept: bool, is_lost: bool, is_open: bool) -> Place:
    if is_open:
        return "waits"
    return "kept" if is_kept else "lost" if is_lost else "ended"
