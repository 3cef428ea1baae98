"""The event stream of the API as an async iterator that survives disconnects (Server-Sent Events with `Last-Event-ID`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import msgspec

from services.cli.terminal.report import StreamEvent
from services.cli.terminal.target import refusal

_DECODER = msgspec.json.Decoder(StreamEvent)
READ_TIMEOUT_S = 40.0
"""The API sends a comment every 15 s."""


async def events(client: httpx.AsyncClient, *, opened: Callable[[], None] = lambda: None) -> AsyncIterator[StreamEvent]:
    """Events from now on, without loss or repeat over reconnects. `opened` is called at each connect. Raises `Stop` when refused."""
    last_id = ""
    wait_s = 0.1
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        timeout = httpx.Timeout(10.0, read=READ_TIMEOUT_S)
        try:
            async with client.stream("GET", "/v1/cognition/stream", headers=headers, timeout=timeout) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    if answer.status_code not in (429, 500, 502, 503, 504):
                        raise refusal(answer)
                else:
                    opened()
                    wait_s = 0.1
                    name, data = "", ""
                    async for line in answer.aiter_lines():
                        field, _, value = line.partition(":")
                        value = value.removeprefix(" ")
                        match field:
                            case "id" if line:
                                last_id = value
                            case "event":
                                name = value
                            case "data":
                                data = value
                            case "retry" if value.isascii() and value.isdigit():
                                wait_s = int(value) / 1000
                            case "" if not line:
                                if name == "cognition" and data:
                                    yield _DECODER.decode(data)
                                name = data = ""
        except httpx.TransportError:
            pass  # the loop is the remedy: connect again where we were
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, 2.0)
