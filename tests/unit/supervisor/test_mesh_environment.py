"""What the command's environment says reaches services that run elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.supervisor.mesh import absolute


def test_relative_files_of_settings_are_meant_from_where_the_command_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {
        "SWARM_MODEL_API_KEY_FILE": "key",
        "SWARM_POLICY_DIR": "../policies",
        "SWARM_CONFIG": "mesh.toml",
        "SWARM_KILL_SWITCH_FILE": "",
        "SWARM_MODEL_NAME": "key",
        "OTHER_FILE": "key",
    }
    assert {
        "SWARM_MODEL_API_KEY_FILE": str(tmp_path / "key"),
        "SWARM_POLICY_DIR": str(tmp_path.parent / "policies"),
        "SWARM_CONFIG": str(tmp_path / "mesh.toml"),
        "SWARM_KILL_SWITCH_FILE": "",
        "SWARM_MODEL_NAME": "key",
        "OTHER_FILE": "key",
    } == absolute(given)
