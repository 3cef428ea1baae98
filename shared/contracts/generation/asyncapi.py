"""The AsyncAPI 3.0 document: one channel a class, one operation for each service that emits or consumes it.

Source: AsyncAPI 3.0.0 specification; payloads are plain JSON Schema components, headers the CloudEvents binary binding.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from shared.contracts.catalog import CLASSES, SHORT_LIVED, class_filter, has_life, has_slot
from shared.contracts.envelope import CONTENT_TYPE, MAX_BODY_BYTES, SCHEMA_PREFIX
from shared.contracts.ids import TOKEN_PATTERN
from shared.contracts.services import BOOTSTRAP_EMITS, SERVICES

Json = dict[str, Any]

PARAMETERS: Json = {
    "swarm": {"description": "The swarm the event belongs to; `all` for the whole mesh."},
    "persona": {"description": "The persona the event is about; `all` for everyone in the swarm."},
    "proposal": {"description": "The proposal whose life the event is part of."},
    "check": {"description": "The check that is asked for or answered."},
    "slot": {
        "description": "Who said it: the slot of a runner, `r1`, `r2` and so on, else `core`. The broker enforces it."
    },
}
HEADERS: Json = {
    "type": "object",
    "description": "CloudEvents 1.0, binary mode on NATS (protocol binding 1.0.3).",
    "required": ["ce-specversion", "ce-id", "ce-type", "ce-source", "ce-time", "ce-correlationid"],
    "properties": {
        "ce-specversion": {"const": "1.0"},
        "ce-id": {"type": "string", "minLength": 1, "maxLength": 64},
        "ce-type": {"type": "string", "enum": sorted(CLASSES)},
        "ce-source": {"type": "string", "description": "the service instance that said it"},
        "ce-time": {"type": "string", "format": "date-time"},
        "ce-correlationid": {"type": "string", "description": "id of the first cause"},
        "ce-causationid": {"type": "string", "description": "id of the nearest cause"},
        "ce-charter": {"type": "string", "description": "SHA-256 of the persona's identity, lower-case hex"},
        "ce-dataschema": {"type": "string", "pattern": f"^{SCHEMA_PREFIX}"},
        "ce-datacontenttype": {"const": CONTENT_TYPE},
        "ce-subject": {"type": "string", "description": "the NATS subject it is said on"},
        "ce-traceparent": {
            "type": "string",
            "description": "W3C Trace Context: the trace of the cause, and this event as parent",
        },
        "Nats-Msg-Id": {"type": "string", "description": "for the broker's dedup window; says nothing about the event"},
    },
}


def document() -> Json:
    """The whole document, as JSON."""
    _, schemas = msgspec.json.schema_components(tuple(CLASSES.values()), ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "id": "urn:swarm:contracts",
        "info": {
            "title": "Perpetual Persona Swarms",
            "version": "1.0.0",
            "description": "Everything services of the mesh say to each other, on NATS JetStream. Fields are only ever added.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name) for name in CLASSES},
        "operations": dict(sorted(_operations())),
        "components": {
            "parameters": PARAMETERS,
            "messages": {name: _message(name) for name in CLASSES},
            "schemas": {
                "Headers": HEADERS,
                "Token": {"type": "string", "pattern": TOKEN_PATTERN},
                **{name: _plain(schema) for name, schema in sorted(schemas.items())},
            },
        },
    }


def _plain(node: Any) -> Any:
    """AsyncAPI's `discriminator` is the property's name alone."""
    if isinstance(node, dict):
        return {k: v["propertyName"] if k == "discriminator" else _plain(v) for k, v in node.items()}
    return [_plain(item) for item in node] if isinstance(node, list) else node


def life_parameter(event_class: str) -> str | None:
    """What the token behind the persona is called, where there is one that names a life."""
    if not has_life(event_class):
        return None
    return "check" if event_class.startswith("check.") else "proposal"


def _channel(name: str) -> Json:
    life = life_parameter(name)
    parameters = ["swarm", "persona", *([] if life is None else [life]), *(["slot"] if has_slot(name) else [])]
    return {
        "address": ".".join([name, *(f"{{{parameter}}}" for parameter in parameters)]),
        "summary": f"Subscribe to all with `{class_filter(name)}`.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "parameters": {parameter: {"$ref": f"#/components/parameters/{parameter}"} for parameter in parameters},
        "x-stream": "RECALL" if name in SHORT_LIVED else "SWARM",
    }


def _message(name: str) -> Json:
    cls = CLASSES[name]
    return {
        "name": name,
        "title": cls.__name__,
        "summary": inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " "),
        "contentType": "application/json",
        "headers": {"$ref": "#/components/schemas/Headers"},
        "correlationId": {"location": "$message.header#/ce-correlationid"},
        "payload": {"$ref": f"#/components/schemas/{cls.__name__}"},
        "x-max-body-bytes": MAX_BODY_BYTES,
    }


def _operations() -> list[tuple[str, Json]]:
    sends = [(row.name, name, "send") for row in SERVICES.values() for name in row.emits]
    sends += [("bootstrap", name, "send") for name in BOOTSTRAP_EMITS]
    receives = [(row.name, name, "receive") for row in SERVICES.values() for name in row.consumes]
    return [
        (
            f"{service}.{action}.{name}",
            {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
                "tags": [{"name": service}],
            },
        )
        for service, name, action in sends + receives
    ]
