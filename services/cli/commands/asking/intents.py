"""`swarm intent`: submit, list, show, cancel: work for swarms."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from cyclopts import App, Parameter
from cyclopts.validators import Number

from services.cli.terminal.ask import ask, ask_rows, inner, span
from services.cli.terminal.output import emit, safe, say, table
from services.cli.terminal.target import FAILED, HERE, OK, SWARM, Swarm, Target

intent = App(name="intent", help="Work for swarms: submit, list, show and cancel intents.")

Id = Annotated[str, Parameter(help="Id of the intent; `swarm intent list` has them.")]
Home = Annotated[str | None, Parameter(help="Its swarm, where several intents have this id.")]
Wait = Annotated[bool, Parameter(negative="", help="Wait until it has ended, and say what came of it.")]
WAIT_S = 15
OPEN = ("submitted", "assigned", "delayed")


@intent.command
def submit(
    goal: Annotated[str, Parameter(help="What somebody is to find out or do, in a sentence or two.")],
    *,
    swarm: Swarm = SWARM,
    tag: Annotated[tuple[str, ...], Parameter(negative="", help="A capability wanted; may be repeated.")] = (),
    priority: Annotated[int, Parameter(validator=Number(gte=0, lte=9), help="0 to 9, higher first.")] = 5,
    within: Annotated[
        str | None, Parameter(help="Due after so long, such as 10m; default: 1h, or when its parent is.")
    ] = None,
    tokens: Annotated[int, Parameter(validator=Number(gte=0), help="Of models, for all who work on it.")] = 20_000,
    compute: Annotated[int, Parameter(validator=Number(gte=0), help="Milliseconds of compute, for all.")] = 60_000,
    to_swarm: Annotated[str | None, Parameter(help="Only personas of this swarm; default: of any.")] = None,
    to: Annotated[str | None, Parameter(help="Only this persona.")] = None,
    fan_out: Annotated[int, Parameter(validator=Number(gte=1, lte=16), help="So many personas get it at once.")] = 1,
    merge: Annotated[
        Literal["first", "best", "vote", "combine"], Parameter(help="How their answers become one.")
    ] = "first",
    option: Annotated[tuple[str, ...], Parameter(negative="", help="What a vote is between; once for each.")] = (),
    parent: Annotated[str | None, Parameter(help="The intent it is a part of, whose budget it shares.")] = None,
    wait: Wait = False,
    target: Target = HERE,
) -> int:
    """Give a swarm something to find out or to do; whoever suits best gets it."""
    body = {
        "goal": goal,
        "swarm_id": None if parent is not None and swarm == SWARM else swarm,
        "tags": list(tag),
        "priority": priority,
        "deadline_secs": None if within is None else max(1, round(span(within))),
        "budget": {"tokens": tokens, "compute_ms": compute},
        "wanted_swarm": to_swarm,
        "wanted_persona": to,
        "fan_out": fan_out,
        "merge": merge,
        "options": list(option),
        "parent_id": parent,
    }
    found = ask(target, "POST", "/v1/intents", body)
    if wait:
        return _until_ended(target, str(found["id"]), str(found["swarm_id"]))
    if target.json:
        emit(found)
    else:
        say(
            f"submitted to {safe(found['swarm_id'])}; `swarm intent show {safe(found['id'])} --wait` tells what came of it"
        )
        print(safe(found["id"]))
    return OK


@intent.command(name="list")
def list_(
    *,
    swarm: Annotated[str | None, Parameter(help="Only those of this swarm.")] = None,
    state: Annotated[
        Literal["open", "submitted", "assigned", "delayed", "answered", "failed", "cancelled", "all"],
        Parameter(help="Only those."),
    ] = "all",
    target: Target = HERE,
) -> int:
    """What swarms were asked, newest first, and how far it is."""
    found = ask_rows(target, "/v1/intents", {"state": state, **({"swarm": swarm} if swarm else {})})
    if target.json:
        emit(found)
        return OK
    columns = {"id": "ID", "state": "STATE", "swarm_id": "SWARM", "with": "WITH", "deadline": "DUE", "goal": "GOAL"}
    table([{**one, "with": _with(one), "goal": safe(one["goal"], 80)} for one in found], columns, nothing="no intents")
    return OK


@intent.command
def show(id: Id, *, swarm: Home = None, wait: Wait = False, target: Target = HERE) -> int:
    """One intent: who has it and why, what was said of it, and what came of it."""
    if wait:
        return _until_ended(target, id, swarm)
    life = ask(target, "GET", _path(id, swarm))
    if target.json:
        emit(life)
        return OK
    _tell(inner(life, "intent"))
    events = life["events"] if isinstance(life["events"], list) else []
    table(events, {"seq": "SEQ", "time": "TIME", "type": "EVENT", "source": "BY"}, nothing="")
    if life.get("truncated"):
        say("there was more before that; the log has it")
    return OK


@intent.command
def cancel(
    id: Id,
    *,
    swarm: Home = None,
    reason: Annotated[str, Parameter(help="Why, for the log.")] = "",
    target: Target = HERE,
) -> int:
    """Nobody is to work on it any more, nor on what was made of it."""
    which = f"?{urlencode({'swarm': swarm})}" if swarm else ""
    found = ask(target, "POST", f"/v1/intents/{quote(id, safe='')}/cancel{which}", {"reason": reason})
    if target.json:
        emit(found)
    else:
        say(f"cancelled: {safe(found['goal'], 200)}")
    return OK


def _path(id: str, swarm: str | None, wait_s: int = 0) -> str:
    query = {**({"swarm": swarm} if swarm else {}), **({"wait_s": wait_s} if wait_s else {})}
    return f"/v1/intents/{quote(id, safe='')}{f'?{urlencode(query)}' if query else ''}"


def _until_ended(target: Target, id: str, swarm: str | None) -> int:
    """What came of it, when it has; 1 when that is nothing."""
    said = ""
    while True:
        began = time.monotonic()
        life = ask(target, "GET", _path(id, swarm, WAIT_S))
        found = inner(life, "intent")
        if found["state"] not in OPEN:
            break
        if not target.json and (line := f"{found['state']}{_with(found, ' to ')}") != said:
            say(said := line)
        time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))  # a gateway that is told to stop answers at once
    if target.json:
        emit(life)
    else:
        _tell(found)
    return OK if found["state"] == "answered" else FAILED


def _with(found: Mapping[str, object], before: str = "") -> str:
    routes = found["assigned"] if isinstance(found["assigned"], list) else []
    names = ", ".join(f"{route['swarm_id']}/{route['persona_id']}" for route in routes)
    return f"{before}{names}" if names else ""


def _tell(found: Mapping[str, object]) -> None:
    """What a person wants to know of it, and nothing that is not there."""
    contributors = found["contributors"] if isinstance(found["contributors"], list) else []
    dissent = found["dissent"] if isinstance(found["dissent"], list) else []
    considered = found["considered"] if isinstance(found["considered"], list) else []
    reasons = found["reasons"] if isinstance(found["reasons"], list) else []
    rows = [("id", found["id"]), ("goal", found["goal"]), ("state", found["state"])]
    rows += [("because", f"{found['reason']} {found['detail']}".strip())]
    rows += [("has it", _with(found)), ("due", found["deadline"]), ("why", found["why"])]
    rows += [
        ("considered", f"{c['swarm_id']}/{c['persona_id']} {c['total']} (capability {c['capability']}, memory {c['memory']}, "
         f"load {c['load']}, success {c['success']}, price {c['price']})")
        for c in considered[:5]
    ]  # fmt: skip
    rows += [("ended without", reason) for reason in reasons]
    rows += [("result", found["result"]), ("chosen", found["choice"])]
    rows += [("confidence", found["confidence"])] if found["state"] == "answered" else []
    rows += [("tainted", "yes: it rests on what strangers said")] if found["tainted"] and found["result"] else []
    rows += [("by", f"{c['swarm_id']}/{c['persona_id']} ({c['confidence']})") for c in contributors]
    rows += [("dissent", f"{c['swarm_id']}/{c['persona_id']}: {c['choice'] or c['text']}") for c in dissent]
    table([{"what": k, "value": v} for k, v in rows if v not in ("", None)], {"what": "", "value": ""}, nothing="")
