"""The operator's file of MCP servers (TOML): how each is reached, and a row for each tool of it that may be called.

[servers.files]                       a process in the sandbox, talked to over its standard input and output
argv = ["/usr/bin/mcp-files", "/srv"]
read = ["/srv"]
[servers.wiki]                        or a server of its own, over HTTP
url = "https://wiki.example.org/mcp"
[servers.files.tools.read_file]
digest = "…"                          as `swarm mcp tools` prints it
risk = "low"
reads = true
outward = false
arguments.path.like = "[a-z/]+"
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.contracts.action import Action
from shared.contracts.events.common import Risk
from shared.contracts.ids import Sha256, Token
from shared.contracts.kinds.arguments import Argument, flaw_of, trouble_of
from shared.contracts.kinds.http import url_trouble
from shared.contracts.kinds.tools import ARGUMENT, MAX_OUTPUT_BYTES, TOOL
from shared.contracts.row import Row
from shared.settings import SettingsError

Absolute = Annotated[str, Meta(pattern=r"^/[^\0]*$", max_length=1024)]


class Tool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row. `digest` pins what the server says of the tool; the rest is what it may be told, and how what it does is judged, by default
    as badly as may be."""

    digest: Sha256
    about: Annotated[str, Meta(max_length=300)] = ""
    arguments: dict[Annotated[str, Meta(pattern=f"^{ARGUMENT}$")], Argument] = {}
    risk: Risk = "high"
    reads: bool = False
    outward: bool = True
    exclusive: bool = True
    reversible: bool = False
    cost_microusd: Annotated[int, Meta(ge=0, le=2**53)] = 0
    timeout_s: Annotated[float, Meta(gt=0, le=110)] = 30.0
    output_bytes: Annotated[int, Meta(ge=0, le=MAX_OUTPUT_BYTES)] = 64 * 1024


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one is reached: `argv` whole, with what it may read, write and reach; or `url`, which may have a private address where
    `private`, with the token in `token_file` as its bearer."""

    argv: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    read: tuple[Absolute, ...] = ()
    write: tuple[Absolute, ...] = ()
    network: bool = False
    memory_mb: Annotated[int, Meta(ge=16, le=64 * 1024)] = 1024
    file_mb: Annotated[int, Meta(ge=0, le=64 * 1024)] = 16
    url: Annotated[str, Meta(max_length=1024)] = ""
    private: bool = False
    token_file: str = ""
    tools: dict[Annotated[str, Meta(pattern=f"^{TOOL}$")], Tool] = {}


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    servers: dict[Token, Server] = {}


class Named(msgspec.Struct, frozen=True):
    """A tool that has a row, and the server it is of."""

    name: str
    server: Server
    tool: Tool

    @property
    def row(self) -> Row:
        """What is judged by it; its digest is of all that the operator said of it and of how it is reached."""
        how = msgspec.structs.replace(self.server, tools={})
        said = msgspec.json.encode([self.name, how, self.tool], order="sorted")
        return Row(
            digest=hashlib.sha256(said).hexdigest(),
            risk=self.tool.risk,
            reads=self.tool.reads,
            outward=self.tool.outward,
            exclusive=self.tool.exclusive,
            reversible=self.tool.reversible,
            cost_microusd=self.tool.cost_microusd,
        )


def servers_of(path: str) -> dict[str, Server]:
    """The servers of the operator's file; none where none is named. Raises `SettingsError`."""
    if not path:
        return {}
    try:
        servers = msgspec.convert(tomllib.loads(Path(path).read_text(encoding="utf-8")), _File).servers
    except (OSError, ValueError) as error:
        raise SettingsError(f"mcp.file={path}: {error}") from error
    for name, server in servers.items():
        if flaw := _flaw(server):
            raise SettingsError(f"mcp.file={path}: {name}: {flaw}")
    return servers


def _flaw(server: Server) -> str:
    if bool(server.argv) == bool(server.url):
        return "has one of argv, url"
    if server.argv and not server.argv[0].startswith("/"):
        return "argv begins with the whole path of a program"
    if server.url and (why := url_trouble(server.url)):
        return why
    for name, tool in server.tools.items():
        if tool.reads and tool.risk not in ("low", "medium"):
            return f"{name} reads alone, and so is of low or medium risk"
        if why := flaw_of(tool.arguments):
            return f"{name}: {why}"
    return ""


def named(servers: Mapping[str, Server], target: str) -> Named | None:
    """The tool of that target, if it has a row."""
    server, _, tool = target.partition("/")
    found = servers.get(server)
    if found is None or tool not in found.tools:
        return None
    return Named(target, found, found.tools[tool])


def row_of(servers: Mapping[str, Server], action: Action) -> Row | str:
    """What is judged by, or in a sentence why there is nothing."""
    found = named(servers, action.target)
    if found is None:
        return f"the operator has named no tool {action.target}"
    return trouble_of(found.tool.arguments, action.params) or found.row
