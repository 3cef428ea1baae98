"""A source of lines and its clock. Pure.

A source is timed when its lines bring their own time: then it is measured in minutes, else in lines. The clock never goes
back for a few late lines, and starts anew when they keep coming (an older file on the same source).
"""

from __future__ import annotations

import msgspec

from shared.contracts.events import EvidenceRef, ObservationRecorded
from shared.thinker.perceiving.lines import WARNING
from shared.thinker.perceiving.mining import Window
from shared.thinker.perceiving.rates import SHORT_LINES, SHORT_S, WARM_LINES, WARM_WINDOWS, Metric, Rate
from shared.thinker.perceiving.records import Record, excerpt, topic_of
from shared.thinker.perceiving.templates import REST

LATE_S = 600
"""A line this much older than its source's clock is late; `LATE_LINES` in a row mean that the clock went back for good."""
LATE_LINES = 20
FUTURE_S = 86_400
UNTIMED_LINES = 100
"""So many lines in a row without a time make a timed source one that is measured in lines."""


class Source(msgspec.Struct, array_like=True):
    """One source of lines. `start` is its first short window, `now` its clock in seconds or lines."""

    timed: bool = False
    now: float = 0.0
    start: int = 0
    lines: int = 0
    bad: int = 0
    late: int = 0
    untimed: int = 0
    used: int = 0
    rate: Rate = msgspec.field(default_factory=Rate)
    rate_topic: str = ""
    metrics: dict[str, Metric] = {}
    mark: int = 0
    last_seq: int = 0
    """CRC-32 of its name, and the sequence of its newest line."""

    @property
    def index(self) -> int:
        return int(self.now // (SHORT_S if self.timed else SHORT_LINES))

    def window_of(self, window: Window) -> int:
        """The short window in which `window` got its first line."""
        return int(window.first_at // (SHORT_S if self.timed else SHORT_LINES))

    @property
    def closed(self) -> int:
        return self.index - self.start

    @property
    def warm(self) -> bool:
        return self.lines > WARM_LINES and self.closed >= WARM_WINDOWS[self.timed]

    def tick(self, at: float | None) -> bool:
        """Count a line written at `at` (None: it does not say). False when the source must start anew at `at`."""
        if at is not None and not self.timed and self.lines < WARM_LINES:
            return False
        if not self.timed:
            self.now = float(self.lines)
        elif at is None:
            self.untimed += 1
            if self.untimed >= UNTIMED_LINES:
                return False
        else:
            self.untimed = 0
            if at >= self.now:
                self.now, self.late = at, 0
            elif self.now - at > LATE_S:
                self.late += 1
                if self.late >= LATE_LINES:
                    return False
        self.lines += 1
        return True


def begun_at(at: float | None) -> Source:
    """A new source, timed from `at` on, or by lines."""
    return Source() if at is None else Source(timed=True, now=at, start=int(at // SHORT_S))


def louder(source: Source, first: EvidenceRef, event: ObservationRecorded, ref: EvidenceRef) -> Record:
    """The record of a rate that jumped with the line `first` and has stayed high up to `ref`."""
    count = source.rate.hot_lines + source.rate.count
    return Record(
        topic=topic_of("rate", event.source, "", ()),
        kind="rate_jump",
        source=event.source,
        program="",
        words=(REST,),
        severity=WARNING,
        timed=True,
        seq=ref.seq,
        first_seq=first.seq,
        first_at=source.rate.first_at,
        last_seq=ref.seq,
        last_at=source.now,
        mark=source.index,
        index=source.index,
        count=count,
        raised=count,
        usual=source.rate.usual(),
        sample=excerpt(event.text),
        refs=[first],
        stride=max(1, count // 4),
    )
