"""`log.resolve`: is what is cited in the log."""

from __future__ import annotations

from services.checker.decider import MAX_EVIDENCE, Measured, RunProbe
from services.checker.desk import Desk
from services.checker.inside.shown import ref_of
from services.checker.inside.spans import EVIDENCE_KEPT
from shared.contracts.envelope import Recorded
from shared.contracts.events import LogResolve
from shared.evidence import is_independent


async def resolve(desk: Desk, asked: RunProbe, probe: LogResolve) -> Measured:
    """How many different cited events are in the log and readable."""
    cited = list({(ref.seq, ref.id): ref for ref in probe.evidence}.values())
    found: list[Recorded] = []
    for ref in cited[:MAX_EVIDENCE]:
        recorded = await desk.library.event(ref.seq)
        if recorded is None or recorded.id != ref.id:
            continue
        if await desk.library.may_cite(recorded.event, asked.swarm, asked.persona):
            found.append(recorded)
    over = len(cited) > MAX_EVIDENCE
    return Measured(
        value=len(found),
        complete=not over,
        detail=f"only the first {MAX_EVIDENCE} were looked up" if over else "",
        evidence=tuple(ref_of(recorded) for recorded in found[:EVIDENCE_KEPT]),
        tainted=not found or not all(is_independent(recorded.event, asked.persona) for recorded in found),
    )
