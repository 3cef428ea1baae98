"""`swarm halt` and `swarm resume`: the end of all actions for now, and a person's word that they go on."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from services.cli.terminal.ask import ask
from services.cli.terminal.output import emit, safe, say, table
from services.cli.terminal.target import FAILED, HERE, OK, USAGE, Stop, Target

Reason = Annotated[str, Parameter(help="Why, for the log.")]
COLUMNS = {"what": "WHAT", "proposal_id": "ID", "swarm_id": "SWARM", "persona_id": "BY", "target": "TARGET", "at": "AT"}


def halt(*, reason: Reason = "", target: Target = HERE) -> int:
    """Authorise and do nothing any more, until `swarm resume`. Thinking and proposing go on, and what waits goes on waiting."""
    state = ask(target, "POST", "/v1/halt", {"reason": reason})
    if target.json:
        emit(state)
    else:
        say(sentence(state))
    return OK


def resume(
    *,
    yes: Annotated[bool, Parameter(negative="", help="Do not ask.")] = False,
    reason: Reason = "",
    target: Target = HERE,
) -> int:
    """Have actions go on. First lists what is void since the log went back, and of what nobody can tell whether it was done.

    The kill switch's file is not lifted: who put it there removes it.
    """
    state = ask(target, "GET", "/v1/halt")
    if not target.json:
        _list(state)
    by_log = bool(state["seq"])
    if by_log and not yes and not _agreed(target):
        raise Stop("still halted; nothing was changed", FAILED)
    after = ask(target, "POST", "/v1/resume", {"reason": reason, "seq": state["seq"]}) if by_log else state
    if target.json:
        emit({"before": state, "after": after})
    elif after["halted"]:
        raise Stop(f"still {sentence(after)}", FAILED)
    else:
        say("actions go on" if by_log else "the mesh is not halted")
    return FAILED if after["halted"] else OK


def sentence(state: dict[str, object]) -> str:
    """Whether it is halted, since when, by whom and why."""
    if not state["halted"]:
        return "not halted"
    if not state["seq"]:
        return safe(f"halted: {state['reason']}")
    who = f" by {state['principal']}" if state["principal"] else ""
    held = [f"{state[f'{name}_total']} {name}" for name in ("void", "unknown") if state[f"{name}_total"]]
    about = f" ({', '.join(held)})" if held else ""
    also = ", once the kill switch is off too" if state["kill_switch"] else ""
    return safe(
        f"halted since {state['since']}{who}: {state['reason'] or state['cause']}{about}; `swarm resume` goes on{also}"
    )


def _list(state: dict[str, object]) -> None:
    say(sentence(state))
    for name, heading in (
        ("void", "void: authorised or asked before the log went back; it must be proposed again"),
        ("unknown", "unknown: claimed, and nobody can tell whether it was done; look yourself, it is never done again"),
    ):
        rows = state[name]
        if not isinstance(rows, list) or not rows:
            continue
        total = state[f"{name}_total"]
        say(heading + (f" (the newest {len(rows)} of {total})" if total != len(rows) else ""))
        table([{**row, "target": row["target"] or "not in the log any more"} for row in rows], COLUMNS, nothing="")


def _agreed(target: Target) -> bool:
    if target.json or sys.stdin is None or not sys.stdin.isatty():
        raise Stop("say --yes to have actions go on; nobody can be asked here", USAGE)
    sys.stderr.write("Have actions go on? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
