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
    """`tools` are the rows of the operator's file, `capabilities` the persona's."""

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


def role_of(suite: str) -> Role:
    """As its file stands; lists that stand above are put where their names are."""
    written = tomllib.loads((FOLDER / f"{suite}.toml").read_text(encoding="utf-8"))
    charter, tools, scopes = written.pop("charter"), written.pop("tools"), written.pop("scopes")
    for row in tools.values():
        for argument in row.get("arguments", {}).values():
            if isinstance(listed := argument.get("one_of"), str):
                argument["one_of"] = written[listed]
    return Role(
        suite=suite,
        charter=charter,
        tools=tools,
        capabilities=msgspec.convert({"scopes": scopes}, Capabilities),
    )


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


def _toml(value: Any) -> str:
    match value:
        case dict():
            return "{ " + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(_toml(one) for one in value) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)  # a JSON scalar is one of TOML
