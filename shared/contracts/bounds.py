"""Instants of an event in bounds: UTC, in the years 2000 to 2199, so that every clock, index and calendar can take them.

All other bounds stand in the types, and msgspec keeps them as it decodes; a range of instants it cannot keep.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from msgspec import inspect

EARLIEST, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)

Bound = Callable[[object], object]
"""Gives a value back with its instants in UTC. Raises `ValueError` for one out of bounds."""


def in_bounds(instant: datetime) -> datetime:
    """The instant in UTC. Raises `ValueError`."""
    if EARLIEST.year - 1 <= instant.year <= END.year:  # else it may have no UTC
        utc = instant if instant.tzinfo is UTC else instant.astimezone(UTC)
        if EARLIEST <= utc < END:
            return utc
    raise ValueError(f"{instant.isoformat()} is not in the years {EARLIEST.year} to {END.year - 1}")


def bound_of(kind: inspect.Type) -> Bound | None:
    """How to keep values of this type in bounds; None where no instant can be in them."""
    match kind:
        case inspect.Metadata(type=inner):
            return bound_of(inner)
        case inspect.DateTimeType():
            return lambda value: in_bounds(value)  # type: ignore[arg-type]
        case inspect.UnionType(types=types):
            bounds = {_class(t): bound for t in types if (bound := bound_of(t)) is not None}
            return None if not bounds else lambda value: bounds.get(type(value), _as_it_is)(value)
        case inspect.VarTupleType(item_type=item):
            each = bound_of(item)
            return None if each is None else lambda values: tuple(map(each, values))  # type: ignore[call-overload]
        case inspect.StructType(fields=fields):
            named = [(f.name, bound) for f in fields if (bound := bound_of(f.type)) is not None]
            return None if not named else lambda struct: _bounded(struct, named)
        case _:
            return None


def _class(kind: inspect.Type) -> type | None:
    """The class that values of this member of a union have."""
    match kind:
        case inspect.Metadata(type=inner):
            return _class(inner)
        case inspect.DateTimeType():
            return datetime
        case inspect.StructType(cls=cls):
            return cls
        case inspect.VarTupleType():
            return tuple
        case _:
            return None


def _as_it_is(value: object) -> object:
    return value


def _bounded(struct: object, fields: list[tuple[str, Bound]]) -> object:
    """The struct itself, unless something in it changes."""
    changed = {}
    for name, bound in fields:
        value = getattr(struct, name)
        if value is not None and (kept := bound(value)) is not value:
            changed[name] = kept
    return msgspec.structs.replace(struct, **changed) if changed else struct  # type: ignore[type-var]
