"""nats-py's client with its hot paths made synchronous and short; connecting, nkeys, TLS and reconnecting are nats-py's.

Measured on nats-py 2.16: a message in costs up to six regular expressions, a header parser that looks at every character in
Python, a queue and a task; a message out costs five coroutines, a future and a wake-up of the flusher. Here what was read is
split in one pass and each message of a direct subscription goes straight to its callback, and everything sent within one turn
of the event loop is one write.

Private names relied on: `_ps`, `_status`, `_transport`, `_pending`, `_pending_data_size`, `_max_pending_size`, `_max_payload`,
`_flush_queue`, `_process_msg`, `_parse_header_lines`, `_remove_sub`, `_error_cb`.
`tests/unit/test_wire.py` compares each path with nats-py's own, so a release that changes them fails there. Only `connection`
uses this module.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, Error, MaxPayloadError, OutboundBufferLimitError, ProtocolError
from nats.protocol.parser import Parser

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BLANK = " \t\n\r\x0b\x0c"
_BREAKS = {10: 32, 13: 32}
_GAP = re.compile(r"[ \t\r\n]")
LEAVE_S = 0.5
_words: set[str] = set()


class Raw(msgspec.Struct, gc=False):
    """A message as it came off the wire; `reply` and `head` (the header block) are empty where there are none.

    The broker lets almost any bytes be a subject: what is no UTF-8 in one comes as surrogates and can be sent on as it came.
    """

    subject: str
    reply: str
    data: bytes
    head: bytes = b""
    _headers: dict[str, str] | None = None

    @property
    def status(self) -> str:
        """The code of the server's inline status, such as 404; empty for an ordinary message."""
        return self.head[9:12].decode() if self.head[8:9] == b" " else ""

    @property
    def description(self) -> str:
        """What the server says beside its status."""
        return self.head.partition(b"\r\n")[0][13:].decode("utf-8", "replace") if self.status else ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers, read when first asked for; without the status."""
        if self._headers is None:
            self._headers = read_headers(self.head.partition(b"\r\n")[2]) if self.head else {}
        return self._headers


Take = Callable[[Raw], None]


def read_headers(lines: bytes) -> dict[str, str]:
    """`Name: value` lines; lines without a colon and names that are not one ASCII word are left out."""
    headers: dict[str, str] = {}
    for line in lines.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon:
            continue
        if name not in _words:
            words, name = name.split(), name.strip(_BLANK)
            if words != [name] or not name.isascii():
                continue
            if len(_words) < 256:  # there are few names, unless somebody makes them up
                _words.add(name)
        headers[name] = value.strip(_BLANK)
    return headers


def write_headers(headers: Mapping[str, str]) -> str:
    """The headers as lines; a line break in a value becomes a blank. Raises `ValueError` for a name that is none."""
    for name in headers:
        if not is_name(name):
            raise ValueError(f"{name!r} is no name of a header")
    return "".join([f"{name}: {value.strip().translate(_BREAKS)}\r\n" for name, value in headers.items()])


def is_name(name: str) -> bool:
    """Whether a header may have this name (RFC 9110, section 5.6.2: a token)."""
    return _NAME.fullmatch(name) is not None


class _Parser(Parser):
    """Splits what was read. Everything but messages is left to nats-py's own parser, a line at a time."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._rest = b""
        self._resets = 0
        super().__init__(client)

    def reset(self) -> None:
        super().reset()
        self._rest = b""
        self._resets += 1

    async def parse(self, data: bytes = b"") -> None:
        """Raises `ProtocolError`, upon which nats-py connects anew."""
        resets = self._resets
        data = self._rest + data if self._rest else bytes(data)
        at, end = 0, len(data)
        takers = self._client.takers
        while (line_end := data.find(b"\r\n", at)) >= 0:
            words = data[at:line_end].split(b" ")  # nothing else separates: other blanks may be part of a subject
            kind = words[0]
            if kind != b"MSG" and kind != b"HMSG":
                await self._line(data[at : line_end + 2])
                if resets != self._resets:
                    return
                at = line_end + 2
                continue
            start, most = line_end + 2, 6 if kind == b"HMSG" else 5
            try:
                sid, stop = int(words[2]), start + int(words[-1])
                body = start + int(words[-2]) if kind == b"HMSG" else start
            except (ValueError, IndexError) as error:
                raise ProtocolError(f"nats: malformed {kind!r}") from error
            if not most - 1 <= len(words) <= most or not start <= body <= stop:
                raise ProtocolError(f"nats: malformed {kind!r}")
            reply = words[3] if len(words) == most else b""
            if stop + 2 > end:
                break
            at = stop + 2
            head = data[start:body]
            take = takers.get(sid)
            try:
                if take is None:
                    await self._client._process_msg(sid, words[1], reply, data[body:stop], head)
                else:
                    subject = words[1].decode("utf-8", "surrogateescape")
                    take(Raw(subject, reply.decode("utf-8", "surrogateescape"), data[body:stop], head))
            except Exception as error:  # the reading loop must outlive a message
                await self._client._error_cb(error)
            if resets != self._resets:
                return
        self._rest = data[at:]

    async def _line(self, line: bytes) -> None:
        """A line that is no message, by nats-py's parser. Raises `ProtocolError`."""
        try:
            await super().parse(line)
        except ProtocolError:
            raise
        except Exception as error:  # such as an -ERR that is no UTF-8
            self.buf.clear()
            await self._client._error_cb(error)


