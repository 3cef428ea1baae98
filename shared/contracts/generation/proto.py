"""The proto3 mirror of the event structs, for languages that want messages and not JSON.

A number once given is never given again: `Numbers` is committed beside the mirror, new fields and enum values get the next
one, and what is gone is `reserved`. Times are timestamps, `None` is absence, unions are a `oneof`, scalars of open maps a message.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import get_args, get_type_hints

import msgspec
from msgspec import inspect as kinds

from shared.contracts.events import AnyEvent

Numbers = dict[str, dict[str, int]]
"""By message (`CheckRequested`) or enum (`CheckResult.Outcome`): the number of each field or value."""

HEAD = """\
// The event structs of shared/contracts/events as messages. Written by scripts/gen; a change here is lost.
syntax = "proto3";

package swarm.v1;

import "google/protobuf/timestamp.proto";

// A value of an open map; unset is null.
message Scalar {
  oneof value {
    string text = 1;
    sint64 integer = 2;
    bool flag = 3;
  }
}
"""
SCALARS: dict[type[kinds.Type], str] = {
    kinds.StrType: "string",
    kinds.IntType: "int64",
    kinds.FloatType: "double",
    kinds.BoolType: "bool",
    kinds.DateTimeType: "google.protobuf.Timestamp",
}


class Field(msgspec.Struct, frozen=True):
    """One field of a message: its label and type, or the alternatives of a `oneof`, or the values of its enum."""

    name: str
    type: str
    label: str = ""
    alternatives: tuple[tuple[str, str], ...] = ()
    values: tuple[str, ...] = ()


def bare(kind: kinds.Type) -> kinds.Type:
    """The type without its metadata."""
    return bare(kind.type) if isinstance(kind, kinds.Metadata) else kind


def structs_of(classes: Iterable[type[AnyEvent]]) -> list[kinds.StructType]:
    """The classes and every struct inside them, in the order they are met."""
    found: dict[str, kinds.StructType] = {}

    def visit(kind: kinds.Type) -> None:
        kind = bare(kind)
        match kind:
            case kinds.StructType(cls=cls, fields=fields):
                if cls.__name__ not in found:
                    found[cls.__name__] = kind
                    for field in fields:
                        visit(field.type)
            case kinds.UnionType(types=types):
                for each in types:
                    visit(each)
            case kinds.VarTupleType(item_type=item):
                visit(item)
            case _:
                pass

    for kind in kinds.multi_type_info(classes):
        visit(kind)
    return list(found.values())


def fields_of(struct: kinds.StructType) -> list[Field]:
    """The fields in declaration order. Raises `TypeError` for a type that has no counterpart."""
    fields = [_field(field.encode_name, field.type, f"{struct.cls.__name__}.{field.name}") for field in struct.fields]
    declared = get_type_hints(struct.cls)
    return [msgspec.structs.replace(f, values=_in_order(f.values, declared[f.name])) if f.values else f for f in fields]


def _in_order(values: tuple[str, ...], declared: object) -> tuple[str, ...]:
    """msgspec sorts the values of a literal; this is how they were written."""
    written = get_args(declared)
    return tuple(sorted(values, key=lambda value: written.index(value) if value in written else len(written)))


def _field(name: str, kind: kinds.Type, where: str, label: str = "") -> Field:
    kind = bare(kind)
    match kind:
        case kinds.UnionType(types=types):
            present = [bare(each) for each in types if not isinstance(each, kinds.NoneType)]
            structs = [each for each in present if isinstance(each, kinds.StructType)]
            if len(present) == 1 and not label:
                return _field(name, present[0], where, "optional ")
            if len(structs) == len(present) and not label:
                alternatives = tuple((f"{name}_{_snake(s.cls.__name__)}", s.cls.__name__) for s in structs)
                return Field(name, "oneof", alternatives=alternatives)
        case kinds.VarTupleType(item_type=item) if not label:
            return _field(name, item, where, "repeated ")
        case kinds.DictType(value_type=value) if not label:
            plain = isinstance(bare(value), kinds.StrType)
            return Field(name, f"map<string, {'string' if plain else 'Scalar'}>")
        case kinds.LiteralType(values=values) if all(isinstance(value, str) for value in values):
            return Field(name, _camel(name), label, values=tuple(str(value) for value in values))
        case kinds.StructType(cls=cls):
            return Field(name, cls.__name__, label)
        case _ if type(kind) in SCALARS:
            return Field(name, SCALARS[type(kind)], label)
    raise TypeError(f"{where} is {kind}, which has no proto3 counterpart here")


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def numbered(structs: Sequence[kinds.StructType], committed: Numbers) -> Numbers:
    """The committed numbers with the next free ones for whatever is new; nothing is taken away."""
    numbers = {owner: dict(given) for owner, given in committed.items()}

    def give(owner: str, names: Iterable[str]) -> None:
        given = numbers.setdefault(owner, {})
        for name in names:
            given.setdefault(name, max(given.values(), default=0) + 1)

    give("Event", (_snake(s.cls.__name__) for s in structs if _is_event(s)))
    for struct in structs:
        owner = struct.cls.__name__
        fields = fields_of(struct)
        give(owner, (name for field in fields for name in _names(field)))
        for field in fields:
            if field.values:
                give(f"{owner}.{field.type}", field.values)
    return dict(sorted(numbers.items()))


def _is_event(struct: kinds.StructType) -> bool:
    return struct.tag_field == "type"


def _names(field: Field) -> list[str]:
    return [name for name, _ in field.alternatives] or [field.name]


def source(structs: Sequence[kinds.StructType], numbers: Numbers) -> str:
    """The text of the `.proto` file."""
    events = [(_snake(s.cls.__name__), s.cls.__name__) for s in structs if _is_event(s)]
    lines = ["", "// Any event.", "message Event {", *_reserved(numbers["Event"], [name for name, _ in events])]
    lines += ["  oneof event {", *(f"    {cls} {name} = {numbers['Event'][name]};" for name, cls in events), "  }", "}"]
    for struct in structs:
        lines += ["", *_message(struct, numbers)]
    return HEAD + "\n".join(lines) + "\n"


def _message(struct: kinds.StructType, numbers: Numbers) -> Iterator[str]:
    owner = struct.cls.__name__
    given, fields = numbers[owner], fields_of(struct)
    yield from (f"// {line}".rstrip() for line in inspect.cleandoc(struct.cls.__doc__ or "").splitlines())
    yield f"message {owner} {{"
    yield from _reserved(given, [name for field in fields for name in _names(field)])
    for field in fields:
        if field.values:
            yield from _enum(field, numbers[f"{owner}.{field.type}"])
    for field in fields:
        if field.alternatives:
            yield f"  oneof {field.name} {{"
            yield from (f"    {cls} {name} = {given[name]};" for name, cls in field.alternatives)
            yield "  }"
        else:
            yield f"  {field.label}{field.type} {field.name} = {given[field.name]};"
    yield "}"


def _enum(field: Field, given: dict[str, int]) -> Iterator[str]:
    prefix = field.name.upper()
    yield f"  enum {field.type} {{"
    yield from (f"  {line}" for line in _reserved(given, list(field.values), f"{prefix}_"))
    yield f"    {prefix}_UNSPECIFIED = 0;"
    for value in sorted(field.values, key=given.__getitem__):
        yield f"    {prefix}_{value.upper()} = {given[value]};"
    yield "  }"


def _reserved(given: dict[str, int], present: Sequence[str], prefix: str = "") -> Iterator[str]:
    gone = [name for name in given if name not in present]
    if gone:
        yield f"  reserved {', '.join(str(given[name]) for name in gone)};"
        names = ", ".join(f'"{prefix + (name.upper() if prefix else name)}"' for name in gone)
        yield f"  reserved {names};"
