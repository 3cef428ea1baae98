"""What Cedar is told of a request: the request and its few entities, in Cedar's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from msgspec.inspect import DictType, StrType, UnionType, type_info

from shared.contracts.action import Action
from shared.contracts.action_kinds import KINDS, is_outward
from shared.contracts.capabilities import Given, text_of
from shared.contracts.kinds.files import is_own
from shared.contracts.kinds.http import endpoint, url_trouble
from shared.contracts.kinds.kind import Params
from shared.contracts.row import Row
from shared.policy.types import PolicyRequest, ReadRequest, Said

Asked = tuple[dict[str, object], list[dict[str, object]]]
"""The request and its entities."""
_MODE = "create_or_replace"
SHORT = 200
"""Characters of the longest texts that policies are told."""
_RESOURCES = {
    "command.run": "Command",
    "mcp.call": "Tool",
    "nats.publish": "Topic",
    "notice.send": "Notice",
    **dict.fromkeys(("file.read", "file.grep", "http.get", "prometheus.query", "command.probe", "mcp.read"), "Probe"),
    "persona.spawn": "Child",
    "persona.reap": "Ending",
    "intent.submit": "Goal",
    "person.ask": "Question",
    "watch.add": "Watch",
}
"""What the resource is of a kind that is told by its parameters alone; of others it is `Nothing`."""


def told(action: Action) -> dict[str, Said]:
    """Its typed parameters as policies are told them, with their defaults and without what is None. Texts that may be longer than `SHORT`
    are told by their length alone, `bytes` of UTF-8 in all; parameters with names of the operator's as one set of `name=value`, or
    `name: 999 bytes`. Raises nothing: what cannot be read is told as it is, and nothing that judges it knows it."""
    kind = KINDS.get(action.kind)
    try:
        typed = None if kind is None else kind.params.of(action.params)
    except msgspec.ValidationError:
        typed = None
    return dict(action.params) if typed is None else _told(type(typed), msgspec.structs.asdict(typed))


def _told(params: type[Params], values: Mapping[str, object]) -> dict[str, Said]:
    said: dict[str, Said] = {}
    shapes = _shapes(params)
    for name, value in values.items():
        match shapes[name], value:
            case _, None:
                pass
            case "set", dict():
                said[name] = arguments(value)
            case "text", str():
                said["bytes"] = int(said.get("bytes", 0)) + len(value.encode(errors="replace"))  # type: ignore[arg-type]
            case _, str() | int() | bool():
                said[name] = value
    return said


def arguments(given: Mapping[str, Given]) -> tuple[str, ...]:
    """Those with names of the operator's, as one set."""
    return tuple(sorted(_argument(name, value) for name, value in given.items()))


def _argument(name: str, value: Given) -> str:
    text = text_of(value)
    return f"{name}={text}" if len(text) <= SHORT else f"{name}: {len(text.encode(errors='replace'))} bytes"


@cache
def _shapes(params: type[Params]) -> dict[str, Literal["value", "text", "set"]]:
    """How each parameter is told."""
    return {field.name: _shape(field.type) for field in msgspec.structs.fields(params)}


def _shape(of: object) -> Literal["value", "text", "set"]:
    match type_info(of):
        case DictType():
            return "set"
        case StrType(pattern=None, max_length=most) if most is None or most > SHORT:
            return "text"
        case UnionType(types=types) if any(
            isinstance(one, StrType) and (one.max_length or SHORT + 1) > SHORT for one in types
        ):
            return "text"
        case _:
            return "value"


def _given(request: PolicyRequest) -> dict[str, Said]:
    """What the request says of its parameters, and of the others what they are when nothing is said of them."""
    kind = KINDS.get(request.action)
    usual = {} if kind is None else _usual(kind.params)
    return {**usual, **request.params}


@cache
def _usual(params: type[Params]) -> dict[str, Said]:
    fields = msgspec.structs.fields(params)
    texts = {"bytes": 0} if "text" in _shapes(params).values() else {}
    sets = {name: () for name, shape in _shapes(params).items() if shape == "set"}
    given = {field.name: field.default for field in fields if not field.required}
    return {**texts, **sets, **_told(params, given)}


def of_action(request: PolicyRequest) -> Asked:
    """Of an action. Raises `ValueError` for a target that is none."""
    persona = {"type": "Persona", "id": f"{request.swarm}/{request.persona}"}
    given = _given(request)
    size = given.get("bytes", 0)
    kind: str
    attributes: dict[str, object]
    match request.action:
        case "file.write" | "file.patch" | "file.delete" as action:
            own = is_own(request.target, request.swarm, request.persona)
            mode = given.get("mode", _MODE) if action == "file.write" else action.removeprefix("file.")
            kind, attributes = "File", {"path": request.target, "own": own, "mode": mode, "bytes": size}
        case "http.request":
            if url_trouble(request.target):
                raise ValueError("the target is no URL")
            parts = urlsplit(request.target)
            where = {"url": request.target, "host": endpoint(request.target), "path": parts.path, "query": parts.query}
            kind, attributes = "Endpoint", {**where, "method": given.get("method", "GET"), "bytes": size}
        case action:
            kind = _RESOURCES.get(action, "Nothing")
            row = {"reads": (request.row or Row()).reads} if action in KINDS and KINDS[action].rows else {}
            attributes = {"target": request.target, **given, **row}
    resource = {"type": kind, "id": request.target}
    query: dict[str, object] = {
        "principal": persona,
        "action": {"type": "Action", "id": request.action},
        "resource": resource,
        "context": {
            "risk": request.risk,
            "cost_microusd": request.cost_microusd,
            "over_limit": request.over_limit,
            "tainted": request.tainted,
            "labels": list(request.labels),
            "outward": is_outward(request.action, request.row),
            "scope": request.scope,
            "environment": request.environment,
            "approvals": request.approvals,
            "quorum": request.quorum,
            "kill_switch": request.kill_switch,
            "digest": request.digest,
            "allowed_hosts": list(request.allowed_hosts),
        },
    }
    entities: list[dict[str, object]] = [
        {
            "uid": persona,
            "attrs": {"swarm": request.swarm, "name": request.persona},
            "parents": [{"type": "Swarm", "id": request.swarm}],
        },
        {"uid": {"type": "Swarm", "id": request.swarm}, "attrs": {}, "parents": []},
        {"uid": resource, "attrs": attributes, "parents": []},
    ]
    return query, entities


def of_read(request: ReadRequest) -> Asked:
    """Of a read of memory."""
    swarm: dict[str, object] = {"type": "Swarm", "id": request.swarm}
    entities: list[dict[str, object]] = []
    if request.action == "memory.merge":
        reader = swarm
    elif request.person:
        reader = {"type": "Person", "id": request.person}
        entities.append({"uid": reader, "attrs": {"scopes": list(request.scopes)}, "parents": []})
    else:
        reader = {"type": "Persona", "id": f"{request.swarm}/{request.persona}"}
        attributes = {"swarm": request.swarm, "name": request.persona}
        entities.append({"uid": reader, "attrs": attributes, "parents": [swarm]})
    resource = {"type": "Namespace", "id": f"{request.namespace}:{request.owner_swarm}/{request.owner_persona}"}
    owner = {"swarm": request.owner_swarm, "persona": request.owner_persona}
    attrs = {"kind": request.namespace, "shared": request.shared, **owner}
    entities += [{"uid": swarm, "attrs": {}, "parents": []}, {"uid": resource, "attrs": attrs, "parents": []}]
    query: dict[str, object] = {
        "principal": reader,
        "action": {"type": "Action", "id": request.action},
        "resource": resource,
        "context": {},
    }
    return query, entities
