"""Who holds which persona: shards, and the runners the governor says there are.

Rendezvous hashing (Thaler and Ravishankar, 1998): a shard goes to the slot with the highest hash of both names, so a runner that
comes or goes moves only its own share. `placement.changed` is the governor's word and is in the one log, so who held a persona
when something was said of it is told by sequence, to everybody alike, now and in every replay.

What a runner says counts only while it holds the persona, or held it until at most `GRACE` before: a commit may be on its way
when the word changes. What is said by anybody else changes nothing: it is stored, and it counts where guards count.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from shared.contracts.catalog import class_filter
from shared.contracts.envelope import Recorded
from shared.contracts.events import PlacementChanged
from shared.contracts.ids import CORE, EVERYONE

PLACEMENT = class_filter("placement.changed", EVERYONE, EVERYONE)
"""The boundary of the governors' word."""
LEASES = "runner."
"""Keys of the bucket `leases` begin so; the runner's instance follows."""
GRACE = timedelta(seconds=2)
KEPT = 10_000
"""Changes that are remembered; of what was said before all of them everything counts, as of what was said before the first."""
NOT_THE_HOLDER = "not_the_holder"
"""The reason on a dead letter."""


@lru_cache(maxsize=65_536)
def shard_of(swarm: str, persona: str, shards: int) -> int:
    """The shard of a persona, the same for everybody."""
    return int.from_bytes(hashlib.sha256(f"{swarm}.{persona}".encode()).digest()[:8]) % shards


@lru_cache(maxsize=65_536)
def owner_of(shard: int, slots: tuple[str, ...]) -> str | None:
    """The slot that holds a shard, None when there is no runner at all."""
    return max(slots, key=lambda slot: (hashlib.sha256(f"{shard}@{slot}".encode()).digest(), slot), default=None)


def share_of(slot: str, slots: Iterable[str], shards: int) -> frozenset[int]:
    """The shards of one slot among these."""
    placed = tuple(sorted(set(slots)))
    return frozenset(shard for shard in range(shards) if owner_of(shard, placed) == slot)


class Change(msgspec.Struct, frozen=True):
    """From the sequence after `seq` on, stored at `at`, these are the runners."""

    seq: int
    at: datetime
    slots: tuple[str, ...]
    shards: int

    def holder(self, swarm: str, persona: str) -> str | None:
        return owner_of(shard_of(swarm, persona, self.shards), self.slots)


class Placements:
    """What the governors have said, in the order of the log."""

    def __init__(self, said: Iterable[Recorded] = ()) -> None:
        self._changes: list[Change] = []
        for recorded in said:
            self.add(recorded)

    @property
    def current(self) -> Change | None:
        return self._changes[-1] if self._changes else None

    @property
    def seq(self) -> int:
        """Of the last change, 0 when there was none."""
        return self._changes[-1].seq if self._changes else 0

    def add(self, recorded: Recorded) -> None:
        """Take in a `placement.changed`; what is not newer than the last one is known already."""
        event = recorded.event
        if not isinstance(event, PlacementChanged) or recorded.seq <= self.seq:
            return
        self._changes.append(Change(recorded.seq, recorded.stored_at, tuple(sorted(set(event.slots))), event.shards))
        del self._changes[:-KEPT]

    def holder(self, swarm: str, persona: str, at: int) -> str | None:
        """The slot that held the persona at a sequence; None when there was none, or nothing was said yet."""
        index = bisect_left(self._changes, at, key=lambda change: change.seq)
        return self._changes[index - 1].holder(swarm, persona) if index else None

    def why_not(self, recorded: Recorded, *, at: int | None = None) -> str | None:
        """Why what was said does not count; None when it does. `at` stands in for its sequence where that is of another stream."""
        event = recorded.event
        slot = getattr(event, "slot", CORE)
        if slot == CORE:
            return None
        index = bisect_left(self._changes, recorded.seq if at is None else at, key=lambda change: change.seq)
        if not index:
            return None
        for change in reversed(self._changes[:index]):
            if change.holder(event.swarm, event.persona) == slot:
                return None
            if recorded.stored_at - change.at > GRACE:
                break
        return f"{slot} does not hold {event.swarm}.{event.persona}"
