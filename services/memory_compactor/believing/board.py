"""A blackboard: the beliefs that stand, folded from `belief.*` events; and, of a swarm's, who of its personas shares.

Bounded whatever is said: so many beliefs stand on one board, and what is over is gone from it (the log has it). A check that was
taken into account is remembered by its id for long enough that a late redelivery of it says nothing again.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    BeliefAsserted,
    BeliefConfirmed,
    BeliefContested,
    BeliefRevised,
    PersonaSpawned,
)
from shared.contracts.events.beliefs import MAX_CONTRADICTIONS, MAX_GROUNDS
from shared.memory.dedup import exact_key

KEPT_CAUSES = 4096
KEPT_MEMBERS = 20_000
"""Who was born before them is looked up."""
MAX_NAMES = 64
OVER = ("invalidated", "archived")


class Belief(msgspec.Struct, kw_only=True):
    """One that stands. `by` asserted it, `held_by` has who confirmed it, `against` who contested it; `refuted`: by a check of somebody.

    `grounds` are those of all who hold it; `due` is the review as of when it was last active; `seq` and `event_id`: its assertion.
    """

    id: str
    key_id: str
    key: str
    claim: str
    by: str
    confidence: float
    stale: bool = False
    held_by: list[str] = []
    against: list[str] = []
    refuted: bool = False
    contradicts: list[str] = []
    grounds: list[str] = []
    tainted: bool = True
    valid_from: datetime
    review_after: datetime
    due: datetime
    seq: int = 0
    event_id: str = ""

    @property
    def holders(self) -> tuple[str, ...]:
        return (self.by, *self.held_by)


class Board(msgspec.Struct, kw_only=True):
    """By id, in the order they were asserted. `members`: whether a persona shares, of those who were born last; `causes`: what was taken
    into account; `ends`: where the last belief with these words on this topic ended."""

    beliefs: dict[str, Belief] = {}
    members: dict[str, bool] = {}
    causes: dict[str, None] = {}
    ends: dict[str, int] = {}

    def on(self, key_id: str) -> list[Belief]:
        """Those that stand on a topic, oldest first."""
        return [belief for belief in self.beliefs.values() if belief.key_id == key_id]


def evolve(board: Board, recorded: Recorded) -> Board:
    """The board after an event; what is not about it changes nothing."""
    event = recorded.event
    match event:
        case PersonaSpawned():
            board.members.setdefault(event.persona, event.policy.share_memory)
            _bound(board.members, KEPT_MEMBERS)
            return board
        case BeliefAsserted():
            board.beliefs[event.belief_id] = Belief(
                id=event.belief_id,
                key_id=event.key_id,
                key=event.belief_key,
                claim=event.claim,
                by=event.by,
                confidence=event.confidence,
                contradicts=list(event.contradicts),
                grounds=list(event.grounds),
                tainted=event.tainted,
                valid_from=event.valid_from,
                review_after=event.review_after,
                due=event.review_after,
                seq=recorded.seq,
                event_id=recorded.id,
            )
        case BeliefConfirmed() if (known := board.beliefs.get(event.belief_id)) is not None:
            known.confidence, known.stale = event.confidence, False
            known.review_after = known.due = event.review_after
            _add(known.held_by, event.by, MAX_NAMES)
            _rests_on(known, event.grounds)
            known.tainted = known.tainted or event.tainted
        case BeliefContested() if (known := board.beliefs.get(event.belief_id)) is not None:
            known.confidence = event.confidence
            known.refuted = known.refuted or event.reason == "refuted_check"
            _add(known.against, event.by, MAX_NAMES)
            for other in event.contradicts:
                _add(known.contradicts, other, MAX_CONTRADICTIONS)
        case BeliefRevised() if event.belief_id in board.beliefs:
            _revise(board, event, recorded.seq)
        case _:
            return board
    if recorded.envelope.causation is not None:
        board.causes[recorded.envelope.causation] = None
        _bound(board.causes, KEPT_CAUSES)
    return board


def _revise(board: Board, event: BeliefRevised, seq: int) -> None:
    if event.status in OVER:
        over = board.beliefs.pop(event.belief_id)
        board.ends[claim_key(over.key_id, over.claim)] = seq
        _bound(board.ends, KEPT_CAUSES)
        for other in board.beliefs.values():
            if event.belief_id in other.contradicts:
                other.contradicts.remove(event.belief_id)
        return
    known = board.beliefs[event.belief_id]
    known.confidence, known.stale = event.confidence, event.status == "stale"
    known.review_after = event.review_after or known.review_after
    if event.status == "active" and not event.settled:
        known.due = known.review_after
        _rests_on(known, event.grounds)
        known.tainted = known.tainted or event.tainted


def _rests_on(belief: Belief, grounds: tuple[str, ...]) -> None:
    """The oldest stay when there are too many: what was an echo once stays one."""
    belief.grounds = list(dict.fromkeys((*belief.grounds, *grounds)))[:MAX_GROUNDS]


def _add(names: list[str], name: str, most: int) -> None:
    if name not in names and len(names) < most:
        names.append(name)


def claim_key(key_id: str, claim: str) -> str:
    """The same for what reads the same on a topic."""
    return exact_key("", "belief", key_id, claim)


def _bound(known: dict[str, bool] | dict[str, None] | dict[str, int], most: int) -> None:
    while len(known) > most:
        del known[next(iter(known))]
