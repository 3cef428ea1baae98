"""The one state the gateway answers from: a fold of the whole log, rebuilt from the log, or from a checkpoint and what came since.

`apply` is pure and fast, takes events in stream order, and ignores a sequence it has seen: the log may deliver twice.
Memory is bounded by the number of personas and the `KEEP` figures of the parts; no event is needed twice.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import islice

import msgspec

from services.gateway.projections.beliefs import Beliefs, Held
from services.gateway.projections.conflicts import Conflicts
from services.gateway.projections.conflicts import Entry as ConflictEntry
from services.gateway.projections.disorder import Disorder, Kept
from services.gateway.projections.intents import Entry, Intents
from services.gateway.projections.journal import Journal
from services.gateway.projections.knowledge import Asked, Attention, any_swarm
from services.gateway.projections.ledger import Account, Ledger
from services.gateway.projections.measures import Hour, Measures, Number
from services.gateway.projections.personas import Persona, Personas
from services.gateway.projections.proposals import Key, Proposals
from services.gateway.projections.questions import Entry as QuestionEntry
from services.gateway.projections.questions import Questions
from services.gateway.projections.refusals import Line, Refusals
from services.gateway.wire.ids import as_given
from services.gateway.wire.views import (
    AttentionItem,
    AuditEntry,
    CognitionStatus,
    GlobalWorkspace,
    MemorySnapshot,
    ProposalStatus,
)
from shared import halts
from shared.contracts.catalog import class_of, matches
from shared.contracts.envelope import Recorded, Stored
from shared.contracts.events import (
    CognitionStarted,
    CognitionStopped,
    HypothesisRaised,
    ProposalKey,
    RowsDeclared,
    SnapshotCompressed,
)
from shared.halts import Halts
from shared.log.marks import Trail
from shared.placement import Placements
from shared.policy.activations import BOUNDARY, Activations
from shared.policy.sides import Feeders

KEEP_COMMANDS = 20_000
TOP = 5
OBJECTIVES = 100
LOOP = "cognition.*.all.all"
"""The boundary of starting and stopping."""
UUID_VERSION = 14
"""Where a UUID's text says its version: 5 for ids that derive from a cause or an idempotency key."""


class Loop(msgspec.Struct, kw_only=True):
    """Whether the mesh thinks; `seq` is the last sequence on `LOOP`."""

    running: bool = False
    loop_interval_ms: int | None = None
    started_at: datetime | None = None
    seq: int = 0


class State(msgspec.Struct, array_like=True):
    """All of a projection, as it is checkpointed."""

    position: int
    updated_at: datetime | None
    loop: Loop
    last_tick_at: datetime | None
    personas: list[Persona]
    proposals: list[Recorded]
    proposals_gone: list[Key]
    beliefs: list[Held]
    attention: list[Asked]
    hypotheses: list[HypothesisRaised]
    journal: list[AuditEntry]
    accounts: dict[str, Account]
    disorder: Kept
    feeders: Feeders
    policies: Activations
    snapshot: MemorySnapshot | None
    commands: dict[str, dict[str, int]]
    refusals: dict[str, Line]
    halts: Halts
    intents: list[Entry]
    conflicts: list[ConflictEntry]
    held: dict[str, ProposalKey]
    measured: list[Number]
    hours: list[Hour]
    questions: list[QuestionEntry] = []
    rows: RowsDeclared | None = None


class Commands:
    """Sequences of keyed commands by event id; so a repeated command is the same command.

    The newest `keep` of each entity: a long file of observations makes no spawn or stop forgotten.
    """

    def __init__(self, keep: int = KEEP_COMMANDS) -> None:
        self.by_entity: dict[str, dict[str, int]] = {}
        self._keep = keep

    def get(self, event_id: str) -> int | None:
        return next((seqs[event_id] for seqs in self.by_entity.values() if event_id in seqs), None)

    def apply(self, recorded: Recorded) -> None:
        if (
            recorded.envelope.source.partition("/")[0] != "gateway"
            or recorded.id[UUID_VERSION : UUID_VERSION + 1] != "5"
        ):
            return
        seqs = self.by_entity.setdefault(class_of(recorded.event).partition(".")[0], {})
        seqs[recorded.id] = recorded.seq
        while len(seqs) > self._keep:
            del seqs[next(iter(seqs))]


