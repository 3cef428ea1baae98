"""What a persona may propose to do, and the digest that binds every verdict to exactly that."""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
import rfc8785

MAX_INTEGER = 2**53 - 1
_SORTED = msgspec.json.Encoder(order="sorted")

Integer = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
Scalar = str | Integer | bool | None
Params = Annotated[dict[Annotated[str, msgspec.Meta(max_length=200)], Scalar], msgspec.Meta(max_length=64)]
"""Parameters of an action: flat, and without floats, because they are hashed (RFC 8785)."""


class Action(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One intended effect on the world. `kind` names its schema in `shared.contracts.action_kinds`."""

    kind: Annotated[str, msgspec.Meta(pattern=r"^[a-z]+\.[a-z_]+$", max_length=48)]
    schema_version: Annotated[int, msgspec.Meta(ge=1, le=2**31)] = 1
    target: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    params: Params = {}


def action_digest(*, swarm: str, persona: str, charter: str, action: Action) -> str:
    """SHA-256 of RFC 8785 JSON over swarm, persona, charter hash, kind, schema version, target and params.

    Raises `ValueError` when an integer leaves the range JSON can carry (±2^53).
    """
    body: dict[str, object] = {
        "action": action.kind,
        "charter": charter,
        "params": action.params,
        "persona": persona,
        "schema_version": action.schema_version,
        "swarm": swarm,
        "target": action.target,
    }
    return hashlib.sha256(_canonical(body)).hexdigest()


def _canonical(body: dict[str, object]) -> bytes:
    """RFC 8785. Where keys are ASCII and integers small, sorted msgspec JSON is the same bytes at a thirtieth of the price."""
    params = body["params"]
    assert isinstance(params, dict)
    if all(name.isascii() and (not isinstance(v, int) or abs(v) <= MAX_INTEGER) for name, v in params.items()):
        return _SORTED.encode(body)
    try:
        return rfc8785.dumps(body)  # type: ignore[arg-type]
    except rfc8785.CanonicalizationError as error:
        raise ValueError(f"action parameters cannot be hashed: {error}") from error
