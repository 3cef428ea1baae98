"""Commands that the operator named: what a persona may say of one. What they run only the actuator is told, by the operator's file."""

from __future__ import annotations

import re

import msgspec

from shared.contracts.kinds.kind import ActionKind, Named, Problem, Whose
from shared.contracts.targets import Touched, a_command

MAX_OUTPUT_BYTES = 256 * 1024
MAX_ARGUMENTS = 32
MAX_ARGUMENT_CHARS = 1000
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_COMMAND = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")


class CommandRun(Named, frozen=True, kw_only=True):
    """The arguments by name, as the operator's row of the command has them."""


def _trouble(target: str, params: CommandRun) -> Problem | None:
    if not _COMMAND.fullmatch(target):
        return Problem(code="bad_target", detail="the target is the name of a command: up to 48 of a-z, 0-9 and -")
    if len(params.arguments) > MAX_ARGUMENTS:
        return Problem(code="bad_params", detail=f"{len(params.arguments)} arguments, the limit is {MAX_ARGUMENTS}")
    for name, value in params.arguments.items():
        if not _NAME.fullmatch(name):
            return Problem(code="bad_params", detail=f"{name[:40]!r} is no name of an argument")
        if isinstance(value, str) and (len(value) > MAX_ARGUMENT_CHARS or not value.isprintable()):
            return Problem(code="bad_params", detail=f"{name} must be up to {MAX_ARGUMENT_CHARS} printable characters")
    return None


def _touches(target: str, params: CommandRun, whose: Whose) -> Touched | None:
    return a_command(target, msgspec.json.encode(params.arguments, order="sorted").decode())


def _dry_run(target: str, params: CommandRun) -> str:
    given = ", ".join(f"{name}={value}" for name, value in sorted(params.arguments.items()))
    return f"would run the command {target} with {given or 'no arguments'}"


KINDS: dict[str, ActionKind] = {
    "command.run": ActionKind(
        about="run a command that the operator named, in a sandbox; the target is its name, the parameters its arguments",
        hand="commands",
        params=CommandRun,
        risk="high",
        reversible=False,
        blast_radius="outside",
        idempotency="fenced",
        timeout_ms=120_000,
        output_bytes=MAX_OUTPUT_BYTES,
        trouble=_trouble,
        touches=_touches,
        exclusive=True,
        outward=True,
        dry_run=_dry_run,
    ),
}
