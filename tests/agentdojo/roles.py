"""What an assistant of each suite may do, as its operator wrote it down (`roles/`), in the forms that the mesh takes."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from shared.contracts.capabilities import Capabilities

FOLDER = Path(__file__).with_name("roles")
SUITES = ("banking", "slack", "travel", "workspace")


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """`tools` are the rows of the operator's file of servers, `capabilities` the persona's."""

    suite: str
    charter: str
    tools: dict[str, dict[str, Any]]
    capabilities: Capabilities

    def reads(self, tool: str) -> bool:
        """Whether its row says that it changes nothing."""
        return bool(self.tools.get(tool, {}).get("reads"))

    def outward(self, tool: str) -> bool:
        """Whether what it is told leaves; of a tool without a row, it does."""
        return bool(self.tools.get(tool, {}).get("outward", True))


def role_of(suite: str, *, asks: bool = True) -> Role:
    """As its file stands; lists that stand above are put where their names are. Without `asks` it is a role that nobody should give: all it
    may do at all it may do alone."""
    written = tomllib.loads((FOLDER / f"{suite}.toml").read_text(encoding="utf-8"))
    charter, tools, scopes = written.pop("charter"), written.pop("tools"), written.pop("scopes")
    for row in tools.values():
        for argument in row.get("arguments", {}).values():
            if isinstance(listed := argument.get("one_of"), str):
                argument["one_of"] = written[listed]
        if not asks:
            row.update(risk="low", outward=False)
    if not asks:
        scopes = [{**scope, "ask": False} for scope in scopes]
    free = [scope for scope in scopes if not scope.get("ask")]
    looks = [{**scope, "kinds": ["mcp.read"], "targets": _looks(scope["targets"])} for scope in free]
    return Role(
        suite=suite,
        charter=charter,
        tools=tools,
        capabilities=msgspec.convert({"scopes": [*scopes, *looks]}, Capabilities),
    )


def _looks(targets: list[str]) -> list[str]:
    """What may be called without people may be looked at: the names of the rows of these tools."""
    return [name for target in targets for name in (look_of(target), f"{look_of(target)}-all")]


def look_of(target: str) -> str:
    """The row of the file of probes for a tool, `<server>/<tool>`; with `-all` the one in which it is told all it may be."""
    return target.replace("/", "-").replace("_", "-")


def written_digest() -> str:
    """SHA-256 over all that is in the files of the roles."""
    found = hashlib.sha256()
    for suite in SUITES:
        found.update((FOLDER / f"{suite}.toml").read_bytes())
    return found.hexdigest()


def operators_file(roles: dict[str, Role], urls: dict[str, str], digests: dict[str, dict[str, str]]) -> str:
    """The operator's file of MCP servers, each tool pinned to what its server says of it."""
    lines: list[str] = []
    for suite, role in roles.items():
        lines += [f"[servers.{suite}]", f"url = {_toml(urls[suite])}", "private = true", ""]
        for tool, row in role.tools.items():
            lines += [f"[servers.{suite}.tools.{tool}]", f"digest = {_toml(digests[suite][tool])}"]
            lines += [f"{name} = {_toml(value)}" for name, value in row.items()] + [""]
    return "\n".join(lines)


def probes_file(roles: dict[str, Role]) -> str:
    """The operator's file of what may be looked at: the tools that read, as far as no argument is free text or a list."""
    lines: list[str] = []
    for suite, role in roles.items():
        for tool, row in role.tools.items():
            given = row.get("arguments", {})
            if not row.get("reads") or any("chars" in one or "many" in one for one in given.values()):
                continue
            needed = {name: one for name, one in given.items() if not one.get("optional")}
            whole = {
                name: {key: value for key, value in one.items() if key != "optional"} for name, one in given.items()
            }
            for name, arguments in {
                look_of(f"{suite}/{tool}"): needed,
                f"{look_of(f'{suite}/{tool}')}-all": whole,
            }.items():
                if name.endswith("-all") and needed.keys() == whole.keys():
                    continue
                lines += [f"[probes.{name}]", 'kind = "mcp.read"', f"server = {_toml(suite)}", f"tool = {_toml(tool)}"]
                lines += [f"outward = {_toml(row['outward'])}", f"arguments = {_toml(arguments)}", ""]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    match value:
        case dict():
            return "{ " + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(_toml(one) for one in value) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)  # a JSON scalar is one of TOML
