"""`swarm config check`, and the page that tells all settings."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from services.cli import main as command_line
from shared.config_check import Finding, examine
from shared.configuration import KEYS, RENAMED
from shared.contracts.services import SERVICES
from shared.settings_page import main, page


def said(env: dict[str, str], *processes: str) -> list[tuple[str, str, str]]:
    return [(f.process, f.kind, f.said) for f in examine(env, processes)]


def test_each_service_is_told_what_it_cannot_do_without() -> None:
    found = {(f.process, f.kind, f.said.split()[0]) for f in examine({}, SERVICES)}
    assert found == {
        ("policy_gate", "missing", "SWARM_VERDICT_SEED_FILE"),
        ("policy_gate", "missing", "SWARM_VERDICT_ROOT"),
        ("actuator", "missing", "SWARM_VERDICT_ROOT"),
        ("memory_compactor", "missing", "SWARM_S3_ENDPOINT"),
    }


def test_all_that_is_wrong_is_said_at_once_and_by_whom_it_is_read(tmp_path: Path) -> None:
    config = tmp_path / "swarm.toml"
    config.write_text('[http]\nport = "x"\nburst = 0\n[s3]\nsecret_key = ["hush"]\n')
    env = {"SWARM_CONFIG": str(config), "SWARM_FOUR_EYES": "false", "SWARM_HEALTH_PORT": "99999"}
    gateway = said(env, "gateway")
    assert ["wrong"] * 4 == [kind for _, kind, _ in gateway]
    for n, start in enumerate(
        ("SWARM_FOUR_EYES is no more", "SWARM_HEALTH_PORT=", "SWARM_HTTP_PORT", "SWARM_HTTP_BURST=0")
    ):
        assert gateway[n][2].startswith(start)
    assert [("memory_compactor", "wrong", "SWARM_HEALTH_PORT='99999'")] == [
        (who, kind, text.partition(":")[0]) for who, kind, text in said(env, "memory_compactor") if "PORT" in text
    ]
    assert "hush" not in str(said(env, *SERVICES))
    config.write_text("nonsense = 1\n")
    assert all("'nonsense'" in text for _, kind, text in said({"SWARM_CONFIG": str(config)}, "gateway", "verifier"))


def test_values_that_do_not_fit_each_other_are_wrong_for_who_reads_both() -> None:
    env = {"SWARM_SWARM_TOKENS_PER_MINUTE": "9000000"}
    assert ["wrong"] == [kind for _, kind, _ in said(env, "governor")]
    assert [] == [finding for finding in said(env, "verifier") if finding[1] != "unused"]


def test_what_nobody_reads_is_unused_and_a_slip_is_told_apart(tmp_path: Path) -> None:
    env = {
        "SWARM_NATS_ULR": "nats://x",
        "SWARM_GRACE_S": "3",
        "SWARM_GRACE_S_FILE": "/not/read",
        "SWARM_MODEL_URL": "http://m/v1",
        "SWARM_TOKEN": "t",
        "HOME": "/",
    }
    assert said(env, "verifier") == [
        ("", "unused", "SWARM_GRACE_S_FILE is not read, for SWARM_GRACE_S is set too"),
        ("", "unused", "SWARM_MODEL_URL is not read by verifier"),
        ("", "unused", "SWARM_NATS_ULR is no setting; is it SWARM_NATS_URL?"),
    ]


def test_the_command_ends_with_1_when_something_is_missing_or_wrong(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def ran(*arguments: str) -> tuple[int | str | None, bytes]:
        monkeypatch.setattr(sys, "argv", ["swarm", "config", "check", *arguments])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        return ended.value.code, capfdbinary.readouterr().out

    assert ran("--service", "verifier") == (0, b"nothing is missing, wrong or unused\n")
    code, out = ran("--service", "verifier", "--service", "actuator", "--json")
    assert code == 1
    assert [("actuator", "missing")] == [(f.process, f.kind) for f in msgspec.json.decode(out, type=list[Finding])]
    assert ran("--service", "verifyer")[0] == 2
    monkeypatch.setenv("SWARM_MODEL_URL", "http://m/v1")
    assert ran("--service", "verifier") == (0, b"unused\t\tSWARM_MODEL_URL is not read by verifier\n")


def test_the_page_tells_every_setting_with_a_meaning_and_every_old_name(tmp_path: Path) -> None:
    text = page()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(KEYS) + len(RENAMED)
    for key in KEYS.values():
        row = next(row for row in rows if f"`{key.variable}` |" in row and "<br>" in row)
        assert len(row.split("|")[-2].strip()) > 5 and row.split("|")[4].strip(), row
    assert "| `port`<br>`SWARM_HTTP_PORT` | `4096` |" in text and "| none (secret) |  | `policy_gate` |" in text
    path = tmp_path / "settings.md"
    assert (1, 0, 0) == (main(["--check"], path), main([], path), main(["--check"], path))
