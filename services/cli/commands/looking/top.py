"""`swarm top`: what goes on in the mesh now, by swarm, persona, intent, budget and conflict."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated

import httpx
import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.cli.commands.asking.halting import sentence
from services.cli.terminal.ask import inner, span, wait
from services.cli.terminal.output import emit_line, safe, table
from services.cli.terminal.target import HERE, OK, Target, call, rows

Row = Mapping[str, object]
SHOWN = 10
"""Lines of each part on a terminal; what is left out is counted."""
GONE = ("draining", "reaped")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One table: its rows, most important first, and the keys and headings of its columns."""

    title: str
    rows: Sequence[Row]
    columns: Mapping[str, str]


def top(
    *,
    swarm: Annotated[str | None, Parameter(help="Only this swarm.")] = None,
    interval: Annotated[str, Parameter(help="Time between two looks.")] = "2s",
    count: Annotated[
        int | None,
        Parameter(
            validator=Number(gte=1), help="End after so many looks; default: 1 where nobody watches, else at Ctrl-C."
        ),
    ] = None,
    target: Target = HERE,
) -> int:
    """Watch the mesh: who thinks, what is asked of whom, who may spend how much, what is in conflict."""
    live = sys.stdout.isatty() and not target.json
    looks = count if count is not None or live else 1
    wait(_watch(target, swarm, span(interval), looks, live=live))
    return OK


async def _watch(target: Target, swarm: str | None, interval_s: float, looks: int | None, *, live: bool) -> None:
    async with target.client() as client:
        first = await look(client, swarm)
        if not live:
            await _print(client, target, swarm, interval_s, looks or 1, first)
            return
        with Live(drawn(first), console=Console(), auto_refresh=False, screen=looks is None) as screen:
            done = 1
            while looks is None or done < looks:
                await asyncio.sleep(interval_s)
                screen.update(drawn(await look(client, swarm)), refresh=True)
                done += 1


async def _print(
    client: httpx.AsyncClient, target: Target, swarm: str | None, interval_s: float, looks: int, seen: list[Part]
) -> None:
    for n in range(looks):
        if n:
            await asyncio.sleep(interval_s)
            seen = await look(client, swarm)
        if target.json:
            emit_line({part.title: part.rows for part in seen})
            continue
        for part in seen:
            print(part.title)
            table(part.rows, part.columns, nothing="  none")


async def look(client: httpx.AsyncClient, swarm: str | None) -> list[Part]:
    """One look at everything. Raises `Stop` with the API's own words."""
    which = {} if swarm is None else {"swarm": swarm}
    status, personas, budgets, intents, conflicts, waiting = await asyncio.gather(
        call(client, "GET", "/v1/cognition/status"),
        rows(client, "/v1/swarm/personas", which),
        rows(client, "/v1/budgets", {}),
        rows(client, "/v1/intents", {**which, "state": "open"}),
        rows(client, "/v1/conflicts", {"state": "open"}),
        rows(client, "/v1/approvals", {"state": "pending"}),
    )
    halted = await call(client, "GET", "/v1/halt")
    living = [p for p in personas if p["status"] not in GONE]
    return [
        Part(title="mesh", rows=[_mesh(status, halted, living, waiting)], columns=_MESH),
        Part(
            title="swarms",
            rows=_swarms(living, [b for b in budgets if swarm in (None, b["swarm_id"])]),
            columns=_SWARMS,
        ),
        Part(title="personas", rows=_personas(living), columns=_PERSONAS),
        Part(title="intents", rows=[_intent(row) for row in intents], columns=_INTENTS),
        Part(
            title="conflicts",
            rows=[_conflict(c) for c in conflicts if swarm is None or _meets(c, swarm)],
            columns=_CONFLICTS,
        ),
    ]


def _mesh(status: object, halted: object, living: Sequence[Row], waiting: Sequence[Row]) -> Row:
    known = msgspec.convert(status, dict[str, object])
    return {
        "thinking": "yes" if known.get("running") else "no",
        "actions": sentence(msgspec.convert(halted, dict[str, object])),
        "personas": len(living),
        "active": sum(p["status"] == "active" for p in living),
        "waiting": len(waiting),
    }


