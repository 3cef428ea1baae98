"""What is generated from the contracts: in `proto/` JSON Schemas, an AsyncAPI document and a proto3 mirror, and `docs/services.md`.

Nothing at run time reads these files; they are for people, other languages, and the test that says when a change of a
struct would surprise somebody. `files` gives all of them, `main` writes or compares them (`scripts/gen`).
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from shared.contracts.catalog import CLASSES
from shared.contracts.envelope import SCHEMA_PREFIX
from shared.contracts.events import AnyEvent
from shared.contracts.generation import asyncapi, proto, services

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ROOT = Path(__file__).resolve().parents[3]
NUMBERS = "proto/field-numbers.json"


def tidy(node: object) -> object:
    """A JSON document without the indentation docstrings have in the source."""
    if isinstance(node, dict):
        return {
            k: inspect.cleandoc(v) if k == "description" and isinstance(v, str) else tidy(v) for k, v in node.items()
        }
    if isinstance(node, list):
        return [tidy(item) for item in node]
    return node


def as_json(document: object) -> str:
    return json.dumps(tidy(document), indent=2, ensure_ascii=False) + "\n"


def schema(event_class: str) -> dict[str, object]:
    """The JSON Schema (2020-12) of one class; its `$id` is the event's `ce-dataschema`."""
    return {"$schema": DIALECT, "$id": SCHEMA_PREFIX + event_class, **msgspec.json.schema(CLASSES[event_class])}


def files(numbers: proto.Numbers, classes: Sequence[type[AnyEvent]] = tuple(CLASSES.values())) -> dict[str, str]:
    """Every generated file by its path in the repository; `numbers` are the field numbers given so far."""
    structs = proto.structs_of(classes)
    given = proto.numbered(structs, numbers)
    return {
        **{f"proto/schemas/{name}.json": as_json(schema(name)) for name in sorted(CLASSES)},
        "proto/asyncapi.json": as_json(asyncapi.document()),
        "proto/events.proto": proto.source(structs, given),
        NUMBERS: as_json(given),
        "docs/services.md": services.page(),
    }


def drift(folder: Path, wanted: dict[str, str]) -> list[str]:
    """Paths that are missing, differ, or are left over from a class that is no more."""
    differing = {path for path, text in wanted.items() if _text(folder / path) != text}
    left_over = {f"proto/schemas/{path.name}" for path in (folder / "proto/schemas").glob("*.json")} - set(wanted)
    return sorted(differing | left_over)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def committed_numbers(folder: Path) -> proto.Numbers:
    """The field numbers already given; none when there is no file. Raises `msgspec.DecodeError` on one that is broken."""
    text = _text(folder / NUMBERS)
    return {} if text is None else msgspec.json.decode(text, type=proto.Numbers)


def main(arguments: Sequence[str], folder: Path = ROOT) -> int:
    """Write what differs; with `--check` only name it and exit 1. Exit 2 for anything else on the command line."""
    if list(arguments) not in ([], ["--check"]):
        sys.stderr.write("usage: scripts/gen [--check]\n")
        return 2
    wanted = files(committed_numbers(folder))
    stale = drift(folder, wanted)
    if arguments:
        sys.stderr.write("".join(f"{path} differs from the contracts; run scripts/gen\n" for path in stale))
        return 1 if stale else 0
    for path in stale:
        target = folder / path
        if path in wanted:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(wanted[path], encoding="utf-8")
        else:
            target.unlink()
        sys.stdout.write(f"{path}\n")
    return 0
