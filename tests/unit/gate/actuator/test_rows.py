"""What the operator named is said to the mesh once, without how it is done."""

from __future__ import annotations

import msgspec

from services.actuator.hands.commands import Command
from services.actuator.rows import declare, declared, of_commands
from shared.contracts.envelope import MAX_BODY_BYTES
from shared.contracts.events import RowsDeclared
from shared.contracts.kinds.arguments import Argument
from shared.log.memory import MemoryLog

ROWS = {
    "logs": Command(
        about="the last lines of a service",
        argv=("/usr/bin/tail", "-n", "{lines}", "/var/log/{service}.log"),
        parameters={"lines": Argument(least=1, most=200), "service": Argument(one_of=("web", "db"))},
    )
}


async def test_it_is_said_again_only_when_it_is_different() -> None:
    log = MemoryLog()
    event = declared(of_commands(ROWS, None))
    said = [await declare(log, event, source="actuator") for _ in range(2)]
    gone = declared([])
    assert ([True, False], True, False) == (
        said,
        await declare(log, gone, source="actuator"),
        await declare(log, gone, source="actuator"),
    )
    assert [event, gone] == [recorded.event for recorded in log.store.records]


async def test_who_has_no_rows_and_never_had_any_says_nothing() -> None:
    log = MemoryLog()
    assert not await declare(log, declared([]), source="actuator") and [] == log.store.records


def test_people_and_personas_are_told_the_arguments_and_not_the_vector() -> None:
    event = declared(of_commands(ROWS, "no command is run: no bwrap"))
    (row,) = event.rows
    assert ("command.run", "logs", "the last lines of a service") == (row.kind, row.target, row.about)
    assert [("lines", "integer", "a number of 1 to 200"), ("service", "string", "one of web, db")] == [
        (one.name, one.type, one.about) for one in row.arguments
    ]
    assert b"tail" not in msgspec.json.encode(event) and "no bwrap" in row.trouble


def test_what_there_is_no_room_for_is_counted() -> None:
    many = {f"c{n}": Command(about="x" * 300, argv=("/usr/bin/true",)) for n in range(400)}
    event = declared(of_commands(many, None))
    assert isinstance(event, RowsDeclared) and len(event.rows) + event.left_out == 400 and event.left_out > 0
    assert len(msgspec.json.encode(event)) < MAX_BODY_BYTES
