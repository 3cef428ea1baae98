"""What the roles say is what the mesh takes, and no more than a role's operator would give: without AgentDojo, in no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.contracts.capabilities import flaws
from shared.outside.mcp.servers import servers_of
from tests.agentdojo.gym import Call
from tests.agentdojo.roles import SUITES, Role, operators_file, role_of

MANY = "0" * 64


def written(role: Role, folder: Path) -> Path:
    file = folder / "mcp.toml"
    pinned = {role.suite: dict.fromkeys(role.tools, MANY)}
    file.write_text(
        operators_file({role.suite: role}, {role.suite: "http://127.0.0.1:1/mcp"}, pinned), encoding="utf-8"
    )
    return file


@pytest.mark.parametrize("suite", SUITES)
def test_a_role_is_an_operators_file_and_capabilities_without_a_flaw(suite: str, tmp_path: Path) -> None:
    role = role_of(suite)
    server = servers_of(str(written(role, tmp_path)))[suite]
    assert role.tools.keys() == server.tools.keys() and () == flaws(role.capabilities)
    for tool, row in server.tools.items():
        assert row.arguments.keys() == role.tools[tool].get("arguments", {}).keys()


@pytest.mark.parametrize("suite", SUITES)
def test_every_tool_is_in_a_scope_and_every_effect_is_asked_about_unless_all_it_may_say_is_spelled_out(
    suite: str,
) -> None:
    role = role_of(suite)
    for tool, row in role.tools.items():
        params = dict.fromkeys(row.get("arguments", {}), "general")
        scopes = [scope for scope in role.capabilities.scopes if scope.covers("mcp.call", f"{suite}/{tool}", params)]
        assert scopes, tool
        alone = [scope for scope in scopes if not scope.ask]
        if not row.get("reads") and alone:
            assert all(params.keys() <= {limit.name for limit in scope.params} for scope in alone), tool
            assert all("one_of" in argument for argument in row["arguments"].values()), tool


def test_arguments_are_flat() -> None:
    call = Call("t", {"amount": 98.7, "n": 100, "whole": 10.0, "to": ["a", "b"], "again": True})
    assert {"amount": "98.7", "n": 100, "whole": "10", "to": "a\nb", "again": True} == call.params
