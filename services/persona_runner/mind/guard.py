"""The loop guard: how alike thoughts are, and what happens to a persona that repeats itself.

Likeness is the cosine of word counts: cheap, deterministic, in-process, and blind to word order, which is what finding
repetition needs. Meaning is the memory service's business.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from shared.contracts.events import Phase

LOOP, COOL_DOWN = "loop", "cool-down"
LOOP_AT, COOL_DOWN_AT = 3, 5
WINDOW = 16
"""Thoughts looked back on when repetitions are counted."""

_WORD = re.compile(r"\w+")


def digest_of(text: str) -> str:
    """SHA-256 of the text with case and spacing folded."""
    return hashlib.sha256(" ".join(text.casefold().split()).encode("utf-8", "replace")).hexdigest()


def saying(phase: Phase, digest: str) -> str:
    """What counts as saying the same: phase and digest, in a form small enough to keep."""
    return f"{phase[0]}{digest[:15]}"


def notice_for(said: Sequence[str], this: str) -> str:
    """`LOOP` the third and fourth time within the window, `COOL_DOWN` from the fifth on, else empty."""
    times = 1 + said[-(WINDOW - 1) :].count(this)
    if times >= COOL_DOWN_AT:
        return COOL_DOWN
    return LOOP if times >= LOOP_AT else ""


def novelty(text: str, earlier: Iterable[str]) -> float:
    """1 − the greatest cosine to an earlier text, in [0, 1]; 1 when there is none, 0 for a text without words."""
    words = _words(text)
    if not words:
        return 0.0
    closest = max((_cosine(words, _words(other)) for other in earlier), default=0.0)
    return min(1.0, max(0.0, 1.0 - closest))


def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.casefold()))


def _cosine(a: Counter[str], b: Counter[str]) -> float:
    if not a or not b:
        return 0.0
    dot = sum(n * b[w] for w, n in a.items() if w in b)
    return dot / math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))