class Projection:
    """All parts."""

    def __init__(self) -> None:
        self.position = 0
        self.trail = Trail()
        self.placements = Placements()
        """To be told of what was said up to `position`, once, after a restore."""
        self.updated_at: datetime | None = None
        self.loop = Loop()
        self.personas = Personas()
        self.proposals = Proposals()
        self.beliefs = Beliefs()
        self.attention = Attention()
        self.journal = Journal()
        self.ledger = Ledger()
        self.disorder = Disorder(self.personas)
        self.feeders = Feeders()
        self.refusals = Refusals()
        self.policies = Activations()
        self.halts = Halts()
        self.intents = Intents()
        self.conflicts = Conflicts()
        self.questions = Questions()
        self.measures = Measures()
        self.snapshot: MemorySnapshot | None = None
        self.rows: RowsDeclared | None = None
        self.commands = Commands()

    def apply(self, message: Stored) -> bool:
        """Whether the message was new. What cannot be read changes nothing but where guards are."""
        if message.seq <= self.position:
            return False
        self.position = message.seq
        self.trail.add(message)
        if matches(LOOP, message.subject):
            self.loop.seq = message.seq
        if message.subject == BOUNDARY:
            self.policies.apply(message)
        if matches(halts.BOUNDARY, message.subject):
            halts.evolve(self.halts, message)
        if isinstance(message, Recorded) and self.heard(message):
            self._fold(message)
        return True

    def heard(self, recorded: Recorded) -> bool:
        """Whether it counts: what a runner says of a persona it does not hold changes nothing, and nobody is told."""
        self.placements.add(recorded)
        return self.placements.why_not(recorded) is None

    def _fold(self, recorded: Recorded) -> None:
        self.updated_at = recorded.envelope.time
        for part in (self.personas, self.proposals, self.beliefs, self.attention, self.ledger, self.journal):
            part.apply(recorded)
        for other in (self.disorder, self.feeders, self.refusals, self.intents, self.conflicts, self.commands):
            other.apply(recorded)
        self.questions.apply(recorded)
        self.measures.apply(recorded, self.proposals, self.personas, self.intents, self.conflicts)
        self._loop(recorded)
        if isinstance(recorded.event, SnapshotCompressed):
            self.snapshot = self._snapshot(recorded, recorded.event)
        if isinstance(recorded.event, RowsDeclared):
            self.rows = recorded.event

    def capture(self) -> State:
        """A copy of everything."""
        return State(
            position=self.position,
            updated_at=self.updated_at,
            loop=msgspec.structs.replace(self.loop),
            last_tick_at=self.personas.last_tick_at,
            personas=self.personas.capture(),
            proposals=self.proposals.capture(),
            proposals_gone=list(self.proposals.gone),
            beliefs=[msgspec.structs.replace(held) for held in self.beliefs.by_id.values()],
            attention=list(self.attention.items.values()),
            hypotheses=list(self.attention.open_hypotheses.values()),
            journal=self.journal.capture(),
            accounts=self.ledger.capture(),
            disorder=self.disorder.capture(),
            feeders=Feeders(first={whose: dict(first) for whose, first in self.feeders.first.items()}),
            policies=msgspec.structs.replace(self.policies, last=dict(self.policies.last)),
            snapshot=self.snapshot,
            commands={entity: dict(seqs) for entity, seqs in self.commands.by_entity.items()},
            refusals=dict(self.refusals.lines),
            halts=self.halts.copy(),
            intents=self.intents.capture(),
            conflicts=self.conflicts.capture(),
            held=dict(self.conflicts.held),
            measured=self.measures.capture(),
            hours=self.measures.captured_hours(),
            questions=self.questions.capture(),
            rows=self.rows,
        )

    def restore(self, state: State) -> None:
        """Go on from a captured state; to be called before any event is applied."""
        self.position, self.updated_at, self.loop = state.position, state.updated_at, state.loop
        self.personas.restore(state.personas)
        self.personas.last_tick_at = state.last_tick_at
        self.proposals.gone = dict.fromkeys(state.proposals_gone)
        for recorded in state.proposals:
            self.proposals.apply(recorded)
        self.beliefs.by_id = {held.belief.id: held for held in state.beliefs}
        self.attention.items = {asked.item.id: asked for asked in state.attention}
        self.attention.open_hypotheses = {h.hypothesis_id: h for h in state.hypotheses}
        self.journal.restore(state.journal)
        self.ledger.restore(state.accounts)
        self.disorder.restore(state.disorder)
        self.feeders, self.policies = state.feeders, state.policies
        self.snapshot, self.commands.by_entity = state.snapshot, state.commands
        self.refusals.lines, self.halts = state.refusals, state.halts
        self.intents.restore(state.intents)
        self.conflicts.restore(state.conflicts)
        self.conflicts.held = state.held
        self.measures.restore(state.measured, state.hours)
        self.questions.restore(state.questions)
        self.rows = state.rows

    def status(self, now: datetime, *, enabled: bool, default_interval_ms: int) -> CognitionStatus:
        personas = [p for p in self.personas.by_key.values() if p.stage != "reaped"]
        return CognitionStatus(
            enabled=enabled,
            running=self.loop.running,
            loop_interval_ms=self.loop.loop_interval_ms or default_interval_ms,
            started_at=self.loop.started_at,
            last_tick_at=self.personas.last_tick_at,
            persona_count=len(personas),
            active_persona_count=sum(p.status(now) == "active" for p in personas),
            events_buffered=len(self.journal),
            snapshots_buffered=0 if self.snapshot is None else 1,
        )

    def workspace(
        self,
        now: datetime,
        swarm: str | None = None,
        *,
        board: Callable[[str], bool] = lambda swarm: True,
        sees: Callable[[AttentionItem, str], bool] = any_swarm,
    ) -> GlobalWorkspace:
        """What is on the mesh's mind, or on a swarm's, as far as it may be seen."""
        queue = self.attention.queue(self.proposals.newest(), now, swarm=swarm, sees=sees)
        roots = (p for p in self.personas.after(None, swarm) if p.live and p.identity.parent_id is None)
        return GlobalWorkspace(
            top_beliefs=tuple(b.id for b in self.beliefs.select("active", swarm=swarm, board=board)[:TOP]),
            top_uncertainties=self.attention.uncertainties(TOP, swarm),
            top_attention=tuple(i.id for i in queue[:TOP] if i.resolved_at is None),
            active_objectives=tuple(islice(dict.fromkeys(p.identity.charter for p in roots), OBJECTIVES)),
            updated_at=self.updated_at,
        )

    def proposal_counts(self) -> dict[ProposalStatus, int]:
        """How many of those in memory have each status."""
        counts: dict[ProposalStatus, int] = {}
        for life in self.proposals.lives.values():
            counts[life.status] = counts.get(life.status, 0) + 1
        return counts

    def _loop(self, recorded: Recorded) -> None:
        match recorded.event:
            case CognitionStarted(loop_interval_ms=interval):
                self.loop = Loop(
                    running=True, loop_interval_ms=interval, started_at=recorded.envelope.time, seq=self.loop.seq
                )
            case CognitionStopped():
                self.loop.running = False
            case _:
                pass

    def _snapshot(self, recorded: Recorded, event: SnapshotCompressed) -> MemorySnapshot:
        persona = self.personas.get(event.persona, event.swarm)
        ours: dict[str, str | int | float] = {
            "key": event.key,
            "sha256": event.sha256,
            "seq": event.seq,
            "ratio": event.ratio,
            "size_bytes": event.size_bytes,
        }
        theirs = {k: int(v) if v.isascii() and v.isdigit() and len(v) < 16 else v for k, v in event.metadata.items()}
        return MemorySnapshot(
            id=event.snapshot_id,
            generated_at=recorded.envelope.time,
            swarm_id=as_given(event.swarm),
            persona_scope=(as_given(event.persona),),
            summary=event.summary,
            hot_event_count=event.counts.thoughts,
            warm_fact_count=event.counts.kept,
            cold_snapshot_count=1 if persona is None else persona.snapshots,
            metadata={**ours, **theirs},
        )
