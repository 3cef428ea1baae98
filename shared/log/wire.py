"""nats-py's client with its three hottest private paths made faster; everything else is nats-py's.

Measured on nats-py 2.16: reading a header looks at every character of every name in Python (two thirds of the CPU of a pull),
writing one translates every value (half of a publish), and every message goes through a queue and a task of its own. Here a
header block is decoded and split once, written in one join, and a message of a direct subscription goes straight to its callback.

Private names relied on: `_process_msg`, `_parse_header_lines`, `_send_publish`, `_send_command`, `_flush_pending`,
`_flush_queue`, `_process_headers`, `_remove_sub`, `_error_cb`. `tests/unit/test_wire.py` compares each path with
nats-py's own, so a release that changes them fails there. Only `connection` uses this module.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BLANK = " \t\n\r\x0b\x0c"
Take = Callable[[Msg], Awaitable[None]]


@lru_cache(256)
def _word(name: str) -> str:
    """The header name without blanks around it; empty when it is not one ASCII word."""
    words = name.split()
    return words[0] if len(words) == 1 and name.isascii() else ""


@lru_cache(256)
def _is_name(name: str) -> bool:
    """Whether nats-py writes the header name as it stands (RFC 9110, section 5.6.2: a token)."""
    return _NAME.fullmatch(name) is not None


class WireClient(Client):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._takers: dict[int, Take] = {}

    async def subscribe_direct(self, subject: str, take: Take) -> Subscription:
        """Subscribe; `take` is awaited by the reading loop itself, so it must not wait for an answer from the server."""
        subscription = await self.subscribe(subject)
        self._takers[subscription._id] = take
        return subscription

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self._takers.pop(sid, None)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        take = self._takers.get(sid)
        if take is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        parsed = await self._process_headers(headers) if headers else None
        try:
            await take(Msg(self, subject.decode(), reply.decode(), data, parsed))
        except Exception as error:  # the reading loop must outlive a callback, as it does nats-py's own
            await self._error_cb(error)

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """`Name: value` lines; lines without a colon and names that are not one ASCII word are left out."""
        headers: dict[str, str] = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon and (word := _word(name)):
                headers[word] = value.strip(_BLANK)
        return headers

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        if not headers or not subject:
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        block = "\r\n".join([f"{name}: {value.strip()}" for name, value in headers.items()])
        lines = len(headers) - 1
        if block.count("\n") != lines or block.count("\r") != lines or not all(map(_is_name, headers)):
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        head = b"NATS/1.0\r\n%b\r\n\r\n" % block.encode()
        line = f"HPUB {subject} {reply} {len(head)} {len(head) + payload_size}\r\n".encode()
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += payload_size
        await self._send_command(b"%b%b%b\r\n" % (line, head, payload))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()
