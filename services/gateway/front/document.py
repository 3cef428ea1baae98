"""The framework's OpenAPI document, corrected where it does not say what this API does.

Routes have the names and groups of `OPERATIONS`, and each status they are refused with; shapes are msgspec's own, with their
limits and words, and each has an example; a parameter or a body that may be null may be left out; the stream says what its
events are.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from services.gateway.front.front import OPEN
from services.gateway.front.operations import OPERATIONS, TAGS, problems
from services.gateway.front.streaming.stream import PATH
from services.gateway.wire.examples import EXAMPLES
from services.gateway.wire.problems import MEDIA_TYPE
from services.gateway.wire.views import ThoughtEvent

Part = dict[str, Any]
SHAPES = "#/components/schemas/"
READY = "/health/ready"
STREAM = """Server-sent events. `event: cognition` has one ThoughtEvent as `data`, and its sequence in the log as `id`, which
`Last-Event-ID` takes to go on after it; `event: lag` says `skipped N` to a slow client, `event: gap` where the log does not reach
back to `Last-Event-ID`. After the log went back an id is `<sequence>.<epoch>`, and one of
before is answered with `gap` too. An `id` without data says where the client is; comments keep the connection."""
PARAMETERS = {
    "persona_id": ("watcher", "as it was given when the persona was made"),
    "belief_id": ("b-1", "from the list of beliefs"),
    "proposal_id": ("restart-checkout", "from the list of proposals"),
    "swarm": ("web", "of this swarm; of two of one id the one that is in it"),
    "persona": ("watcher", "of this persona; of two of one id the one it made"),
    "q": ("errors at checkout", "what to look for"),
    "category": ("persona", "the first word of the events' class"),
    "status": ("active", "only in this state"),
    "state": ("pending", "only in this state"),
    "type": ("thought.generated", "event classes, comma-separated"),
    "limit": (100, "how many at most"),
    "Idempotency-Key": ("c7f1", "the same key is the same command, done once"),
}
"""Examples of parameters, and what they say where the route does not."""
_ONE = {"required": ["text"], "properties": {"text": {"type": "string"}, "observations": {"maxItems": 0}}}
_SEVERAL = {
    "required": ["observations"],
    "properties": {"observations": {"type": "array", "minItems": 1}, "text": {"type": "null"}},
}
ALSO: Part = {"RecordObservations": {"oneOf": [_ONE, _SEVERAL]}}
"""What a shape's type cannot say."""


ALWAYS_FITS = r"^([a-z0-9][a-z0-9-]{0,47}|[A-Za-z0-9_-]{1,22})$"


def truthful(document: Part) -> Part:
    """The document, corrected in place; doing it again changes nothing."""
    if "responses" in document["components"]:
        return document
    kinds = [type(example) for example in EXAMPLES]
    _, shapes = msgspec.json.schema_components(kinds, ref_template=SHAPES + "{name}")
    document["components"]["schemas"] = {
        name: {**shape, **ALSO.get(name, {})} for name, shape in sorted(shapes.items())
    }
    document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    answers: Part = {}
    for path, item in document["paths"].items():
        for method, part in item.items():
            known = OPERATIONS.get((method, path))
            if known is not None:
                part.update(operationId=known.id, tags=[known.tag], summary=known.summary)
            if path in OPEN:
                part["security"] = []
            for parameter in part.get("parameters", ()):
                _parameter(parameter)
            _body(part.get("requestBody", {}))
            refused = problems(path, part, () if known is None else known.refused)
            _responses(path, method, part, refused)
            answers.update((_name(status), _problem(status)) for status in refused)
    document["components"]["responses"] = answers
    return document


def _parameter(parameter: Part) -> None:
    schema = parameter["schema"]
    if parameter["in"] == "path" and parameter["name"] == "swarm":  # it is made by what is recorded in it
        schema["pattern"] = ALWAYS_FITS
        schema["description"] = "up to 48 characters, fewer where many are capitals or _"
    for key in ("oneOf", "anyOf"):
        kept = [one for one in schema.get(key, ()) if one != {"type": "null"}]
        if len(kept) == 1:
            del schema[key]
            parameter["schema"] = schema = {**kept[0], **schema}
    if isinstance(schema.get("type"), list):
        schema["type"] = next(name for name in schema["type"] if name != "null")
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    if (known := PARAMETERS.get(parameter["name"])) is not None:
        parameter["example"] = known[0]
        parameter.setdefault("description", known[1])


def _body(body: Part) -> None:
    for content in body.get("content", {}).values():
        if {"type": "null"} in content.get("schema", {}).get("oneOf", ()):
            body["required"] = False
        _example(content)


def _responses(path: str, method: str, part: Part, refused: list[int]) -> None:
    responses = part["responses"]
    responses.pop("400", None)
    answer = responses["200"]
    answer["description"] = str(part.get("description")).partition("\n")[0]
    for content in answer["content"].values():
        _example(content)
    if path == PATH:
        answer["content"] = {"text/event-stream": _stream()}
    elif "application/json" in answer["content"] and method == "get":
        answer["headers"] = {"ETag": _header("of this answer; `If-None-Match` takes it")}
        responses["304"] = {"description": "Nothing has changed since the `ETag` of `If-None-Match`"}
    if any(parameter["name"] == "after" for parameter in part.get("parameters", ())):
        answer["headers"]["Link"] = _header('`<…>; rel="next"`, where there is more')
    if path == READY:
        responses["503"] = {"description": "Not ready; `problems` says why", "content": answer["content"]}
    for status in refused:
        responses[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}


def _example(content: Part) -> None:
    """Gives the shape of that content its example, alone or as the one entry of a list."""
    schema = content.get("schema", {})
    shapes = [schema, *schema.get("oneOf", ()), schema.get("items", {})]
    name = next((shape["$ref"].removeprefix(SHAPES) for shape in shapes if "$ref" in shape), None)
    for example in EXAMPLES:
        if type(example).__name__ == name:
            value = msgspec.json.decode(msgspec.json.encode(example))
            content["example"] = [value] if schema.get("type") == "array" else value


def _stream() -> Part:
    event = next(example for example in EXAMPLES if isinstance(example, ThoughtEvent))
    text = f"id: 42\nevent: cognition\ndata: {msgspec.json.encode(event).decode()}\n\n"
    data = {"$ref": f"{SHAPES}ThoughtEvent"}
    schema = {"type": "string", "description": STREAM, "contentMediaType": "application/json", "contentSchema": data}
    return {"schema": schema, "example": text}


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.replace(" ", "")


def _problem(status: int) -> Part:
    schema = {"$ref": f"{SHAPES}ProblemDetails"}
    answer: Part = {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
    if status in (429, 503, 507):
        answer["headers"] = {"Retry-After": _header("seconds", "integer")}
    return answer


def _header(description: str, kind: str = "string") -> Part:
    return {"description": description, "schema": {"type": kind}}
