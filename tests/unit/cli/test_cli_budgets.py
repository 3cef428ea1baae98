"""`swarm budget`: what is left out stays as it was set, and what nobody obeys yet is said."""

from __future__ import annotations

import pytest

from services.cli.commands.asking import budgets
from services.cli.terminal.target import HERE, OK, Stop, Target

ROW = {
    "swarm_id": "web",
    "share": None,
    "settled": {},
    "outstanding": {},
    "floor": {"tokens": 10, "compute_ms": 0, "actions": 0, "cost_microusd": 0},
    "ceiling": {"tokens": 5000},
    "set": {"tokens": 5000, "compute_ms": None, "actions": 7, "cost_microusd": None},
    "weight": 300,
    "version": 4,
    "set_by": "ada",
    "in_force": True,
}


class Gateway:
    """Answers with one row, and keeps what it was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, in_force: bool = True) -> None:
        self.told: dict[str, object] = {}
        self.in_force = in_force
        monkeypatch.setattr(budgets, "ask_rows", lambda target, path, query: [ROW])
        monkeypatch.setattr(budgets, "ask", self.ask)

    def ask(self, target: Target, method: str, path: str, body: dict[str, object]) -> dict[str, object]:
        self.told = {"method": method, "path": path, **body}
        return {**ROW, "in_force": self.in_force}


def test_what_is_left_out_stays_as_it_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(monkeypatch)
    assert OK == budgets.put("web", compute=9000, floor_tokens=20, target=HERE)
    assert ("PUT", "/v1/budgets/web", 4, 300) == tuple(gateway.told[n] for n in ("method", "path", "version", "weight"))
    assert {"tokens": 5000, "compute_ms": 9000, "actions": 7} == gateway.told["ceiling"]
    assert {"tokens": 20, "compute_ms": 0, "actions": 0, "cost_microusd": 0} == gateway.told["floor"]


def test_reset_forgets_what_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(monkeypatch)
    assert OK == budgets.put("web", reset=True, target=HERE)
    assert ({}, {}, 100, 4) == tuple(gateway.told[n] for n in ("ceiling", "floor", "weight", "version"))


def test_what_no_governor_obeys_yet_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    Gateway(monkeypatch, in_force=False)
    with pytest.raises(Stop, match="no governor has obeyed yet"):
        budgets.put("web", tokens=1, target=HERE)


def test_a_swarm_without_a_share_is_shown_to_have_nothing_yet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Gateway(monkeypatch)
    assert OK == budgets.show(target=HERE)
    assert "nothing yet" in capsys.readouterr().out
