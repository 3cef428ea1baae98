"""Fold of every event into one line of a journal, the newest `KEEP` of each category. Pure.

A category is the entity of an event's class: `thought`, `proposal`, `approval`, and so on; so a flood of thoughts never
pushes a decision out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import merge
from typing import Literal

from services.gateway.wire.ids import as_given
from services.gateway.wire.views import AuditEntry
from shared.contracts.catalog import ENTITIES, class_of
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionDelayed,
    ActionExecuted,
    AnyEvent,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    BudgetExhausted,
    BudgetRefused,
    CheckResult,
    CognitionStarted,
    CognitionStopped,
    HypothesisRaised,
    MeshHalted,
    MeshResumed,
    ObservationRecorded,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    PolicyActivated,
    ProposalCreated,
    ProposalRejected,
    ProposalVerified,
    ReapRequested,
    RowsDeclared,
    SignersChanged,
    SnapshotCompressed,
    SnapshotDelayed,
    SpawnRefused,
    SpawnRequested,
    SwarmRequested,
    ThoughtGenerated,
)
from shared.contracts.ids import CORE
from shared.contracts.text import plain

KEEP = 1000
DETAIL_CHARS = 200
Outcome = Literal["success", "denied", "failure"]


class Journal:
    """Entries by category, oldest first."""

    def __init__(self, keep: int = KEEP) -> None:
        self._entries: dict[str, deque[AuditEntry]] = {e: deque(maxlen=keep) for e in ENTITIES}

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._entries.values())

    def capture(self) -> list[AuditEntry]:
        """All entries, each category's oldest first."""
        return [entry for entries in self._entries.values() for entry in entries]

    def restore(self, entries: list[AuditEntry]) -> None:
        for entry in entries:
            self._entries[entry.category].append(entry)

    def newest(self, category: str | None = None, below: int | None = None) -> Iterator[AuditEntry]:
        """Newest first, of a lower sequence than `below`. Raises `KeyError` for an unknown category."""
        chosen = list(self._entries.values()) if category is None else [self._entries[category]]
        entries = merge(*(reversed(c) for c in chosen), key=lambda e: -e.seq)
        return entries if below is None else (e for e in entries if e.seq < below)

    def apply(self, recorded: Recorded) -> None:
        event = recorded.event
        name = class_of(event)
        entity = name.partition(".")[0]
        if entity not in self._entries:
            return
        self._entries[entity].append(
            AuditEntry(
                id=recorded.id,
                seq=recorded.seq,
                timestamp=recorded.envelope.time,
                category=entity,
                action=name,
                principal=principal_of(event),
                outcome=outcome_of(event),
                detail=plain(detail_of(event), DETAIL_CHARS),
                swarm_id=as_given(event.swarm),
                persona_id=as_given(event.persona),
            )
        )


def principal_of(event: AnyEvent) -> str | None:
    """Who caused it, where a principal did; what runners say of that counts for nothing."""
    return getattr(event, "principal", None) or None if getattr(event, "slot", CORE) == CORE else None


def outcome_of(event: AnyEvent) -> Outcome:
    match event:
        case ProposalRejected() | ApprovalDenied() | SpawnRefused() | BudgetExhausted() | BudgetRefused():
            return "denied"
        case ActionExecuted() if event.outcome != "success":
            return "failure"
        case ThoughtGenerated() if event.status == "model_error":
            return "failure"
        case _:
            return "success"


def detail_of(event: AnyEvent) -> str:
    """One line a person can read."""
    match event:
        case ObservationRecorded() | ThoughtGenerated():
            return event.text
        case HypothesisRaised():
            return event.claim
        case CheckResult():
            return f"{event.outcome}: {event.findings}"
        case ProposalCreated():
            return f"{event.title} ({event.action.kind} {event.action.target})"
        case ProposalVerified():
            return f"risk {event.risk}"
        case ProposalRejected():
            return f"{event.stage}: {', '.join(event.reasons)}"
        case ApprovalRequested() | ActionExecuted() | SnapshotCompressed():
            return event.summary
        case ApprovalGranted() | ApprovalDenied() | CognitionStopped() | MeshHalted() | MeshResumed():
            return event.reason
        case ReapRequested() | PersonaDraining() | PersonaReaped():
            return event.reason
        case SpawnRefused() | SnapshotDelayed():
            return f"{event.reason}: {event.detail}"
        case SpawnRequested() | SwarmRequested():
            return f"{event.name} ({event.role})"
        case PersonaSpawned():
            return f"{event.identity.name} ({event.identity.role})"
        case BudgetExhausted():
            return f"{event.resource} of {event.scope}"
        case BudgetRefused():
            return (
                f"{event.reason}: {event.credits.tokens} tokens and {event.credits.compute_ms} ms, charged all the same"
            )
        case ActionDelayed():
            return (
                f"{event.reason}: no action of {event.scope} is left before {event.until.isoformat(timespec='seconds')}"
            )
        case PolicyActivated():
            return f"{event.digest[:12]} by {event.gate or 'a gate'}" + (", revoking what was before" * event.revokes)
        case RowsDeclared():
            return f"{len(event.rows)} rows of the operator"
        case SignersChanged():
            return f"number {event.number}: {len(event.signers)} key(s) of verdicts"
        case CognitionStarted():
            return f"every {event.loop_interval_ms} ms"
        case _:
            return ""
