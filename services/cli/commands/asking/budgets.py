"""`swarm budget`: what each swarm may spend a minute, and a person's bounds for it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from cyclopts import App, Parameter
from cyclopts.validators import Number

from services.cli.terminal.ask import ask, ask_rows
from services.cli.terminal.output import emit, safe, say, table
from services.cli.terminal.target import FAILED, HERE, OK, Stop, Target

budget = App(name="budget", help="What swarms may spend a minute: show it, and set bounds.")

Amount = Annotated[int | None, Parameter(validator=Number(gte=0))]
COLUMNS = {
    "swarm": "SWARM",
    "share": "MAY SPEND",
    "spent": "SPENT",
    "open": "OUTSTANDING",
    "floor": "FLOOR",
    "ceiling": "CEILING",
    "weight": "WEIGHT",
    "set_by": "SET BY",
}
RESOURCES = {"tokens": "tokens", "compute_ms": "ms", "actions": "actions"}
Row = dict[str, object]


@budget.command
def show(swarm: Annotated[str | None, Parameter(help="Only this one.")] = None, *, target: Target = HERE) -> int:
    """Shares, what was spent in the newest minute, what is outstanding, and the bounds; a minute each."""
    rows = _rows(target, swarm)
    if target.json:
        emit(rows)
        return OK
    told = [
        {
            "swarm": row["swarm_id"],
            "share": _amounts(row["share"]) if row["share"] else "nothing yet",
            "spent": _amounts(row["settled"]),
            "open": _amounts(row["outstanding"]),
            "floor": _amounts(row["floor"]),
            "ceiling": _amounts(row["ceiling"]) + ("" if row["in_force"] else " (not in force yet)"),
            "weight": row["weight"],
            "set_by": row["set_by"],
        }
        for row in rows
    ]
    table(told, COLUMNS, nothing="no swarm has spent anything, or may")
    return OK


@budget.command(name="set")
def put(
    swarm: Annotated[str, Parameter(help="Whose.")],
    *,
    tokens: Amount = None,
    compute: Amount = None,
    actions: Amount = None,
    cost: Annotated[int | None, Parameter(validator=Number(gte=0), help="Millionths of a dollar.")] = None,
    floor_tokens: Amount = None,
    floor_compute: Amount = None,
    floor_actions: Amount = None,
    floor_cost: Amount = None,
    weight: Annotated[int | None, Parameter(validator=Number(gte=1, lte=10_000), help="100 is usual.")] = None,
    reset: Annotated[bool, Parameter(negative="", help="Forget what was set before.")] = False,
    reason: Annotated[str, Parameter(help="Why, for the log.")] = "",
    target: Target = HERE,
) -> int:
    """At most so much a minute (and, as floors, at least, when it has use for it); in force at once. What is left out stays as it is."""
    now = next(iter(_rows(target, swarm)), None)
    before: Row = {} if now is None or reset else now
    most = _kept(
        before.get("set"), {"tokens": tokens, "compute_ms": compute, "actions": actions, "cost_microusd": cost}
    )
    floors = {
        "tokens": floor_tokens,
        "compute_ms": floor_compute,
        "actions": floor_actions,
        "cost_microusd": floor_cost,
    }
    body = {
        "ceiling": most,
        "floor": _kept(before.get("floor"), floors),
        "weight": weight or before.get("weight") or 100,
        "reason": reason,
        "version": 0 if now is None else now["version"],
    }
    after = ask(target, "PUT", f"/v1/budgets/{quote(swarm, safe='')}", body)
    if target.json:
        emit(after)
    else:
        say(safe(f"{after['swarm_id']}: at most {_amounts(after['ceiling'])} a minute, weight {after['weight']}"))
    if not after["in_force"]:
        raise Stop("it was said, but no governor has obeyed yet; `swarm budget show` tells", FAILED)
    return OK


def _rows(target: Target, swarm: str | None) -> list[Row]:
    return [row for row in ask_rows(target, "/v1/budgets", {}) if swarm in (None, row["swarm_id"])]


def _kept(before: object, wanted: dict[str, int | None]) -> Row:
    """What was there, with what is wanted instead."""
    known = dict(before) if isinstance(before, dict) else {}
    return {
        name: known.get(name) if amount is None else amount
        for name, amount in wanted.items()
        if _any(known, name, amount)
    }


def _any(known: Row, name: str, amount: int | None) -> bool:
    return amount is not None or known.get(name) is not None


def _amounts(credits: object) -> str:
    told = credits if isinstance(credits, dict) else {}
    return ", ".join(f"{told.get(name, 0)} {unit}" for name, unit in RESOURCES.items())
