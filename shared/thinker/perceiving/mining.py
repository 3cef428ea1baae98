"""Templates kept pairwise disjoint: every line has at most one, so counts per template add up to the lines.

A line's own words are its first template. When four lines of one source and length agree but for a few plain words, those
words become `<*>` for all of them. Two templates that some line could both have are joined into one at once; that keeps the
invariant. Words that carry a verdict (`failed`, `refused`, a status) are never given up, so severity survives joining.
A `<*>` may still stand for such a word in a later line; that line then counts with its template.
Bounded: `MAX_TEMPLATES` and `MAX_TEMPLATE_BYTES`; the least recently touched go first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec

from shared.contracts.events import EvidenceRef
from shared.thinker.perceiving.lines import INFO, program, severity
from shared.thinker.perceiving.templates import ANY, SHAPE, Words, agrees, is_status, split

MAX_TEMPLATES = 400
MAX_TEMPLATE_BYTES = 48 * 1024
ALIKE = 4
"""So many lines that differ in the same few words make a variable of them."""


class Window(msgspec.Struct, array_like=True):
    """Lines of one template in the running window: `index` of the window, where and when it began, what was usual before."""

    index: int = -1
    count: int = 0
    first_seq: int = 0
    first_at: float = 0.0
    usual: float = 0.0
    peak: int = 0


class Template(msgspec.Struct, array_like=True):
    """One template of one source. `mean` is the decayed mean of its lines per window; `topic` names its running finding."""

    source: str
    words: Words
    severity: int
    program: str
    count: int = 0
    touched: int = 0
    mean: float = 0.0
    short: Window = msgspec.field(default_factory=Window)
    long: Window = msgspec.field(default_factory=Window)
    first: EvidenceRef | None = None
    """The line that began the short window."""
    latest: EvidenceRef | None = None
    novel: bool = False
    born: int = 0
    """Lines of the source before its first."""
    topic: str = ""


class Templates:
    """The templates of all sources. `align` brings a template's windows up to now before it is joined with another."""

    def __init__(self, known: list[Template], align: Callable[[Template], None]) -> None:
        self.known = known
        self._align = align
        self._index()

    def find(self, source: str, masked: str) -> Template | None:
        """The one template of the source that the line has."""
        found = self._memo.get((source, masked))
        if found is not None:
            return found
        line = split(masked)
        for template in self._shelf.get((source, len(line)), ()):
            if agrees(template.words, line):
                return self._remember(masked, template)
        return None

    def add(self, source: str, masked: str, body: str, at: int) -> Template:
        """A template for a line that has none yet. `Template.novel` says whether nothing like it was known."""
        line = split(masked)
        shelf = self._shelf.setdefault((source, len(line)), [])
        new = Template(source=source, words=line, severity=severity(body), program=program(body), touched=at)
        near = [known for known in shelf if _alike(known, new)]
        new.novel = not near and not self._resembles(new)
        self._align(new)
        self.known.append(new)
        shelf.append(new)
        self._bytes += _size(new)
        if len(near) + 1 >= ALIKE:
            new = self._join(shelf, [*near, new])
        if len(self.known) > MAX_TEMPLATES or self._bytes > MAX_TEMPLATE_BYTES:
            self._evict(new)
        return self._remember(masked, new)

    def drop(self, source: str) -> None:
        """Forget all templates of a source."""
        self.known[:] = [template for template in self.known if template.source != source]
        self._index()

    def _index(self) -> None:
        self._memo: dict[tuple[str, str], Template] = {}
        self._shelf: dict[tuple[str, int], list[Template]] = {}
        self._bytes = 0
        for template in self.known:
            self._shelf.setdefault((template.source, len(template.words)), []).append(template)
            self._bytes += _size(template)

    def _remember(self, masked: str, template: Template) -> Template:
        if len(self._memo) >= 4 * MAX_TEMPLATES:
            self._memo.clear()
        self._memo[template.source, masked] = template
        return template

    def _resembles(self, new: Template) -> bool:
        """Whether a line as bad, of any length, began alike: a known message with another tail."""
        head = new.words[: min(5, len(new.words) - 1)]
        return len(head) >= 3 and any(
            known.source == new.source and known.severity >= new.severity and known.words[: len(head)] == head
            for known in self.known
        )

    def _join(self, shelf: list[Template], parts: list[Template]) -> Template:
        """One template for all parts, and for all others it would then overlap; none when hardly a word would be left."""
        new, whole = parts[-1], parts[0].words
        while True:
            for part in parts:
                whole = tuple(a if a == b else ANY for a, b in zip(whole, part.words, strict=True))
            more = [k for k in shelf if not any(k is part for part in parts) and _overlap(whole, k.words)]
            if not more:
                break
            parts = [*parts, *more]
        if sum(word not in (ANY, SHAPE) for word in whole) < max(1, len(whole) // 3):
            return new
        for part in parts:
            self._align(part)
        kept = next((part for part in parts if part.topic), parts[0])
        for part in parts:
            if part is not kept:
                _absorb(kept, part)
        kept.words = whole
        gone = [part for part in parts if part is not kept]
        self.known[:] = [known for known in self.known if not any(known is part for part in gone)]
        self._index()
        return kept

    def _evict(self, new: Template) -> None:
        """Make room, a tenth at once: what was touched longest ago and has no running finding goes."""
        order = sorted(self.known, key=lambda known: (known is new, bool(known.topic), known.touched))
        while order and (len(order) > MAX_TEMPLATES * 0.9 or sum(map(_size, order)) > MAX_TEMPLATE_BYTES * 0.9):
            order = order[max(1, len(order) // 20) :]
        kept = {id(known) for known in order}
        self.known[:] = [known for known in self.known if id(known) in kept]
        self._index()


def _size(template: Template) -> int:
    return sum(len(word.encode("utf-8", "surrogatepass")) + 1 for word in template.words) + len(template.program)


def _alike(known: Template, new: Template) -> bool:
    """Equal but for at most a quarter of the words, and those plain ones; equally bad."""
    if known.severity != new.severity or known.program != new.program:
        return False
    allowed = max(1, len(new.words) // 4)
    for a, b in zip(known.words, new.words, strict=True):
        if a != b and a != ANY:
            allowed -= 1
            if allowed < 0 or _verdict(a) or _verdict(b):
                return False
    return True


@lru_cache(maxsize=4096)
def _verdict(word: str) -> bool:
    return is_status(word) or severity(word) != INFO


def _overlap(one: Words, other: Words) -> bool:
    """Whether some line has both templates."""
    return all(a == b or ANY in (a, b) for a, b in zip(one, other, strict=True))


def _absorb(kept: Template, part: Template) -> None:
    kept.count += part.count
    kept.touched = max(kept.touched, part.touched)
    kept.mean += part.mean
    kept.severity = max(kept.severity, part.severity)
    kept.novel = kept.novel and part.novel
    kept.born = min(kept.born, part.born)
    for into, other in ((kept.short, part.short), (kept.long, part.long)):
        if other.count and (not into.count or other.first_seq < into.first_seq):
            into.first_seq, into.first_at = other.first_seq, other.first_at
            if into is kept.short:
                kept.first = part.first
        into.count += other.count
        into.usual += other.usual
        into.peak = max(into.peak, other.peak)
