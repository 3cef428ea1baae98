"""`swarm proposals`, `approve`, `deny`: what personas want, and people's word on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from cyclopts import Parameter

from services.cli.terminal.ask import ask, ask_rows, inner
from services.cli.terminal.output import emit, safe, say, table
from services.cli.terminal.target import HERE, OK, USAGE, Stop, Target

Id = Annotated[str, Parameter(help="Id of the proposal; `swarm proposals --waiting` has them.")]
Swarm = Annotated[str | None, Parameter(help="Its swarm, where several proposals have this id.")]
Persona = Annotated[str | None, Parameter(help="Its persona, where several proposals have this id.")]
Reason = Annotated[str, Parameter(help="Why, for the log.")]
Digest = Annotated[
    str, Parameter(help="What `swarm proposals --waiting` showed of it; where the mesh has keys it must be said.")
]
SHOWN = 16
"""So many hex digits of a digest are shown, and are enough to say it by: 64 bits, of one proposal's few requests."""
SIDES = 6
"""So many sides of a conflict are told; `swarm conflicts show` has all."""


def proposals(
    id: Annotated[str | None, Parameter(help="One proposal's whole life; default: all, newest first.")] = None,
    *,
    waiting: Annotated[bool, Parameter(negative="", help="Only those that wait for people.")] = False,
    swarm: Swarm = None,
    persona: Persona = None,
    target: Target = HERE,
) -> int:
    """What personas have proposed, and what became of it."""
    if id is not None:
        life = ask(target, "GET", f"/v1/proposals/{quote(id, safe='')}{which(swarm, persona)}")
        if target.json:
            emit(life)
            return OK
        table(
            [{"what": k, "value": v} for k, v in {**inner(life, "proposal"), **_signed(life)}.items()],
            {"what": "", "value": ""},
            nothing="",
        )
        events = life["events"] if isinstance(life["events"], list) else []
        table(events, {"seq": "SEQ", "time": "TIME", "type": "EVENT", "source": "BY"}, nothing="")
        return OK
    if waiting:
        found = ask_rows(target, "/v1/approvals", {"state": "pending"})
        columns = {
            "proposal_id": "ID",
            "risk": "RISK",
            "expires_at": "UNTIL",
            "swarm_id": "SWARM",
            "persona_id": "BY",
            "digest": "DIGEST",
            "summary": "WHAT",
        }
        if not target.json:
            found = [{**a, "digest": str(a["digest"])[:SHOWN]} for a in found]
            _besides(target)
    else:
        found = ask_rows(target, "/v1/cognition/proposals", {})
        columns = {"id": "ID", "status": "STATUS", "risk": "RISK", "persona_id": "BY", "title": "TITLE"}
    if target.json:
        emit(found)
    else:
        table(found, columns, nothing="nothing waits for people" if waiting else "no proposals yet")
    return OK


def _besides(target: Target) -> None:
    """What else waits for a person's word, with the command that gives it; `--json` has what waits for approval alone."""
    for one in ask_rows(target, "/v1/conflicts", {"state": "open"}):
        if one["strategy"] != "order":
            name, until = safe(one["id"]), safe(one["until"])
            say(
                f"conflict over {safe(one['target'], 60)} until {until}: swarm conflicts show {name}, then rule {name} PROPOSAL"
            )
            sides = one["sides"] if isinstance(one["sides"], list) else []
            for side in sides[:SIDES]:
                say(f"  {_named(side)}, {safe(side['risk'])} risk: {safe(side['title'], 80)}")
            if len(sides) > SIDES:
                say(f"  and {len(sides) - SIDES} more")
    for one in ask_rows(target, "/v1/questions", {"state": "open"}):
        options = one["options"] if isinstance(one["options"], list) else []
        choice = "|".join(safe(option, 30) for option in options) or "TEXT"
        outside = ", perhaps in an outsider's words" if one["tainted"] else ""
        name, asker = safe(one["id"]), safe(one["persona_id"])
        say(f"{asker} asks{outside}: {safe(one['question'], 200)} -> swarm answer {name} {choice}")
    for one in ask_rows(target, "/v1/actions/unknown", {}):
        name, holds = safe(one["proposal_id"]), ", and others wait for its target" if one["holds"] else ""
        say(
            f"outcome unknown of {_named(one)}{holds}: {safe(one['title'], 80)}; look, then"
            f" swarm conflicts resolve {name} success|failure --reason WHY"
        )


def _named(one: Mapping[str, object]) -> str:
    return f"{safe(one['proposal_id'])} of {safe(one['swarm_id'])}/{safe(one['persona_id'])}"


def approve(
    id: Id,
    *,
    digest: Digest = "",
    swarm: Swarm = None,
    persona: Persona = None,
    reason: Reason = "",
    target: Target = HERE,
) -> int:
    """Say yes to exactly the action that you were shown; without keys and --digest to the one that waits now."""
    if target.token and not digest:
        raise Stop("say what you approve: --digest, as `swarm proposals --waiting` shows it", USAGE)
    return _decide(target, id, "grant", reason, swarm, persona, digest)


def deny(id: Id, *, swarm: Swarm = None, persona: Persona = None, reason: Reason = "", target: Target = HERE) -> int:
    """Say no to a proposal; one no is enough."""
    return _decide(target, id, "deny", reason, swarm, persona)


def _signed(life: Mapping[str, object]) -> dict[str, object]:
    """Who signed the verdict, where there is one."""
    signature = inner(life, "signature")
    return {"signature": f"{signature['detail']}: {signature['key']}"} if signature else {}


def which(swarm: str | None, persona: str | None) -> str:
    """The query that tells two proposals of one id apart."""
    named = {name: value for name, value in (("swarm", swarm), ("persona", persona)) if value is not None}
    return f"?{urlencode(named)}" if named else ""


def _decide(
    target: Target,
    proposal: str,
    decision: Literal["grant", "deny"],
    reason: str,
    swarm: str | None,
    persona: str | None,
    digest: str = "",
) -> int:
    waiting = ask_rows(target, "/v1/approvals", {"state": "all"})
    found = [
        a
        for a in waiting
        if a["proposal_id"] == proposal and swarm in (None, a["swarm_id"]) and persona in (None, a["persona_id"])
    ]
    if not found:
        raise Stop(f"proposal {proposal} waits for nobody; `swarm proposals --waiting` lists those that do")
    if len(found) > 1:
        these = ", ".join(f"--swarm {a['swarm_id']} --persona {a['persona_id']}" for a in found)
        raise Stop(f"{len(found)} proposals have the id {proposal}; say which: {these}")
    now = str(found[0]["digest"])
    if digest and (len(digest) < SHOWN or not now.startswith(digest)):
        raise Stop(f"what waits as {proposal} is {now[:SHOWN]}, not {digest}; look at it: `swarm proposals --waiting`")
    query = which(str(found[0]["swarm_id"]), str(found[0]["persona_id"]))
    body = {"decision": decision, "digest": now, "request_id": found[0]["request_id"], "reason": reason}
    result = ask(target, "POST", f"/v1/approvals/{quote(proposal, safe='')}{query}", body)
    if target.json:
        emit(result)
    else:
        say(f"{'granted' if decision == 'grant' else 'denied'}: {safe(found[0]['summary'])}")
        if result.get("note"):
            say(f"note: {safe(result['note'])}")
    return OK
