"""`proposal.history` and `report.read`: what was proposed, and how that ended by the word of those who decide.

Of others in its swarm a persona is told that they proposed, what kind of thing, and how it ended; no word of theirs.
"""

from __future__ import annotations

from typing import Literal

from services.checker.decider import Measured, RunProbe
from services.checker.desk import Desk
from services.checker.inside.shown import also, ref_of
from services.checker.inside.spans import PAGE, newest
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionClaimed,
    ActionExecuted,
    ActionResolved,
    ApprovalRequested,
    Filed,
    History,
    ProposalAuthorized,
    ProposalCreated,
    ProposalEvent,
    ProposalHistory,
    ProposalRejected,
    ProposalVerified,
    Report,
    ReportRead,
)
from shared.contracts.events.probes import MAX_REPORT
from shared.contracts.text import lines, plain

Ended = Literal["open", "waits", "authorized", "claimed", "rejected", "success", "failure", "unknown"]
MOST_READ = 2 * PAGE
"""Proposals that are looked through, the newest first."""


async def history(desk: Desk, asked: RunProbe, probe: ProposalHistory) -> Measured:
    """The newest, the last one first."""
    persona = "*" if probe.whose == "swarm" else asked.persona

    def keeps(recorded: Recorded) -> bool:
        event = recorded.event
        return isinstance(event, ProposalCreated) and probe.kind in ("", event.action.kind)

    found, whole = await newest(desk, _proposed(asked.swarm, persona), asked.seq, probe.most, keeps, MOST_READ)
    if not found:
        detail = "nothing was proposed" if whole else f"nothing among the newest {MOST_READ}"
        return Measured(value=0, detail=detail, found=History(proposals=()))
    stands = await _stands(desk, asked.swarm, found, asked.seq)
    filed = tuple(_filed(recorded, stands, asked.persona) for recorded in reversed(found))
    cut = "" if whole and len(found) < probe.most else "older ones, if there are any"
    own = tuple(ref_of(recorded) for recorded in found if recorded.event.persona == asked.persona)
    return Measured(value=len(filed), detail=cut, evidence=own, found=History(proposals=filed, cut=cut))


async def report(desk: Desk, asked: RunProbe, probe: ReportRead) -> Measured:
    """The newest file of its own under that name, as it was proposed."""

    def keeps(recorded: Recorded) -> bool:
        event = recorded.event
        return (
            isinstance(event, ProposalCreated)
            and isinstance(event.action.params.get("content"), str)
            and (event.action.target == probe.target or event.action.target.endswith(f"/{probe.target}"))
        )

    found, whole = await newest(desk, _proposed(asked.swarm, asked.persona), asked.seq, 1, keeps, MOST_READ)
    if not found:
        among = "" if whole else f" among its newest {MOST_READ} proposals"
        return Measured(value=0, detail=f"it proposed no such file{among}")
    (recorded,) = found
    event = recorded.event
    assert isinstance(event, ProposalCreated)
    content = lines(str(event.action.params["content"]))
    text = content[probe.offset : probe.offset + MAX_REPORT]
    rest = len(content) - probe.offset - len(text)
    cut = also(
        f"{min(probe.offset, len(content))} characters before it" if probe.offset else "",
        f"{rest} characters more" if rest > 0 else "",
    )
    filed = _filed(recorded, await _stands(desk, asked.swarm, found, asked.seq), asked.persona)
    return Measured(
        value=len(content),
        detail=cut,
        evidence=(ref_of(recorded),),
        found=Report(filed=filed, text=text, offset=probe.offset, size=len(content), cut=cut),
    )


def _proposed(swarm: str, persona: str) -> tuple[str, ...]:
    return f"proposal.created.{swarm}.{persona}.>", f"proposal.filed.{swarm}.{persona}.>"


Lives = dict[tuple[str, str], list[ProposalEvent]]


async def _stands(desk: Desk, swarm: str, proposals: list[Recorded], upto: int) -> Lives:
    """What those who decide said of each, in stream order."""
    lives: Lives = {}
    for recorded in proposals:
        if isinstance(event := recorded.event, ProposalCreated):
            lives[event.persona, event.proposal_id] = []
    filters = tuple(f"*.*.{swarm}.{persona}.{proposal}" for persona, proposal in lives)
    for recorded in await desk.log.read(filters, upto=upto, limit=PAGE):
        event = recorded.event
        if isinstance(event, ProposalEvent) and not isinstance(event, ProposalCreated):
            lives[event.persona, event.proposal_id].append(event)
    return lives


def _filed(recorded: Recorded, lives: Lives, persona: str) -> Filed:
    event = recorded.event
    assert isinstance(event, ProposalCreated)
    said = lives[event.persona, event.proposal_id]
    ended, why = _ended(said)
    own = event.persona == persona
    return Filed(
        ref=ref_of(recorded),
        persona=event.persona,
        proposal_id=event.proposal_id,
        kind=plain(event.action.kind, 100),
        at=recorded.stored_at,
        ended=ended,
        title=plain(event.title, 72) if own else "",
        target=plain(event.action.target, 200) if own else "",
        risk=next((e.risk for e in said if isinstance(e, ProposalVerified)), None),
        why=plain(why, 200) if own else "",
    )


def _ended(said: list[ProposalEvent]) -> tuple[Ended, str]:
    """How far it came; what a person said of an outcome that was unknown is the last word."""
    ended: Ended = "open"
    why = ""
    for event in said:
        match event:
            case ApprovalRequested():
                ended, why = "waits", "people decide"
            case ProposalAuthorized():
                ended, why = "authorized", ""
            case ActionClaimed():
                ended, why = "claimed", ""
            case ProposalRejected():
                ended, why = "rejected", f"{event.stage}: {', '.join(event.reasons)}"
            case ActionExecuted():
                ended, why = event.outcome, event.summary
            case ActionResolved():
                ended, why = event.outcome, event.reason
            case _:
                pass
    return ended, why
