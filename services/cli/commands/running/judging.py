"""Whether the demonstration of two swarms went as it should, by the log alone, and its report."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.contracts.catalog import class_of
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionExecuted,
    ConflictRaised,
    ConflictResolved,
    IntentClosed,
    IntentSubmitted,
    ObservationRecorded,
    ProposalRejected,
)
from shared.contracts.kinds.files import intent_report
from shared.contracts.text import code, markdown

LOST = "conflict_lost"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the log shows; `problems` are what it should and does not. `cited` are the events the intent's result rests on."""

    ruled: int = 0
    winner: str = ""
    lost: tuple[str, ...] = ()
    goal: str = ""
    told: IntentClosed | None = None
    cited: tuple[Recorded, ...] = ()
    file: str = ""
    problems: tuple[str, ...] = ()


def judged(recorded: Sequence[Recorded], since: int, intent: str, swarms: tuple[str, ...]) -> Verdict:
    """Of what was stored after `since`: one conflict, over the intent's file, ruled once; its loser rejected for it, by the winner's
    name; the winner's file written; the intent closed with events of every swarm, all of which are there."""
    by_seq = {r.seq: r for r in recorded}
    new = [r.event for r in recorded if r.seq > since]
    problems: list[str] = []
    resolved = [e for e in new if isinstance(e, ConflictResolved)]
    raised = [e for e in new if isinstance(e, ConflictRaised)]
    if len(raised) != 1 or len(resolved) != 1:
        problems.append(f"{len(raised)} conflicts were raised and {len(resolved)} ruled, one each is expected")
    if any(intent_report(intent) not in e.target for e in raised):
        problems.append("a conflict is over something else than the intent's file")
    kept = [k for e in resolved for k in e.kept]
    lost = [k for e in resolved for k in e.lost]
    if len(kept) != 1 or {k.swarm for k in (*kept, *lost)} != set(swarms):
        problems.append("the conflict was not ruled for one of the two swarms, and against the other")
    winner = kept[0].proposal_id if kept else ""
    for loser in lost:
        told = [e for e in new if isinstance(e, ProposalRejected) and e.proposal_id == loser.proposal_id]
        if not any(LOST in e.reasons and winner and winner in e.detail for e in told):
            problems.append(f"{loser.proposal_id} lost, and was not rejected as {LOST} naming {winner}")
        if any(isinstance(e, ActionExecuted) and e.proposal_id == loser.proposal_id for e in new):
            problems.append(f"{loser.proposal_id} lost, and was executed")
    done = [e for e in new if isinstance(e, ActionExecuted) and e.proposal_id == winner and e.outcome == "success"]
    if len(done) != 1:
        problems.append(f"the winner's action succeeded {len(done)} times")
    closed = [e for e in new if isinstance(e, IntentClosed) and e.intent_id == intent]
    submitted = [e for e in new if isinstance(e, IntentSubmitted) and e.intent_id == intent]
    result = closed[0] if len(closed) == 1 and closed[0].outcome == "answered" else None
    cited: list[Recorded] = []
    if result is None:
        problems.append(f"the intent was closed {len(closed)} times, answered once is expected")
    else:
        if {c.swarm for c in result.contributors} != set(swarms):
            problems.append("not every swarm contributed to the intent's result")
        for ref in result.evidence:
            found = by_seq.get(ref.seq)
            if found is None or found.id != ref.id:
                problems.append(f"event {ref.id} at {ref.seq} is cited, and is not in the log")
            else:
                cited.append(found)
        if missing := set(swarms) - {r.event.swarm for r in cited}:
            problems.append(f"no event of {', '.join(sorted(missing))} is cited")
    return Verdict(
        ruled=len(resolved),
        winner=winner,
        lost=tuple(k.proposal_id for k in lost),
        goal=submitted[0].goal if submitted else "",
        told=result,
        cited=tuple(cited),
        file=intent_report(intent) if done else "",
        problems=tuple(problems),
    )


def report(verdict: Verdict) -> str:
    """One report on what both swarms found, with what each rests on. What came from outside is inline code."""
    told = verdict.told
    if told is None:
        return ""
    parts = [f"# {code(verdict.goal)}", "", *(f"{code(line)}" for line in told.result.splitlines() if line.strip()), ""]
    parts += [f"Confidence {told.confidence:.2f}; intent `{told.intent_id}`.", ""]
    for who in told.contributors:
        parts += [f"## Swarm `{who.swarm}`, persona `{who.persona}` ({who.confidence:.2f})", ""]
        parts += [_line(r) for r in verdict.cited if r.event.swarm == who.swarm]
        parts.append("")
    parts += [
        f"Written by `{verdict.winner}`; {', '.join(f'`{p}`' for p in verdict.lost)} lost the conflict over it.",
        "",
    ]
    return markdown("\n".join(parts))


def _line(recorded: Recorded) -> str:
    event = recorded.event
    said = (
        f"{code(event.source)} {code(event.text[:200])}" if isinstance(event, ObservationRecorded) else class_of(event)
    )
    return f"- sequence {recorded.seq}, event `{recorded.id}`: {said}"
