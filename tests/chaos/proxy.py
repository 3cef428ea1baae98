"""A TCP proxy before the broker that can hold, cut or slow what one service says and hears, known by the name it connects with."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from typing import Self

NAME = re.compile(rb"CONNECT (\{.*?\})\r\n")
CHUNK = 64 * 1024


class Weather:
    """How the network treats one client: nothing passes while `passing` is not set, and all of it comes `delay_s` later."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.passing = asyncio.Event()
        self.passing.set()
        self.delay_s = delay_s
        self.writers: set[asyncio.StreamWriter] = set()


class Proxy:
    """Listens on a port of the loopback and passes on to `upstream`, which may come and go; `delay_s` each way is everybody's at first."""

    def __init__(self, upstream: int, delay_s: float = 0.0) -> None:
        self.upstream, self.delay_s = upstream, delay_s
        self.port = 0
        self._weather: dict[str, Weather] = {}
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    def of(self, name: str) -> Weather:
        """The weather of one client, which need not be connected."""
        return self._weather.setdefault(name, Weather(self.delay_s))

    def cut(self, name: str) -> None:
        """End all connections of a client at once, without a word."""
        for writer in tuple(self.of(name).writers):
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.create_task(self._link(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, to_broker}
        weather = Weather()
        try:
            writer.write(await from_broker.readuntil(b"\r\n"))  # INFO, to which the client answers with its name
            said = b""
            while (found := NAME.search(said)) is None:
                if not (chunk := await reader.read(CHUNK)):
                    return
                said += chunk
            weather = self.of(json.loads(found[1]).get("name", ""))
            weather.writers |= pair
            to_broker.write(said)
            ways = [
                asyncio.create_task(_pass(reader, to_broker, weather)),
                asyncio.create_task(_pass(from_broker, writer, weather)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            weather.writers -= pair
            for end in pair:
                end.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, weather: Weather) -> None:
    """One direction, in order, until one side ends."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)

    async def read() -> None:
        while chunk := await reader.read(CHUNK):
            await waiting.put((loop.time() + weather.delay_s, chunk))

    async def write() -> None:
        while True:
            due, chunk = await waiting.get()
            await asyncio.sleep(due - loop.time())
            await weather.passing.wait()
            writer.write(chunk)
            await writer.drain()

    ways = [asyncio.create_task(read()), asyncio.create_task(write())]
    with suppress(OSError):
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
