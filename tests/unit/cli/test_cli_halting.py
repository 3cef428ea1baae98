"""`swarm resume`: the log's halt is lifted, the kill switch's file is not, and that is said."""

from __future__ import annotations

import pytest

from services.cli.commands.asking import halting
from services.cli.terminal.target import HERE, OK, Stop, Target

GOING = {
    "halted": False, "kill_switch": False, "cause": None, "reason": "", "principal": "", "since": None, "seq": 0,
    "epoch": 0, "void": [], "void_total": 0, "unknown": [], "unknown_total": 0,
}  # fmt: skip
BY_FILE = {**GOING, "halted": True, "kill_switch": True, "cause": "kill_switch", "reason": "remove /d/STOP\x1b[31m"}
BY_LOG = {**GOING, "halted": True, "cause": "person", "reason": "odd", "principal": "ann", "since": "now", "seq": 7}
BY_BOTH = {**BY_LOG, "kill_switch": True}


def resume(monkeypatch: pytest.MonkeyPatch, before: object, after: object) -> tuple[int, list[object]]:
    asked: list[object] = []

    def ask(target: Target, method: str, path: str, body: object = None) -> object:
        asked.append((method, path, body))
        return before if method == "GET" else after

    monkeypatch.setattr(halting, "ask", ask)
    return halting.resume(yes=True, reason="seen", target=HERE), asked[1:]


def test_the_halt_that_was_looked_at_is_lifted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, asked = resume(monkeypatch, BY_LOG, GOING)
    assert (OK, [("POST", "/v1/resume", {"reason": "seen", "seq": 7})]) == (code, asked)
    assert "halted since now by ann: odd; `swarm resume` goes on\nactions go on\n" == capsys.readouterr().err


def test_of_a_file_nothing_is_asked_and_of_both_the_log_alone_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for before, asks in ((BY_FILE, 0), (BY_BOTH, 1)):
        asked: list[object] = []
        with pytest.raises(Stop, match="still halted: remove /d/STOP") as stop:
            asked = resume(monkeypatch, before, BY_FILE)[1]
        assert len(asked) <= asks and "\x1b" not in str(stop.value)


def test_who_looks_is_told_of_both() -> None:
    assert "once the kill switch is off too" in halting.sentence(BY_BOTH)
    assert "not halted" == halting.sentence(GOING)
