"""How an MCP server is talked to: over the standard streams of a process in the sandbox, or by HTTP at an address that was checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError

from shared.outside.addresses import is_public, resolved
from shared.outside.mcp.servers import Server
from shared.outside.sandbox import Confined, begin, end

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

MESSAGE_BYTES = 4 * 1024 * 1024
"""Of one message of a server, or of one answer to a request."""
MEGABYTE = 1024 * 1024
HTTP_S, CONNECT_S = 60.0, 5.0


@asynccontextmanager
async def by_process(server: Server, timeout_s: float) -> AsyncIterator[TransportStreams]:
    """A process of its own, ended with the conversation. What it says that is no message, or too long to be one, ends that."""
    confined = Confined(
        argv=server.argv,
        read=server.read,
        write=server.write,
        network=server.network,
        timeout_s=timeout_s,
        output_bytes=MESSAGE_BYTES,
        memory_bytes=server.memory_mb * MEGABYTE,
        file_bytes=server.file_mb * MEGABYTE,
    )
    process = await begin(confined, talks=True)
    heard, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, to_say = anyio.create_memory_object_stream[SessionMessage](0)
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def hear() -> None:
        with suppress(ValueError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with heard:
                while line := await stdout.readline():  # ValueError: a line too long
                    with suppress(ValidationError):
                        await heard.send(SessionMessage(jsonrpc_message_adapter.validate_json(line)))

    async def speak() -> None:
        with suppress(OSError, anyio.ClosedResourceError):
            async with to_say:
                async for message in to_say:
                    said = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                    stdin.write(said.encode() + b"\n")
                    await stdin.drain()
        heard.close()

    tasks = [asyncio.create_task(hear()), asyncio.create_task(speak())]
    try:
        async with read, write:
            yield read, write
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await end(process)


@asynccontextmanager
async def by_http(server: Server) -> AsyncIterator[TransportStreams]:
    """A server of its own."""
    headers = {"User-Agent": "perpetual-persona-swarms"}
    if server.token_file:
        token = await asyncio.to_thread(Path(server.token_file).read_text, "utf-8")
        headers["Authorization"] = f"Bearer {token.strip()}"
    client = httpx2.AsyncClient(
        transport=Checked(server.private),
        headers=headers,
        timeout=httpx2.Timeout(HTTP_S, connect=CONNECT_S),
        trust_env=False,
    )
    async with client, streamable_http_client(server.url, http_client=client) as streams:
        yield streams


class Checked(httpx2.AsyncBaseTransport):
    """Connects to public addresses alone, or where `private` to any of the host's: to one that was looked at, for nothing is resolved
    twice. No answer is longer than is read of it."""

    def __init__(self, private: bool) -> None:
        self._private = private
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False, retries=0)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises `httpx2.ConnectError` for an address that it may not have."""
        try:
            addresses = await resolved(request.url.host)
        except OSError as error:
            raise httpx2.ConnectError(f"{request.url.host}: {error}") from error
        inside = [address for address in addresses if not is_public(address)]
        if not addresses or (inside and not self._private):
            where = f"leads to {inside[0]}, which is not public" if inside else "has no address"
            raise httpx2.ConnectError(f"{request.url.host} {where}")
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.headers.setdefault("Host", request.url.netloc.decode("ascii"))
        request.url = request.url.copy_with(host=addresses[0])
        response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Cut(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Cut(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MESSAGE_BYTES
        async for chunk in self._inner:
            left -= len(chunk)
            if left < 0:
                raise httpx2.ReadError(f"it answers more than the {MESSAGE_BYTES} bytes that are read")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
