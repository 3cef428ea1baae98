"""Whether two texts say the same. Pure.

Cosine alone cannot tell: sentences of opposite meaning lie closer together than paraphrases. So texts are the *same* only
when they are near (cosine ≥ 0.90) **and** a guard finds that nothing which turns a meaning differs: the numbers and names
with digits are equal and in order, the words that negate, condition or quantify are equal, and the remaining content words of one text are
those of the other with some left out, in the same order. A replaced or swapped word is a difference ("A blames B").
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import msgspec

SAME_COSINE = 0.90
SIMILAR_COSINE = 0.75
"""Cosines of wordllama-256; other embedders need their own."""

Verdict = Literal["same", "similar", "different"]
Relation = Literal["same", "opposite", "different"]

_EDGE_PUNCTUATION = ".,;:!?…\"'`´“”‘’„«»()[]{}<>*_|"
_TURNING_WORDS = """
    no not never none nothing nobody nor neither without cannot cant hardly barely scarcely almost nearly only just
    if unless until except but though although despite instead before after again stopped stops failed fails ceased lacks
    may might could should would must maybe perhaps possibly probably likely unlikely
    all some few most many several every each any more less fewer least both half
    above below over under up down off on in out
"""
_HEDGES = "may might could should would must maybe perhaps possibly probably likely unlikely almost nearly just"
_EMPTY_WORDS = "a an the is are be been being has have that this these those it its and of very so then now there"
_NO_DIGITS = re.compile(r"\D+")
_TURNING, _EMPTY = frozenset(_TURNING_WORDS.split()), frozenset(_EMPTY_WORDS.split())
_HEDGING = frozenset(_HEDGES.split())


class Parts(msgspec.Struct, frozen=True):
    """A text taken apart for the guard."""

    numbers: tuple[str, ...]
    turning: tuple[str, ...]
    content: tuple[str, ...]


def normalise(text: str) -> str:
    """One spelling of what reads the same: NFKC, case folded, spaces collapsed, final punctuation gone."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".!…; ")


def exact_key(owner: str, kind: str, about: str, text: str) -> str:
    """Equal for texts that read the same, of one owner, kind and subject only: 32 hex digits."""
    body = "\0".join((owner, kind, about, normalise(text)))
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def parts(normal: str) -> Parts:
    """Numbers (any word with a digit), turning words, and the other words that carry content, each in order.

    Of a text as `normalise` gives it.
    """
    numbers, turning, content = [], [], []
    for raw in normal.split():
        word = raw.strip(_EDGE_PUNCTUATION) or raw
        if any(c.isdigit() for c in word):
            numbers.append(word)
        elif word in _TURNING or word.endswith(("n't", "n’t")):
            turning.append("not" if word.endswith(("n't", "n’t", "cannot")) else word)
        elif word not in _EMPTY:
            content.append(word)
    return Parts(tuple(numbers), tuple(turning), tuple(content))


class Said:
    """A text to be compared with many: taken apart once, and only as far as is asked for."""

    def __init__(self, text: str) -> None:
        self.normal = normalise(text)

    @cached_property
    def digits(self) -> str:
        """All digits in order. Where they differ the numbers differ, and no word need be looked at."""
        return _NO_DIGITS.sub("", self.normal)

    @cached_property
    def parts(self) -> Parts:
        return parts(self.normal)


def guard(a: Said, b: Said) -> bool:
    """Whether nothing that turns a meaning differs; see the module."""
    if a.digits != b.digits:
        return False
    left, right = a.parts, b.parts
    if left.numbers != right.numbers or left.turning != right.turning:
        return False
    short, long = sorted((left.content, right.content), key=len)
    return bool(short or not long) and _is_subsequence(short, long)


def relation(a: Said, b: Said) -> Relation:
    """How two claims about one topic stand to each other, by their words alone: no cosine tells an opposite from a paraphrase.

    *Same*: nothing differs but empty words. *Opposite*: the same content words in the same order, and other numbers, or other words
    that turn the meaning, hedges aside ("may be full" does not speak against "is full"). All else is *different*, and says nothing.
    """
    if a.normal == b.normal:
        return "same"
    left, right = a.parts, b.parts
    if left.content != right.content or not (left.content or left.numbers):
        return "different"
    if left == right:
        return "same"
    if left.numbers != right.numbers or _turned(left) != _turned(right):
        return "opposite"
    return "different"


def _turned(parts: Parts) -> list[str]:
    return [word for word in parts.turning if word not in _HEDGING]


def compare(a: Said, b: Said, cosine: float) -> Verdict:
    """Same: may be merged. Similar: worth an edge. `cosine` is that of their embeddings."""
    if a.normal == b.normal or (cosine >= SAME_COSINE and guard(a, b)):
        return "same"
    return "similar" if cosine >= SIMILAR_COSINE else "different"


def _is_subsequence(short: Sequence[str], long: Sequence[str]) -> bool:
    rest = iter(long)
    return all(word in rest for word in short)
