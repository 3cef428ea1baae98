"""`log.count` and `log.search`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from services.checker.decider import Measured, RunProbe
from services.checker.desk import Desk, perceived
from services.checker.inside.shown import counted_by
from services.checker.inside.spans import Cited, over
from shared.contracts.envelope import Recorded
from shared.contracts.events import Counted, LogCount, LogSearch, ObservationRecorded

MAX_SOURCES = 256


async def count(desk: Desk, asked: RunProbe, probe: LogCount) -> Measured:
    """Those that have the template, and where that is wanted those before, within one bound."""
    from shared.thinker.perceiving.templates import matcher  # here: importing the checker should not load a thinker

    matches = matcher(probe.template)
    sources: Counter[str] = Counter()

    def counts(recorded: Recorded) -> bool:
        event = recorded.event
        if not isinstance(event, ObservationRecorded) or probe.source not in (None, event.source):
            return False
        if not matches(event.text):
            return False
        if probe.by_source and (event.source in sources or len(sources) < MAX_SOURCES):
            sources[event.source] += 1
        return True

    span, read = await _span(desk, asked, counts, probe.first_seq, probe.last_seq)
    by_source, cut = counted_by(sources, span.value, "source")
    before, tainted, detail = None, span.tainted, span.detail
    if span.complete and probe.before_seq is not None:
        earlier, _ = await _span(desk, asked, counts, probe.before_seq, probe.first_seq - 1, spent=read)
        before = earlier.value
        detail = f"of those before only a part: {earlier.detail}" if earlier.detail else ""
        tainted = span.tainted or (earlier.value > 0 and earlier.tainted)
    return msgspec.structs.replace(
        span,
        before=before,
        detail=detail,
        tainted=tainted,
        found=Counted(count=span.value, before=before, by_source=by_source if probe.by_source else (), cut=cut),
    )


async def search(desk: Desk, asked: RunProbe, probe: LogSearch) -> Measured:
    """Those that have the words."""
    from shared.thinker.perceiving.searching import searched

    span, _ = await _span(desk, asked, searched(probe), probe.first_seq, probe.last_seq)
    return span


async def _span(
    desk: Desk,
    asked: RunProbe,
    counts: Callable[[Recorded], bool],
    since: int,
    last_seq: int,
    spent: int = 0,
) -> tuple[Measured, int]:
    """What is counted from one sequence to another, and how many observations were read for it."""
    cited = Cited()

    def take(recorded: Recorded) -> None:
        if counts(recorded):
            cited.take(recorded)

    read, partial = await over(desk, perceived(asked), since, last_seq, take, spent=spent)
    measured = Measured(
        value=cited.count, complete=not partial, detail=partial, evidence=cited.refs, tainted=cited.tainted
    )
    return measured, read
