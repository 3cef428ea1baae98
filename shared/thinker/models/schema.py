"""What a model must answer, per phase, and that as a strict JSON Schema.

Strict mode of OpenAI-compatible servers wants: no `$ref` at the root, every property required, no additional ones, no
defaults. Nothing here has an id or a sequence: a model cites lines by the short numbers its prompt gave them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shared.contracts.events import Phase
from shared.contracts.probe_kinds import PROBE_KINDS

Kind = Literal[
    "file.write",
    "file.patch",
    "file.delete",
    "http.request",
    "command.run",
    "mcp.call",
    "nats.publish",
    "notice.send",
    "person.ask",
    "persona.spawn",
    "persona.reap",
    "intent.submit",
    "watch.add",
]
"""What a model may propose."""


class Claimed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hypothesis; `evidence` are line numbers of the prompt, `confidence` is 0 to 1."""

    topic: str
    claim: str
    confidence: float
    evidence: list[int]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A check of the numbered hypothesis by the named probe; the other fields are its parameters, empty or 0 where it has none. Without a
    name it is the count of `template`, else the search for `text`, else the citations are looked up."""

    hypothesis: int
    probe: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(PROBE_KINDS)})] = ""
    template: str = ""
    text: str = ""
    at_least: int = 1
    line: int = 0
    slot: int = 0
    source: str = ""


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An argument by its name; a number or truth value is written as text."""

    name: str
    value: str


class Intended(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A proposal, for the numbered hypothesis. `path`, `content` and `arguments` are what the prompt says of the kind."""

    kind: Kind
    path: str
    content: str
    title: str
    rationale: str
    hypothesis: int
    evidence: list[int]
    arguments: list[Given] = []


class Replied(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answer to what was asked, or `declined`, and `text` says why. `choice`: one of the options, else empty."""

    text: str
    declined: bool
    choice: str
    confidence: float
    evidence: list[int]


class Observed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer in observe."""

    text: str


class Reflected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer in reflect."""

    text: str
    hypotheses: list[Claimed]


class Tested(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer in test."""

    text: str
    checks: list[Asked]


class Compressed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer in compress."""

    text: str
    proposals: list[Intended]


class ReflectedAsked(Reflected, frozen=True, forbid_unknown_fields=True):
    """As without a question; `answer` is null while it cannot be answered yet."""

    answer: Replied | None


class TestedAsked(Tested, frozen=True, forbid_unknown_fields=True):
    answer: Replied | None


class CompressedAsked(Compressed, frozen=True, forbid_unknown_fields=True):
    answer: Replied | None


Answer = Observed | Reflected | Tested | Compressed
ANSWERS: dict[Phase, type[Answer]] = {"observe": Observed, "reflect": Reflected, "test": Tested, "compress": Compressed}
WHEN_ASKED: dict[Phase, type[Answer]] = {
    **ANSWERS,
    "reflect": ReflectedAsked,
    "test": TestedAsked,
    "compress": CompressedAsked,
}

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None


def strict_schema(phase: Phase, *, asked: bool = False) -> dict[str, Json]:
    """The answer's JSON Schema in the strict dialect. `asked`: there is a question to answer as well."""
    schema = msgspec.json.schema((WHEN_ASKED if asked else ANSWERS)[phase])
    definitions = schema.pop("$defs", {})
    root = definitions.pop(schema["$ref"].rpartition("/")[2])
    whole = {**root, "$defs": definitions} if definitions else root
    strict = _strict(whole)
    assert isinstance(strict, dict)
    return strict


def _strict(node: Json) -> Json:
    if isinstance(node, list):
        return [_strict(part) for part in node]
    if not isinstance(node, dict):
        return node
    told = {key: _strict(value) for key, value in node.items() if key not in ("title", "default")}
    if node.get("type") == "object" and isinstance(properties := node.get("properties"), dict):
        told["properties"] = {name: _strict(value) for name, value in properties.items()}
        told["required"] = list(properties)
        told["additionalProperties"] = False
    return told


def decode(phase: Phase, content: str, *, asked: bool = False) -> Answer:
    """Raises `msgspec.MsgspecError` when the content is no such answer, `ValueError` when its text is blank."""
    kind = (WHEN_ASKED if asked else ANSWERS)[phase]
    answer = msgspec.json.decode(content.encode("utf-8", "replace"), type=kind)
    if not answer.text.strip():
        raise ValueError("`text` is blank")
    return answer
