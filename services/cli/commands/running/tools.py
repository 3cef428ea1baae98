"""`swarm mcp`: what the servers of an operator's file have, and the digests its rows pin."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from services.cli.terminal.output import emit, say, table
from services.cli.terminal.target import FAILED, NEAR, OK, USAGE, Place, Stop
from shared.outside.mcp.servers import Server, servers_of
from shared.outside.mcp.session import About, NoServer, Talk, talk
from shared.outside.sandbox import NoSandbox, available
from shared.settings import SettingsError

mcp = App(
    name="mcp", help="The MCP servers whose tools personas may ask to call, by the operator's file (`SWARM_MCP_FILE`)."
)
ASKED_S = 30.0


@mcp.command
def tools(
    file: Annotated[Path, Parameter(help="The operator's file: a server needs no rows to be asked what it has.")],
    server: Annotated[str | None, Parameter(help="This one alone.")] = None,
    *,
    place: Place = NEAR,
) -> int:
    """Ask the servers for their tools: what each says of itself, the digest to pin, and where a row pins another one."""
    try:
        servers = servers_of(str(file))
    except SettingsError as error:
        raise Stop(str(error), USAGE) from None
    if server is not None and server not in servers:
        raise Stop(f"{file} has {', '.join(servers) or 'no server'}", USAGE)
    rows: list[dict[str, object]] = []
    trouble: list[str] = []
    for name, one in servers.items():
        if server not in (None, name):
            continue
        try:
            for about in asyncio.run(_asked(one)):
                rows.append({"tool": f"{name}/{about.name}", "row": _row(one, about), **_told(about)})
        except (NoServer, NoSandbox, OSError) as error:
            trouble.append(f"{name}: {error}")
    if place.json:
        emit({"tools": rows, "trouble": trouble})
    else:
        table(
            rows, {"tool": "TOOL", "row": "ROW", "digest": "DIGEST", "description": "WHAT IT SAYS"}, nothing="no tools"
        )
        for line in trouble:
            say(line)
    return FAILED if trouble or any(row["row"] == "differs" for row in rows) else OK


async def _asked(server: Server) -> list[About]:
    if server.argv:
        await available()

    async def say(talk: Talk) -> list[About]:
        return await talk.tools()

    return await talk(server, ASKED_S, say)


def _row(server: Server, about: About) -> str:
    row = server.tools.get(about.name)
    return "none" if row is None else "pins it" if row.digest == about.digest else "differs"


def _told(about: About) -> dict[str, object]:
    return {"digest": about.digest, "description": about.description, "schema": about.schema}
