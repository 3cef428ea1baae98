"""Who may be read by whom, as far as the log says it: births with `share_memory`, lineage, and what swarms believe.

A projection beside memory, fed by the same tail. What it answers is put to the policies by whoever asks (`effects`).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from services.memory_compactor.believing.board import Belief, Board, evolve
from shared.contracts.envelope import Recorded
from shared.contracts.events import BeliefEvent, Memory, PersonaSpawned
from shared.contracts.text import plain
from shared.memory.dedup import Said
from shared.memory.score import score

MAX_DESCENDANTS = 64
"""Whose summaries one recall looks through, the nearest first."""
MAX_BELIEFS = 4
BORN = ("persona.spawned.*.*", "belief.>")
"""What it is to be told of, from the beginning."""
MAX_TEXT = 2400
Name = tuple[str, str]


class Born(msgspec.Struct, frozen=True):
    """`children` are in the order they were born."""

    shares: bool
    children: list[str]


class Society:
    """By swarm and persona; as large as lineages are."""

    def __init__(self) -> None:
        self._born: dict[Name, Born] = {}
        self._boards: dict[str, Board] = {}
        self._words: dict[str, frozenset[str]] = {}
        self._seq = 0

    def add(self, recorded: Recorded) -> None:
        """Take an event in, in stream order; what is known already changes nothing."""
        event = recorded.event
        if recorded.seq <= self._seq or not isinstance(event, PersonaSpawned | BeliefEvent):
            return
        self._seq = recorded.seq
        if isinstance(event, BeliefEvent):
            board = self._boards.setdefault(event.swarm, Board())
            evolve(board, recorded)
            if event.belief_id not in board.beliefs:
                self._words.pop(event.belief_id, None)
            return
        identity = event.identity
        if (event.swarm, event.persona) in self._born:
            return
        self._born[event.swarm, event.persona] = Born(event.policy.share_memory, [])
        if identity.parent_id is not None and event.parent_swarm is None:
            self._born.setdefault((event.swarm, identity.parent_id), Born(False, [])).children.append(event.persona)

    def shares(self, swarm: str, persona: str) -> bool:
        """Whether the persona shares its memory; who is not known does not."""
        born = self._born.get((swarm, persona))
        return born is not None and born.shares

    def descendants(self, swarm: str, persona: str) -> list[str]:
        """Those that share among the nearest it spawned, or who descend from them."""
        found: list[str] = []
        queue, seen = [persona], {persona}
        for name in queue:
            for child in getattr(self._born.get((swarm, name)), "children", ()):
                if child not in seen and len(seen) <= 16 * MAX_DESCENDANTS:
                    seen.add(child)
                    queue.append(child)
                    if self.shares(swarm, child):
                        found.append(child)
        return found[:MAX_DESCENDANTS]

    def boards(self) -> list[str]:
        """Which swarms believe anything."""
        return [swarm for swarm, board in self._boards.items() if board.beliefs]

    def believed(self, swarms: Iterable[str], query: str) -> list[Memory]:
        """What these believe that shares most words with the query, told with how sure that is and what speaks against it."""
        asked = _words(query)
        found: list[tuple[float, str, str, Belief]] = []
        for swarm in swarms:
            for belief in self._boards.get(swarm, Board()).beliefs.values():
                if (words := self._words.get(belief.id)) is None:
                    words = self._words[belief.id] = _words(f"{belief.key.replace('-', ' ')} {belief.claim}")
                if common := len(asked & words):
                    found.append((common / len(asked), belief.id, swarm, belief))
        found.sort(key=lambda f: (-f[0], -f[3].confidence, f[1]))
        return [_memory(belief, swarm, near) for near, _, swarm, belief in found[:MAX_BELIEFS]]


def _words(text: str) -> frozenset[str]:
    parts = Said(text).parts
    return frozenset((*parts.content, *parts.numbers))


def _memory(belief: Belief, swarm: str, near: float) -> Memory:
    labels = [f"believed by {len(belief.holders)} of {swarm}", f"confidence {belief.confidence:.2f}"]
    labels += ["stale"] * belief.stale + ["contested"] * bool(belief.contradicts or belief.refuted)
    labels += ["from outsiders' words"] * belief.tainted
    told = f"[{', '.join(labels)}] {belief.key}: {belief.claim}"
    return Memory(
        id=belief.event_id,
        seq=belief.seq,
        kind="belief",
        text=plain(told, MAX_TEXT),
        at=belief.valid_from,
        score=round(score(semantic=near, recency=0.0, importance=belief.confidence), 6),
        semantic=round(near, 6),
        recency=0.0,
        importance=belief.confidence,
        persona=belief.by,
        tainted=belief.tainted,
    )
