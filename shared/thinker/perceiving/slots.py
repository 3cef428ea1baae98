"""What a line has where its template varies: a word for each mark, in their order. Pure, and total on any text.

A line has a template in one of the readings of `templates.matcher`; the words are taken out of that one. Where what varies is only a
part of a word, such as `port=<#>`, that part is told; of a word that varies as a whole, the word as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from shared.thinker.perceiving.templates import (
    ANY,
    MAX_WORDS,
    REST,
    SHAPE,
    Words,
    accessed,
    after_program,
    agrees,
    masked_with,
    matcher,
    parse,
    read,
    split,
    ways,
)

_QUOTE, _PART = "\ue000", "\ue001"
"""Stand for what was quoted and for what varies by its shape, while a line is taken apart."""


def slots(template: str) -> Callable[[str], Words | None]:
    """What a line has at each mark of the template; None when it has not the template. Of one that has it only as it stands, word by
    word, what stands at its marks."""
    readings, matches = ways(template), matcher(template)
    written = template.split()

    def of(text: str) -> Words | None:
        line = read(text)
        for body in dict.fromkeys((line.body, after_program(line.body))):
            masked, words = _apart(text, body)
            for wanted in readings:
                if agrees(wanted, masked):
                    return _at_marks(wanted, words)
        if not matches(text):
            return None
        for form in (text, line.body, after_program(line.body)):
            if len(words := tuple(form.split())) == len(written):
                return _at_marks(tuple(written), words)
        return ()

    return of


def before(template: str) -> Words:
    """What a template says before each of its marks: the last plain words, up to three."""
    told: list[str] = []
    plain: list[str] = []
    for word in parse(template):
        if SHAPE in word or ANY in word:
            told.append(" ".join(plain[-3:]))
            plain.clear()
        elif word != REST:
            plain.append(word)
    return tuple(told)


def _at_marks(wanted: Words, words: Words) -> Words:
    return tuple(word for mark, word in zip(wanted, words, strict=False) if SHAPE in mark or ANY in mark)


def _apart(text: str, body: str) -> tuple[Words, Words]:
    """The masked words of a body, and what each stands for."""
    if body.startswith(SHAPE) and (words := accessed(text)):
        return split(body), words
    values: dict[str, list[str]] = {_QUOTE: [], _PART: []}

    def quoted(found: re.Match[str]) -> str:
        values[_QUOTE].append(found[0].strip("\"'"))
        return _QUOTE

    def varying(found: re.Match[str]) -> str:
        values[_PART].append(found[0])
        return _PART

    bare = body.replace(_QUOTE, "\ufffd").replace(_PART, "\ufffd")
    shaped = masked_with(bare, quoted, varying)
    taken = {mark: iter(of) for mark, of in values.items()}
    told: list[str] = []
    for word in shaped.split(None, MAX_WORDS)[:MAX_WORDS]:
        parts = [next(taken[mark]) for mark in word if mark in taken]
        told.append(" ".join(parts) if parts else word)
    return split(shaped.replace(_QUOTE, SHAPE).replace(_PART, SHAPE)), tuple(told)
