"""`log.around`: what stood before and after a line that is cited."""

from __future__ import annotations

from collections.abc import Callable

from services.checker.decider import Measured, RunProbe
from services.checker.desk import Desk, perceived
from services.checker.inside.shown import also, line_of, ref_of
from services.checker.inside.spans import PAGE, newest
from shared.contracts.envelope import Recorded
from shared.contracts.events import LogAround, ObservationRecorded, Surroundings
from shared.evidence import is_tainted

MOST_READ = 2 * PAGE
"""Events that are read in each direction: a source that is one of many may have its next line far away."""


async def around(desk: Desk, asked: RunProbe, probe: LogAround) -> Measured:
    """Its neighbours; nothing where the line is none that whoever asks perceives."""
    cited = await desk.library.event(probe.line.seq)
    if cited is None or cited.id != probe.line.id or not isinstance(event := cited.event, ObservationRecorded):
        return Measured(value=0, detail="the cited line is not in the log")
    if not await desk.library.may_cite(event, asked.swarm, asked.persona):
        return Measured(value=0, detail="the cited line is not in the log")  # nor told that it is another's

    def keeps(recorded: Recorded) -> bool:
        other = recorded.event
        return isinstance(other, ObservationRecorded) and (probe.any_source or other.source == event.source)

    filters = perceived(asked)
    before, whole = await newest(desk, filters, cited.seq, probe.before, keeps, MOST_READ)
    after, cut = await _following(desk, asked, cited.seq, probe.after, keeps)
    if not whole and len(before) < probe.before:
        cut = also(f"no more than {len(before)} lines before it were looked for", cut)
    lines = (*before, cited, *after)
    return Measured(
        value=len(lines),
        evidence=tuple(ref_of(recorded) for recorded in lines),
        tainted=any(is_tainted(recorded.event) for recorded in lines),
        detail=cut,
        found=Surroundings(lines=tuple(line_of(recorded) for recorded in lines), cut=cut),
    )


async def _following(
    desk: Desk, asked: RunProbe, seq: int, wanted: int, keeps: Callable[[Recorded], bool]
) -> tuple[list[Recorded], str]:
    """The next so many up to the check itself, and what was left out."""
    found: list[Recorded] = []
    position, read = seq, 0
    async with desk.reading:
        while len(found) < wanted and read < MOST_READ:
            page = await desk.log.read(perceived(asked), position, upto=asked.seq, limit=min(PAGE, 8 * wanted))
            found += [recorded for recorded in page if keeps(recorded)]
            if not page:
                return found[:wanted], ""
            read += len(page)
            position = page[-1].seq
    return found[:wanted], "" if len(found) >= wanted else f"no more than {read} events after it were looked at"
