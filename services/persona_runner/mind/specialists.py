"""Which sources keep a swarm busy, which personas perceive one of them alone, and who may have a child for one.

Theory of operation. A fold in stream order over what all of a swarm perceive, and over births and ends of those whose tag names a source,
whoever hosts them. A source is busy with `BUSY_LINES` lines a minute, by when they were stored, in `IN_A_ROW` minutes one after the other,
while another source is heard too. Then it is a finding with its probe, once within `AGAIN_S`: that is the cool-down after a refusal
or an end. A specialist perceives its source alone, its parent all but that; what is said to one persona alone always reaches it.

Invariant: of its live specialists, those it proposed and those it thinks about, a persona has at most `MAX_SPECIALISTS`, and no
more than it may have children. Bounded: `MAX_SOURCES` sources, beyond which the one longest unheard is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import msgspec

from services.persona_runner.mind.state import State
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    EvidenceRef,
    LogCount,
    ObservationRecorded,
    PersonaReaped,
    PersonaSpawned,
    WatchAdded,
)
from shared.contracts.reach import may_propose
from shared.contracts.text import plain
from shared.thinker.perceiving.perception import MAX_SOURCES
from shared.thinker.perceiving.templates import REST
from shared.thinker.port import Finding
from shared.thinker.specialists import BUSY, QUIET, QUIET_S, source_of, tag_of

MAX_SPECIALISTS = 4
BUSY_LINES, IN_A_ROW = 120, 3
BESIDE_MIN = 10
"""So many minutes a source counts as heard after its last line."""
AGAIN_S = 6 * 3600
CONFIDENCE = 0.9
FOR_EVER = timedelta(days=3650)


class Load(msgspec.Struct, array_like=True):
    """A source's lines: of the minute since 1970, and since `first`, from where on every minute, `row` of them, was busy. `told`: the
    last line and the count as they were told at `told_at`, in Unix seconds, from the line `since` on."""

    minute: int
    first: EvidenceRef
    count: int = 0
    lines: int = 0
    row: int = 0
    told_at: float = 0.0
    told: tuple[EvidenceRef, EvidenceRef, int] | None = None


class Specialists(msgspec.Struct, array_like=True):
    """Of one swarm: its sources' load, and the live specialists' parents (empty: none) and sources, by id."""

    loads: dict[str, Load] = {}
    live: dict[str, tuple[str, str]] = {}

    def see(self, recorded: Recorded) -> None:
        """Take in a line that all perceive."""
        event = recorded.event
        if not isinstance(event, ObservationRecorded):
            return
        at, ref = recorded.stored_at.timestamp(), EvidenceRef(id=recorded.id, seq=recorded.seq)
        minute = int(at // 60)
        load = self.loads.get(event.source)
        if load is None:
            if len(self.loads) >= MAX_SOURCES:
                del self.loads[min(self.loads, key=lambda name: self.loads[name].minute)]
            load = self.loads[event.source] = Load(minute, ref)
        elif minute > load.minute:
            if minute > load.minute + 1 or load.count < BUSY_LINES:
                load.first, load.lines, load.row = ref, 0, 0
            load.minute, load.count = minute, 0
        load.count += 1
        load.lines += 1
        if load.count == BUSY_LINES:
            load.row += 1
            again = load.told is None or at - load.told_at >= AGAIN_S
            if load.row >= IN_A_ROW and again and self._beside(event.source, minute):
                load.told, load.told_at = (load.first, ref, load.lines), at

    def _beside(self, source: str, minute: int) -> bool:
        return any(name != source and load.minute >= minute - BESIDE_MIN for name, load in self.loads.items())

    def born(self, recorded: Recorded) -> WatchAdded | None:
        """Take in a birth. Who was proposed as a specialist has a rule from then on, that its source is quiet."""
        event = recorded.event
        if not isinstance(event, PersonaSpawned) or (source := source_of(event.identity.tags)) is None:
            return None
        self.live[event.persona] = (event.identity.parent_id or "", source)
        if event.proposal is None:
            return None
        return WatchAdded(
            swarm=event.swarm,
            persona=event.persona,
            proposal_id=event.proposal.proposal_id,
            name=QUIET,
            pattern=REST,
            source=source,
            silence_s=QUIET_S,
            until=recorded.envelope.time + FOR_EVER,
        )

    def gone(self, event: PersonaReaped) -> None:
        """Take in an end."""
        self.live.pop(event.persona, None)

    def attention(self, persona: str) -> Callable[[str], bool] | None:
        """Which sources the persona perceives; None: all."""
        if not self.live:
            return None
        if persona in self.live:
            own = self.live[persona][1]
            return lambda source: source == own
        handed = {source for parent, source in self.live.values() if parent == persona}
        return (lambda source: source not in handed) if handed else None

    def findings(self, state: State, after_seq: int) -> tuple[Finding, ...]:
        """The busy sources, told after a sequence, that the persona may have a specialist for and nobody is one for."""
        room = self._room(state)
        taken = {source for _, source in self.live.values()} | {source for _, source in state.births}
        told = sorted(
            ((load.told, name) for name, load in self.loads.items() if load.told is not None and name not in taken),
            key=lambda one: one[0][1].seq,
        )
        return tuple(_told(name, *load) for load, name in told if load[1].seq > after_seq and tag_of(name))[:room]

    def open(self, state: State) -> tuple[Finding, ...]:
        """What is told of the sources that the persona has a hypothesis on, while nobody is their specialist."""
        topics = {held.topic for held in state.hypotheses}
        taken = {source for _, source in self.live.values()}
        return tuple(
            _told(name, *load.told)
            for name, load in self.loads.items()
            if load.told is not None and name not in taken and BUSY + name in topics
        )

    def _room(self, state: State) -> int:
        who, policy = state.identity, state.policy
        if who is None or source_of(who.tags) is not None or who.depth + 1 > policy.max_spawn_depth:
            return 0
        if not may_propose(policy, "persona.spawn"):
            return 0
        own = sum(parent == state.persona for parent, _ in self.live.values())
        considered = sum(held.topic.startswith(BUSY) for held in state.hypotheses)
        return max(0, min(MAX_SPECIALISTS, policy.max_branching_factor) - own - considered - len(state.births))


def _told(source: str, first: EvidenceRef, last: EvidenceRef, count: int) -> Finding:
    return Finding(
        topic=BUSY + source,
        kind="busy",
        seq=last.seq,
        claim=plain(
            f"{source}: {count} lines, more than {BUSY_LINES} in each of {IN_A_ROW} minutes, beside other sources", 2000
        ),
        confidence=CONFIDENCE,
        evidence=tuple(dict.fromkeys((first, last))),
        probe=LogCount(template=REST, source=source, first_seq=first.seq, last_seq=last.seq, at_least=count),
        source=source,
    )
