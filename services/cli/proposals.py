"""`swarm proposals`, `approve`, `deny`: what personas want, and people's word on it."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from cyclopts import Parameter

from services.cli.ask import ask, ask_rows, inner
from services.cli.output import emit, safe, say, table
from services.cli.target import HERE, OK, Stop, Target

Id = Annotated[str, Parameter(help="Id of the proposal; `swarm proposals --waiting` has them.")]
Reason = Annotated[str, Parameter(help="Why, for the log.")]


def proposals(
    id: Annotated[str | None, Parameter(help="One proposal's whole life; default: all, newest first.")] = None,
    *,
    waiting: Annotated[bool, Parameter(negative="", help="Only those that wait for people.")] = False,
    target: Target = HERE,
) -> int:
    """What personas have proposed, and what became of it."""
    if id is not None:
        life = ask(target, "GET", f"/v1/proposals/{quote(id, safe='')}")
        if target.json:
            emit(life)
            return OK
        table(
            [{"what": k, "value": v} for k, v in inner(life, "proposal").items()],
            {"what": "", "value": ""},
            nothing="",
        )
        events = life["events"] if isinstance(life["events"], list) else []
        table(events, {"seq": "SEQ", "time": "TIME", "type": "EVENT", "source": "BY"}, nothing="")
        return OK
    if waiting:
        found = ask_rows(target, "/v1/approvals", {"state": "pending"})
        columns = {"proposal_id": "ID", "risk": "RISK", "expires_at": "UNTIL", "persona_id": "BY", "summary": "WHAT"}
    else:
        found = ask_rows(target, "/v1/cognition/proposals", {})
        columns = {"id": "ID", "status": "STATUS", "risk": "RISK", "persona_id": "BY", "title": "TITLE"}
    if target.json:
        emit(found)
    else:
        table(found, columns, nothing="nothing waits for people" if waiting else "no proposals yet")
    return OK


def approve(id: Id, *, reason: Reason = "", target: Target = HERE) -> int:
    """Say yes to exactly the action that is proposed now."""
    return _decide(target, id, "grant", reason)


def deny(id: Id, *, reason: Reason = "", target: Target = HERE) -> int:
    """Say no to a proposal; one no is enough."""
    return _decide(target, id, "deny", reason)


def _decide(target: Target, proposal: str, decision: Literal["grant", "deny"], reason: str) -> int:
    waiting = ask_rows(target, "/v1/approvals", {"state": "all"})
    found = [a for a in waiting if a["proposal_id"] == proposal]
    if not found:
        raise Stop(f"proposal {proposal} waits for nobody; `swarm proposals --waiting` lists those that do")
    body = {"decision": decision, "digest": found[0]["digest"], "reason": reason}
    result = ask(target, "POST", f"/v1/approvals/{quote(proposal, safe='')}", body)
    if target.json:
        emit(result)
    else:
        say(f"{'granted' if decision == 'grant' else 'denied'}: {safe(found[0]['summary'])}")
    return OK
