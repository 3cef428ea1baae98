"""Events into memory items. Pure: the table of what is worth remembering, how much, and what may never be lost.

Observations are not indexed, thoughts about them are: the log keeps the raw, memory keeps what was made of it.
Decisions, rationales, approvals, confirmed findings, outcomes and charters are pinned: no compaction may drop them.
"""

from __future__ import annotations

import msgspec

from shared.contracts import events as ev
from shared.contracts.envelope import Recorded
from shared.evidence import is_tainted
from shared.memory.port import Edge, Kind, MemoryItem

REMEMBERED = (
    "persona.spawned",
    "thought.generated",
    "hypothesis.raised",
    "check.result",
    "proposal.created",
    "proposal.rejected",
    "approval.granted",
    "approval.denied",
    "action.executed",
)
"""Classes that may become memory."""

THOUGHT_IMPORTANCE = {"observe": 0.2, "reflect": 0.3, "test": 0.3, "compress": 0.5}
MAX_LINKS = 64
"""Evidence ids and edges one event may add."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An item as the event alone tells it. `sources` is what it was made from, for taint and for `because` edges;
    `replaces` what it distils. `tainted` is what the event itself says of its taint; None leaves it to the sources."""

    item: MemoryItem
    sources: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    tainted: bool | None = None


def draft(recorded: Recorded) -> Draft | None:
    """What to remember of an event; None when it is nothing (a failed thought, another class)."""
    match recorded.event:
        case ev.ThoughtGenerated(status="ok") as e:
            importance = THOUGHT_IMPORTANCE[e.phase] + 0.2 * e.novelty + 0.1 * e.progress
            sources = tuple(ref.id for ref in e.evidence) or e.context_ids
            replaces = e.context_ids if e.phase == "compress" else ()
            return _draft(
                recorded, "thought", e.text, importance, e.evidence, sources, phase=e.phase, replaces=replaces
            )
        case ev.HypothesisRaised() as e:
            return _draft(recorded, "hypothesis", e.claim, 0.5 + 0.3 * e.confidence, e.evidence, about=e.hypothesis_id)
        case ev.CheckResult(found=found) if not (found is None or isinstance(found, ev.Counted | ev.Recollection)):
            return None  # what was looked at is in the log, or is thought about; that it was is not worth remembering
        case ev.CheckResult() as e:
            text = f"{e.outcome}: {e.findings}"
            of = Edge("refutes" if e.outcome == "refuted" else "because", e.hypothesis_id)
            confirmed = e.outcome == "confirmed"
            checked = _draft(recorded, "check", text, 0.6, e.evidence, about=e.check_id, pinned=confirmed, edge=of)
            return msgspec.structs.replace(checked, tainted=is_tainted(e))
        case ev.ProposalCreated() as e:
            text = f"{e.title}\n{e.rationale}\n{e.action.kind} {e.action.target}"
            edge = Edge("because", e.hypothesis_id) if e.hypothesis_id else None
            return _draft(recorded, "proposal", text, 0.8, e.evidence, about=e.proposal_id, pinned=True, edge=edge)
        case ev.ProposalRejected() as e:
            text = f"rejected at {e.stage}: {', '.join(e.reasons)}. {e.detail}".strip()
            return _decision(recorded, "rejected", text, 0.8, e.proposal_id)
        case ev.ApprovalGranted() as e:
            return _decision(recorded, "approval", f"granted by {e.principal}: {e.reason}", 0.9, e.proposal_id)
        case ev.ApprovalDenied() as e:
            return _decision(recorded, "approval", f"denied by {e.principal}: {e.reason}", 0.9, e.proposal_id)
        case ev.ActionExecuted() as e:
            error = f" ({e.error})" if e.error else ""
            return _decision(recorded, "action", f"{e.outcome}{error}: {e.summary}", 0.9, e.proposal_id)
        case ev.PersonaSpawned() as e:
            return _draft(recorded, "charter", e.identity.charter, 1.0, (), pinned=True)
        case _:
            return None


def _decision(recorded: Recorded, kind: Kind, text: str, importance: float, proposal_id: str) -> Draft:
    return _draft(
        recorded, kind, text, importance, (), about=proposal_id, pinned=True, edge=Edge("because", proposal_id)
    )


def _draft(
    recorded: Recorded,
    kind: Kind,
    text: str,
    importance: float,
    evidence: tuple[ev.EvidenceRef, ...],
    sources: tuple[str, ...] | None = None,
    *,
    phase: str = "",
    about: str = "",
    pinned: bool = False,
    edge: Edge | None = None,
    replaces: tuple[str, ...] = (),
) -> Draft:
    event = recorded.event
    cited = tuple(dict.fromkeys(ref.id for ref in evidence))[:MAX_LINKS]
    item = MemoryItem(
        id=recorded.id,
        seq=recorded.seq,
        swarm=event.swarm,
        persona=event.persona,
        kind=kind,
        phase=phase,
        text=text,
        at=recorded.envelope.time,
        seen_seq=recorded.seq,
        seen_at=recorded.envelope.time,
        importance=min(1.0, importance),
        pinned=pinned,
        evidence=cited,
        edges=() if edge is None else (edge,),
        about=about,
        source_bytes=len(text.encode("utf-8", "surrogatepass")),
    )
    return Draft(item=item, sources=cited if sources is None else sources[:MAX_LINKS], replaces=replaces[:MAX_LINKS])
