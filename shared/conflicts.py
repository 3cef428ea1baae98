"""Fold of one target's boundary: the newest conflict over it. Pure; bounded by the sides of one conflict."""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ConflictExtended,
    ConflictRaised,
    ConflictResolved,
    ConflictRuled,
    ProposalKey,
    Side,
    Strategy,
)
from shared.contracts.events.conflicts import MAX_SIDES
from shared.contracts.ids import Instant


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """The newest one; `generation` 0: there was none. `ruled` is a person's word, the last one stands."""

    generation: int = 0
    open: bool = False
    what: Literal["target", "grounds"] = "target"
    target_id: str = ""
    target: str = ""
    sides: tuple[Side, ...] = ()
    strategy: Strategy = "order"
    raised_at: Instant | None = None
    until: Instant | None = None
    ruled: ConflictRuled | None = None


def evolve(state: Conflict, recorded: Recorded) -> Conflict:
    """The first of each generation stands; what is of another generation than the open one changes nothing."""
    replace = msgspec.structs.replace
    event = recorded.event
    if isinstance(event, ConflictRaised):
        if event.generation <= state.generation:
            return state
        return Conflict(
            generation=event.generation,
            open=True,
            what=event.what,
            target_id=event.target_id,
            target=event.target,
            sides=event.sides,
            strategy=event.strategy,
            raised_at=recorded.envelope.time,
            until=event.until,
        )
    if isinstance(event, ConflictResolved) and event.generation >= state.generation:
        return replace(state, generation=event.generation, open=False)
    if not state.open or getattr(event, "generation", 0) != state.generation:
        return state
    match event:
        case ConflictExtended(side=side) if len(state.sides) < MAX_SIDES and key_of(side) not in map(
            key_of, state.sides
        ):
            return replace(state, sides=(*state.sides, side))
        case ConflictRuled():
            return replace(state, ruled=event)
        case _:
            return state


def key_of(of: ProposalKey | Side) -> ProposalKey:
    """The name of a side."""
    return ProposalKey(swarm=of.swarm, persona=of.persona, proposal_id=of.proposal_id)
