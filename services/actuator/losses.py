"""At the start: what this actuator has claimed that the log does not tell of any more."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

from services.actuator.journal import Entry, Journal
from services.actuator.terms import LOST
from shared.contracts.boundaries import life
from shared.contracts.envelope import Message, Recorded, enveloped
from shared.contracts.events import ActionExecuted, LostAction
from shared.contracts.ids import caused_id, utc_now
from shared.log.port import DuplicateEvent, Expect, Log, StaleBoundary
from shared.runtime.halting import say_went_back

PAGE = 500
BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)


async def say_lost(log: Log, journal: Journal, *, source: str) -> int:
    """Halt the mesh for claims that are gone, unless a halt names them already; how many. Raises `LogUnavailable`.

    Those whose proposal is still there get their outcome, `unknown`.
    """
    lost = await _lost(log, journal)
    if not lost:
        return 0
    verified = await _there(log, "proposal.verified", list(lost))
    actions = [
        LostAction(
            swarm=entry.swarm,
            persona=entry.persona,
            proposal_id=entry.proposal_id,
            digest=entry.digest,
            claimed_at=entry.at,
            known=entry.key in verified,
        )
        for entry in lost.values()
    ]
    reason = f"{len(lost)} actions were claimed in what is gone"
    await say_went_back(log, source=source, reason=reason, reached=0, before=BEFORE_ALL, lost=actions)
    for key, cause in verified.items():
        await _unknown(log, lost[key], cause, source)
    return len(lost)


async def _lost(log: Log, journal: Journal) -> dict[str, Entry]:
    claimed = await _there(log, "action.claimed", list(journal.entries))
    return {key: entry for key, entry in journal.entries.items() if key not in claimed}


async def _there(log: Log, event_class: str, keys: list[str]) -> dict[str, Recorded]:
    """The last event of the class in each life that has one, by key."""
    found: dict[str, Recorded] = {}
    rest = iter(keys)
    while page := [f"{event_class}.{key}" for key in islice(rest, PAGE)]:
        found.update((r.subject.removeprefix(f"{event_class}."), r) for r in await log.last(page))
    return found


async def _unknown(log: Log, entry: Entry, cause: Recorded, source: str) -> None:
    executed = ActionExecuted(
        swarm=entry.swarm,
        persona=entry.persona,
        proposal_id=entry.proposal_id,
        digest=entry.digest,
        outcome=LOST.outcome,
        summary=LOST.summary,
        error=LOST.error,
    )
    boundary = life(entry.swarm, entry.persona, entry.proposal_id)
    executed_id = caused_id(entry.claim_id, "action.executed")
    envelope = enveloped(executed_id, source=source, time=utc_now(), cause=cause.envelope)
    while True:
        (end,) = await log.ends((boundary,))
        if await log.last((f"action.executed.{entry.key}",)):
            return  # somebody has said what became of it
        try:
            await log.commit([Message(event=executed, envelope=envelope)], [Expect(boundary, end)])
            return
        except StaleBoundary:
            continue
        except DuplicateEvent:
            return
