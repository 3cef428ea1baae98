"""When a count or a value is out of the ordinary. Pure arithmetic on small states, no time but what is passed in.

*Windows.* A source is measured with one of two rulers. Where lines carry their own time, a short window is a minute and a
long one ten. Where they do not (a whole file arriving at once), time says nothing and a short window is 50 lines, a long one
500, so that counts are shares. Windows tumble; everything is counted once.

*Bursts.* What is usual is the decayed mean per short window (half-life 120 windows, corrected for its start), never below
one line in all windows so far. A burst is a count several times what was usual *and* above every earlier peak *and* above a
floor; all three are lower the worse the line is, because fifty more `accepted` matter less than eight `failed`.

*Level shifts* (source rates, host metrics): the last few values all lie beyond median ± k·MAD of those before, and by a
relevant amount; one spike is not a shift (Page 1954 asks for accumulated evidence too; run lengths are easier to explain).
"""

from __future__ import annotations

from statistics import median

import msgspec

from shared.contracts.events import EvidenceRef
from shared.thinker.perceiving.lines import ERROR, INFO, WARNING
from shared.thinker.perceiving.mining import Template

SHORT_S = 60
SHORT_LINES = 50
LONG = 10
"""Short windows in a long one."""
DECAY = float(0.5 ** (1 / 120))
PEAK_DECAY = 0.999
WARM_WINDOWS = {True: 3, False: 1}
"""Closed short windows before a source can surprise: timed, by lines."""
WARM_LINES = 60
NEW_AFTER_LINES = 300
"""Lines before a first error is news (a critical one is after `WARM_LINES`): rare but regular errors come by until then."""
HISTORY = 60
SUSTAINED = 3
"""Windows a source's rate must stay high."""
SUSTAINED_VALUES = 6
MADN = 1.4826


class Limits(msgspec.Struct, frozen=True):
    """A burst has at least `floor` lines, `times` the usual count, and `over` times the highest count before."""

    floor: int
    times: float
    over: float
    warm: int


_TIMED = {INFO: Limits(50, 10, 3, 10), WARNING: Limits(20, 8, 2, 5), ERROR: Limits(8, 6, 2, 3)}
_BY_LINES = {INFO: Limits(30, 8, 2.5, 6), WARNING: Limits(15, 8, 2, 3), ERROR: Limits(8, 6, 2, 1)}


def limits(severity: int, timed: bool, long: bool) -> Limits:
    """What a burst of such lines must exceed, in a short or a long window."""
    found = (_TIMED if timed else _BY_LINES)[min(severity, ERROR)]
    if not long:
        return found
    return Limits(found.floor if severity >= ERROR else found.floor * 4, found.times, found.over, max(found.warm, LONG))


def roll(template: Template, index: int, closed: int) -> None:
    """Bring a template's windows up to short window `index`; `closed` short windows of its source lie behind."""
    short = template.short
    if short.index < index:
        if short.index >= 0:
            gap = index - short.index
            template.mean = (template.mean * DECAY + (1 - DECAY) * short.count) * DECAY ** (gap - 1)
            short.peak = max(int(short.peak * PEAK_DECAY**gap), short.count)
        short.index, short.count = index, 0
        short.usual = usual(template.mean, closed)
    long = template.long
    if long.index < index // LONG:
        if long.index >= 0:
            long.peak = max(int(long.peak * PEAK_DECAY ** (LONG * (index // LONG - long.index))), long.count)
        long.index, long.count = index // LONG, 0
        long.usual = short.usual * LONG


def usual(mean: float, closed: int) -> float:
    """Expected lines per short window, from the decayed mean over `closed` windows."""
    return max(mean / (1 - DECAY**closed) if closed > 0 else 0.0, 1 / (closed + 1))


def is_burst(count: int, expected: float, peak: int, bounds: Limits) -> bool:
    return count >= bounds.floor and count >= bounds.times * expected and count > bounds.over * peak


def is_new(count: int, since: int, before: int) -> bool:
    """Whether `count` lines within `since` lines make it unlikely (e^-3) that `before` lines had none by mere chance."""
    return count * before >= 3 * max(since, 1)


class Rate(msgspec.Struct, array_like=True):
    """Lines per short window of one source: `past` windows, the running `count`, and how many in a row were too high."""

    past: list[int] = []
    index: int = -1
    count: int = 0
    limit: float = 0.0
    hot: int = 0
    hot_lines: int = 0
    first_at: float = 0.0
    window_at: float = 0.0
    first: EvidenceRef | None = None
    window: EvidenceRef | None = None

    def close(self, index: int, ref: EvidenceRef, at: float) -> None:
        """Start window `index`, with a line `ref` at `at` about to be counted in it.

        After a silence of `HISTORY` windows nothing else would be remembered, so what is usual is learnt anew.
        """
        if self.index >= 0:
            high = self.limit > 0 and self.count > self.limit
            if high and self.hot < HISTORY // 4:
                if self.hot == 0:
                    self.first, self.first_at, self.hot_lines = self.window, self.window_at, 0
                self.hot += 1
                self.hot_lines += self.count
            else:
                self.hot = 0
                self.past.append(self.count)
            if index - self.index > 1:
                self.hot = 0
                silent = index - self.index - 1
                self.past = [*self.past, *[0] * silent] if silent < HISTORY else []
            del self.past[:-HISTORY]
        self.index, self.count, self.window, self.window_at = index, 0, ref, at
        self.limit = self._limit() if self.hot == 0 else self.limit

    def _limit(self) -> float:
        if len(self.past) < 10:
            return 0.0
        middle = median(self.past)
        spread = MADN * median([abs(value - middle) for value in self.past])
        return max(3 * middle, middle + 6 * spread, 1.25 * max(self.past), 20.0)

    def usual(self) -> float:
        """Median lines per window before."""
        return float(median(self.past)) if self.past else 0.0

    def sustained(self) -> bool:
        """Whether this window makes it `SUSTAINED` in a row above the limit."""
        return self.hot >= SUSTAINED - 1 and self.limit > 0 and self.count > self.limit


class Metric(msgspec.Struct, array_like=True):
    """One numeric field of a sensor: the last values, and how many in a row are beyond what was usual."""

    past: list[float] = []
    run: list[float] = []
    raised: bool = False
    refs: list[EvidenceRef] = []
    """The last observations of the run."""
    topic: str = ""
    """Its running finding."""


def shift(metric: Metric, value: float, percent: bool, downward: bool) -> tuple[float, float] | None:
    """Take in a value; (usual, new) level when this value completes a shift."""
    past = metric.past
    found = None
    nearest = 20.0 if percent else 1.0
    if len(past) >= 20 and (max(past) - value if downward else value - min(past)) > nearest:
        middle = median(past)
        spread = MADN * median([abs(one - middle) for one in past])
        least = nearest if percent else max(nearest, 0.75 * abs(middle))
        away = (middle - value) if downward else (value - middle)
        if away > max(5 * spread, least):
            metric.run.append(value)
            if len(metric.run) == SUSTAINED_VALUES and not metric.raised:
                metric.raised = True
                found = (middle, median(metric.run))
            if len(metric.run) >= HISTORY // 2:
                metric.past, metric.run, metric.raised = metric.run[:], [], False
            return found
    past.extend(metric.run)
    metric.run, metric.raised = [], False
    past.append(value)
    del past[:-HISTORY]
    return found
