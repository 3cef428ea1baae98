"""`swarm persona`: create, spawn, reap, list, show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec
from cyclopts import App, Parameter
from cyclopts.types import ExistingFile

from services.cli.terminal.ask import ask, ask_rows, inner
from services.cli.terminal.output import emit, say, table
from services.cli.terminal.target import HERE, OK, SWARM, USAGE, Stop, Swarm, Target
from shared.contracts.capabilities import Capabilities

persona = App(name="persona", help="Create, spawn, reap, list and show personas.")

Name = Annotated[str, Parameter(help="What people call it.")]
Role = Annotated[str, Parameter(help="Its part in the swarm, such as 'reviewer'.")]
Charter = Annotated[str, Parameter(help="What it is for, in a sentence or two.")]
Scopes = Annotated[
    ExistingFile | None,
    Parameter(help='JSON file of what it may do: {"scopes": […]}; default: what the policies let anybody do.'),
]
NewId = Annotated[str | None, Parameter(help="Its id; default: one is made.")]
Id = Annotated[str, Parameter(help="Id of the persona; `swarm persona list` has them.")]


@persona.command
def create(
    name: Name,
    *,
    role: Role,
    charter: Charter,
    id: NewId = None,
    swarm: Swarm = SWARM,
    tag: Annotated[tuple[str, ...], Parameter(negative="", help="A label of it; may be repeated.")] = (),
    idle_ttl: Annotated[
        int | None,
        Parameter(
            help="Seconds without useful progress after which it is reaped, 0 for never; default: it hibernates."
        ),
    ] = None,
    capabilities: Scopes = None,
    target: Target = HERE,
) -> int:
    """Create a root persona."""
    body: dict[str, object] = {"persona_id": id, "name": name, "role": role, "charter": charter, "swarm_id": swarm}
    body["tags"] = list(tag)
    policy: dict[str, object] = {} if idle_ttl is None else {"idle_ttl_secs": idle_ttl}
    policy |= _stated(capabilities)
    if policy:
        body["policy"] = policy
    return _show_persona(target, ask(target, "POST", "/v1/swarm/personas", body))


@persona.command
def spawn(
    parent: Annotated[str, Parameter(help="Id of the parent.")],
    name: Name,
    *,
    role: Role,
    charter: Charter,
    id: NewId = None,
    swarm: Annotated[
        str | None,
        Parameter(help="A new swarm that it begins, with credits of its parent's swarm; default: its parent's."),
    ] = None,
    capabilities: Scopes = None,
    target: Target = HERE,
) -> int:
    """Spawn a child of a persona, within its parent's limits."""
    body: dict[str, object] = {"persona_id": id, "name": name, "role": role, "charter": charter, "swarm_id": swarm}
    if capabilities is not None:
        body["policy"] = _stated(capabilities)
    return _show_persona(target, ask(target, "POST", f"/v1/swarm/personas/{quote(parent, safe='')}/spawn", body))


@persona.command
def reap(
    id: Id,
    *,
    cascade: Annotated[bool, Parameter(negative="", help="Its descendants too.")] = False,
    reason: Annotated[str, Parameter(help="Why, for the log.")] = "manual_reap",
    target: Target = HERE,
) -> int:
    """End a persona; its memory is compressed first."""
    body = {"cascade": cascade, "reason": reason}
    result = ask(target, "POST", f"/v1/swarm/personas/{quote(id, safe='')}/reap", body)
    if target.json:
        emit(result)
    else:
        ids = result["reaped_ids"]
        say(f"draining: {', '.join(ids) if isinstance(ids, list) else ids}")
        if remaining := result.get("remaining"):
            say(f"and it goes on: {remaining} more are still to drain; `swarm persona list` shows them")
    return OK


@persona.command(name="list")
def list_(
    *, swarm: Annotated[str | None, Parameter(help="Only those of this swarm.")] = None, target: Target = HERE
) -> int:
    """All personas."""
    found = ask_rows(target, "/v1/swarm/personas", {"swarm": swarm} if swarm else {})
    if target.json:
        emit(found)
        return OK
    rows = [{**inner(p, "identity"), **p} for p in found]
    columns = {"id": "ID", "swarm_id": "SWARM", "status": "STATUS", "role": "ROLE", "thought_count": "THOUGHTS"}
    table(rows, {**columns, "parent_id": "PARENT", "name": "NAME"}, nothing="no personas; `swarm persona create`")
    return OK


@persona.command
def show(id: Id, *, target: Target = HERE) -> int:
    """One persona: identity, policy, state."""
    return _show_persona(target, ask(target, "GET", f"/v1/cognition/personas/{quote(id, safe='')}"))


def _stated(file: Path | None) -> dict[str, object]:
    """A policy that states what the file says. Raises `Stop`."""
    if file is None:
        return {}
    try:
        return {"capabilities": msgspec.to_builtins(msgspec.json.decode(file.read_bytes(), type=Capabilities))}
    except (msgspec.MsgspecError, OSError) as error:
        raise Stop(f"{file}: {error}", USAGE) from error


def _show_persona(target: Target, state: Mapping[str, object]) -> int:
    if target.json:
        emit(state)
        return OK
    parts = {**inner(state, "identity"), **inner(state, "policy"), **state}
    rows = [{"what": k.replace("_", " "), "value": v} for k, v in parts.items() if k not in ("identity", "policy")]
    table(rows, {"what": "", "value": ""}, nothing="")
    return OK
