"""`swarm conflicts`: which of several proposals goes first, and people's word on it; and on actions nobody can tell of."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from cyclopts import App, Parameter

from services.cli.commands.asking.proposals import Persona, Reason, Swarm, which
from services.cli.terminal.ask import ask, ask_rows
from services.cli.terminal.output import emit, safe, say, table
from services.cli.terminal.target import HERE, OK, Target

conflicts = App(name="conflicts", help="Proposals that cannot all be done: list, show and rule; and unknown outcomes.")

Id = Annotated[str, Parameter(help="Id of the conflict; `swarm conflicts list` has them.")]
Proposal = Annotated[str, Parameter(help="Id of the proposal.")]


@conflicts.command(name="list")
def list_(
    *,
    state: Annotated[Literal["open", "resolved", "all"], Parameter(help="Only those.")] = "all",
    target: Target = HERE,
) -> int:
    """Conflicts, newest first, and how they were ruled."""
    found = ask_rows(target, "/v1/conflicts", {"state": state})
    if target.json:
        emit(found)
        return OK
    columns = {"id": "ID", "state": "STATE", "how": "RULED BY", "sides": "SIDES", "target": "OVER", "reason": "WHY"}
    rows = [
        {**one, "how": one["resolution"] or "", "sides": len(_sides(one)), "target": safe(one["target"], 60)}
        for one in found
    ]
    table(rows, columns, nothing="no conflicts")
    return OK


@conflicts.command
def show(id: Id, *, target: Target = HERE) -> int:
    """One conflict with all its sides: what they are ordered by, and what became of each."""
    found = ask(target, "GET", f"/v1/conflicts/{quote(id, safe='')}")
    if target.json:
        emit(found)
        return OK
    table([{"what": k, "value": v} for k, v in found.items() if k != "sides"], {"what": "", "value": ""}, nothing="")
    columns = {
        "proposal_id": "PROPOSAL", "place": "PLACE", "swarm_id": "SWARM", "persona_id": "BY", "risk": "RISK",
        "depth": "DEPTH", "evidence": "EVIDENCE", "effect": "EFFECT", "title": "TITLE",
    }  # fmt: skip
    table(_sides(found), columns, nothing="")
    return OK


@conflicts.command
def rule(
    id: Id,
    winner: Proposal,
    *,
    swarm: Swarm = None,
    persona: Persona = None,
    reason: Reason = "",
    target: Target = HERE,
) -> int:
    """Say which proposal goes first; the others are rejected."""
    body = {"winner": winner, "swarm_id": swarm, "persona_id": persona, "reason": reason}
    found = ask(target, "POST", f"/v1/conflicts/{quote(id, safe='')}/rule", body)
    if target.json:
        emit(found)
    else:
        say(f"said; {safe(winner)} goes first over {safe(found['target'], 60)}")
    return OK


@conflicts.command
def unknown(*, target: Target = HERE) -> int:
    """Actions of which nobody can tell whether they happened; those that hold their target keep others waiting."""
    found = ask_rows(target, "/v1/actions/unknown", {})
    if target.json:
        emit(found)
        return OK
    columns = {
        "proposal_id": "ID", "holds": "HOLDS", "at": "SINCE", "swarm_id": "SWARM", "persona_id": "BY",
        "action_kind": "KIND", "action_target": "TARGET", "summary": "WHAT IS KNOWN",
    }  # fmt: skip
    table(found, columns, nothing="no outcome is unknown")
    return OK


@conflicts.command
def resolve(
    proposal: Proposal,
    outcome: Annotated[Literal["success", "failure"], Parameter(help="What became of it, as you have seen.")],
    *,
    reason: Annotated[str, Parameter(help="How you know, for the log.")],
    swarm: Swarm = None,
    persona: Persona = None,
    target: Target = HERE,
) -> int:
    """Say what became of an action whose outcome is unknown; what it held is free again."""
    path = f"/v1/actions/{quote(proposal, safe='')}/resolve{which(swarm, persona)}"
    found = ask(target, "POST", path, {"outcome": outcome, "reason": reason})
    if target.json:
        emit(found)
    else:
        say(f"resolved: {safe(found['title'])} was a {outcome}")
    return OK


def _sides(conflict: dict[str, object]) -> list[dict[str, object]]:
    sides = conflict["sides"]
    return sides if isinstance(sides, list) else []
