"""Who may ask, and how often: keys, scopes, token buckets. No IO."""

from __future__ import annotations

import hashlib
import hmac
import math

from services.gateway.settings import SCOPES, Key, Scope
from shared.policy.sides import LOCAL

MAX_BUCKETS = 10_000


class Caller:
    """Who asks: a principal and what it may do."""

    __slots__ = ("principal", "scopes")

    def __init__(self, principal: str, scopes: frozenset[Scope]) -> None:
        self.principal = principal
        self.scopes = scopes

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes


ANYONE_LOCAL = Caller(LOCAL, frozenset(SCOPES))


def authenticate(keys: tuple[Key, ...], token: str) -> Caller | None:
    """Compares with every key in constant time, so timing tells nothing about which one came close."""
    digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
    found: Caller | None = None
    for key in keys:
        if hmac.compare_digest(digest, key.sha256):
            found = Caller(key.principal, frozenset(key.scopes))
    return found


SPREAD = 32
"""Late answers are so many different times late, lest all who got one ask again at once."""


class Impatient:
    """Who asks again before the time it was told: its next refusal comes `LATE_S` later, or up to twice that, so it cannot keep
    the gateway busy.

    While `MAX_LATE` answers wait, the others come at once. The caller counts `late` up and down as it waits.
    """

    LATE_S, MAX_LATE = 0.25, 1000

    def __init__(self) -> None:
        self._told: dict[str, float] = {}
        self.late = 0

    def delay_s(self, name: str, now_s: float, retry_after_s: int) -> float:
        """How long to wait with this refusal. `now_s` is a monotonic clock."""
        until_s = self._told.pop(name, now_s)
        self._told[name] = now_s + retry_after_s
        if len(self._told) > MAX_BUCKETS:
            del self._told[next(iter(self._told))]
        if now_s >= until_s or self.late >= self.MAX_LATE:
            return 0.0
        return self.LATE_S * (1 + self.late % SPREAD / SPREAD)


class Buckets:
    """Token buckets by name: `burst` at once, `rate_per_s` in the long run. The least recently used go when there are too many."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate_per_s, self._burst = rate_per_s, burst
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str, now_s: float, count: int = 1) -> int:
        """0 when `count` may pass, no more than `burst`; else whole seconds until they may. `now_s` is a monotonic clock."""
        tokens, since_s = self._buckets.pop(name, (float(self._burst), now_s))
        tokens = min(float(self._burst), tokens + (now_s - since_s) * self._rate_per_s)
        allowed = tokens >= count
        self._buckets[name] = (tokens - count if allowed else tokens, now_s)
        if len(self._buckets) > MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        return 0 if allowed else max(1, math.ceil((count - tokens) / self._rate_per_s))
