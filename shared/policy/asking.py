"""What Cedar is told of a request: the request and its few entities, in Cedar's JSON."""

from __future__ import annotations

from urllib.parse import urlsplit

from shared.contracts.action import Action
from shared.contracts.capabilities import Given
from shared.contracts.kinds.files import is_own
from shared.contracts.kinds.http import endpoint, url_trouble
from shared.policy.types import PolicyRequest, ReadRequest

Asked = tuple[dict[str, object], list[dict[str, object]]]
"""The request and its entities."""
_MODE = "create_or_replace"
_TEXTS = {"file.write": ("content",), "file.patch": ("find", "replace"), "http.request": ("body",)}


def told(action: Action) -> dict[str, Given]:
    """Its parameters as policies are told them: a text by its length in bytes of UTF-8 alone, so that requests stay small."""
    texts = _TEXTS.get(action.kind, ())
    params: dict[str, Given] = {name: value for name, value in action.params.items() if name not in texts}
    given = [value for name in texts if isinstance(value := action.params.get(name), str)]
    return {**params, "bytes": sum(len(text.encode(errors="replace")) for text in given)} if given else params


def of_action(request: PolicyRequest) -> Asked:
    """Of an action. Raises `ValueError` for a target that is none."""
    persona = {"type": "Persona", "id": f"{request.swarm}/{request.persona}"}
    given, size = request.params, request.params.get("bytes", 0)
    kind: str
    attributes: dict[str, object]
    match request.action:
        case "file.write" | "file.patch" | "file.delete" as action:
            own = is_own(request.target, request.swarm, request.persona)
            mode = given.get("mode", _MODE) if action == "file.write" else action.removeprefix("file.")
            kind, attributes = "File", {"path": request.target, "own": own, "mode": mode, "bytes": size}
        case "command.run":
            kind, attributes = "Command", {"name": request.target}
        case "http.request":
            if url_trouble(request.target):
                raise ValueError("the target is no URL")
            parts = urlsplit(request.target)
            where = {"url": request.target, "host": endpoint(request.target), "path": parts.path, "query": parts.query}
            kind, attributes = "Endpoint", {**where, "method": given.get("method", "GET"), "bytes": size}
        case _:
            kind, attributes = "Nothing", {"name": request.target}
    resource = {"type": kind, "id": request.target}
    query: dict[str, object] = {
        "principal": persona,
        "action": {"type": "Action", "id": request.action},
        "resource": resource,
        "context": {
            "risk": request.risk,
            "tainted": request.tainted,
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
