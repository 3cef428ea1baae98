"""How a JSON answer leaves: with an `ETag`, as 304 when the caller has it already, compressed, and without its body for HEAD.

The tag is weak and of the JSON before compression. Only whole answers of 200 are touched; streams and problems pass.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re

from services.gateway.front.asgi import Event, Send

COMPRESS_FROM = 1024
IN_A_THREAD_FROM = 64 * 1024
LEVEL = 5
TAG_BYTES = 16
GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?P<q>[0-9.]+)\s*)?(?=,|$)", re.IGNORECASE)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether that header's value allows gzip."""
    found = GZIP.search(accept_encoding)
    return found is not None and (found["q"] is None or found["q"].strip("0.") != "")


def tag_of(body: bytes) -> str:
    return f'W/"{hashlib.blake2b(body, digest_size=TAG_BYTES).hexdigest()}"'


def has(if_none_match: str, tag: str) -> bool:
    """Whether that header's value names the tag; the comparison is the weak one (RFC 9110, section 8.8.3.2)."""
    names = {name.strip().removeprefix("W/") for name in if_none_match.split(",")}
    return "*" in names or tag.removeprefix("W/") in names


class Outgoing:
    """Stands before `send` for one GET or HEAD request; `headers` are the request's."""

    def __init__(self, send: Send, headers: dict[bytes, str], *, head: bool) -> None:
        self._send, self._headers, self._head = send, headers, head
        self._start: Event | None = None
        self._parts: list[bytes] = []

    async def __call__(self, event: Event) -> None:
        if event["type"] == "http.response.start":
            media = next((v for k, v in event["headers"] if k.lower() == b"content-type"), b"").partition(b";")[0]
            whole = media == b"application/json" or (media.endswith(b"+json") and media != b"application/problem+json")
            if whole and event["status"] == 200:
                self._start = event
                return
        elif self._start is not None:
            self._parts.append(event.get("body", b""))
            if not event.get("more_body", False):
                await self._answer(self._start, b"".join(self._parts))
            return
        elif self._head:
            event = {**event, "body": b""}
        await self._send(event)

    async def _answer(self, start: Event, body: bytes) -> None:
        tag = tag_of(body)
        headers = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
        headers += [
            (b"etag", tag.encode()),
            (b"cache-control", b"private, no-cache"),
            (b"vary", b"Accept-Encoding"),
        ]
        status = 200
        if has(self._headers.get(b"if-none-match", ""), tag):
            status, body = 304, b""
            headers = [(k, v) for k, v in headers if k.lower() != b"content-type"]
        else:
            if len(body) >= COMPRESS_FROM and takes_gzip(self._headers.get(b"accept-encoding", "")):
                headers.append((b"content-encoding", b"gzip"))
                body = await _compressed(body)
            headers.append((b"content-length", str(len(body)).encode()))
        await self._send({**start, "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": b"" if self._head else body})


async def _compressed(body: bytes) -> bytes:
    if len(body) < IN_A_THREAD_FROM:
        return gzip.compress(body, LEVEL, mtime=0)
    return await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)
