"""What is remembered, and recalled."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.contracts.events.common import Count, Event, Reason, Score, Short
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


Wanted = Literal["all", "own", "beliefs"]


class RecallRequested(Event, frozen=True, kw_only=True, tag="recall.requested"):
    """A question to the memory of `persona`. `wanted`: all it may read; its own memory alone, however close another's is; or only what
    is believed, what shares most words with the query first, and then the surest."""

    query: Annotated[str, Meta(min_length=1, max_length=2000)]
    limit: Annotated[int, Meta(ge=1, le=100)] = 8
    principal: Short = ""
    slot: Slot = CORE
    wanted: Wanted = "all"


class RecallAnswered(Event, frozen=True, kw_only=True, tag="recall.answered"):
    """The answer to the request named by the causation id. `refused` is why memory was not asked: ask again later."""

    memories: Annotated[tuple[Memory, ...], Meta(max_length=100)] = ()
    seq: Count = 0
    refused: Reason | None = None
