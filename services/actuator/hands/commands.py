"""Commands that the operator named, with arguments within their bounds, in a sandbox; none other, and none without it.

A row of the operator's file (TOML, `[commands.<name>]`) is the whole argument vector, where `{name}` stands for an argument; no shell
reads it, and no text argument may begin with a dash. What it may read, write and reach is the row's, and nothing by default.

What can be told afterwards: a receipt is placed before the process is begun, so an inquiry fences off what was not. What was cut off
by the clock or by a death is a failure where it could change nothing (no path to write, no network), and unknown where it could. What
it said is the outcome's `output`, where it is text: an outsider's words.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from services.actuator.hands.begun import begin, fenced
from services.actuator.hands.hand import Task, cannot_tell, failed, told
from services.actuator.hands.receipts import Receipts
from services.actuator.terms import Outcome
from shared.contracts.action import Scalar
from shared.contracts.events import Receipt
from shared.contracts.ids import Token
from shared.contracts.kinds.arguments import Argument, flaw_of, trouble_of
from shared.contracts.kinds.commands import MAX_OUTPUT_BYTES, CommandRun
from shared.outside.sandbox import Confined, NoSandbox, available, run
from shared.settings import SettingsError

_HOLE = re.compile(r"\{([a-z][a-z0-9_]{0,31})\}")
_MEGABYTE = 1024 * 1024
Absolute = Annotated[str, Meta(pattern=r"^/[^\0]*$", max_length=1024)]


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row. `about` is for people; the rest is what it runs, and what it may."""

    about: str
    argv: Annotated[tuple[str, ...], Meta(min_length=1, max_length=64)]
    parameters: dict[str, Argument] = {}
    read: tuple[Absolute, ...] = ()
    write: tuple[Absolute, ...] = ()
    network: bool = False
    timeout_s: Annotated[float, Meta(gt=0, le=110)] = 20.0
    output_bytes: Annotated[int, Meta(ge=0, le=MAX_OUTPUT_BYTES)] = 16 * 1024
    memory_mb: Annotated[int, Meta(ge=16, le=64 * 1024)] = 512
    file_mb: Annotated[int, Meta(ge=0, le=64 * 1024)] = 16

    @property
    def changes(self) -> bool:
        """Whether it could change anything outside."""
        return bool(self.write) or self.network

    def filled(self, arguments: dict[str, Scalar]) -> tuple[str, ...] | str:
        """The argument vector, or in a sentence what is wrong with the arguments."""
        if dashed := [name for name, value in arguments.items() if isinstance(value, str) and value.startswith("-")]:
            return f"{dashed[0]} begins with a dash"
        if trouble := trouble_of(self.parameters, arguments):
            return trouble
        return tuple(_HOLE.sub(lambda hole: str(arguments[hole[1]]), part) for part in self.argv)


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    commands: dict[Token, Command] = {}


def commands_of(path: str) -> dict[str, Command]:
    """The rows of the operator's file; none where none is named. Raises `SettingsError`."""
    if not path:
        return {}
    try:
        rows = msgspec.convert(tomllib.loads(Path(path).read_text(encoding="utf-8")), _File).commands
    except (OSError, ValueError) as error:
        raise SettingsError(f"commands.file={path}: {error}") from error
    for name, row in rows.items():
        if flaw := _flaw(row):
            raise SettingsError(f"commands.file={path}: {name}: {flaw}")
    return rows


def _flaw(row: Command) -> str:
    holes = {hole for part in row.argv for hole in _HOLE.findall(part)}
    if not row.argv[0].startswith("/") or _HOLE.search(row.argv[0]):
        return "argv begins with the whole path of a program"
    if odd := sorted(holes ^ row.parameters.keys()):
        return f"argv and parameters differ in {odd[0]}"
    if loose := [name for name, argument in row.parameters.items() if argument.optional or argument.many]:
        return f"{loose[0]} can be neither optional nor many"
    return flaw_of(row.parameters)


class CommandHand:
    """Runs the rows it has. `trouble` says why it runs none, if so; `look` finds out."""

    def __init__(self, rows: dict[str, Command], receipts: Receipts) -> None:
        self._rows, self._receipts = rows, receipts
        self.trouble: str | None = None

    async def look(self) -> None:
        """Whether there is a sandbox, where there is anything to run."""
        try:
            if self._rows:
                await available()
            self.trouble = None
        except (NoSandbox, OSError) as error:
            self.trouble = f"no command is run: {error}"

    async def act(self, task: Task) -> Outcome:
        arguments, row = _arguments(task), self._rows.get(task.target)
        if row is None:
            return failed("unknown_command", f"the operator has named no command {task.target}")
        argv = row.filled(arguments)
        if isinstance(argv, str):
            return failed("bad_params", f"{task.target}: {argv}")
        await self.look()
        if self.trouble is not None:
            return failed("no_sandbox", self.trouble)
        if (refused := await begin(self._receipts, task)) is not None:
            return refused
        confined = Confined(
            argv=argv,
            read=row.read,
            write=row.write,
            network=row.network,
            timeout_s=min(row.timeout_s, task.timeout_s),
            output_bytes=row.output_bytes,
            memory_bytes=row.memory_mb * _MEGABYTE,
            file_bytes=row.file_mb * _MEGABYTE,
        )
        try:
            ended = await run(confined)
        except OSError as error:
            return failed("not_begun", f"{task.target}: {error.strerror}")
        digest = hashlib.sha256(ended.output).hexdigest()
        receipt = Receipt(
            target=task.target, sha256=None if ended.cut else digest, size_bytes=len(ended.output), status=ended.status
        )
        said = f"{task.target} said {len(ended.output)} bytes" + (", cut off there" if ended.cut else "")
        output = told(ended.output, cut=ended.cut)
        if ended.status is None:
            cut = _interrupted(row, f"{said}, and was ended after {confined.timeout_s:g} s", receipt)
            return msgspec.structs.replace(cut, output=output)
        said += f", and ended with {ended.status}"
        if ended.status == 0:
            return Outcome(outcome="success", summary=said, receipt=receipt, output=output)
        return Outcome(outcome="failure", summary=said, error="exit_status", receipt=receipt, output=output)

    async def inquire(self, task: Task) -> Outcome:
        if (not_begun := await fenced(self._receipts, task)) is not None:
            return not_begun
        row = self._rows.get(task.target)
        if row is None:
            return cannot_tell(f"it began, and the operator has no command {task.target} any more")
        return _interrupted(row, f"{task.target} began, and nobody saw its end")


def _interrupted(row: Command, said: str, receipt: Receipt | None = None) -> Outcome:
    if row.changes:
        return Outcome(outcome="unknown", summary=said, error="interrupted", receipt=receipt)
    return Outcome(outcome="failure", summary=f"{said}; it could change nothing", error="interrupted", receipt=receipt)


def _arguments(task: Task) -> dict[str, Scalar]:
    if not isinstance(task.params, CommandRun):
        raise TypeError(f"{type(task.params).__name__} is no command")
    return task.params.arguments
