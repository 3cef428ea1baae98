"""Fold of what reconciliation finds and mends: orphans, zombies, stuck drains, expired grants. Pure.

What is open is told as of a moment; what was mended as the governor's events say. Bounded by the personas that are not well, by
`KEEP_GRANTS` and by `KEEP_MENDED`.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime

import msgspec

from services.gateway.projections.ledger import KEEP_GRANTS
from services.gateway.projections.personas import Personas
from services.gateway.wire.ids import as_given
from services.gateway.wire.mesh import Finding, FindingKind, Reconciliation
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    BudgetGranted,
    BudgetSettled,
    PersonaDraining,
    PersonaReaped,
    SnapshotDelayed,
    ThoughtGenerated,
    ThoughtSealed,
)

KEEP_MENDED = 64
SHOWN = 256
Key = tuple[str, str]


class Drain(msgspec.Struct, kw_only=True):
    """A persona that drains; `why` its final snapshot waits, where it was said."""

    deadline: datetime
    why: str = ""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A grant that is not settled."""

    swarm: str
    persona: str
    expires_at: datetime


class Kept(msgspec.Struct, array_like=True):
    """A disorder, as it is checkpointed."""

    drains: list[tuple[str, str, Drain]]
    zombies: list[tuple[str, str, datetime]]
    grants: dict[str, Held]
    mended: list[Finding]


class Disorder:
    """Fed after `personas`, on whose stages it rests."""

    def __init__(self, personas: Personas) -> None:
        self._personas = personas
        self._drains: dict[Key, Drain] = {}
        self._zombies: dict[Key, datetime] = {}
        self._grants: dict[str, Held] = {}
        self._mended: deque[Finding] = deque(maxlen=KEEP_MENDED)

    def view(self, now: datetime) -> Reconciliation:
        """The first `SHOWN` of what is open, and what was mended last, newest first."""
        found = [_finding("zombie", key, since, "thinks after it was reaped") for key, since in self._zombies.items()]
        found += [
            _finding("stuck_drain", key, drain.deadline, drain.why or "no final snapshot yet")
            for key, drain in self._drains.items()
            if now > drain.deadline
        ]
        found += [
            _finding("expired_grant", (held.swarm, held.persona), held.expires_at, f"{grant} was not closed")
            for grant, held in self._grants.items()
            if now > held.expires_at
        ]
        found += [
            _finding(
                "orphan",
                (persona.identity.swarm_id, persona.identity.id),
                above.updated_at,
                f"its parent is {above.stage}",
            )
            for persona, above in self._personas.orphans()
        ]
        return Reconciliation(open=tuple(found[:SHOWN]), open_count=len(found), mended=tuple(reversed(self._mended)))

    def apply(self, recorded: Recorded) -> None:
        event, at = recorded.event, recorded.envelope.time
        key = (event.swarm, event.persona)
        match event:
            case PersonaDraining():
                self._drains[key] = Drain(deadline=event.deadline)
                if event.reason == "orphaned":
                    self._mended.append(_finding("orphan", key, at, "it drains with reason orphaned"))
            case SnapshotDelayed() if key in self._drains:
                self._drains[key].why = f"{event.reason}: {event.detail}"
            case PersonaReaped():
                drain = self._drains.pop(key, None)
                if event.snapshot_id is None:
                    why = drain.why if drain else ""
                    reason = f"it was reaped with reason {event.reason}" + (f" ({why})" if why else "")
                    self._mended.append(_finding("stuck_drain", key, at, reason))
            case ThoughtGenerated():
                persona = self._personas.by_key.get(key)
                if persona is not None and persona.stage == "reaped":
                    self._zombies.setdefault(key, at)
            case ThoughtSealed():
                self._zombies.pop(key, None)
                if event.reason == "zombie":
                    self._mended.append(_finding("zombie", key, at, "its thoughts were sealed with reason zombie"))
            case BudgetGranted():
                self._grants[event.grant_id] = Held(
                    swarm=event.swarm, persona=event.persona, expires_at=event.expires_at
                )
                while len(self._grants) > KEEP_GRANTS:
                    del self._grants[next(iter(self._grants))]
            case BudgetSettled():
                self._grants.pop(event.grant_id, None)
                if event.in_full:
                    self._mended.append(_finding("expired_grant", key, at, f"{event.grant_id} was charged in full"))
            case _:
                return

    def capture(self) -> Kept:
        """A copy."""
        return Kept(
            drains=[(*key, msgspec.structs.replace(drain)) for key, drain in self._drains.items()],
            zombies=[(*key, since) for key, since in self._zombies.items()],
            grants=dict(self._grants),
            mended=list(self._mended),
        )

    def restore(self, kept: Kept) -> None:
        self._drains = {(swarm, persona): drain for swarm, persona, drain in kept.drains}
        self._zombies = {(swarm, persona): since for swarm, persona, since in kept.zombies}
        self._grants, self._mended = kept.grants, deque(kept.mended, maxlen=KEEP_MENDED)


def _finding(kind: FindingKind, key: Key, at: datetime, reason: str) -> Finding:
    swarm, persona = key
    return Finding(kind=kind, swarm_id=as_given(swarm), persona_id=as_given(persona), at=at, reason=reason[:400])
