"""`swarm policy`, without a mesh: what is there, what it says, and what a mesh would go by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.cli.main import app
from services.cli.terminal.target import Stop
from services.supervisor.plan import Options
from services.supervisor.policies import ACTIVE, SHADOW, picked
from shared.policy.bundle import BadBundle, found
from shared.settings import Policy
from tests.unit.gate.policy.test_policy import BASE, replaced


def swarm(capsys: pytest.CaptureFixture[str], data: Path, *words: str) -> tuple[int, Any]:
    code = app(["policy", *words, "--data", str(data), "--json"], result_action="return_value", exit_on_error=False)
    return code, msgspec.json.decode(out) if (out := capsys.readouterr().out) else None


def test_a_bundle_is_listed_copied_checked_and_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, rows = swarm(capsys, tmp_path, "list")
    assert ["developer", "observe-only", "operator", "reports"] == [row["name"] for row in rows]
    assert all(row["about"].startswith(("Personas", "For one")) and not row["is"] for row in rows)
    copy = tmp_path / "mine"
    assert 0 == swarm(capsys, tmp_path, "show", "operator", "--to", str(copy))[0]
    assert {"version": rows[2]["version"], "revokes": False} == {
        k: v for k, v in swarm(capsys, tmp_path, "check", str(copy))[1].items() if k != "golden"
    }
    note = tmp_path / "note.json"
    for scope, code, reason in (("free", 0, "permitted"), ("unstated", 1, "no_matching_permit")):
        note.write_bytes(msgspec.json.encode(replaced(BASE, target="notes/a", risk="medium", scope=scope)))
        got = swarm(capsys, tmp_path, "test", str(copy), str(note))
        assert (code, reason) == (got[0], got[1]["reason"])
    (copy / "gate.cedar").write_text("permit (")
    with pytest.raises(Stop, match="mine"):
        swarm(capsys, tmp_path, "check", str(copy))
    with pytest.raises(Stop, match="observe-only, operator"):
        swarm(capsys, tmp_path, "check", "nobody")


def test_what_was_picked_stays_picked_until_another_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / ACTIVE
    with pytest.raises(Stop, match="no policies that can be picked"):
        swarm(capsys, tmp_path, "activate", "operator")
    for asked, settings, expected in (
        (None, Policy(), "reports"),
        ("operator", Policy(), "operator"),
        (None, Policy(), "operator"),
        (None, Policy(bundle="developer"), "developer"),
        ("observe-only", Policy(bundle="developer", dir="/elsewhere"), "observe-only"),
    ):
        options = picked(Options(policy=asked), tmp_path, settings)
        assert (str(link), found(expected)) == (options.policy_dir, link.resolve())
    assert swarm(capsys, tmp_path, "activate", "reports")[0] == 0 and found("reports") == link.resolve()
    assert found("reports") == Path(picked(Options(), tmp_path, Policy()).policy_dir or "").resolve()
    swarm(capsys, tmp_path, "shadow", "operator")
    _, rows = swarm(capsys, tmp_path, "list")
    assert {"reports": "active", "operator": "shadow"} == {row["name"]: row["is"] for row in rows if row["is"]}
    swarm(capsys, tmp_path, "shadow")
    assert not (tmp_path / SHADOW).exists()
    for options in (Options(policy_dir="/mine"), Options(policy_dir="/mine", policy=None)):
        assert options == picked(options, tmp_path, Policy())
    assert Options() == picked(Options(), tmp_path, Policy(dir="/elsewhere"))
    with pytest.raises(BadBundle):
        picked(Options(policy="nobody"), tmp_path, Policy())
