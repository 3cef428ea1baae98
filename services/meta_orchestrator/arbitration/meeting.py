"""Who may meet whom: verified proposals without a verdict, by what they touch, and beliefs that are contested. Pure; bounded.

A projection: it says where to look, and what it finds is looked up in the log before anything rests on it. So what it has forgotten
(the oldest, beyond `KEEP`) is at worst a conflict that nobody raises; of two that are exclusive still only one is at its target at a
time, by the hold.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import datetime, timedelta

import msgspec

from shared.contracts.action_kinds import touched
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    BeliefAsserted,
    BeliefConfirmed,
    BeliefContested,
    BeliefRevised,
    ConflictSettled,
    EvidenceRef,
    ProposalAuthorized,
    ProposalKey,
    ProposalRejected,
    ProposalVerified,
)
from shared.contracts.targets import target_id

KEEP, KEEP_BELIEFS, KEEP_CITED, KEEP_LOSERS, KEEP_LOSSES = 50_000, 4096, 4096, 10_000, 256
PLACES = 16
"""Where one proposal may meet others, its target among them: over more contested beliefs than that it meets nobody."""
AT_ONE_TARGET = 32
"""As many are looked at; with more at one target the oldest of them are who matters."""
AN_HOUR = timedelta(hours=1)
CLASSES = (
    "proposal.verified",
    "proposal.authorized",
    "proposal.rejected",
    "conflict.settled",
    "belief.asserted",
    "belief.confirmed",
    "belief.contested",
    "belief.revised",
)
Key = tuple[str, str, str]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where proposals meet: a target, or the one or the other side of a contested belief (`stance`)."""

    target_id: str
    name: str
    stance: str = ""


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """A verified proposal without a verdict, as far as it is needed to find it."""

    key: ProposalKey
    seq: int
    target: str
    deadline: datetime
    evidence: frozenset[str]


class _Belief(msgspec.Struct):
    """What is cited for a belief and against it."""

    supports: set[str] = msgspec.field(default_factory=set)
    refutes: set[str] = msgspec.field(default_factory=set)

    def stance(self, evidence: frozenset[str]) -> str:
        """Which side the evidence is on; empty when on none, or on both."""
        pro, contra = not evidence.isdisjoint(self.supports), not evidence.isdisjoint(self.refutes)
        return "" if pro == contra else "for" if pro else "against"


class Meeting:
    """Feed it with `apply`, in the order of the log."""

    def __init__(self) -> None:
        self._open: OrderedDict[Key, Open] = OrderedDict()
        self._at: dict[str, dict[Key, None]] = {}
        self._beliefs: OrderedDict[str, _Belief] = OrderedDict()
        self._lost: OrderedDict[tuple[str, str], deque[tuple[int, datetime]]] = OrderedDict()

    def apply(self, recorded: Recorded) -> None:
        event = recorded.event
        match event:
            case ProposalVerified():
                self._verified(recorded, event)
            case ProposalAuthorized() | ProposalRejected():
                self._forget((event.swarm, event.persona, event.proposal_id))
            case ConflictSettled() if event.outcome == "lost" and event.resolution != "too_often":
                lost = self._lost.setdefault((event.swarm, event.persona), deque(maxlen=KEEP_LOSSES))
                self._lost.move_to_end((event.swarm, event.persona))
                lost.append((recorded.seq, recorded.envelope.time))
                while len(self._lost) > KEEP_LOSERS:
                    self._lost.popitem(last=False)
            case BeliefAsserted():
                self._says(event.belief_id, recorded.id, event.evidence)
                self._contradicted(event.belief_id, event.contradicts)
            case BeliefConfirmed():
                self._says(event.belief_id, recorded.id, event.evidence)
            case BeliefContested():
                refutes = self._belief(event.belief_id).refutes
                refutes.update((recorded.id, *(ref.id for ref in event.evidence)))
                self._contradicted(event.belief_id, event.contradicts)
            case BeliefRevised() if event.settled or event.status in ("invalidated", "archived"):
                self._beliefs.pop(event.belief_id, None)
            case _:
                pass

    def places(self, verified: ProposalVerified) -> tuple[Place, ...]:
        """Where the proposal may meet others: at its target first. Nowhere when it changes nothing others could want to."""
        created = verified.proposal
        found = None if created is None else touched(created.action, verified.swarm, verified.persona, verified.row)
        if found is None:
            return ()
        places = [Place(target_id=found.id, name=found.name)]
        evidence = frozenset(ref.id for ref in verified.evidence)
        for belief_id, belief in self._beliefs.items():
            if len(places) == PLACES:
                break
            if belief.refutes and (stance := belief.stance(evidence)):
                name = f"grounds:{belief_id}"
                places.append(Place(target_id=target_id(name), name=name, stance=stance))
        return tuple(places)

    def others(self, place: Place, key: ProposalKey, now: datetime) -> tuple[ProposalKey, ...]:
        """Who else is at the place, before their deadline; the oldest first, not more than `AT_ONE_TARGET`."""
        if place.stance:
            belief = self._beliefs.get(place.name.removeprefix("grounds:"), _Belief())
            there = (one for one in self._open.values() if belief.stance(one.evidence) not in ("", place.stance))
        else:
            there = (self._open[k] for k in self._at.get(place.target_id, ()))
        found = []
        for one in there:
            if one.key != key and now < one.deadline:
                found.append(one.key)
                if len(found) == AT_ONE_TARGET:
                    break
        return tuple(found)

    def losses(self, swarm: str, persona: str, now: datetime, before: int) -> int:
        """How many conflicts the persona has lost within an hour, of what was said before that sequence."""
        return sum(seq < before and at > now - AN_HOUR for seq, at in self._lost.get((swarm, persona), ()))

    def _verified(self, recorded: Recorded, event: ProposalVerified) -> None:
        created = event.proposal
        found = None if created is None else touched(created.action, event.swarm, event.persona, event.row)
        key = (event.swarm, event.persona, event.proposal_id)
        if created is None or found is None or key in self._open:
            return
        self._open[key] = Open(
            key=ProposalKey(swarm=event.swarm, persona=event.persona, proposal_id=event.proposal_id),
            seq=recorded.seq,
            target=found.id,
            deadline=created.deadline,
            evidence=frozenset(ref.id for ref in event.evidence),
        )
        self._at.setdefault(found.id, {})[key] = None
        while len(self._open) > KEEP:
            self._forget(next(iter(self._open)))

    def _forget(self, key: Key) -> None:
        one = self._open.pop(key, None)
        if one is None:
            return
        there = self._at[one.target]
        del there[key]
        if not there:
            del self._at[one.target]

    def _says(self, belief_id: str, event_id: str, evidence: tuple[EvidenceRef, ...]) -> None:
        self._belief(belief_id).supports.update((event_id, *(ref.id for ref in evidence)))

    def _contradicted(self, belief_id: str, by: tuple[str, ...]) -> None:
        """What is cited for the one speaks against the other."""
        mine = self._belief(belief_id)
        for name in by:
            if name in self._beliefs:
                other = self._belief(name)
                mine.refutes |= other.supports
                other.refutes |= mine.supports

    def _belief(self, belief_id: str) -> _Belief:
        belief = self._beliefs.setdefault(belief_id, _Belief())
        if len(belief.supports) + len(belief.refutes) > KEEP_CITED:
            belief.supports, belief.refutes = set(), set()  # what is cited so much contradicts everything
        self._beliefs.move_to_end(belief_id)
        while len(self._beliefs) > KEEP_BELIEFS:
            self._beliefs.popitem(last=False)
        return belief
