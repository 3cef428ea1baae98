"""Theory of operation: when memory is written down, and that a persona's last snapshot is taken exactly once.

Indexing is no decision: the index is a projection of the log, fed in stream order from the cursor it carries itself. So only what
may be followed by a snapshot is decided on, and an acknowledged message says nothing about memory; the cursor does.

Snapshots have a boundary, `snapshot.*.<swarm>.<persona>`, beside the lifecycle that is read with it:
- a compressing thought, enough steps after the step of the last snapshot, is written down once; when cold storage is away it is
  passed over, and the next such thought is due. A snapshot holds all there is, so enough is more the more there is: writing
  memory down costs each thought the same, however long a persona lives;
- a draining persona whose snapshot cannot be written waits for it, and it is said why, once (`snapshot.delayed`);
- a draining persona leaves exactly one final snapshot per draining: with its final thought, or, if none came by the
  deadline, then (`persona.draining` is handed back until the deadline and so is its own durable timer), for a dead runner must
  not keep its persona from ending. Whichever comes second finds the first in the boundary.

The late snapshot does not guard the persona's thoughts. A thought that slips in beside it is not lost: a
snapshot says the sequence it is at, the log after it has the rest, and that thought, should it be the final one, finds
the final snapshot taken. A guard would only let a busy zombie refuse the snapshot again and again.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from shared.contracts.catalog import class_of, subject_of
from shared.contracts.envelope import MAX_BODY_BYTES, Recorded
from shared.contracts.events import (
    Memory,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    RecallAnswered,
    RecallRequested,
    SnapshotCompressed,
    SnapshotCounts,
    SnapshotDelayed,
    ThoughtGenerated,
    Wanted,
)
from shared.contracts.ids import CORE, caused_id
from shared.contracts.persona import charter_sha256
from shared.contracts.services import SERVICES
from shared.decider import NOTHING, Boundary, Decision, Delivered, Effect, Input, Performed, Result, Tick

SNAPSHOT_EVERY_THOUGHTS = 20
GROWN_BY = 2
"""A snapshot is due once a persona has thought half as much as the last one held."""

LONGEST_RETRY_S = 30.0
SOONEST_RETRY_S = 0.05
MAX_DETAIL = 1000
_FRAME_BYTES = 512
"""What an answer has around its memories, at most: two tokens of 48 characters, a sequence, the names of its fields."""


class State(msgspec.Struct, kw_only=True):
    """One persona's lifecycle and snapshots. `draining_id` is the event that began the draining `final` refers to; `kept` is how
    many memories the last snapshot held."""

    role: str = ""
    charter: str | None = None
    last_step: int = 0
    kept: int = 0
    draining_id: str | None = None
    delayed: bool = False
    final: bool = False
    reaped: bool = False


class TakeSnapshot(Effect, frozen=True, kw_only=True):
    """Once memory has reached a stream sequence, write the persona's down in cold storage."""

    seq: int
    swarm: str
    persona: str


class Recall(Effect, frozen=True, kw_only=True):
    """Search the memory of one persona, for itself, or for a `person`; `wanted` as in `recall.requested`."""

    swarm: str
    persona: str
    person: str = ""
    query: str
    limit: int
    now: datetime
    wanted: Wanted = "all"


class Written(Result, frozen=True, kw_only=True):
    """The snapshot is in cold storage. `seq` is the last of the persona's events in it."""

    key: str
    sha256: str
    seq: int
    summary: str
    counts: SnapshotCounts
    ratio: float
    size_bytes: int


class Recalled(Result, frozen=True, kw_only=True):
    """What was found, with memory at `seq`."""

    memories: tuple[Memory, ...]
    seq: int


class Unavailable(Result, frozen=True, kw_only=True):
    """Something outside did not answer; nothing was done. `reason` as in `snapshot.delayed`; empty: we are stopping."""

    detail: str
    reason: str = ""


