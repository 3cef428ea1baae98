"""Which pages of other origins a browser lets in: CORS (WHATWG Fetch, section 3.2), by an allow-list.

The preflight carries no key, so it is answered before one is asked for. No cookie is ever read, so credentials are not allowed.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from services.gateway.settings import is_loopback
from services.gateway.wire.problems import Problem

METHODS = "GET, HEAD, POST, PUT"
REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, traceparent"
EXPOSED = "ETag, Link, Retry-After, Allow"
MAX_AGE_S = 600
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")

Headers = list[tuple[bytes, bytes]]


def checked(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Origins as browsers send them. Raises `ValueError` for what is none: a path, a wildcard, `null`."""
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is no origin; want scheme://host or scheme://host:port in lower case, no path"
            )
    return origins


class Origins:
    """The allow-list."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._allowed = frozenset(allowed)
        self._hosts = frozenset(urlsplit(origin).netloc for origin in allowed)

    def headers(self, origin: str | None) -> Headers:
        """What an answer to a request of that origin has."""
        if not self._allowed:
            return []
        own = [(b"vary", b"Origin")]
        if origin in self._allowed:
            own.append((b"access-control-allow-origin", (origin or "").encode()))
            own.append((b"access-control-expose-headers", EXPOSED.encode()))
        return own

    def preflight(self, headers: dict[bytes, str]) -> dict[str, str]:
        """What the answer to a preflight has. Raises `Problem` (403) for an origin that is not allowed."""
        origin = headers.get(b"origin", "")
        if origin not in self._allowed:
            detail = f"Origin {origin[:80]!r} is not allowed; SWARM_HTTP_ALLOWED_ORIGINS lists those that are"
            raise Problem(403, detail, reason="foreign_origin")
        answer = {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": str(MAX_AGE_S),
        }
        if headers.get(b"access-control-request-private-network") == "true":
            answer["Access-Control-Allow-Private-Network"] = "true"
        return answer

    def assert_same_machine(self, headers: dict[bytes, str]) -> None:
        """For a mesh without keys: `Host` is this machine or that of an allowed origin (a proxy's), `Origin`, if any, is that
        host or allowed. Raises `Problem` (403)."""
        host = headers.get(b"host", "")
        if host not in self._hosts and not is_loopback(_site(f"//{host}")[0]):
            detail = f"Host {host[:80]!r} is not this machine, and no API key is configured"
            raise Problem(403, detail, reason="foreign_host")
        origin = headers.get(b"origin")
        if origin is not None and origin not in self._allowed and _site(origin)[1] != host:
            detail = f"Origin {origin[:80]!r} is another site, and no API key is configured"
            raise Problem(403, detail, reason="foreign_origin")


def is_preflight(method: str, headers: dict[bytes, str]) -> bool:
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


def _site(url: str) -> tuple[str, str]:
    """Host name, and host with port; empty for what is no address."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.netloc
    except ValueError:
        return "", ""
