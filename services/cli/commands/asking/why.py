"""`swarm why`: how a decision came about, from what was observed to what came of it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from cyclopts import Parameter

from services.cli.commands.asking.proposals import Persona, Swarm, which
from services.cli.terminal.ask import ask
from services.cli.terminal.output import emit, safe, say, table
from services.cli.terminal.target import FAILED, HERE, OK, Target

COLUMNS = {"seq": "SEQ", "time": "TIME", "type": "EVENT", "who": "WHO", "because": "BECAUSE OF", "said": "WHAT"}
CAUSES = 4
"""So many of what an event rests on are told; `--json` has all."""


def why(
    id: Annotated[str, Parameter(help="Id of a proposal, or id or sequence of an event.")],
    *,
    swarm: Swarm = None,
    persona: Persona = None,
    target: Target = HERE,
) -> int:
    """Tell the whole story of a decision in order: who observed, claimed, checked, proposed, verified, permitted and did what.

    Exit 1 when a signature in it is not good.
    """
    story = ask(target, "GET", f"/v1/decisions/{quote(id, safe='')}/why{which(swarm, persona)}")
    events = [event for event in _list(story["events"]) if isinstance(event, dict)]
    signed = [event["signature"] for event in events if isinstance(event.get("signature"), dict)]
    code = FAILED if any(signature["good"] is False for signature in signed) else OK
    if target.json:
        emit(story)
        return code
    about = story["outcome"] or story["status"] or ""
    say(safe(f"{story['title']} ({story['swarm_id']}/{story['persona_id']}){f': {about}' if about else ''}"))
    table([{**event, "because": _causes(_list(event["because"]))} for event in events], COLUMNS, nothing="")
    for signature in signed:
        good = {True: "good", False: "NOT GOOD", None: "not checked"}[signature["good"]]
        say(safe(f"signature {good}: {signature['detail']}"))
    if missing := _list(story["missing"]):
        say(safe(f"{len(missing)} cited and not in the log any more: {', '.join(map(str, missing[:CAUSES]))}"))
    for key, words in (("hidden", "more that this key may not read"), ("left_out", "more, which are left out")):
        if story[key]:
            say(f"{story[key]} {words}")
    return code


def _causes(seqs: list[object]) -> str:
    more = f" and {len(seqs) - CAUSES} more" if len(seqs) > CAUSES else ""
    return ", ".join(map(str, seqs[:CAUSES])) + more


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
