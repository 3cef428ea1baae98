"""What events are made of: their fields' kinds, what every event says, and what it points at."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.contracts.ids import EventId, LifeId, Token

Phase = Literal["observe", "reflect", "test", "compress"]
Risk = Literal["low", "medium", "high", "critical"]
Reason = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}$", description="a reason code")]
Short = Annotated[str, Meta(max_length=300)]
Lines = Annotated[tuple[Short, ...], Meta(max_length=64)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Position = Annotated[int, Meta(ge=1, le=2**53, description="a stream sequence")]
Window = Annotated[int, Meta(ge=0, le=120_000_000)]
"""A minute since 1970, up to the year 2198."""
Ratio = Annotated[float, Meta(ge=0.0, le=1.0)]
Score = Annotated[float, Meta(ge=-1e9, le=1e9)]
Word = Annotated[str, Meta(max_length=200)]
MAX_REFS = 1024
"""Events one event may cite. What is said is bounded much lower where it is said; no list in an event is longer."""


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What every event says: whose it is. What runners may say also has a `slot`, the last token of its subject: who said it."""

    swarm: Token
    persona: Token


class ProposalEvent(Event, frozen=True, kw_only=True):
    """An event in one proposal's life; the proposal's id is the fifth token of its subject."""

    proposal_id: LifeId


class EvidenceRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Points at one event in the log: by stream sequence, checked against its id."""

    id: EventId
    seq: Position


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one thought cost."""

    tokens_in: Count = 0
    tokens_out: Count = 0
    compute_ms: Count = 0
    cost_microusd: Count = 0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out
