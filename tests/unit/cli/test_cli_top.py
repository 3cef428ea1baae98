"""`swarm top`: the most important first, what is left out is counted, and nothing a terminal would obey."""

from __future__ import annotations

import io

from rich.console import Console

from services.cli.commands.looking.top import SHOWN, Part, drawn


def shown(*parts: Part, width: int = 60) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(drawn(parts))
    return out.getvalue()


def test_what_does_not_fit_is_counted() -> None:
    rows = [{"id": f"p-{n}"} for n in range(SHOWN + 3)]
    text = shown(Part(title="personas", rows=rows, columns={"id": "ID"}))
    assert f"p-{SHOWN - 1}" in text and f"p-{SHOWN}" not in text and "and 3 more" in text


def test_an_id_stays_whole_where_a_goal_gives_way() -> None:
    rows = [{"id": "i-0123456789abcdef01234567", "goal": "\x1b[31mIs anything " + "very " * 30 + "odd?"}]
    text = shown(Part(title="intents", rows=rows, columns={"id": "ID", "goal": "GOAL"}))
    assert "i-0123456789abcdef01234567" in text and "…" in text and "\x1b" not in text and len(text.splitlines()) == 3
