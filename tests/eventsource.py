"""An `EventSource` as browsers have it (WHATWG HTML, section 9.2): parses bytes, reconnects, and gives up where a browser does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import msgspec

LINE_END = re.compile(rb"\r\n|\n|\r")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What a listener is given."""

    type: str
    data: str
    last_event_id: str


class EventSource:
    """Events from `url` until `close`, over any number of connections.

    `failed` is why it gave up for ever: any status but 200, or another media type. A broken or refused connection, and a
    stream's end, are followed by another attempt after the reconnection time, with `Last-Event-ID`.
    """

    def __init__(self, url: str, *, reconnect_s: float = 0.2) -> None:
        self.url = url
        self.reconnect_s = reconnect_s
        self.last_event_id = ""
        self.failed: str | None = None
        self.opens = 0
        self.comments: list[str] = []
        self.seen: list[Event] = []
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._run())

    async def __aenter__(self) -> EventSource:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def has(self, last_event_id: str | int, timeout_s: float = 60.0) -> list[Event]:
        """All events seen, once one of that id is among them. Raises `AssertionError` when it gave up before."""
        async with asyncio.timeout(timeout_s), self._changed:
            while not any(e.last_event_id == str(last_event_id) for e in reversed(self.seen)):
                assert self.failed is None, self.failed
                await self._changed.wait()
        return self.seen

    async def opened(self, times: int, timeout_s: float = 60.0) -> None:
        """Returns at the so manieth open connection. Raises `AssertionError` when it gave up before."""
        async with asyncio.timeout(timeout_s), self._changed:
            while self.opens < times:
                assert self.failed is None, self.failed
                await self._changed.wait()

    async def _run(self) -> None:
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=httpx.Timeout(5, read=None)) as client:
            while self.failed is None:
                headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
                if self.last_event_id:
                    headers["Last-Event-ID"] = self.last_event_id
                try:
                    async with client.stream("GET", self.url, headers=headers) as answer:
                        media = answer.headers.get("content-type", "").partition(";")[0]
                        async with self._changed:
                            if answer.status_code != 200 or media != "text/event-stream":
                                self.failed = f"{answer.status_code} {media}"
                            self.opens += self.failed is None
                            self._changed.notify_all()
                        if self.failed is None:
                            await self._read(answer.aiter_raw())
                except httpx.TransportError:
                    pass
                await asyncio.sleep(self.reconnect_s)

    async def _read(self, chunks: AsyncIterator[bytes]) -> None:
        buffer, started = b"", False
        kind, data, event_id = "", [], self.last_event_id
        async for chunk in chunks:
            buffer += chunk
            if not started:
                started, buffer = True, buffer.removeprefix(b"\xef\xbb\xbf")
            *lines, buffer = LINE_END.split(buffer)
            for line in (raw.decode() for raw in lines):
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if line == "":
                    self.last_event_id = event_id
                    if data:
                        await self._dispatch(
                            Event(type=kind or "message", data="\n".join(data), last_event_id=event_id)
                        )
                    kind, data = "", []
                elif field == "":
                    self.comments.append(value)
                elif field == "event":
                    kind = value
                elif field == "data":
                    data.append(value)
                elif field == "id" and "\0" not in value:
                    event_id = value
                elif field == "retry" and value.isascii() and value.isdigit():
                    self.reconnect_s = int(value) / 1000

    async def _dispatch(self, event: Event) -> None:
        async with self._changed:
            self.seen.append(event)
            self._changed.notify_all()
