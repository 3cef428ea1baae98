"""Which runner hosts which shard: every live runner holds one lease, and shards follow from who is alive.

Rendezvous hashing (Thaler and Ravishankar, 1998): a shard goes to the live runner with the highest hash of both names, so a
runner that comes or goes moves only its own share. Two runners may disagree for a moment, or a stalled one may believe too
long; that wastes work and does no harm, because a step counts only if it is the next one in the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from shared.log.port import KeyValue, LogUnavailable, StaleBoundary

PREFIX = "runner."


def owner_of(shard: int, runners: Iterable[str]) -> str | None:
    """The runner that hosts a shard, None when there is none at all."""
    return max(runners, key=lambda name: (hashlib.sha256(f"{shard}@{name}".encode()).digest(), name), default=None)


def share_of(runner: str, runners: Iterable[str], shards: int) -> frozenset[int]:
    """The shards of one runner among these."""
    alive = sorted(set(runners))
    return frozenset(s for s in range(shards) if owner_of(s, alive) == runner)


class Placement:
    """One runner's lease in the bucket `leases`. Renew it every third of `ttl_s`."""

    def __init__(self, bucket: KeyValue, runner: str, *, shards: int, ttl_s: int) -> None:
        self._bucket = bucket
        self._runner = runner
        self._shards = shards
        self._ttl_s = ttl_s

    async def renew(self) -> frozenset[int]:
        """Renew the lease; the shards that are this runner's now. Raises `LogUnavailable`."""
        await self._bucket.put(PREFIX + self._runner, b"", ttl_s=self._ttl_s)
        alive = {entry.key.removeprefix(PREFIX) for entry in await self._bucket.entries(PREFIX + ">")}
        return share_of(self._runner, alive | {self._runner}, self._shards)

    async def release(self) -> None:
        """Give the lease up, so that others take over at once. Not being able to is fine: it expires."""
        try:
            await self._bucket.delete(PREFIX + self._runner)
        except (LogUnavailable, StaleBoundary):
            return
