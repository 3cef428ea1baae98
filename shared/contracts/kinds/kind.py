"""What a kind of action declares: one `ActionKind` is one row of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import msgspec
from msgspec.inspect import BoolType, IntType, StrType, type_info

from shared.contracts.action import Scalar
from shared.contracts.events.common import Risk
from shared.contracts.row import Row
from shared.contracts.targets import Touched

MESH = "mesh"
"""The hand of kinds that are said to the mesh: what they say and their claim are one batch, so nothing is ever in doubt."""
MAX_CONTENT_BYTES = 48 * 1024
"""Of all text in an action's parameters."""


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The typed parameters of a kind. Unknown ones are refused."""

    @classmethod
    def of(cls, given: dict[str, Scalar]) -> Self:
        """From an action's. Raises `msgspec.ValidationError`."""
        return msgspec.convert(given, cls)


_TYPES: dict[object, str] = {StrType: "string", IntType: "integer", BoolType: "boolean"}


def type_of(field: msgspec.structs.FieldInfo) -> str:
    """The JSON type of a parameter: the first where there are several, a string for what is one of some texts."""
    of = type_info(field.type)
    return next((_TYPES[type(one)] for one in getattr(of, "types", (of,)) if type(one) in _TYPES), "string")


def scalar(said: str, wanted: str) -> Scalar:
    """A parameter's value from text, as of the JSON type; text that is none of it stays what it is, for the gate to refuse."""
    match wanted:
        case "integer" if said.removeprefix("-").isdecimal() and said.isascii() and len(said) <= 19:
            return int(said)
        case "boolean" if said in ("true", "false"):
            return said == "true"
        case _:
            return said


class Named(Params, frozen=True, kw_only=True):
    """Parameters that an operator's row names: the arguments by name, as the row has them."""

    arguments: dict[str, Scalar]

    @classmethod
    def of(cls, given: dict[str, Scalar]) -> Self:
        return cls(arguments=given)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why an action is not one of ours: a reason code (unknown_kind, bad_params, bad_target), and a sentence."""

    code: str
    detail: str


class Whose(msgspec.Struct, frozen=True):
    """The persona that proposes it, and what the operator's row says of it, where the kind has rows."""

    swarm: str
    persona: str
    row: Row | None = None


def no_trouble(target: str, params: Any) -> None:
    """For kinds whose target and parameters are any that can be read."""


def touches_nothing(target: str, params: Any, whose: Whose) -> None:
    """For kinds that change nothing others could want to."""


def to_anyone(target: str, params: Any, whose: Whose) -> None:
    """For kinds that may be done without a person's yes, as far as policy lets them."""


class ActionKind(msgspec.Struct, frozen=True, kw_only=True):
    """One row. Where a function takes `params`, they are those of the row's `params`, without trouble, except in `trouble` itself.

    `about` says to people and models what it does, and what its target is. `hand` names the module of the actuator that does it.
    `risk` is the least the kind can have; `grade` what this one has, never less, where the target or parameters tell (None: `risk`).
    `idempotency`: `fenced` (can be inquired about and fenced off), `key` (the target is given an idempotency key, and may or may not
    heed it), `free` (doing it twice is doing it once), `once` (it is in one commit with its claim).
    `timeout_ms`: after it, the action must no longer begin to have its effect. `output_bytes`: the most that is read of what it answers.
    `trouble` is what is wrong with target or parameters. `touches`: what it shares with others, where anything (`targets`).
    `exclusive`: nobody else may be at that at the same time, so it is held. `alone`: why it may not be done without a person's yes,
    whatever the policy said. `outward`: its target or parameters leave the mesh, and so may carry out what a persona was told.
    `says` are the classes the actuator says for it. `per_day`: so many a day of one family, a root and all below
    it; 0 sets no limit. `dry_run` tells in a sentence what would be done, without doing it. `rows`: only what the operator named in a
    row is done, and the row says what is judged by.
    """

    about: str
    hand: str
    says: tuple[str, ...] = ()
    per_day: int = 0
    params: type[Params]
    schema_version: int = 1
    risk: Risk
    grade: Callable[[str, Any, Whose], Risk] | None = None
    reversible: bool
    blast_radius: Literal["none", "workspace", "mesh", "people", "outside"]
    idempotency: Literal["fenced", "key", "free", "once"]
    timeout_ms: int
    output_bytes: int = 0
    trouble: Callable[[str, Any], Problem | None] = no_trouble
    touches: Callable[[str, Any, Whose], Touched | None] = touches_nothing
    exclusive: bool = False
    outward: bool = False
    alone: Callable[[str, Any, Whose], Problem | None] = to_anyone
    dry_run: Callable[[str, Any], str]
    rows: bool = False


def size_trouble(text: str) -> Problem | None:
    """What is too large for an action, or no text at all."""
    size = utf8_bytes(text)
    if size is not None and size <= MAX_CONTENT_BYTES:
        return None
    return Problem(code="bad_params", detail=f"content has {size} bytes of UTF-8, the limit is {MAX_CONTENT_BYTES}")


def utf8_bytes(text: str) -> int | None:
    """The length in UTF-8, or None for text that has none (lone surrogates)."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None
