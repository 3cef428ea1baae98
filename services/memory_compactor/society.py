"""Who may be read by whom, as far as the log says it: births with `share_memory`, lineage, and what swarms believe.

A projection beside memory, fed by the same tail. What it answers is put to the policies by whoever asks (`effects`).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import msgspec

from services.memory_compactor.believing.board import Belief, Board, evolve
from shared.contracts.envelope import Recorded
from shared.contracts.events import BeliefEvent, Memory, PersonaReaped, PersonaSpawned
from shared.contracts.text import plain
from shared.log.port import Log
from shared.memory.dedup import Said
from shared.memory.score import score

MAX_DESCENDANTS = 64
"""Whose summaries one recall looks through, the nearest first."""
MAX_LOOKED_AT = 16 * MAX_DESCENDANTS
MAX_DEAD = 50_000
"""Reaped personas below living ones that are known."""
MAX_BELIEFS = 4
BORN = ("persona.spawned.*.*", "persona.reaped.*.*", "belief.>")
"""What it is to be told of, from the beginning."""
MAX_TEXT = 2400
Name = tuple[str, str]


class Born(msgspec.Struct):
    """`children` are in the order they came below it; `parent` is whom it is below, while that one is known."""

    shares: bool
    parent: str | None
    children: dict[str, None] = {}
    dead: bool = False


class Society:
    """By swarm and persona; as large as the number of those who live, and `MAX_DEAD`.

    Who is reaped with nobody above it leaves: nobody alive will ask for it as an ancestor. Below the living the dead stay, for what
    they distilled is read; when there are too many, who died first leaves, those below it are its parent's, and what it had distilled
    is searched for itself alone. Whether one shares who has left, the log says.
    """

    def __init__(self, log: Log | None = None) -> None:
        self._log = log
        self._born: dict[Name, Born] = {}
        self._dead: dict[Name, None] = {}
        self._boards: dict[str, Board] = {}
        self._words: dict[str, frozenset[str]] = {}
        self._seq = 0

    def add(self, recorded: Recorded) -> None:
        """Take an event in, in stream order; what is known already changes nothing."""
        event = recorded.event
        if recorded.seq <= self._seq or not isinstance(event, PersonaSpawned | PersonaReaped | BeliefEvent):
            return
        self._seq = recorded.seq
        if isinstance(event, BeliefEvent):
            board = self._boards.setdefault(event.swarm, Board())
            evolve(board, recorded)
            if event.belief_id not in board.beliefs:
                self._words.pop(event.belief_id, None)
        elif isinstance(event, PersonaReaped):
            self._end(event.swarm, event.persona)
        elif (event.swarm, event.persona) not in self._born:
            parent = event.identity.parent_id if event.parent_swarm is None else None
            above = self._born.get((event.swarm, parent)) if parent is not None else None
            if above is not None:
                above.children[event.persona] = None
            born = Born(event.policy.share_memory, parent if above is not None else None)
            self._born[event.swarm, event.persona] = born

    def _end(self, swarm: str, persona: str) -> None:
        born = self._born.get((swarm, persona))
        if born is None or born.dead:
            return
        born.dead = True
        self._dead[swarm, persona] = None
        if born.parent is None:
            self._leave(swarm, persona)
        elif len(self._dead) > MAX_DEAD:
            self._leave(*next(iter(self._dead)))

    def _leave(self, swarm: str, persona: str) -> None:
        """Those below are its parent's now; where there is none, the dead among them leave too."""
        leaving = [persona]
        for name in leaving:
            born = self._born.pop((swarm, name))
            del self._dead[swarm, name]
            above = self._born[swarm, born.parent] if born.parent is not None else None
            if above is not None:
                del above.children[name]
                above.children.update(born.children)
            for child in born.children:
                below = self._born[swarm, child]
                below.parent = born.parent
                if above is None and below.dead:
                    leaving.append(child)

    async def shares(self, swarm: str, persona: str) -> bool:
        """Whether the persona shares its memory; who was never born does not. Raises `LogUnavailable`."""
        if (born := self._born.get((swarm, persona))) is not None:
            return born.shares
        found = [] if self._log is None else await self._log.last([f"persona.spawned.{swarm}.{persona}"])
        return any(isinstance(r.event, PersonaSpawned) and r.event.policy.share_memory for r in found)

    def descendants(self, swarm: str, persona: str) -> list[str]:
        """Those that share among the nearest it spawned, or who descend from them."""
        found: list[str] = []
        queue = [persona]
        for name in queue:
            born = self._born.get((swarm, name))
            children = () if born is None else islice(born.children, MAX_LOOKED_AT - len(queue))
            for child in children:
                queue.append(child)
                if self._born[swarm, child].shares:
                    found.append(child)
        return found[:MAX_DESCENDANTS]

    def boards(self) -> list[str]:
        """Which swarms believe anything."""
        return [swarm for swarm, board in self._boards.items() if board.beliefs]

    def believed(self, swarms: Iterable[str], query: str, *, also_surest: bool = False) -> list[Memory]:
        """What these believe that shares most words with the query, told with how sure that is and what speaks against it; where there
        are fewer, `also_surest` of the others that are not stale."""
        asked = _words(query)
        found: list[tuple[float, str, str, Belief]] = []
        for swarm in swarms:
            for belief in self._boards.get(swarm, Board()).beliefs.values():
                if (words := self._words.get(belief.id)) is None:
                    words = self._words[belief.id] = _words(f"{belief.key.replace('-', ' ')} {belief.claim}")
                common = len(asked & words)
                if common or (also_surest and not belief.stale):
                    found.append((common / max(1, len(asked)), belief.id, swarm, belief))
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
