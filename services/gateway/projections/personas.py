"""Fold of lifecycle, thoughts and credits into what each persona is doing. Pure; clocks come in as arguments.

One small record a persona, reaped ones included: the lineage shows them. Ids are unique within a swarm by the governor's
guard. The API addresses personas by id alone where that is unambiguous: of two swarms' personas of one id those not reaped count
first.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from services.gateway.wire.ids import as_given, shown
from services.gateway.wire.views import LineageGraph, LineageNode, PersonaRuntimeState, PersonaStatus
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    BudgetExhausted,
    BudgetGranted,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    SnapshotCompressed,
    ThoughtGenerated,
)
from shared.contracts.persona import Identity, PersonaPolicy

ERRORS_IN_ROW = 3
IDLE_AFTER = timedelta(seconds=60)
"""No useful progress for this long, while thinking, is idle."""
BACKING_OFF_MS = 15_000
"""A next step this far away, after one without progress, is idle."""
MINUTE_S = 60


class Persona(msgspec.Struct, kw_only=True):
    """Mutable, owned by `Personas`. `window` is in minutes since 1970."""

    identity: Identity
    policy: PersonaPolicy
    updated_at: datetime
    useful_at: datetime
    principal: str = ""
    stage: str = "live"
    children: list[str] = []
    thought_count: int = 0
    last_tick_at: datetime | None = None
    window: int = 0
    tokens: int = 0
    compute_ms: int = 0
    errors_in_row: int = 0
    progress: bool = True
    next_in_ms: int = 0
    budget_paused: bool = False
    snapshots: int = 0
    drains_since: datetime | None = None
    parent_swarm: str | None = None
    daughters: list[tuple[str, str]] = []
    """Swarm and id of its children in swarms of their own."""

    @property
    def parent(self) -> tuple[str, str]:
        """Swarm and id of the parent; a root's is nobody's."""
        return self.parent_swarm or self.identity.swarm_id, self.identity.parent_id or ""

    @property
    def live(self) -> bool:
        return self.stage == "live"

    def status(self, now: datetime) -> PersonaStatus:
        """Draining and reaped as the governor said; error after three model errors in a row; idle as defined above."""
        if self.stage == "draining":
            return "draining"
        if self.stage == "reaped":
            return "reaped"
        if self.errors_in_row >= ERRORS_IN_ROW:
            return "error"
        stale = now - self.useful_at > IDLE_AFTER or self.next_in_ms >= BACKING_OFF_MS
        return "idle" if self.thought_count and not self.progress and stale else "active"

    def node(self, now: datetime) -> LineageNode:
        return LineageNode(
            persona_id=as_given(self.identity.id),
            parent_id=None if self.identity.parent_id is None else as_given(self.identity.parent_id),
            children=tuple(sorted(as_given(child) for child in (*self.children, *(d[1] for d in self.daughters)))),
            depth=self.identity.depth,
            status=self.status(now),
        )

    def view(self, now: datetime) -> PersonaRuntimeState:
        window = int(now.timestamp()) // MINUTE_S
        current = window == self.window
        return PersonaRuntimeState(
            identity=shown(self.identity),
            policy=self.policy,
            status=self.status(now),
            thought_count=self.thought_count,
            last_tick_at=self.last_tick_at,
            updated_at=self.updated_at,
            tokens_this_window=self.tokens if current else 0,
            compute_ms_this_window=self.compute_ms if current else 0,
            window_started_at=datetime.fromtimestamp(window * MINUTE_S, UTC),
            last_progress_at=self.useful_at,
            budget_paused=self.budget_paused,
        )


def by_name(persona: Persona) -> tuple[str, str]:
    """Its place among all."""
    return (persona.identity.swarm_id, persona.identity.id)


def lineage(nodes: Sequence[LineageNode]) -> LineageGraph:
    roots = tuple(n.persona_id for n in nodes if n.parent_id is None)
    return LineageGraph(nodes=tuple(nodes), roots=roots, total_edges=sum(len(n.children) for n in nodes))


class Personas:
    """All personas of the mesh."""

    def __init__(self) -> None:
        self.by_key: dict[tuple[str, str], Persona] = {}
        self._order: list[tuple[str, str]] = []
        self._by_id: dict[str, list[Persona]] = {}
        self.last_tick_at: datetime | None = None

    def get(self, persona_id: str, swarm: str | None = None) -> Persona | None:
        """The first of `named`."""
        return next(iter(self.named(persona_id, swarm)), None)

    def named(self, persona_id: str, swarm: str | None = None) -> list[Persona]:
        """Whom that id may mean: those not reaped, else the first."""
        if swarm is not None:
            found = self.by_key.get((swarm, persona_id))
            return [] if found is None else [found]
        all_of_them = self._by_id.get(persona_id, [])
        return [p for p in all_of_them if p.stage != "reaped"] or all_of_them[:1]

    def all(self, swarm: str | None = None) -> list[Persona]:
        """By swarm and id."""
        return list(self.after(None, swarm))

    def after(self, place: tuple[str, str] | None, swarm: str | None = None) -> Iterator[Persona]:
        """By swarm and id, behind that place."""
        begin = max(place or ("", ""), (swarm or "", ""))
        for index in range(bisect_right(self._order, begin), len(self._order)):
            if swarm is not None and self._order[index][0] != swarm:
                return
            yield self.by_key[self._order[index]]

    def ancestry(self, swarm: str, persona_id: str) -> list[Persona]:
        """The persona and all above it, as far as they are known and less deep: a circle that was stored ends."""
        found: list[Persona] = []
        current = self.by_key.get((swarm, persona_id))
        while current is not None and (not found or current.identity.depth < found[-1].identity.depth):
            found.append(current)
            current = self.by_key.get(current.parent)
        return found

    def _below(self, persona: Persona) -> Iterator[Persona]:
        """Its children, in whatever swarm."""
        own = ((persona.identity.swarm_id, child) for child in persona.children)
        yield from (self.by_key[key] for key in (*own, *persona.daughters) if key in self.by_key)

    def live_family(self, root: Persona) -> list[Persona]:
        """The persona, if live, and its live descendants, nearest first."""
        found, queue = [], [root]
        while queue:
            persona = queue.pop(0)
            if persona.live:
                found.append(persona)
            queue.extend(self._below(persona))
        return found

    def orphans(self) -> Iterator[tuple[Persona, Persona]]:
        """Live personas whose parent is not, each with its parent."""
        for parent in self.by_key.values():
            if not parent.live:
                yield from ((child, parent) for child in self._below(parent) if child.live)

    def count(self, stage: str) -> int:
        """How many are live, draining or reaped."""
        return sum(persona.stage == stage for persona in self.by_key.values())

    def nodes(self, now: datetime) -> Iterator[LineageNode]:
        """All of them by id, as they are when each is taken."""
        return (p.node(now) for p in sorted(self.by_key.values(), key=lambda p: as_given(p.identity.id)))

    def capture(self) -> list[Persona]:
        """Copies of all, in the order of their birth."""
        return [
            msgspec.structs.replace(p, children=list(p.children), daughters=list(p.daughters))
            for p in self.by_key.values()
        ]

    def restore(self, personas: list[Persona]) -> None:
        for persona in personas:
            self._add(persona)
        self._order = sorted(self.by_key)

    def apply(self, recorded: Recorded) -> None:
        event, at = recorded.event, recorded.envelope.time
        if isinstance(event, PersonaSpawned):
            self._spawned(event, at)
            return
        persona = self.by_key.get((event.swarm, event.persona))
        if persona is None:
            return
        match event:
            case ThoughtGenerated() if persona.stage != "reaped":
                self._thought(persona, event, at)
            case PersonaDraining():
                persona.stage = "draining"
                persona.drains_since = persona.drains_since or recorded.stored_at
            case PersonaReaped():
                persona.stage = "reaped"
            case BudgetExhausted():
                persona.budget_paused = True
            case BudgetGranted():
                persona.budget_paused = False
            case SnapshotCompressed():
                persona.snapshots += 1
            case _:
                return
        persona.updated_at = at

    def _spawned(self, event: PersonaSpawned, at: datetime) -> None:
        key = (event.swarm, event.persona)
        if key in self.by_key:
            return
        # An event whose identity is another's is taken for what its subject says, like any other event.
        identity = msgspec.structs.replace(event.identity, id=event.persona, swarm_id=event.swarm)
        persona = Persona(
            identity=identity,
            policy=event.policy,
            updated_at=at,
            useful_at=at,
            principal=event.principal,
            parent_swarm=event.parent_swarm,
        )
        parent = self.by_key.get(persona.parent)
        self._add(persona)
        insort(self._order, key)
        if parent is not None and event.parent_swarm is None:
            parent.children.append(event.persona)
        elif parent is not None:
            parent.daughters.append(key)

    def _add(self, persona: Persona) -> None:
        identity = persona.identity
        self.by_key[(identity.swarm_id, identity.id)] = persona
        self._by_id.setdefault(identity.id, []).append(persona)

    def _thought(self, persona: Persona, event: ThoughtGenerated, at: datetime) -> None:
        window = int(at.timestamp()) // MINUTE_S
        if window != persona.window:
            persona.window, persona.tokens, persona.compute_ms = window, 0, 0
        persona.tokens += event.usage.tokens
        persona.compute_ms += event.usage.compute_ms
        persona.thought_count = max(persona.thought_count, event.step)
        persona.errors_in_row = persona.errors_in_row + 1 if event.status == "model_error" else 0
        persona.progress, persona.next_in_ms = event.progress, event.next_in_ms
        persona.useful_at = max(persona.useful_at, event.useful_at)
        persona.last_tick_at = self.last_tick_at = at
