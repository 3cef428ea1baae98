"""What is generated is what is committed, is well formed, and never takes back what it promised."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from jsonschema.exceptions import ValidationError  # type: ignore[import-untyped]

from shared.contracts.catalog import CLASSES, class_of, matches, subject_of
from shared.contracts.envelope import Message
from shared.contracts.events import CheckRequested
from shared.contracts.generation import generate
from shared.contracts.generation import proto as generate_proto
from shared.contracts.services import BOOTSTRAP_EMITS, SERVICES
from tests.examples import ENVELOPE, EXAMPLES, OF, PROBES, on_the_wire

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"


def committed(path: str) -> str:
    """A generated file as last committed; outside a checkout, or before its first commit, as it lies there."""
    git = shutil.which("git")
    if git is not None and (ROOT / ".git").exists():
        shown = subprocess.run(
            [git, "show", f"HEAD:proto/{path}"], cwd=ROOT, capture_output=True, check=False, timeout=30
        )
        if shown.returncode == 0:
            return shown.stdout.decode()
    return (PROTO / path).read_text(encoding="utf-8")


def validator(name: str) -> Draft202012Validator:
    schema = json.loads(committed(f"schemas/{name}.json"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def body_of(event: Any) -> Any:
    return json.loads(on_the_wire(Message(event=event, envelope=ENVELOPE))[2])


# -- drift -----------------------------------------------------------------------------------------------------------


def test_what_is_generated_is_what_the_structs_say() -> None:
    wanted = generate.files(generate.committed_numbers(ROOT))
    assert generate.drift(ROOT, wanted) == [], "run scripts/gen"


def test_the_script_checks_names_what_differs_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"], tmp_path) == 1
    assert "proto/schemas/thought.generated.json differs" in capsys.readouterr().err
    assert generate.main([], tmp_path) == 0
    assert generate.main(["--check"], tmp_path) == 0
    (tmp_path / "proto/schemas/thought.stolen.json").write_text("{}")
    (tmp_path / "proto/events.proto").write_text("")
    capsys.readouterr()
    assert generate.main(["--check"], tmp_path) == 1
    named = re.findall(r"^(\S+) differs", capsys.readouterr().err, re.MULTILINE)
    assert named == ["proto/events.proto", "proto/schemas/thought.stolen.json"]
    assert generate.main([], tmp_path) == 0
    assert generate.main(["--check"], tmp_path) == 0
    assert generate.main(["--chekc"], tmp_path) == 2


def test_the_script_itself_runs() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "gen", "--check"], capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)


# -- JSON Schemas ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_committed_schemas_accept_todays_events(name: str) -> None:
    validator(name).validate(body_of(EXAMPLES[name]))


@pytest.mark.parametrize("probe", PROBES)
def test_the_committed_schemas_accept_every_probe(probe: Any) -> None:
    event = CheckRequested(**OF, check_id="c", hypothesis_id="h", probe=probe)
    validator("check.requested").validate(body_of(event))


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_committed_schemas_refuse_another_class_and_a_bad_address(name: str) -> None:
    body = body_of(EXAMPLES[name])
    wrongs = [{**body, "type": "thought.stolen"}, {**body, "persona": "P 1"}]
    required = {field.name for field in msgspec.structs.fields(CLASSES[name]) if field.required}
    if "swarm" in required:  # else it is the whole mesh's, which it is without a word
        wrongs.append({k: body[k] for k in body if k != "swarm"})
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            validator(name).validate(wrong)


# -- AsyncAPI --------------------------------------------------------------------------------------------------------

DOCUMENT: dict[str, Any] = json.loads((PROTO / "asyncapi.json").read_text(encoding="utf-8"))
KEY = re.compile(r"[A-Za-z0-9._-]+")


def resolve(ref: str) -> Any:
    assert ref.startswith("#/"), ref
    node: Any = DOCUMENT
    for part in ref[2:].split("/"):
        node = node[part]
    return node


def refs(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for value in node.values() for ref in refs(value)]
    return [ref for item in node for ref in refs(item)] if isinstance(node, list) else []


def test_the_asyncapi_document_has_the_parts_version_3_demands() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert DOCUMENT["info"]["title"] and DOCUMENT["info"]["version"]
    known = {"asyncapi", "id", "info", "servers", "defaultContentType", "channels", "operations", "components"}
    assert set(DOCUMENT) <= known
    keys = [
        *DOCUMENT["channels"],
        *DOCUMENT["operations"],
        *(k for part in DOCUMENT["components"].values() for k in part),
    ]
    assert all(KEY.fullmatch(key) for key in keys)


def test_every_reference_of_the_asyncapi_document_resolves() -> None:
    found = refs(DOCUMENT)
    assert len(found) > 4 * len(CLASSES)
    for ref in found:
        resolve(ref)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_channel_has_the_address_parameters_and_message_of_its_class(name: str) -> None:
    channel = DOCUMENT["channels"][name]
    assert re.findall(r"\{(\w+)\}", channel["address"]) == list(channel["parameters"])
    assert matches(re.sub(r"\{\w+\}", "*", channel["address"]), subject_of(EXAMPLES[name]))
    message = resolve(channel["messages"][name]["$ref"])
    assert message["name"] == name
    payload = {"$ref": message["payload"]["$ref"], "components": DOCUMENT["components"]}
    Draft202012Validator(payload).validate(body_of(EXAMPLES[name]))
    Draft202012Validator(resolve(message["headers"]["$ref"])).validate(
        on_the_wire(Message(event=EXAMPLES[name], envelope=ENVELOPE))[1]
    )


def test_operations_are_the_table_of_who_emits_and_consumes_what() -> None:
    said = set()
    for operation in DOCUMENT["operations"].values():
        channel = operation["channel"]["$ref"]
        assert operation["action"] in ("send", "receive")
        assert [m["$ref"].startswith(f"{channel}/messages/") for m in operation["messages"]] == [True]
        said.add((operation["tags"][0]["name"], operation["action"], channel.removeprefix("#/channels/")))
    emitted = {(row.name, "send", name) for row in SERVICES.values() for name in row.emits}
    emitted |= {("bootstrap", "send", name) for name in BOOTSTRAP_EMITS}
    consumed = {(row.name, "receive", name) for row in SERVICES.values() for name in row.consumes}
    assert emitted | consumed == said


# -- the proto3 mirror -----------------------------------------------------------------------------------------------

NUMBERS = generate.committed_numbers(ROOT)
MIRROR = (PROTO / "events.proto").read_text(encoding="utf-8")


def test_a_committed_number_is_never_changed_or_taken_away() -> None:
    before = msgspec.json.decode(committed("field-numbers.json"), type=generate_proto.Numbers)
    assert before
    for owner, given in before.items():
        assert NUMBERS[owner] | given == NUMBERS[owner]


def test_every_class_is_a_message_and_no_number_is_given_twice() -> None:
    for cls in CLASSES.values():
        assert f"\nmessage {cls.__name__} {{" in MIRROR
    for given in NUMBERS.values():
        assert len(set(given.values())) == len(given) and min(given.values(), default=1) >= 1
    assert sorted(NUMBERS["Event"].values()) == list(range(1, len(CLASSES) + 1))


def test_a_new_field_gets_the_next_number_and_an_old_one_stays_reserved() -> None:
    before: generate_proto.Numbers = {
        "BudgetExhausted": {"retry_at": 1, "mood": 5},
        "BudgetExhausted.Resource": {"tokens": 1, "gold": 2},
    }
    structs = generate_proto.structs_of([CLASSES["budget.exhausted"]])
    given = generate_proto.numbered(structs, before)
    fields = {"retry_at": 1, "mood": 5, "swarm": 6, "persona": 7, "scope": 8, "resource": 9, "need": 10}
    assert given["BudgetExhausted"] == fields
    text = generate_proto.source(structs, given)
    assert '  reserved 5;\n  reserved "mood";\n' in text
    assert '    reserved 2;\n    reserved "RESOURCE_GOLD";\n' in text
    assert "  google.protobuf.Timestamp retry_at = 1;\n" in text
    assert before["BudgetExhausted"] == {"retry_at": 1, "mood": 5}


def test_the_mirror_has_enums_for_literals_optionals_for_nulls_and_a_oneof_for_unions() -> None:
    for line in (
        "  optional google.protobuf.Timestamp observed_at = 6;",
        "    PHASE_UNSPECIFIED = 0;",
        "  Phase phase = 5;",
        "  repeated EvidenceRef evidence = 7;",
        "  oneof probe {",
        "  map<string, Scalar> params = 4;",
        "  map<string, string> metadata = ",
    ):
        assert f"\n{line}" in MIRROR


def test_a_type_without_a_counterpart_is_an_error_that_names_it() -> None:
    class Odd(msgspec.Struct):
        field: list[list[int]]

    kind = msgspec.inspect.type_info(Odd)
    assert isinstance(kind, msgspec.inspect.StructType)
    with pytest.raises(TypeError, match=r"Odd\.field is .* no proto3 counterpart"):
        generate_proto.fields_of(kind)


def test_the_examples_name_their_own_classes() -> None:
    assert all(class_of(event) == name for name, event in EXAMPLES.items())
