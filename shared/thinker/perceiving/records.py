"""A finding while it lives: what it counts, what it cites, and how it reads.

A record counts every line that has its template, from the line that began it on; so its probe (`log.count` over the same
template and span) measures the same number. Citations are the first line, the last, and an even spread between.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

import msgspec

from shared.contracts.events import EvidenceRef, LogCount, LogResolve, Probe
from shared.contracts.text import plain
from shared.thinker.perceiving.lines import CRITICAL, ERROR, SEVERITY_NAMES
from shared.thinker.perceiving.templates import REST, SHAPE, Words, shown
from shared.thinker.port import Finding

MAX_REFS = 16
MAX_SAMPLE_BYTES = 240
GROWTH = 10
"""A finding is raised again when its count has grown by this factor."""

Kind = Literal["burst", "new_message", "rate_jump", "metric_shift"]


class Record(msgspec.Struct, array_like=True):
    """`at` is in seconds when `timed`, else in lines of the source; `usual` is per short window (a minute or 50 lines)."""

    topic: str
    kind: Kind
    source: str
    program: str
    words: Words
    severity: int
    timed: bool
    seq: int
    first_seq: int
    first_at: float
    mark: int
    count: int
    usual: float
    sample: str
    patience: int = 2
    last_seq: int = 0
    last_at: float = 0.0
    index: int = 0
    raised: int = 0
    before: int = 0
    level: float = 0.0
    refs: list[EvidenceRef] = []
    last: EvidenceRef | None = None
    stride: int = 1
    active: bool = True

    def cite(self, ref: EvidenceRef) -> None:
        """Keep `ref` as the last, and as part of the spread when it is its turn."""
        self.last = ref
        if (self.count - 1) % self.stride == 0 and (not self.refs or self.refs[-1].seq < ref.seq):
            self.refs.append(ref)
            if len(self.refs) >= MAX_REFS:
                del self.refs[1::2]
                self.stride *= 2

    def grow(self, ref: EvidenceRef, at: float, index: int) -> None:
        """One more line; raised again at `GROWTH` times the count of the last time."""
        self.count += 1
        self.last_seq, self.last_at, self.index = ref.seq, at, index
        self.cite(ref)
        if self.count >= GROWTH * self.raised:
            self.raised, self.seq = self.count, ref.seq
            if self.kind == "new_message":
                self.kind = "burst"

    def finding(self) -> Finding:
        refs = self.refs if self.last is None or self.last in self.refs else [*self.refs[: MAX_REFS - 1], self.last]
        return Finding(
            topic=self.topic,
            kind=self.kind,
            seq=self.seq,
            claim=plain(self.claim(), 2000),
            confidence=round(self.confidence(), 2),
            evidence=tuple(refs),
            probe=self.probe(tuple(refs)),
            source=self.source,
            sample=self.sample,
            at=instant(self.last_at) if self.timed else None,
        )

    def probe(self, refs: tuple[EvidenceRef, ...]) -> Probe:
        """The count again, by someone else; a metric's readings cannot be counted, so there the citations are resolved."""
        if self.kind == "metric_shift":
            return LogResolve(evidence=refs)
        return LogCount(
            template=" ".join(self.words),
            source=self.source,
            first_seq=self.first_seq,
            last_seq=self.last_seq,
            at_least=self.count,
        )

    def confidence(self) -> float:
        if self.kind == "new_message":
            return (0.8 if self.severity == CRITICAL else 0.65) + (0.1 if self.count > 2 else 0.0)
        if self.kind == "metric_shift":
            return 0.8
        ratio = self.count / max(self.usual * max(1.0, self.span() / (60 if self.timed else 50)), 0.1)
        return min(0.98, ratio / (ratio + 2)) if self.severity >= ERROR else min(0.95, ratio / (ratio + 3))

    def span(self) -> float:
        """Seconds or lines from first to last."""
        return self.last_at - self.first_at + (0 if self.timed else 1)

    def claim(self) -> str:
        """One plain sentence with its numbers."""
        who = self.program or self.source or "the input"
        if self.kind == "metric_shift":
            moved = "rose" if self.level > self.usual else "fell"
            return f"{who}: {self.words[0]} {moved} from about {self.usual:.4g} to about {self.level:.4g}, {self.count} readings long"
        per = "minute" if self.timed else "50 lines"
        over = _duration(self.span()) if self.timed else f"{self.span():.0f} lines"
        if self.kind == "rate_jump":
            rate = f"about {self.count / max(1.0, self.span() / 60):.0f} per minute"
            return f"{who}: {self.count} lines in {over}, {rate}; before that {_about(self.usual, per)}"
        what = f"{who}: '{_quote(self.words, self.program)}'"
        before = f"before that {_about(self.usual, per)}"
        if self.before:
            before = f"never in the {self.before} lines before"
        if self.count == 1:
            return f"{what} ({SEVERITY_NAMES[self.severity]}) occurred once; {before}"
        return f"{what} occurred {self.count} times in {over}; {before}"


def instant(seconds: float) -> datetime | None:
    """Seconds since 1970 as a time; None where they are no time of a calendar."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _about(usual: float, per: str) -> str:
    return f"about {usual:.2g} per {per}" if usual >= 0.01 else "next to none"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _quote(words: Words, program: str) -> str:
    """The template without host and program, at most 240 characters: what is cut off it is any words."""
    start = 0
    if program:
        start = next((i + 1 for i, word in enumerate(words[:4]) if word.startswith(program) and word.endswith(":")), 0)
    told = shown(words[start:] or words)
    return (
        told if len(told) <= 240 else f"{told[: told.rindex(' ', 0, 236) if ' ' in told[:236] else 0]} {REST}".strip()
    )


def topic_of(kind: str, source: str, program: str, words: Iterable[str]) -> str:
    """A stable key, readable as a file name: program, up to five plain words, and six hex digits that tell topics apart."""
    told = tuple(words)
    digest = zlib.crc32("\0".join((source, *told)).encode("utf-8", "surrogatepass")) & 0xFFFFFF
    ordinary = [word for word in told if SHAPE not in word and REST not in word and word.strip(":") != program]
    name = "-".join(re.findall(r"[a-z0-9_]+", " ".join((program or source, *ordinary[:6])).lower()))[:60].strip("-_")
    return f"{kind.replace('_', '-')}-{name or 'input'}-{digest:06x}".replace("_", "-")


def excerpt(text: str, limit: int = MAX_SAMPLE_BYTES) -> str:
    """The text up to `limit` bytes of UTF-8."""
    if len(text) * 4 <= limit:
        return text
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= limit else raw[: limit - 3].decode("utf-8", "ignore") + "…"
