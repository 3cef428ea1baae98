"""The compaction pass: which stale, cheap memories leave warm storage. Pure.

Leaving is not losing: the log and earlier snapshots in cold storage keep the original. `plan` proposes, `objection` judges any
proposal on its own terms and refuses one that would lose a pinned item, an id that live memory rests on, or too much value.

Live is what is pinned or not yet stale. What only stale memory rests on may go with it: a persona's thoughts rest on the ones
before, and if a stale one protected others, its first thought would stay as long as it thinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.memory.port import MemoryItem
from shared.memory.score import value

STALE_VALUE = 0.02
"""Below it an unpinned item may go: a plain thought of importance 0.3 after four half-lives."""

SUPERSEDED_FACTOR = 0.5
"""What a later distillation leaves of an item's value."""

MAX_VALUE_LOSS = 0.25
"""Share of a persona's live value one pass may take."""

RESTS_ON = ("because", "refutes")


def plan(items: Sequence[MemoryItem], now: datetime) -> tuple[str, ...]:
    """Stale items nothing live rests on, cheapest first, as long as at most 25 % of the value goes."""
    live = _live(items, now)
    needed = _needed([item for item in items if item.id in live])
    stale = [
        (value(item, now), item.seq, item.id)
        for item in items
        if item.id not in live and not needed.intersection((*item.ids, item.about))
    ]
    total, lost, drop = sum(value(item, now) for item in items), 0.0, []
    for cost, _, item_id in sorted(stale):
        if lost + cost > MAX_VALUE_LOSS * total:
            break
        lost += cost
        drop.append(item_id)
    return tuple(drop)


def objection(items: Sequence[MemoryItem], drop: Sequence[str], now: datetime) -> str | None:
    """Why these must not be dropped together; None when they may."""
    going = set(drop)
    leaving = [item for item in items if item.id in going]
    live = _live(items, now)
    for item in leaving:
        if item.pinned:
            return f"it would lose the pinned {item.kind} {item.id}"
    needed = _needed([item for item in items if item.id in live and item.id not in going])
    for item in leaving:
        for source in (*item.ids, item.about):
            if source and source in needed:
                return f"it would lose {source}, on which live memory rests"
    total, lost = sum(value(i, now) for i in items), sum(value(i, now) for i in leaving)
    if lost > MAX_VALUE_LOSS * total:
        return f"it would lose {lost / total:.0%} of the live value, the limit is {MAX_VALUE_LOSS:.0%}"
    return None


def _live(items: Sequence[MemoryItem], now: datetime) -> set[str]:
    """Ids of the items that are pinned or not yet stale."""
    superseded = {edge.target for item in items for edge in item.edges if edge.type == "supersedes"}
    return {
        item.id
        for item in items
        if item.pinned or value(item, now) * (SUPERSEDED_FACTOR if item.id in superseded else 1.0) >= STALE_VALUE
    }


def _needed(items: Sequence[MemoryItem]) -> set[str]:
    """Ids that items rest on."""
    return {e.target for i in items for e in i.edges if e.type in RESTS_ON} | {s for i in items for s in i.evidence}
