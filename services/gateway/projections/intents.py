"""Fold of intents' lives: all that are open, and the newest that ended. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import msgspec

from services.gateway.wire.ids import as_given
from services.gateway.wire.work import IntentCandidate, IntentContribution, IntentRoute, IntentState, IntentView
from shared.contracts.envelope import Recorded
from shared.contracts.events import Candidate, Contribution, IntentClosed, IntentRouted
from shared.contracts.text import lines, plain
from shared.intents import Life, Said, evolve

KEEP_ENDED = 2000
MAX_DEPTH = 8
Key = tuple[str, str]
"""Home and id."""


class Entry(msgspec.Struct, kw_only=True):
    """One intent. `seq` is that of its submission, `end` the last on its boundary; `stored_at` when the log had that,
    `why` is of the newest route."""

    key: Key
    seq: int
    life: Life
    updated_at: datetime
    stored_at: datetime | None = None
    why: IntentRouted | None = None

    @property
    def ended(self) -> bool:
        return self.life.ended


def by_age(entry: Entry) -> int:
    """Its place in a list of the newest first."""
    return entry.seq


class Intents:
    """By home and id. Those that ended go when there are too many, those that are open never."""

    def __init__(self, keep: int = KEEP_ENDED) -> None:
        self.by_key: dict[Key, Entry] = {}
        self._by_id: dict[str, list[Key]] = {}
        self._ended: dict[Key, None] = {}
        self._open: Counter[str] = Counter()
        self._keep = keep

    def apply(self, recorded: Recorded) -> None:
        """Take one event in; what began before the log does is shown by nobody."""
        event = recorded.event
        if not isinstance(event, Said):
            return
        key = (event.swarm, event.intent_id)
        entry = self.by_key.get(key)
        if entry is None:
            entry = Entry(key=key, seq=recorded.seq, life=Life(), updated_at=recorded.envelope.time)
            self._add(entry)
        was = entry.ended
        entry.life = evolve(entry.life, recorded)
        entry.updated_at = recorded.envelope.time
        if entry.stored_at is None and entry.life.submitted is event:
            entry.stored_at = recorded.stored_at
        if isinstance(event, IntentRouted):
            entry.why = event
        if entry.ended and not was:
            self._open[key[0]] -= 1
            self._end(key)

    @property
    def open(self) -> int:
        return len(self.by_key) - len(self._ended)

    def open_in(self, home: str) -> int:
        """How many are open in a swarm."""
        return self._open[home]

    def named(self, intent_id: str, home: str | None = None) -> list[Entry]:
        """Those of that id, of one home or of all."""
        keys = self._by_id.get(intent_id, [])
        return [self.by_key[key] for key in keys if home in (None, key[0])]

    def newest(self, below: int | None = None) -> Iterator[Entry]:
        """Newest first, of a lower sequence than `below`."""
        entries = sorted(self.by_key.values(), key=lambda entry: -entry.seq)
        return (entry for entry in entries if below is None or entry.seq < below)

    def depth(self, key: Key) -> int:
        """How many are above it, as far as they are known; more than `MAX_DEPTH` is said as one more."""
        found = 0
        while found <= MAX_DEPTH and (entry := self.by_key.get(key)) is not None:
            parent = entry.life.submitted and entry.life.submitted.parent_id
            if not parent:
                return found
            key, found = (key[0], parent), found + 1
        return found

    def root(self, key: Key) -> Key:
        """The one above all that are above it."""
        for _ in range(MAX_DEPTH + 1):
            entry = self.by_key.get(key)
            parent = entry and entry.life.submitted and entry.life.submitted.parent_id
            if not parent:
                break
            key = (key[0], parent)
        return key

    def family(self, key: Key) -> list[Key]:
        """It and all below it that are open, nearest first; each once, whatever was stored."""
        found: dict[Key, None] = {key: None}
        queue = [key]
        while queue:
            entry = self.by_key.get(queue.pop(0))
            for child in () if entry is None else entry.life.children:
                below = (key[0], child)
                if below not in found and (known := self.by_key.get(below)) is not None:
                    queue.append(below)
                    if not known.ended:
                        found[below] = None
        return list(found)

    def capture(self) -> list[Entry]:
        """Copies of all."""
        return [msgspec.structs.replace(entry) for entry in self.by_key.values()]

    def restore(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._add(entry)
            if entry.ended:
                self._open[entry.key[0]] -= 1
                self._end(entry.key)

    def _add(self, entry: Entry) -> None:
        self.by_key[entry.key] = entry
        self._by_id.setdefault(entry.key[1], []).append(entry.key)
        self._open[entry.key[0]] += 1

    def _end(self, key: Key) -> None:
        self._ended[key] = None
        while len(self._ended) > self._keep:
            oldest = next(iter(self._ended))
            del self._ended[oldest], self.by_key[oldest]
            self._by_id[oldest[1]].remove(oldest)
            if not self._by_id[oldest[1]]:
                del self._by_id[oldest[1]]


def state_of(life: Life) -> IntentState:
    """What it is now, in one word."""
    if life.closed is not None:
        return "answered" if life.closed.outcome == "answered" else "failed"
    if life.cancelled is not None:
        return "cancelled"
    if life.open:
        return "assigned"
    return "delayed" if life.delayed is not None else "submitted"


def view_of(life: Life, why: IntentRouted | None, updated_at: datetime) -> IntentView | None:
    """As the API shows it; None where its beginning is not in the log."""
    submitted = life.submitted
    if submitted is None or life.submitted_at is None:
        return None
    closed = life.closed or IntentClosed(
        swarm=submitted.swarm, persona="all", intent_id=submitted.intent_id, outcome="failed"
    )
    reason = (
        closed.reason if life.closed else "cancelled" if life.cancelled else life.delayed.reason if life.delayed else ""
    )
    detail = plain(life.cancelled.reason if life.cancelled else life.delayed.detail if life.delayed else "")
    return IntentView(
        id=as_given(submitted.intent_id),
        swarm_id=as_given(submitted.swarm),
        state=state_of(life),
        goal=lines(submitted.goal),
        tags=tuple(submitted.tags),
        priority=submitted.priority,
        deadline=submitted.deadline,
        budget=submitted.budget,
        left=life.left,
        fan_out=submitted.fan_out,
        merge=submitted.merge,
        options=tuple(plain(option) for option in submitted.options),
        parent_id=None if submitted.parent_id is None else as_given(submitted.parent_id),
        children=tuple(as_given(child) for child in life.children),
        principal=submitted.principal,
        submitted_at=life.submitted_at,
        updated_at=updated_at,
        routes=life.rounds,
        assigned=tuple(
            IntentRoute(
                swarm_id=as_given(r.whose[0]),
                persona_id=as_given(r.whose[1]),
                route=r.number,
                until=r.until,
                budget=r.budget,
            )
            for r in life.open
        ),
        why="" if why is None else plain(why.reason),
        considered=() if why is None else tuple(map(_candidate, why.why)),
        answers=len(life.answers),
        result=lines(closed.result),
        choice=plain(closed.choice),
        confidence=closed.confidence,
        evidence_refs=tuple(ref.id for ref in closed.evidence),
        contributors=tuple(map(_contribution, closed.contributors)),
        dissent=tuple(map(_contribution, closed.dissent)),
        late=len(life.late),
        reason=reason,
        detail=detail,
        reasons=tuple(plain(reason) for reason in life.reasons),
        tainted=closed.tainted if life.closed else submitted.tainted,
    )


def _contribution(said: Contribution) -> IntentContribution:
    return IntentContribution(
        swarm_id=as_given(said.swarm),
        persona_id=as_given(said.persona),
        event_id=said.answer_id,
        confidence=said.confidence,
        choice=plain(said.choice),
        text=plain(said.text),
    )


def _candidate(one: Candidate) -> IntentCandidate:
    said = msgspec.structs.asdict(one)
    whose = {"swarm_id": as_given(said.pop("swarm")), "persona_id": as_given(said.pop("persona"))}
    return IntentCandidate(**{**said, **whose, "note": plain(one.note)})
