"""What is remembered and believed: recall and shared beliefs."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.contracts.events.common import MAX_REFS, Count, Event, EvidenceRef, Ratio, Reason, Score, Short
from shared.contracts.ids import CORE, EventId, Instant, Slot, Token


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """One recalled memory with its provenance; `score` is for ranking only."""

    id: EventId
    seq: Count
    kind: Short
    text: Annotated[str, Meta(max_length=8192)]
    at: Instant
    score: Score
    semantic: Score
    recency: Score
    importance: Score
    persona: Token
    tainted: bool = False


class RecallRequested(Event, frozen=True, kw_only=True, tag="recall.requested"):
    """A question to the memory of `persona`."""

    query: Annotated[str, Meta(min_length=1, max_length=2000)]
    limit: Annotated[int, Meta(ge=1, le=100)] = 8
    principal: Short = ""
    slot: Slot = CORE


class RecallAnswered(Event, frozen=True, kw_only=True, tag="recall.answered"):
    """The answer to the request named by the causation id. `refused` is why memory was not asked: ask again later."""

    memories: Annotated[tuple[Memory, ...], Meta(max_length=100)] = ()
    seq: Count = 0
    refused: Reason | None = None


class BeliefAsserted(Event, frozen=True, kw_only=True, tag="belief.asserted"):
    """A claim offered to others under a stable key."""

    belief_id: Token
    belief_key: Short
    claim: Annotated[str, Meta(min_length=1, max_length=2000)]
    confidence: Ratio
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()
    review_after: Instant


class BeliefContested(Event, frozen=True, kw_only=True, tag="belief.contested"):
    """Someone has evidence against it."""

    belief_id: Token
    claim: Annotated[str, Meta(max_length=2000)]
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()


class BeliefRevised(Event, frozen=True, kw_only=True, tag="belief.revised"):
    """It now stands like this."""

    belief_id: Token
    confidence: Ratio
    status: Literal["active", "stale", "invalidated", "archived"]
    reason: Annotated[str, Meta(max_length=1000)] = ""
