"""Who holds which persona: shards, and the runners the governor says there are.

Rendezvous hashing (Thaler and Ravishankar, 1998): a shard goes to the slot with the highest hash of both names, so a runner that
comes or goes moves only its own share. `placement.changed` is the governor's word and is in the one log, so who held a persona
when something was said of it is told by sequence, to everybody alike, now and in every replay. It is said of the swarm `all`, and of
each swarm that is served by runners of its own; with no slots in it such a swarm is as all others again.

What a runner says counts only while it holds the persona, or held it until at most `GRACE` before: a commit may be on its way
when the word changes. What is said by anybody else changes nothing: it is stored, and it counts where guards count.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from shared.contracts.catalog import class_filter
from shared.contracts.envelope import Recorded
from shared.contracts.events import PlacementChanged
from shared.contracts.ids import CORE, EVERYONE, is_runners, is_token, slot_of

PLACEMENT = class_filter("placement.changed")
"""All of the governors' words."""
LEASES = "runner."
"""Keys of the bucket `leases` begin so; the runner's instance follows."""
GRACE = timedelta(seconds=2)
KEPT = 10_000
"""Changes that are remembered; of what was said before all of them everything counts, as of what was said before the first."""
NOT_THE_HOLDER = "not_the_holder"
"""The reason on a dead letter."""


def boundary_of(swarm: str) -> str:
    """The boundary of the governors' word on one swarm, or on `all`."""
    return class_filter("placement.changed", swarm, EVERYONE)


def groups_of(setting: str) -> dict[tuple[str, ...], frozenset[str]]:
    """The slots that serve the same swarms, by those, of `persona_runner-2=alpha+beta, persona_runner-3=gamma`.

    Raises `ValueError` for what is not written so, and for a swarm that two such groups would serve.
    """
    groups: dict[tuple[str, ...], frozenset[str]] = {}
    for item in filter(None, (item.strip() for item in setting.split(","))):
        instance, equals, named = item.partition("=")
        swarms = tuple(sorted({swarm.strip() for swarm in named.split("+")}))
        if not equals or not all(is_token(swarm) and swarm != EVERYONE for swarm in swarms):
            raise ValueError(f"{item!r} is not <runner>=<swarm>+<swarm>, such as persona_runner-2=alpha+beta")
        groups[swarms] = groups.get(swarms, frozenset()) | {slot_of(instance.strip())}
    for swarm, count in Counter(swarm for swarms in groups for swarm in swarms).items():
        if count > 1:
            raise ValueError(
                f"{swarm} is served by two groups of runners; name the same swarms for each of its runners"
            )
    return groups


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
        self._said: dict[str, list[Change]] = {}
        self.seq = 0
        """Of the last change, 0 when there was none."""
        for recorded in said:
            self.add(recorded)

    def current(self, swarm: str = EVERYONE) -> Change | None:
        """The last word on a swarm, or on all that have none of their own."""
        said = self._said.get(swarm)
        return said[-1] if said else None

    @property
    def apart(self) -> frozenset[str]:
        """The swarms that runners of their own serve."""
        return frozenset(swarm for swarm, said in self._said.items() if swarm != EVERYONE and said[-1].slots)

    def add(self, recorded: Recorded) -> None:
        """Take in a `placement.changed`; what is not newer than the last one is known already."""
        event = recorded.event
        if not isinstance(event, PlacementChanged) or recorded.seq <= self.seq:
            return
        self.seq = recorded.seq
        said = self._said.setdefault(event.swarm, [])
        said.append(Change(recorded.seq, recorded.stored_at, tuple(sorted(set(event.slots))), event.shards))
        del said[:-KEPT]

    def holder(self, swarm: str, persona: str, at: int) -> str | None:
        """The slot that held the persona at a sequence; None when there was none, or nothing was said yet."""
        return next((change.holder(swarm, persona) for change, _ in self._valid(swarm, at)), None)

    def why_not(self, recorded: Recorded, *, at: int | None = None) -> str | None:
        """Why what was said does not count; None when it does. `at` stands in for its sequence where that is of another stream."""
        event = recorded.event
        slot = getattr(event, "slot", CORE)
        if not is_runners(slot):
            return None
        since: datetime | None = None
        for change, began in self._valid(event.swarm, recorded.seq if at is None else at):
            if since is not None and recorded.stored_at - since > GRACE:
                break
            if change.holder(event.swarm, event.persona) == slot:
                return None
            since = began
        return None if since is None else f"{slot} does not hold {event.swarm}.{event.persona}"

    def _valid(self, swarm: str, at: int) -> Iterator[tuple[Change, datetime]]:
        """The words that held for a swarm up to a sequence, newest first, each with the time from which it did."""
        own, every = self._said.get(swarm, []), self._said.get(EVERYONE, [])
        mine, theirs = _upto(own, at), _upto(every, at)
        while mine or theirs:
            word, common = (own[mine - 1] if mine else None), (every[theirs - 1] if theirs else None)
            if word is not None and word.slots:
                yield word, word.at
                mine, theirs = mine - 1, _upto(every, word.seq)
            elif common is not None and (word is None or common.seq > word.seq):
                yield common, common.at
                theirs -= 1
            else:
                if common is not None and word is not None:
                    yield common, word.at
                mine -= 1


def _upto(changes: list[Change], seq: int) -> int:
    """How many were said before a sequence."""
    return bisect_left(changes, seq, key=lambda change: change.seq)
