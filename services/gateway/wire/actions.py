"""The kinds of action as the API tells them."""

from __future__ import annotations

import msgspec
from msgspec.inspect import BoolType, IntType, LiteralType, StrType, type_info

from services.gateway.wire.asking import ActionKindView, ParamView
from shared.contracts.action_kinds import KINDS
from shared.contracts.kinds.kind import ActionKind, Params

_TYPES: dict[object, str] = {StrType: "string", IntType: "integer", BoolType: "boolean"}


def params_of(params: type[Params]) -> tuple[ParamView, ...]:
    """Each parameter, in the order of the struct."""
    return tuple(_param(field) for field in msgspec.structs.fields(params))


def _param(field: msgspec.structs.FieldInfo) -> ParamView:
    of = type_info(field.type)
    options = getattr(of, "types", (of,))
    names = [_TYPES[type(one)] for one in options if type(one) in _TYPES]
    one_of = tuple(str(value) for one in options if isinstance(one, LiteralType) for value in one.values)
    return ParamView(
        name=field.name,
        type=names[0] if names else "string",
        required=field.required,
        one_of=one_of,
        default=None if field.required else field.default,
    )


def view(kind: str, row: ActionKind) -> ActionKindView:
    return ActionKindView(
        kind=kind,
        about=row.about,
        schema_version=row.schema_version,
        params=params_of(row.params),
        risk=row.risk,
        reversible=row.reversible,
        blast_radius=row.blast_radius,
        idempotency=row.idempotency,
        exclusive=row.exclusive,
        outward=row.outward,
        timeout_ms=row.timeout_ms,
        output_bytes=row.output_bytes,
        per_day=row.per_day,
    )


ALL: list[ActionKindView] = [view(kind, row) for kind, row in KINDS.items()]
