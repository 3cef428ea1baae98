"""`swarm beliefs`: what a swarm believes, how sure, and what speaks against it."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from services.cli.terminal.ask import ask_rows
from services.cli.terminal.output import emit, safe, table
from services.cli.terminal.target import HERE, OK, Target

COLUMNS = {"id": "ID", "belief_key": "TOPIC", "status": "STATUS", "sure": "SURE", "who": "WHO", "claim": "CLAIM"}


def beliefs(
    *,
    swarm: Annotated[
        str | None, Parameter(help="Only this swarm's blackboard; `all` is what several swarms believe together.")
    ] = None,
    status: Annotated[
        Literal["active", "stale", "invalidated", "archived", "any"], Parameter(help="Only those.")
    ] = "active",
    target: Target = HERE,
) -> int:
    """What swarms believe, surest first: who holds it, and what contradicts it."""
    wanted = {} if status == "any" else {"status": status}
    found = ask_rows(target, "/v1/cognition/beliefs", {**wanted, **({"swarm": swarm} if swarm else {})})
    if target.json:
        emit(found)
        return OK
    rows = [{**one, "sure": _sure(one), "who": _who(one), "claim": safe(one["claim"], 80)} for one in found]
    table(rows, COLUMNS, nothing="nothing is believed")
    return OK


def _sure(belief: dict[str, object]) -> str:
    confidence = belief["confidence"]
    return f"{confidence:.2f}" if isinstance(confidence, int | float) else ""


def _who(belief: dict[str, object]) -> str:
    """Who asserted it, how many confirmed and contested it, and what it contradicts."""
    told = [safe(belief["asserted_by"], 60)]
    for name, sign in (("confirmed_by", "+"), ("contested_by", "-"), ("contradicts", "x")):
        some = belief[name]
        if isinstance(some, list) and some:
            told.append(f"{sign}{len(some)}")
    return " ".join(told)
