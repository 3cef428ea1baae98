"""Tools of MCP servers that the operator named: what a persona may say of one. How they are reached stands in the operator's file."""

from __future__ import annotations

import re

import msgspec

from shared.contracts.action import Scalar
from shared.contracts.events.common import Risk
from shared.contracts.kinds.arguments import MAX_ARGUMENTS, MAX_CHARS
from shared.contracts.kinds.kind import ActionKind, Named, Problem, Whose, size_trouble
from shared.contracts.targets import Touched, a_tool
from shared.contracts.text import trouble as hidden_trouble

MAX_OUTPUT_BYTES = 256 * 1024
TOOL = r"[A-Za-z0-9_.-]{1,64}"
ARGUMENT = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"
_TARGET = re.compile(rf"[a-z0-9][a-z0-9-]{{0,47}}/{TOOL}")
_NAME = re.compile(ARGUMENT)


class McpCall(Named, frozen=True, kw_only=True):
    """The arguments by name, as the operator's row of the tool has them; a list is text of a line each, a decimal is text."""


def _trouble(target: str, params: McpCall) -> Problem | None:
    if not _TARGET.fullmatch(target):
        return Problem(code="bad_target", detail="the target is a server and its tool, as `files/read_file`")
    return arguments_trouble(params.arguments)


def arguments_trouble(arguments: dict[str, Scalar]) -> Problem | None:
    """What no row could admit."""
    if len(arguments) > MAX_ARGUMENTS:
        return Problem(code="bad_params", detail=f"{len(arguments)} arguments, the limit is {MAX_ARGUMENTS}")
    texts = []
    for name, value in arguments.items():
        if not _NAME.fullmatch(name):
            return Problem(code="bad_params", detail=f"{name[:40]!r} is no name of an argument")
        if isinstance(value, str):
            if len(value) > MAX_CHARS:
                return Problem(
                    code="bad_params", detail=f"{name} has {len(value)} characters, the limit is {MAX_CHARS}"
                )
            if hidden := hidden_trouble(value, is_markdown=False):
                return Problem(code="bad_params", detail=f"{name}: {hidden}")
            texts.append(value)
    return size_trouble("".join(texts))


def _grade(target: str, params: McpCall, whose: Whose) -> Risk:
    return "high" if whose.row is None else whose.row.risk


def _touches(target: str, params: McpCall, whose: Whose) -> Touched | None:
    if whose.row is not None and (whose.row.reads or not whose.row.exclusive):
        return None
    return a_tool(target, msgspec.json.encode(params.arguments, order="sorted").decode())


def _dry_run(target: str, params: McpCall) -> str:
    given = ", ".join(f"{name}={value}" for name, value in sorted(params.arguments.items()))
    return f"would call the tool {target} with {given or 'no arguments'}"


KINDS: dict[str, ActionKind] = {
    "mcp.call": ActionKind(
        about="call a tool that the operator named; the target is its server and name, as `files/read_file`",
        hand="tools",
        params=McpCall,
        rows=True,
        risk="low",
        grade=_grade,
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