def _swarms(living: Sequence[Row], budgets: Sequence[Row]) -> list[Row]:
    """Those with most personas first, with what was spent in the newest minute of what they may: their share of the global budget."""
    of = Counter(_swarm_of(p) for p in living)
    active = Counter(_swarm_of(p) for p in living if p["status"] == "active")
    thoughts: Counter[str] = Counter()
    for persona in living:
        thoughts[_swarm_of(persona)] += _count(persona, "thought_count")
    spent = {str(row["swarm_id"]): row for row in budgets}
    return [
        {
            "swarm_id": name,
            "personas": of[name],
            "active": active[name],
            "thoughts": thoughts[name],
            **{key: _of(spent.get(name, {}), key) for key in ("tokens", "compute_ms")},
            "paused": len(_list(spent.get(name, {}), "paused_personas")),
        }
        for name in sorted({*of, *spent}, key=lambda name: (-of[name], name))
    ]


def _personas(living: Sequence[Row]) -> list[Row]:
    """Those that spend most this minute first."""
    found = [
        {
            "id": inner(p, "identity")["id"],
            "swarm_id": _swarm_of(p),
            "status": p["status"],
            "thoughts": _count(p, "thought_count"),
            "tokens": _count(p, "tokens_this_window"),
            "compute_ms": _count(p, "compute_ms_this_window"),
        }
        for p in living
    ]
    return sorted(found, key=lambda p: (-_count(p, "tokens"), -_count(p, "compute_ms"), -_count(p, "thoughts"), str(p)))


def _intent(row: Row) -> Row:
    routes = _list(row, "assigned")
    whose = ", ".join(f"{r['swarm_id']}/{r['persona_id']}" for r in routes if isinstance(r, dict))
    return {**{key: row[key] for key in ("id", "state", "swarm_id", "goal")}, "with": whose}


def _conflict(row: Row) -> Row:
    sides = [s for s in _list(row, "sides") if isinstance(s, dict)]
    whose = ", ".join(f"{s['swarm_id']}/{s['persona_id']}" for s in sides)
    return {**{key: row[key] for key in ("id", "target", "strategy", "until")}, "sides": whose}


def _meets(conflict: Row, swarm: str) -> bool:
    return any(isinstance(side, dict) and side["swarm_id"] == swarm for side in _list(conflict, "sides"))


def _of(budget: Row, key: str) -> str:
    """So much of its share is spent."""
    return f"{_count(inner(budget, 'settled'), key)} of {_count(inner(budget, 'share'), key)}"


def _swarm_of(persona: Row) -> str:
    return str(inner(persona, "identity")["swarm_id"])


def _count(row: Row, key: str) -> int:
    value = row.get(key)
    return value if isinstance(value, int) else 0


def _list(row: Row, key: str) -> Sequence[object]:
    value = row.get(key)
    return value if isinstance(value, list) else ()


_MESH = {
    "thinking": "THINKING",
    "personas": "PERSONAS",
    "active": "ACTIVE",
    "waiting": "WAIT FOR PEOPLE",
    "actions": "ACTIONS",
}
_SWARMS = {
    "swarm_id": "SWARM",
    "personas": "PERSONAS",
    "active": "ACTIVE",
    "thoughts": "THOUGHTS",
    "tokens": "TOKENS",
    "compute_ms": "MS",
    "paused": "PAUSED",
}
_PERSONAS = {
    "id": "ID",
    "swarm_id": "SWARM",
    "status": "STATUS",
    "thoughts": "THOUGHTS",
    "tokens": "TOKENS",
    "compute_ms": "MS",
}
_INTENTS = {"id": "ID", "state": "STATE", "swarm_id": "SWARM", "with": "WITH", "goal": "GOAL"}
_LONG = ("GOAL", "TARGET", "SIDES", "WITH", "ACTIONS")
_CONFLICTS = {"id": "ID", "target": "TARGET", "sides": "SIDES", "strategy": "RULED BY", "until": "UNTIL"}


def drawn(parts: Sequence[Part]) -> RenderableType:
    """The parts below each other, each cut to what fits, saying how much is left out."""
    return Group(*(_drawn(part) for part in parts))


def _drawn(part: Part) -> RenderableType:
    shown = Table(title=part.title, title_justify="left", box=None, pad_edge=False)
    for heading in part.columns.values():
        shown.add_column(heading, no_wrap=heading not in _LONG)  # what may wrap is what gives way
    for row in part.rows[:SHOWN]:
        cells = (Text(safe(row.get(key, "")), no_wrap=True, overflow="ellipsis") for key in part.columns)
        shown.add_row(*cells)
    if (more := len(part.rows) - SHOWN) > 0:
        shown.add_row(Text(f"and {more} more", style="dim"))
    return shown