class WireClient(Client):
    """See the module."""

    def __init__(self, *, tls_only: bool = False) -> None:
        super().__init__()
        self._tls_only = tls_only
        self.takers: dict[int, Take] = {}
        self._ps = self.parser(self)
        self._flushing = False

    @staticmethod
    def parser(client: Any) -> Parser:
        """The parser of what `client` reads; it hands messages to `client.takers` and all else to nats-py's methods."""
        return _Parser(client)

    async def subscribe_direct(self, subject: str, take: Take, queue: str = "") -> Subscription:
        """Subscribe; `take` is called by the reading loop itself, in order. What it raises goes to the error callback."""
        subscription = await self.subscribe(subject, queue)
        self.takers[subscription._id] = take
        return subscription

    async def leave(self) -> None:
        """Close, also when it was refused, for the socket would stay open; and when it never came as far as a socket.

        Of a socket whose TLS handshake failed asyncio never says that it is closed, and nats-py would wait for that.
        """
        if self._flush_queue is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self.close()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Raises where a server that is to speak TLS does not ask for it: nats-py would go on in the clear with whoever is in between."""
        if initial_connection and self._tls_only and not info.get("tls_required"):
            raise Error("nats: the server does not require TLS, and nothing is said to it in the clear")
        await super()._process_info(info, initial_connection)

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self.takers.pop(sid, None)

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        return read_headers(raw)

    def send(self, subject: str, data: bytes, reply: str = "", lines: str = "") -> None:
        """Publish without waiting: what is sent within one turn of the loop goes out together, in order.

        `lines` are the headers, as `write_headers` gives them. Without a connection it waits in the buffer for the next one.
        Raises nats-py's errors of a closed connection, a full buffer and a too large message, and `ValueError` for what is
        no subject.
        """
        self.send_raw(subject, data, reply, b"NATS/1.0\r\n%b\r\n" % lines.encode("utf-8", "replace") if lines else b"")

    def send_raw(self, subject: str, data: bytes, reply: str, head: bytes) -> None:
        """As `send`; `head` is the whole header block, a status too."""
        size = len(head) + len(data)
        if head:
            line = f"HPUB {subject} {reply} {len(head)} {size}\r\n"
            command = b"%b%b%b\r\n" % (line.encode("utf-8", "surrogateescape"), head, data)
        else:
            line = f"PUB {subject} {reply} {size}\r\n"
            command = b"%b%b\r\n" % (line.encode("utf-8", "surrogateescape"), data)
        if not subject or _GAP.search(subject) or _GAP.search(reply):
            raise ValueError(f"{subject!r} with reply {reply!r} is no subject to publish on")
        if size > self._max_payload:
            raise MaxPayloadError
        if self.is_closed:
            raise ConnectionClosedError
        if self._pending_data_size + len(command) > self._max_pending_size:
            raise OutboundBufferLimitError
        self._pending.append(command)
        self._pending_data_size += len(command)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush_turn)

    def forget_pending(self) -> None:
        """Give up what is still to be sent; without a connection nats-py cannot be closed while there is any."""
        self._pending = []
        self._pending_data_size = 0

    def _flush_turn(self) -> None:
        """Write what was sent in this turn; while the socket takes no more, nats-py's flusher waits for it and then does."""
        self._flushing = False
        if not self._pending or self._status != Client.CONNECTED or self._transport is None:
            return  # a connection that is being made flushes by itself
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None and writer.transport.get_write_buffer_size() == 0:
            writer.write(b"".join(self._pending))
            self._pending = []
            self._pending_data_size = 0
        elif self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())
