"""The kinds of action as the API tells them."""

from __future__ import annotations

import msgspec
from msgspec.inspect import LiteralType, type_info

from services.gateway.wire.asking import ActionKindView, ParamView, RowView
from shared.contracts.action_kinds import KINDS
from shared.contracts.events import DeclaredRow, RowsDeclared
from shared.contracts.kinds.kind import ActionKind, Params, type_of


def params_of(params: type[Params]) -> tuple[ParamView, ...]:
    """Each parameter, in the order of the struct."""
    return tuple(_param(field) for field in msgspec.structs.fields(params))


def _param(field: msgspec.structs.FieldInfo) -> ParamView:
    of = type_info(field.type)
    options = getattr(of, "types", (of,))
    one_of = tuple(str(value) for one in options if isinstance(one, LiteralType) for value in one.values)
    return ParamView(
        name=field.name,
        type=type_of(field),
        required=field.required,
        one_of=one_of,
        default=None if field.required else field.default,
    )


def _row(row: DeclaredRow) -> RowView:
    params = tuple(
        ParamView(name=a.name, type=a.type, required=a.required, one_of=(), default=None, about=a.about)
        for a in row.arguments
    )
    return RowView(target=row.target, about=row.about, params=params, trouble=row.trouble)


def view(kind: str, row: ActionKind, said: RowsDeclared | None) -> ActionKindView:
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
        rows=tuple(_row(one) for one in said.rows if one.kind == kind) if said else (),
    )


def kinds(said: RowsDeclared | None = None) -> list[ActionKindView]:
    """All of them, with the rows that were declared."""
    return [view(kind, row, said) for kind, row in KINDS.items()]
