"""`swarm answer`: people's answers to what personas ask; `swarm actions`: what may be proposed."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from cyclopts import Parameter

from services.cli.terminal.ask import ask, ask_rows
from services.cli.terminal.output import emit, safe, say, table
from services.cli.terminal.target import HERE, OK, Target


def answer(
    id: Annotated[str, Parameter(help="Id of the question; `swarm proposals --waiting` has them.")],
    text: Annotated[str, Parameter(help="The answer; one of the options, where the question has some.")],
    *,
    target: Target = HERE,
) -> int:
    """Answer a persona's question, once. It comes to the persona as an observation in your name."""
    found = ask(target, "POST", f"/v1/questions/{quote(id, safe='')}/answer", {"answer": text})
    if target.json:
        emit(found)
    else:
        say(f"answered {safe(found['persona_id'])}: {safe(found['question'], 100)}")
    return OK


def actions(*, target: Target = HERE) -> int:
    """The kinds of action a persona, or you with `swarm propose`, may propose, and what each needs."""
    found = ask_rows(target, "/v1/actions", {})
    if target.json:
        emit(found)
        return OK
    columns = {
        "kind": "KIND", "risk": "RISK FROM", "reach": "REACHES", "idempotency": "AFTER A CRASH", "per_day": "A DAY",
        "needs": "PARAMETERS", "about": "WHAT IT IS",
    }  # fmt: skip
    rows = [{**one, "reach": one["blast_radius"], "needs": _needs(one["params"])} for one in found]
    table(rows, columns, nothing="no kinds")
    return OK


def _needs(params: object) -> str:
    """Names, those that may be left out in brackets."""
    listed = params if isinstance(params, list) else []
    return " ".join(str(p["name"]) if p["required"] else f"[{p['name']}]" for p in listed)
