"""What must hold of what proposals would touch: one holder at a time, and one conflict at a time, ruled once."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AnyEvent,
    ConflictExtended,
    ConflictRaised,
    ConflictResolved,
    ProposalEvent,
    ProposalKey,
    TargetFreed,
    TargetHeld,
)

Owed = tuple[str, str, str]
"""What the next event must be: class, target, proposal."""


class _Conflict(msgspec.Struct):
    """The newest over one target. `exact` by side: what each would change, or which side of a contradiction it is on."""

    generation: int = 0
    what: str = ""
    open: bool = False
    exact: dict[str, str] = msgspec.field(default_factory=dict)


class TargetInvariants:
    """Fed with holds and conflicts."""

    def __init__(self, broken: Callable[[Recorded, str], None]) -> None:
        self._broken = broken
        self._holds: dict[str, str] = {}
        """Who has each target that is held."""
        self._conflicts: dict[str, _Conflict] = {}

    def hold(self, recorded: Recorded, event: TargetHeld | TargetFreed, *, is_owed: bool, is_over: bool) -> None:
        """Of two exclusive actions on one target the second is claimed after the outcome of the first, which frees it; or after a person's
        word on it. That it is free may also be said after an outcome, as it once was."""
        key, has = key_of(event.holder), self._holds.get(event.persona)
        if isinstance(event, TargetHeld):
            if has is not None:
                self._broken(recorded, f"{key} takes what {has} holds")
            if not is_owed:
                self._broken(recorded, "a hold without its claim")
            self._holds[event.persona] = key
            return
        if has not in (key, None):
            self._broken(recorded, f"{key} frees what {has} holds")
        if not is_over:
            self._broken(recorded, "freed without an outcome or a person's word")
        self._holds.pop(event.persona, None)

    def free(self, target: str, key: str) -> None:
        """An outcome that somebody knows."""
        if self._holds.get(target) == key:
            del self._holds[target]

    def conflict(self, recorded: Recorded, event: ConflictRaised | ConflictExtended | ConflictResolved) -> None:
        """One over a target at a time, ruled once; of those that would change one thing exactly one is kept."""
        known = self._conflicts.setdefault(event.target_id, _Conflict())
        if isinstance(event, ConflictRaised):
            if known.open or event.generation != known.generation + 1:
                self._broken(
                    recorded, f"conflict {event.generation} over it, after {known.generation}, which is open or not"
                )
            exact = {key_of(side): side.exact for side in event.sides}
            self._conflicts[event.target_id] = _Conflict(event.generation, event.what, True, exact)
            return
        if not known.open or event.generation != known.generation:
            self._broken(recorded, f"of conflict {event.generation} over it, which is not open")
            return
        if isinstance(event, ConflictExtended):
            known.exact[key_of(event.side)] = event.side.exact
            return
        known.open = False
        kept, lost = [key_of(one) for one in event.kept], [key_of(one) for one in event.lost]
        if not set(kept + lost) <= set(known.exact) or set(kept) & set(lost):
            self._broken(recorded, "ruled on who is not in it, or for and against one")
            return
        things = [known.exact[one] for one in kept]
        if known.what == "target" and len(set(things)) != len(things):
            self._broken(recorded, "two go on that would change one thing")
        if known.what == "grounds" and len(set(things)) > 1 and lost:
            self._broken(recorded, "both sides of a contradiction go on")
        if lost and not kept:
            self._broken(recorded, "all have lost")

    def unruled(self) -> list[str]:
        """Targets over which a conflict is open."""
        return [target for target, conflict in self._conflicts.items() if conflict.open]


def key_of(of: ProposalEvent | ProposalKey) -> str:
    """Swarm, persona and proposal."""
    return f"{of.swarm}.{of.persona}.{of.proposal_id}"


def hold_of(event: AnyEvent) -> Owed | None:
    """Class, target and proposal of a hold."""
    return ("target.held", event.persona, key_of(event.holder)) if isinstance(event, TargetHeld) else None
