"""One conversation with an MCP server: what its tool says of itself, and one call of it, within bounds.

Theory of operation. A conversation is begun for one call and ended with it, so no server knows of two personas at once. What the row
pins is compared right before the call. Whatever the server asks back (sampling, elicitation, roots, more input) is refused, by offering
none of it. Its answer is text for a persona, and no more: what is no text is named by its kind and size.

A process is in the sandbox and sees no environment of ours. A server of its own is connected to at an address that was checked
(`reaching`), and no redirect leads elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import rfc8785

from shared.outside.mcp.servers import Server

MAX_TOOLS, MAX_PAGES = 1000, 20
NAME = "perpetual-persona-swarms"
T = TypeVar("T")


class NoServer(Exception):
    """It cannot be talked to, or not any more. The message says why."""


class Refused(Exception):
    """The server said that it does not do it, or asked back, which is refused; the message says what."""


class Answered(msgspec.Struct, frozen=True):
    """What a tool answered, as text. `failed`: it calls that an error."""

    text: str
    failed: bool = False


class About(msgspec.Struct, frozen=True):
    """What a server says of one of its tools, and the digest that rows pin."""

    name: str
    description: str
    schema: str
    digest: str


def digest_of(name: str, description: str | None, schema: object) -> str:
    """SHA-256 of RFC 8785 JSON over what a tool is called, says of itself and takes. Raises `ValueError` where JSON cannot carry it."""
    said: dict[str, Any] = {"description": description or "", "inputSchema": schema, "name": name}
    try:
        return hashlib.sha256(rfc8785.dumps(said)).hexdigest()
    except rfc8785.CanonicalizationError as error:
        raise ValueError(f"what {name} says of itself cannot be hashed: {error}") from error


class Talk:
    """A conversation that was begun by `talk`."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def tools(self) -> list[About]:
        """All it has, as many as are looked at. Raises `NoServer`."""
        from mcp import MCPError
        from mcp_types import PaginatedRequestParams

        found: list[About] = []
        cursor: str | None = None
        try:
            for _ in range(MAX_PAGES):
                page = await self._session.list_tools(params=PaginatedRequestParams(cursor=cursor))
                for tool in page.tools[: MAX_TOOLS - len(found)]:
                    digest = digest_of(tool.name, tool.description, tool.input_schema)
                    schema = msgspec.json.encode(tool.input_schema).decode()
                    found.append(About(tool.name, tool.description or "", schema, digest))
                cursor = page.next_cursor
                if not cursor or len(found) >= MAX_TOOLS:
                    break
        except (MCPError, ValueError) as error:
            raise NoServer(f"it does not tell its tools: {error}") from error
        return found

    async def call(self, tool: str, arguments: dict[str, Any], output_bytes: int) -> Answered:
        """Raises `Refused`; anything else raised leaves open what it did."""
        from mcp import MCPError
        from mcp_types import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, InputRequiredResult

        try:
            result = await self._session.call_tool(tool, arguments, allow_input_required=True)
        except MCPError as error:
            if error.code in (INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND):
                raise Refused(f"{error.code}: {error.message}") from error
            raise
        if isinstance(result, InputRequiredResult):
            raise Refused("it asks for more before it does anything, which nobody answers")
        said = [_text(block) for block in result.content]
        if not said and result.structured_content is not None:
            said = [msgspec.json.encode(result.structured_content).decode()]
        text = "\n".join(said)
        return Answered(
            text.encode(errors="replace")[: output_bytes + 1].decode(errors="ignore"), bool(result.is_error)
        )


def _text(block: Any) -> str:
    match block.type:
        case "text":
            return str(block.text)
        case "image" | "audio":
            return f"[{block.type} {block.mime_type}, {len(base64.b64decode(block.data, validate=False))} bytes]"
        case "resource" if hasattr(block.resource, "text"):
            return str(block.resource.text)
        case _:
            return f"[{block.type} {getattr(block, 'uri', '')}]"


async def talk(server: Server, timeout_s: float, say: Callable[[Talk], Awaitable[T]]) -> T:
    """What comes of `say`, in a conversation of its own that ends within `timeout_s`. Raises `Refused` where `say` does, and `NoServer` for
    whatever else: whoever says something that matters in it knows whether that was said."""
    try:
        from mcp.client.session import ClientSession
        from mcp_types import Implementation
    except ImportError as error:
        raise NoServer("the extra `mcp` is not installed: pip install 'perpetual-persona-swarms[mcp]'") from error
    from shared.outside.mcp.transports import by_http, by_process

    class Session(ClientSession):
        async def validate_tool_result(self, name: str, result: object) -> None:
            """What it answers is an outsider's text, whatever shape it promised."""

    streams = by_process(server, timeout_s) if server.argv else by_http(server)
    said: list[T] = []
    raised: Refused | None = None
    try:
        async with (
            asyncio.timeout(timeout_s),
            streams as (read, write),
            Session(read, write, client_info=Implementation(name=NAME, version="1")) as session,
        ):
            await session.initialize()
            try:
                said.append(await say(Talk(session)))
            except Refused as error:  # raised when the conversation is closed: a task group would wrap it
                raised = error
    except Exception as error:
        if not said and raised is None:
            raise NoServer(_why(error)) from error
    if raised is not None:
        raise raised
    return said[0]


def _why(error: BaseException) -> str:
    """The first cause of a group, in a sentence."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    said = str(error) or type(error).__name__
    return "it does not answer in time" if isinstance(error, TimeoutError) else said[:500]
