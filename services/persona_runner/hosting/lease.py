"""A runner's sign of life: a lease in a bucket, which the broker lets nobody else write. The governor says what follows from it."""

from __future__ import annotations

from shared.log.port import KeyValue, LogUnavailable, StaleBoundary
from shared.placement import LEASES


class Lease:
    """Renew it every third of `ttl_s`."""

    def __init__(self, bucket: KeyValue, runner: str, *, ttl_s: int) -> None:
        self._bucket = bucket
        self._key = LEASES + runner
        self._ttl_s = ttl_s

    async def renew(self) -> None:
        """Raises `LogUnavailable`."""
        await self._bucket.put(self._key, b"", ttl_s=self._ttl_s)

    async def release(self) -> None:
        """Give it up, so that others take over at once. Not being able to is fine: it expires."""
        try:
            await self._bucket.delete(self._key)
        except (LogUnavailable, StaleBoundary):
            return
