"""Counters, gauges and histograms for a single event loop: plain numbers, told when Prometheus asks.

The Prometheus client's own take a lock each time, and so a tenth of what handling a message costs, and tell when each series was
created, which nobody asks for. Every series whose labels are known beforehand is there from the start with 0: of a series that
begins with 1, no rate sees the first. Where values of a label are only found at run time they are bounded all the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate, product
from math import inf

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Key = str | tuple[str, ...]
"""The values of a series' labels: a word where there is one label, "" where there is none."""
Labels = dict[str, tuple[str, ...]]
"""The labels of a metric, each with the values that are known beforehand."""
MOST_VALUES = 100
OTHER = "other"
"""What stands for the values beyond the first `MOST_VALUES`."""
UNITS = {
    "seconds": "s",
    "bytes": "bytes",
    "ratio": "0 to 1",
    "usd": "US dollars",
    "tokens": "tokens",
    "info": "always 1",
}


class Instrument(Collector):
    """`by`: the services that have it; all, when there are none. `name` is the one that is exposed."""

    kind = ""

    def __init__(self, name: str, meaning: str, labels: Labels | None = None, *, by: tuple[str, ...] = ()) -> None:
        self.name, self.meaning, self.labels, self.by_services = name, meaning, labels or {}, by

    @property
    def unit(self) -> str:
        """By the end of the name, as Prometheus has it."""
        words = self.name.removesuffix("_total").rsplit("_", 1)
        return UNITS.get(words[-1], "number")

    def known(self) -> Iterable[Key]:
        """The keys that are known beforehand."""
        for values in product(*self.labels.values()):
            yield values if len(values) > 1 else values[0] if values else ""

    def values(self, key: Key) -> tuple[str, ...]:
        """As the client wants them."""
        return key if isinstance(key, tuple) else (key,) if self.labels else ()


class Tally(Instrument):
    """A counter. `by[key] += n` counts; with a `source` the numbers are somebody else's, who may have none yet."""

    kind = "counter"

    def __init__(self, name: str, meaning: str, labels: Labels | None = None, *, by: tuple[str, ...] = ()) -> None:
        super().__init__(name, meaning, labels, by=by)
        self.by = Counts(self.known())
        self.source: Callable[[], Mapping[Key, float] | None] = lambda: self.by

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self.name, self.meaning, labels=list(self.labels))
        for key, count in (self.source() or {}).items():
            family.add_metric(self.values(key), count)
        return (family,)


class Counts(dict[Key, float]):
    """Numbers by key, 0 for the known ones; the first `MOST_VALUES` others have their own, the rest is `OTHER`."""

    def __init__(self, known: Iterable[Key] = ()) -> None:
        super().__init__(dict.fromkeys(known, 0.0))
        self._most = len(self) + MOST_VALUES

    def __missing__(self, key: Key) -> float:
        return 0.0

    def add(self, key: Key, count: float = 1) -> None:
        """Count what somebody else named."""
        if key not in self and len(self) >= self._most:
            key = OTHER if isinstance(key, str) else (OTHER,) * len(key)
        self[key] += count


class Level(Instrument):
    """A gauge: a number that is set, or a function that is asked, for each key."""

    kind = "gauge"

    def __init__(self, name: str, meaning: str, labels: Labels | None = None, *, by: tuple[str, ...] = ()) -> None:
        super().__init__(name, meaning, labels, by=by)
        self.at: dict[Key, float] = dict.fromkeys(self.known(), 0.0)
        self._asked: dict[Key, Callable[[], float]] = {}

    def set(self, value: float, key: Key = "") -> None:
        self.at[key] = value

    def follow(self, ask: Callable[[], float], key: Key = "") -> None:
        """Whoever followed before is not asked any more."""
        self._asked[key] = ask

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self.name, self.meaning, labels=list(self.labels))
        for key, value in {**self.at, **{key: ask() for key, ask in self._asked.items()}}.items():
            family.add_metric(self.values(key), value)
        return (family,)


class Distribution(msgspec.Struct):
    """How many values were at most each bound, and above the bound before; the last of `counts` is of those above all."""

    counts: list[int]
    sum: float = 0.0


class Spread(Instrument):
    """A histogram. `bounds` are the upper bounds of its buckets, in ascending order. `source`: see `Tally`."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        meaning: str,
        labels: Labels | None = None,
        *,
        bounds: tuple[float, ...],
        by: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, meaning, labels, by=by)
        self.bounds = bounds
        self.spreads: dict[Key, Distribution] = {key: self.empty() for key in self.known()}
        self.source: Callable[[], Mapping[Key, Distribution] | None] = lambda: self.spreads

    def empty(self) -> Distribution:
        return Distribution([0] * (len(self.bounds) + 1))

    def observe(self, value: float, key: Key = "") -> None:
        spread = self.spreads.get(key)
        if spread is None:
            spread = self.spreads[key] = self.empty()
        self.put(spread, value)

    def put(self, spread: Distribution, value: float) -> None:
        """Into a distribution that somebody else keeps."""
        spread.counts[bisect_left(self.bounds, value)] += 1
        spread.sum += value

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self.name, self.meaning, labels=list(self.labels))
        names = list(map(floatToGoString, (*self.bounds, inf)))
        for key, spread in (self.source() or {}).items():
            up_to = zip(names, accumulate(spread.counts), strict=True)
            family.add_metric(self.values(key), buckets=list(up_to), sum_value=spread.sum)
        return (family,)
