"""What personas perceive, think, claim and have checked."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from shared.contracts.events.common import MAX_REFS, Count, Event, EvidenceRef, Phase, Ratio, Short, Usage
from shared.contracts.events.probes import Found, Probe
from shared.contracts.ids import CORE, EventId, Instant, LifeId, Sha256, Slot, Token
from shared.contracts.persona import Tags


class ObservationRecorded(Event, frozen=True, kw_only=True, tag="observation.recorded"):
    """What personas perceive; `persona` is `all` when it is for the whole swarm. `observed_at` is the source's own time.

    It is an outsider's word, whoever hands it in: nothing in a body says otherwise, for whoever may say a class writes any body.
    """

    text: Annotated[str, Meta(min_length=1, max_length=8192)]
    source: Annotated[str, Meta(max_length=200)] = "api"
    tags: Tags = ()
    observed_at: Instant | None = None
    principal: Short = ""

    @property
    def tainted(self) -> bool:
        """Whether these are an outsider's words."""
        return True


class ObservationVouched(ObservationRecorded, frozen=True, kw_only=True, tag="observation.vouched"):
    """What personas perceive, in the words of the person `principal`: not tainted. Only a gateway may say it."""

    @property
    def tainted(self) -> bool:
        return False


class ThoughtGenerated(Event, frozen=True, kw_only=True, tag="thought.generated"):
    """One step of the loop. `step` counts from 1 without gaps; `observed_seq` is the last stream sequence perceived.

    `context_ids` name what the thought was made from, so its context can be rebuilt. `digest` is SHA-256 of the text
    with case and spacing folded. `useful_at` is when the persona last made useful progress (this thought or earlier).
    `assignment`: the id of the `intent.assigned` it was made for, which is what it is charged to.
    """

    step: Annotated[int, Meta(ge=1, le=2**53)]
    cycle: Count
    phase: Phase
    text: Annotated[str, Meta(max_length=8000)]
    status: Literal["ok", "model_error", "empty"] = "ok"
    thinker: Annotated[str, Meta(max_length=120)]
    context_ids: Annotated[tuple[EventId, ...], Meta(max_length=MAX_REFS)] = ()
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()
    observed_seq: Count = 0
    usage: Usage = Usage()
    novelty: Ratio = 0.0
    digest: Sha256
    progress: bool = False
    useful_at: Instant
    next_in_ms: Count = 0
    grant_id: EventId | None = None
    runner: Annotated[str, Meta(max_length=120)] = ""
    notice: Short = ""
    final: bool = False
    assignment: EventId | None = None
    slot: Slot = CORE


class HypothesisRaised(Event, frozen=True, kw_only=True, tag="hypothesis.raised"):
    """A claim with its evidence; `topic` is a stable key, so the same claim is raised once. `assignment`: as of a thought."""

    hypothesis_id: Token
    topic: Short
    claim: Annotated[str, Meta(min_length=1, max_length=2000)]
    confidence: Ratio
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)]
    assignment: EventId | None = None
    slot: Slot = CORE


class CheckRequested(Event, frozen=True, kw_only=True, tag="check.requested"):
    """What would confirm or refute a hypothesis: a read-only probe. `assignment`: as of a thought. `beside` another one, for what it
    tells: its result decides nothing.
    """

    check_id: LifeId
    hypothesis_id: Token
    probe: Probe
    beside: bool = False
    assignment: EventId | None = None
    slot: Slot = CORE


class CheckResult(Event, frozen=True, kw_only=True, tag="check.result"):
    """What the probe found. `measured` is the count or score, times 1 for counts and times 1000 for scores; `found` what else it brought.

    `tainted` when any of what it rests on is the word of outsiders: counting their lines makes them no truer.
    """

    check_id: LifeId
    hypothesis_id: Token
    outcome: Literal["confirmed", "refuted", "inconclusive"]
    findings: Annotated[str, Meta(max_length=2000)]
    measured: Count = 0
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()
    tainted: bool = True
    beside: bool = False
    found: Found | None = None
    slot: Slot = CORE
