"""What the operator's files name, said to the mesh: so that people are shown it, and personas propose it with the right arguments.

How a row is done (argument vectors, paths, to whom) is told to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from services.actuator.hands.commands import Command
from shared.contracts.envelope import MAX_BODY_BYTES, Message, Recorded, enveloped
from shared.contracts.events import DeclaredRow, RowArgument, RowsDeclared
from shared.contracts.ids import EVERYONE, fresh_id, utc_now
from shared.contracts.kinds.arguments import MAX_ARGUMENTS, Argument
from shared.contracts.text import plain
from shared.log.port import Expect, Log, StaleBoundary
from shared.outside.mcp.servers import Server
from shared.outside.notices import Notice
from shared.outside.subjects import Subject

BOUNDARY = f"rows.declared.{EVERYONE}.{EVERYONE}"
ROOM = MAX_BODY_BYTES // 2
"""Bytes of all rows together; what is beyond it is counted."""


def of_commands(rows: Mapping[str, Command], trouble: str | None) -> list[DeclaredRow]:
    """The commands, by name. `trouble`: why none is run now."""
    return [_row("command.run", name, row.about, row.parameters, trouble) for name, row in sorted(rows.items())]


def of_tools(servers: Mapping[str, Server], trouble: str | None) -> list[DeclaredRow]:
    """The tools, by server and name. `trouble`: why none of a server that is a process is called now."""
    return [
        _row("mcp.call", f"{server}/{name}", tool.about, tool.arguments, trouble if how.argv else None)
        for server, how in sorted(servers.items())
        for name, tool in sorted(how.tools.items())
    ]


def of_subjects(rows: Mapping[str, Subject]) -> list[DeclaredRow]:
    """The subjects, by name."""
    return [_row("nats.publish", name, row.about, row.arguments, None) for name, row in sorted(rows.items())]


def of_notices(rows: Mapping[str, Notice]) -> list[DeclaredRow]:
    """The notices, by name; not to whom they go."""
    return [_row("notice.send", name, row.about, row.arguments, None) for name, row in sorted(rows.items())]


def _row(kind: str, target: str, about: str, arguments: Mapping[str, Argument], trouble: str | None) -> DeclaredRow:
    return DeclaredRow(
        kind=kind,
        target=target,
        about=plain(about, 300),
        trouble=plain(trouble or "", 300),
        arguments=tuple(
            RowArgument(
                name=name,
                type=argument.type,
                required=not argument.optional,
                about=plain(argument.said, 300),
            )
            for name, argument in arguments.items()
        )[:MAX_ARGUMENTS],
    )


def declared(rows: list[DeclaredRow]) -> RowsDeclared:
    """As many of them as there is room for."""
    kept, size = 0, 0
    for row in rows:
        size += len(msgspec.json.encode(row))
        if size > ROOM:
            break
        kept += 1
    return RowsDeclared(
        swarm=EVERYONE,
        persona=EVERYONE,
        rows=tuple(rows[:kept]),
        left_out=len(rows) - kept,
    )


async def declare(log: Log, event: RowsDeclared, *, source: str) -> bool:
    """Say it, unless it is what was said last; whether it was said. Raises `LogUnavailable`."""
    while True:
        (end,) = await log.ends((BOUNDARY,))
        last = (await log.last((BOUNDARY,)))[-1:] if end else ()
        if not last and not event.rows:
            return False
        if last and isinstance(last[0], Recorded) and last[0].event == event:
            return False
        message = Message(event=event, envelope=enveloped(fresh_id(), source=source, time=utc_now()))
        try:
            await log.commit([message], [Expect(BOUNDARY, end)])
        except StaleBoundary:
            continue
        return True
