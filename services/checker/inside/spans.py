"""Observations between two sequences, page by page and within a bound; and the last few before one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from services.checker.desk import Desk
from shared.contracts.envelope import Recorded
from shared.contracts.events import EvidenceRef
from shared.evidence import is_tainted

PAGE = 2_000
AT_A_TIME = 100
"""Lines that are taken before others have their turn: a hostile one may take half a millisecond."""
FIRST_WINDOW, WIDER = 256, 4

EVIDENCE_KEPT = 8
"""Of what was counted, the first and the last few are cited."""


class Cited:
    """The first and the last few of many, and whether any came from outside. Of nothing it cannot be said that it did not."""

    def __init__(self) -> None:
        self.count = 0
        self._tainted = False
        self._first: list[EvidenceRef] = []
        self._last: deque[EvidenceRef] = deque(maxlen=EVIDENCE_KEPT // 2)

    def take(self, recorded: Recorded) -> None:
        self.count += 1
        self._tainted = self._tainted or is_tainted(recorded.event)
        ref = EvidenceRef(id=recorded.id, seq=recorded.seq)
        if len(self._first) < EVIDENCE_KEPT // 2:
            self._first.append(ref)
        else:
            self._last.append(ref)

    @property
    def refs(self) -> tuple[EvidenceRef, ...]:
        return (*self._first, *self._last)

    @property
    def tainted(self) -> bool:
        return self._tainted or not self.count


async def over(
    desk: Desk,
    filters: Sequence[str],
    since: int,
    last_seq: int,
    take: Callable[[Recorded], None],
    *,
    spent: int = 0,
    most: int | None = None,
) -> tuple[int, str]:
    """Take all from one sequence to another; how many were read, and where it stopped when that were too many. `spent`: so many were
    read already. `most`: a bound below the desk's."""
    position, read = since - 1, 0
    bound = desk.max_events_read if most is None else min(most, desk.max_events_read)
    async with desk.reading:
        while position < last_seq:
            limit = min(PAGE, bound - spent - read)
            if limit <= 0:
                return read, f"stopped after {read} observations, at sequence {position}"
            page = await desk.log.read(filters, position, upto=last_seq, limit=limit)
            for n, recorded in enumerate(page, 1):
                take(recorded)
                if n % AT_A_TIME == 0:
                    await asyncio.sleep(0)  # a long reading must not starve other handlers
            if not page:
                break
            read += len(page)
            position = page[-1].seq
    return read, ""


async def newest(
    desk: Desk, filters: Sequence[str], before: int, wanted: int, keeps: Callable[[Recorded], bool], most: int
) -> tuple[list[Recorded], bool]:
    """The last so many before a sequence that are kept, in stream order, and whether the beginning of the log was reached.

    The log is read forwards only: it is read in windows that go back and grow, about `most` events at most.
    """
    found: deque[Recorded] = deque()
    end, window, read = before, FIRST_WINDOW, 0
    async with desk.reading:
        while end > 1 and len(found) < wanted and read < most:
            begin = max(1, end - window)
            position, some = begin - 1, deque[Recorded](maxlen=wanted)
            while True:
                page = await desk.log.read(filters, position, upto=end - 1, limit=PAGE)
                some.extend(recorded for recorded in page if keeps(recorded))
                read += len(page)
                if len(page) < PAGE:
                    break
                position = page[-1].seq
                await asyncio.sleep(0)
            found.extendleft(reversed(some))
            end, window = begin, window * WIDER
    return list(found)[-wanted:] if wanted else [], end <= 1
