"""`swarm slo`: what the mesh is judged by, and how it fares."""

from __future__ import annotations

import msgspec

from services.cli.terminal.ask import ask_rows
from services.cli.terminal.output import emit, table
from services.cli.terminal.target import FAILED, HERE, OK, Target

COLUMNS = {
    "id": "OBJECTIVE",
    "wanted": "WANTED",
    "window": "IN",
    "value": "IS",
    "of": "OF",
    "burn": "BURN",
    "figures": "BESIDE",
}


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    value: float | None


class Window(msgspec.Struct, frozen=True, kw_only=True):
    window: str
    value: float
    of: float
    burn: float
    met: bool
    figures: tuple[Figure, ...]


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `GET /v1/slo`, as far as it is told."""

    id: str
    title: str
    objective: float
    direction: str
    runbook: str
    windows: tuple[Window, ...]


def slo(*, target: Target = HERE) -> int:
    """Objectives, and how the mesh fares by them; fails when one is missed. A burn of 1 spends exactly what is allowed."""
    answer = ask_rows(target, "/v1/slo", {})
    told = msgspec.convert(answer, list[Objective], strict=False)
    missed = [objective for objective in told if not all(window.met for window in objective.windows)]
    if target.json:
        emit(answer)
    else:
        table([row for objective in told for row in rows(objective)], COLUMNS, nothing="no objectives")
        for objective in missed:
            print(f"missed: {objective.title}. {objective.runbook}")
    return FAILED if missed else OK


def rows(objective: Objective) -> list[dict[str, object]]:
    """One for each window."""
    share = objective.direction == "at_least"
    return [
        {
            "id": objective.id,
            "wanted": f"≥ {objective.objective:.0%}" if share else f"≤ {objective.objective:g}",
            "window": window.window,
            "value": f"{window.value:.2%}" if share else f"{window.value:g}",
            "of": f"{window.of:g}",
            "burn": f"{window.burn:.2f}",
            "figures": ", ".join(f"{f.name} {f.value:.3g}" for f in window.figures if f.value is not None),
        }
        for window in objective.windows
    ]
