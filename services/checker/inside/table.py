"""`template.table`: which kinds of line there are, as perception tells them apart."""

from __future__ import annotations

from services.checker.decider import Measured, RunProbe
from services.checker.desk import Desk, perceived
from services.checker.inside.shown import also
from services.checker.inside.spans import Cited, over
from shared.contracts.envelope import Recorded
from shared.contracts.events import EvidenceRef, ObservationRecorded, Table, TemplateRow, TemplateTable
from shared.contracts.events.probes import MAX_LINE
from shared.contracts.text import plain

MOST_READ = 50_000
"""Lines; to tell the kinds of hostile ones apart costs much more than to count."""


async def table(desk: Desk, asked: RunProbe, probe: TemplateTable) -> Measured:
    """The most frequent, and how many lines have none of these."""
    from shared.thinker.perceiving.mining import Template, Templates  # here: as for counting
    from shared.thinker.perceiving.templates import read, shown

    def aligned(template: Template) -> None:
        """No windows here."""

    kinds, cited = Templates([], aligned), Cited()

    def take(recorded: Recorded) -> None:
        event = recorded.event
        if not isinstance(event, ObservationRecorded) or probe.source not in (None, event.source):
            return
        cited.take(recorded)
        line = read(event.text)
        kind = kinds.find(event.source, line.masked) or kinds.add(event.source, line.masked, line.body, cited.count)
        kind.count += 1
        kind.touched = cited.count
        if kind.first is None:
            kind.first = EvidenceRef(id=recorded.id, seq=recorded.seq)

    _, partial = await over(desk, perceived(asked), probe.first_seq, probe.last_seq, take, most=MOST_READ)
    ranked = sorted(kinds.known, key=lambda kind: (-kind.count, kind.source, kind.words))
    rows = tuple(
        TemplateRow(
            template=plain(shown(kind.words), MAX_LINE),
            source=plain(kind.source, 200),
            count=kind.count,
            first=kind.first,
        )
        for kind in ranked[: probe.most]
        if kind.first is not None
    )
    others = cited.count - sum(row.count for row in rows)
    more = len(ranked) - len(rows)
    cut = also(f"{more} more kinds of line" if more > 0 else "", partial)
    return Measured(
        value=len(ranked),
        complete=not partial,
        detail=cut,
        evidence=tuple(row.first for row in rows),
        tainted=cited.tainted,
        found=Table(lines=cited.count, rows=rows, others=max(0, others), cut=cut),
    )