class Compactor(msgspec.Struct, frozen=True, kw_only=True):
    """A `shared.decider.Decider`. `every_thoughts`: fewest thoughts of a persona from one snapshot to the next."""

    every_thoughts: int = SNAPSHOT_EVERY_THOUGHTS

    def initial(self) -> State:
        return State()

    def boundary(self, message: Delivered | Tick) -> Boundary | None:
        if isinstance(message, Tick) or class_of(message.recorded.event) not in SERVICES["memory_compactor"].consumes:
            return None
        match message.recorded.event:
            case ThoughtGenerated(phase="compress") | ThoughtGenerated(final=True) | PersonaDraining():
                event = message.recorded.event
                snapshots = f"snapshot.*.{event.swarm}.{event.persona}"
                reads = (f"persona.*.{event.swarm}.{event.persona}", snapshots)
                # a snapshot, a final one and an end make others less due, and a persona lives once: what is not due stays so
                lags = isinstance(event, ThoughtGenerated) and not event.final
                return Boundary(reads=reads, guards=(snapshots,), lags=lags)
            case RecallRequested():
                return Boundary(reads=(), guards=())
            case _:
                return None

    def decide(self, state: State, message: Input) -> Decision:
        match message:
            case Delivered():
                return self._delivered(state, message)
            case Performed(cause=Delivered() as cause, result=result):
                return self._performed(state, cause, result, message.now)
            case _:
                return NOTHING

    def _delivered(self, state: State, message: Delivered) -> Decision:
        recorded = message.recorded
        match recorded.event:
            case RecallRequested() as e if message.crowd:
                answer = RecallAnswered(swarm=e.swarm, persona=e.persona, refused="too_many_waiting")
                return Decision(events=(answer,), guards=())
            case RecallRequested() as e:
                person = e.principal if _is_of_people(recorded, e) else ""
                recall = Recall(
                    swarm=e.swarm,
                    persona=e.persona,
                    person=person,
                    query=e.query,
                    limit=e.limit,
                    now=message.now,
                    wanted=e.wanted,
                )
                return Decision(effect=recall)
            case PersonaDraining() as e if _pending(state, recorded) and message.now < e.deadline:
                return Decision(retry_s=max(SOONEST_RETRY_S, (e.deadline - message.now).total_seconds()))
            case _:
                if self._is_due(state, recorded):
                    of = recorded.event
                    return Decision(effect=TakeSnapshot(seq=recorded.seq, swarm=of.swarm, persona=of.persona))
                return NOTHING

    def _performed(self, state: State, cause: Delivered, result: Result, now: datetime) -> Decision:
        recorded = cause.recorded
        match result:
            case Recalled() as found:
                return Decision(events=(_answer(recorded, found),), guards=())
            case Written() as written if self._is_due(state, recorded):
                return Decision(events=(_compressed(state, recorded, written),), charter=_charter(state, recorded))
            case Unavailable() if isinstance(recorded.event, ThoughtGenerated) and not recorded.event.final:
                return NOTHING  # the next compressing thought is due in its place
            case Unavailable() as away:
                retry_s = min(LONGEST_RETRY_S, 0.5 * 2.0 ** min(cause.attempt, 10))
                return Decision(events=self._delayed(state, recorded, away), retry_s=retry_s)
            case _:
                return NOTHING

    def _delayed(self, state: State, recorded: Recorded, away: Unavailable) -> tuple[SnapshotDelayed, ...]:
        if not away.reason or state.delayed or not self._is_due(state, recorded):
            return ()
        of = recorded.event
        return (
            SnapshotDelayed(swarm=of.swarm, persona=of.persona, reason=away.reason, detail=away.detail[:MAX_DETAIL]),
        )

    def _is_due(self, state: State, recorded: Recorded) -> bool:
        """Whether this event must be followed by a snapshot that is not there yet."""
        match recorded.event:
            case ThoughtGenerated(final=True):
                return state.draining_id is not None and not state.final and not state.reaped
            case ThoughtGenerated(phase="compress", status="ok", step=step):
                enough = max(self.every_thoughts, state.kept // GROWN_BY)
                return not state.final and not state.reaped and step - state.last_step >= enough
            case PersonaDraining():
                return _pending(state, recorded)
            case _:
                return False

    def evolve(self, state: State, recorded: Recorded) -> State:
        match recorded.event:
            case PersonaSpawned() as e:
                return State(role=e.identity.role, charter=charter_sha256(e.identity))
            case PersonaDraining():
                state.draining_id, state.delayed, state.final, state.reaped = recorded.id, False, False, False
            case PersonaReaped():
                state.reaped = True
            case SnapshotDelayed():
                state.delayed = True
            case SnapshotCompressed() as e:
                step = e.metadata.get("step", "")
                state.last_step = int(step) if step.isascii() and step.isdigit() else state.last_step
                state.kept = e.counts.kept
                state.final = state.final or e.final
            case _:
                pass
        return state


def _is_of_people(recorded: Recorded, question: RecallRequested) -> bool:
    """Whether somebody at the gateway asks: only CORE says so of itself."""
    return question.slot == CORE and recorded.envelope.source.partition("/")[0] == "gateway"


def _pending(state: State, draining: Recorded) -> bool:
    """Whether this draining is the present one and still without its final snapshot."""
    return state.draining_id == draining.id and not state.final and not state.reaped


def _answer(question: Recorded, found: Recalled) -> RecallAnswered:
    """The best of what was found, as much as one event holds; a single memory always fits."""
    event, room = question.event, MAX_BODY_BYTES - _FRAME_BYTES
    kept = 0
    for memory in found.memories:
        room -= len(msgspec.json.encode(memory)) + 1
        if room < 0:
            break
        kept += 1
    return RecallAnswered(swarm=event.swarm, persona=event.persona, memories=found.memories[:kept], seq=found.seq)


def _charter(state: State, cause: Recorded) -> str | None:
    return cause.envelope.charter or state.charter


def _thinker(name: str) -> dict[str, str]:
    """Who thought, from the name a thought bears: rules, the runner itself (its last words are nobody's thought), or a model."""
    for source in ("rules", "runner"):
        if name.partition(":")[0] == source:
            return {"source": source}
    return {"source": "model", "model": name.removeprefix("model:")}


def _compressed(state: State, cause: Recorded, written: Written) -> SnapshotCompressed:
    event = cause.event
    metadata = {"role": state.role} if state.role else {}
    final = True
    if isinstance(event, ThoughtGenerated):
        final = event.final
        metadata |= {"phase": event.phase, "step": str(event.step), "cycle": str(event.cycle)}
        metadata |= _thinker(event.thinker)
        if event.usage.tokens_out:
            metadata["completion_tokens"] = str(event.usage.tokens_out)
    else:
        metadata["source"] = "deadline"
    snapshot = SnapshotCompressed(
        swarm=event.swarm,
        persona=event.persona,
        snapshot_id="-",
        key=written.key,
        sha256=written.sha256,
        seq=written.seq,
        summary=written.summary,
        counts=written.counts,
        ratio=written.ratio,
        size_bytes=written.size_bytes,
        final=final,
        metadata=metadata,
    )
    # the snapshot's id is its event's, as the shell derives it
    return msgspec.structs.replace(snapshot, snapshot_id=caused_id(cause.id, subject_of(snapshot)))
