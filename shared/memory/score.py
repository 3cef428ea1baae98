"""What a memory is worth: for ranking (recall) and for keeping (compaction). Pure.

Recall score = .5 semantic + .3·2^(−age/half-life) + .2 importance, after Park et al. 2023, "Generative Agents", section 4.1,
with an exponential half-life. Decay changes the order only: nothing is hidden from recall by age alone.
"""

from __future__ import annotations

from datetime import datetime

from shared.memory.port import MemoryItem

SEMANTIC, RECENCY, IMPORTANCE = 0.5, 0.3, 0.2

HOUR_S = 3600.0
HALF_LIFE_S: dict[str, float] = {
    "thought": 24 * HOUR_S,
    "hypothesis": 7 * 24 * HOUR_S,
    "check": 7 * 24 * HOUR_S,
    "proposal": 30 * 24 * HOUR_S,
    "rejected": 30 * 24 * HOUR_S,
    "approval": 90 * 24 * HOUR_S,
    "action": 30 * 24 * HOUR_S,
    "charter": 365 * 24 * HOUR_S,
}
"""Seconds until a memory of a kind counts half as recent."""


def recency(item: MemoryItem, now: datetime) -> float:
    """1 when it was just said (or lies in the future of a slow clock), halved every half-life of its kind."""
    age_s = max(0.0, (now - item.seen_at).total_seconds())
    return float(2.0 ** (-age_s / HALF_LIFE_S[item.kind]))


def score(*, semantic: float, recency: float, importance: float) -> float:
    """The recall score, 0 to 1. Negative cosines count as 0."""
    return SEMANTIC * min(1.0, max(0.0, semantic)) + RECENCY * recency + IMPORTANCE * importance


def value(item: MemoryItem, now: datetime) -> float:
    """What would be lost if the item left warm memory now, 0 to 1."""
    return item.importance * recency(item, now)
