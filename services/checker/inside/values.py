"""`log.values`: what stands where a template varies."""

from __future__ import annotations

import re
from collections import Counter
from math import sqrt

import msgspec

from services.checker.decider import Measured, RunProbe
from services.checker.desk import Desk, perceived
from services.checker.inside.shown import also, counted_by
from services.checker.inside.spans import Cited, over
from shared.contracts.envelope import Recorded
from shared.contracts.events import LogValues, Numbers, ObservationRecorded, Values, Varying
from shared.contracts.events.probes import MAX_SLOTS, MAX_VALUE
from shared.contracts.text import plain

MAX_DISTINCT = 4096
"""Values of one slot that are told apart; of those that come later only the number is known."""
MAX_NUMBER = 1e15
TREND = 0.7
"""From this correlation with their order on, numbers rise or fall: order alone explains half of their variance."""
FEW = 8
"""Fewer numbers have no trend."""
_NUMBER = re.compile(r"[-+]?[0-9]{1,15}(?:\.[0-9]{1,9})?(?=[A-Za-z%]{0,4}[\])},;:.]*$)", re.ASCII)


async def values(desk: Desk, asked: RunProbe, probe: LogValues) -> Measured:
    """Each slot, or the one that was asked for."""
    from shared.thinker.perceiving.slots import before, slots  # here: as for counting

    of, seen, cited = slots(probe.template), dict[int, _Slot](), Cited()

    def take(recorded: Recorded) -> None:
        event = recorded.event
        if not isinstance(event, ObservationRecorded) or probe.source not in (None, event.source):
            return
        if (found := of(event.text)) is None:
            return
        cited.take(recorded)
        for number, value in enumerate(found, 1):
            if probe.slot in (None, number):
                seen.setdefault(number, _Slot()).take(value)

    _, partial = await over(desk, perceived(asked), probe.first_seq, probe.last_seq, take)
    after = before(probe.template)
    told = sorted(seen.items())[:MAX_SLOTS]
    cut = also(f"{len(seen) - len(told)} more words that vary" if len(seen) > len(told) else "", partial)
    if any(slot.unknown for _, slot in told):
        cut = also(cut, f"only {MAX_DISTINCT} different values were told apart")
    return Measured(
        value=cited.count,
        complete=not partial,
        detail=cut,
        evidence=cited.refs,
        tainted=cited.tainted,
        found=Values(
            lines=cited.count,
            slots=tuple(slot.told(number, after[number - 1] if number <= len(after) else "") for number, slot in told),
            cut=cut,
        ),
    )


class _Slot:
    """The values at one mark, in stream order."""

    def __init__(self) -> None:
        self.unknown = 0
        self._counts: Counter[str] = Counter()
        self._numbers = _Series()

    def take(self, value: str) -> None:
        value = value[:MAX_VALUE]
        if value in self._counts or len(self._counts) < MAX_DISTINCT:
            self._counts[value] += 1
        else:
            self.unknown += 1
        if (number := _NUMBER.match(value)) is not None:
            self._numbers.take(float(number[0]))

    def told(self, slot: int, after: str) -> Varying:
        total = self._counts.total() + self.unknown
        shares, _ = counted_by(self._counts, total, "value")
        numbers = self._numbers.told() if 2 * self._numbers.count > total else None
        return Varying(
            slot=slot,
            after=plain(after, MAX_VALUE),
            distinct=len(self._counts) + self.unknown,
            shares=shares,
            others=total - sum(share.count for share in shares),
            numbers=numbers,
        )


class _Series:
    """Level and trend of numbers, as they come (Welford 1962; the covariance with their place likewise)."""

    def __init__(self) -> None:
        self.count = 0
        self._first = self._last = self._least = self._most = self._mean = 0.0
        self._squares = self._products = self._place = self._places = 0.0

    def take(self, number: float) -> None:
        self.count += 1
        if self.count == 1:
            self._first = self._least = self._most = number
        self._last, self._least, self._most = number, min(self._least, number), max(self._most, number)
        off, ahead = number - self._mean, self.count - self._place
        self._mean += off / self.count
        self._place += ahead / self.count
        self._squares += off * (number - self._mean)
        self._places += ahead * (self.count - self._place)
        self._products += ahead * (number - self._mean)

    def told(self) -> Numbers:
        numbers = Numbers(
            count=self.count,
            first=self._first,
            last=self._last,
            least=self._least,
            most=self._most,
            mean=min(MAX_NUMBER, max(-MAX_NUMBER, self._mean)),
        )
        spread = sqrt(self._squares * self._places) if self._squares > 0 else 0.0
        if self.count < FEW or not spread or abs(self._products) < TREND * spread:
            return numbers
        return msgspec.structs.replace(numbers, trend="rising" if self._products > 0 else "falling")
