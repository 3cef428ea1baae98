"""`swarm answer`: people's answers to what personas ask; `swarm actions` and `propose`: what may be proposed, also by oneself."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from cyclopts import Parameter

from services.cli.terminal.ask import ask, ask_rows
from services.cli.terminal.output import emit, safe, say, table
from services.cli.terminal.target import HERE, OK, USAGE, Stop, Target
from shared.contracts.kinds.kind import scalar


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
        "kind": "KIND", "risk": "RISK FROM", "reach": "REACHES", "out": "OUT", "idempotency": "AFTER A CRASH", "per_day": "A DAY",
        "needs": "PARAMETERS", "about": "WHAT IT IS",
    }  # fmt: skip
    rows = []
    for one in found:
        rows.append(
            {
                **one,
                "reach": one["blast_radius"],
                "out": "yes" if one["outward"] else "",
                "needs": _needs(one["params"]),
            }
        )
        for named in one["rows"] if isinstance(one["rows"], list) else []:
            about = f"{named['about']}{' -- not now: ' * bool(named['trouble'])}{named['trouble']}"
            rows.append({"kind": f"  {named['target']}", "needs": _needs(named["params"], told=True), "about": about})
    table(rows, columns, nothing="no kinds")
    return OK


def propose(
    kind: Annotated[str, Parameter(help="The kind of action; `swarm actions` lists them.")],
    goal: Annotated[str, Parameter(name="TARGET", help="A path, a URL, an id: what the kind says its target is.")],
    *,
    param: Annotated[tuple[str, ...], Parameter(help="NAME=VALUE, as often as there are parameters.")] = (),
    title: Annotated[str | None, Parameter(help="What it is, in a few words.")] = None,
    reason: Annotated[str | None, Parameter(help="Why it should be done.")] = None,
    persona: Annotated[str | None, Parameter(help="In whose name; where one root lives, it is that one's.")] = None,
    swarm: Annotated[str | None, Parameter(help="The persona's swarm.")] = None,
    dry_run: Annotated[bool, Parameter(negative="", help="Only tell what would be done; nothing is stored.")] = False,
    target: Target = HERE,
) -> int:
    """File a proposal in the name of a persona. It passes the same gate as the persona's own; somebody else must approve it."""
    body = {
        "kind": kind,
        "target": goal,
        "params": _given(target, kind, goal, param),
        "title": title,
        "rationale": reason,
        "persona_id": persona,
        "swarm_id": swarm,
        "dry_run": dry_run,
    }
    found = ask(target, "POST", "/v1/proposals", {name: value for name, value in body.items() if value is not None})
    if target.json:
        emit(found)
        return OK
    say(f"{safe(found['persona_id'])} {safe(found['would'], 300)}; {safe(found['risk'])} risk")
    if found["proposal_id"]:
        say(f"filed as {safe(found['proposal_id'])}: swarm proposals {safe(found['proposal_id'])}, or --waiting")
    return OK


def _given(target: Target, kind: str, goal: str, given: tuple[str, ...]) -> dict[str, object]:
    """Parameters by name, numbers and truth values as such where the kind, or what the operator named, wants them."""
    found_kind = next((one for one in ask_rows(target, "/v1/actions", {}) if one["kind"] == kind), None)
    if found_kind is None:
        raise Stop(f"there is no kind {kind!r}; `swarm actions` lists them", USAGE)
    named = found_kind["rows"] if isinstance(found_kind["rows"], list) else []
    params = next((row["params"] for row in named if row["target"] == goal), found_kind["params"])
    if not isinstance(params, list):
        raise Stop(f"{kind} has no parameters that can be read", USAGE)
    types = {str(p["name"]): p["type"] for p in params}
    found: dict[str, object] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or name not in types:
            raise Stop(f"--param {pair[:60]!r}: {kind} has the parameters {', '.join(types) or 'none'}", USAGE)
        found[name] = scalar(value, str(types[name]))
    return found


def _needs(params: object, *, told: bool = False) -> str:
    """Names, those that may be left out in brackets; `told`: with what they may be."""
    listed = params if isinstance(params, list) else []
    if told:
        return "; ".join(f"{p['name']}: {p['about']}" + ("" if p["required"] else " (or left out)") for p in listed)
    return " ".join(str(p["name"]) if p["required"] else f"[{p['name']}]" for p in listed)
