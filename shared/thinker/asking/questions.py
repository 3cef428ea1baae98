"""The questions rules can answer, told from other words: in English and German, whatever the case, quotes and politeness.

Three kinds: is anything unusual (in a source, since a time); how often was something said, or whether; what is known about something. A
text that is none of them is no question here: rules decline it, they do not guess. Pure and total.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

import msgspec

from shared.thinker.asking.times import take_time
from shared.thinker.port import Goal

Kind = Literal["unusual", "count", "known"]
MAX_QUESTION = 300
"""Characters: what is longer is no such question."""

_QUOTES = re.compile(
    r"\"([^\"]{1,300})\"|“([^”]{1,300})”|„([^“”]{1,300})[“”]|«([^»]{1,300})»|`([^`]{1,300})`|(?<!\w)'([^']{1,300})'(?!\w)"
)
_POLITE = re.compile(
    r"^(?:(?:please|bitte|hey|hi|hallo|hello|so|and|und)[,\s]+|"
    r"(?:can|could|would) you (?:please )?(?:tell me|say|check|find out)(?: if| whether)?\s+|"
    r"(?:tell me|say|check|find out|sag mir|prüfe|prüf)(?:,? (?:if|whether|ob))?[,\s]+(?!about\b|what you|was du|etwas|über))+"
)
_ODD = (
    r"(?:out of the ordinary|unusual|odd|strange|wrong|abnormal|suspicious|weird|anomalous|noteworthy|"
    r"ungewöhnlich(?:es)?|auffällig(?:es)?|besonder(?:es|s)|verdächtig(?:es)?|seltsam(?:es)?)"
)
_ODDITIES = r"(?:anomal(?:y|ies)|incidents?|oddities|irregularities|unusual events|auffälligkeiten|anomalien|vorfälle|unregelmäßigkeiten)"
_TAIL = r"(?:\s+(?:happen(?:ed|ing)?|going on|occurred|passiert|geschehen|vorgefallen|gewesen|los))?"
_IN = r"(?:\s+(?:in|on|at|from|with|of|im|bei|auf|von|an)\s+(?:the\s+|der\s+|dem\s+|den\s+)?(?P<source>.+?))?"
_THE_SOURCE = r"(?P<source>.+?)"

_UNUSUAL = tuple(
    re.compile(rf"^{pattern}$")
    for pattern in (
        rf"(?:(?:is|was|were|has|are|did|does)\s+)?(?:there\s+)?(?:been\s+)?(?:anything|something)\s+"
        rf"(?:been\s+|that is\s+|happen(?:ed)?\s+(?:that is\s+)?)?{_ODD}{_TAIL}{_IN}{_TAIL}",
        rf"(?:anything|something)\s+(?:is|was|has been|looks)\s+{_ODD}{_TAIL}{_IN}{_TAIL}",
        rf"what(?:'s| is| was| has been)\s+{_ODD}{_TAIL}{_IN}{_TAIL}",
        rf"(?:is|was|are|were|has|have|report|list|show(?: me)?)?\s*(?:there\s+)?(?:been\s+)?(?:any|all|the)?\s*{_ODDITIES}{_TAIL}{_IN}",
        rf"(?:is|was)\s+{_THE_SOURCE}\s+(?:(?P<normal>normal|ok|okay|fine|quiet|in order)|{_ODD})",
        rf"(?:does|did)\s+{_THE_SOURCE}\s+(?:look|seem|behave)\s+(?:(?P<normal>normal|normally|ok|okay|fine)|{_ODD}(?:ly)?)",
        rf"(?:gibt es|gab es|ist|war|liegt)\s+(?:irgend)?(?:et)?was\s+{_ODD}{_TAIL}{_IN}{_TAIL}(?:\s+vor)?",
        rf"(?:ist|war|gab es|gibt es)\s+(?:in|im|bei|auf)\s+{_THE_SOURCE}\s+(?:irgend)?(?:et)?was\s+{_ODD}{_TAIL}",
        rf"(?:gibt es|gab es|zeige?(?: mir)?)?\s*(?:alle|irgendwelche|die)?\s*{_ODDITIES}{_IN}",
    )
)

_SAID = (
    r"(?:occur(?:red|s)?|happen(?:ed|s)?|appear(?:ed|s)?|come up|came up|show(?:n|ed)? up|"
    r"turn(?:ed)? up|(?:been\s+)?(?:seen|logged|said|found|reported|recorded|there))"
)
_LINES = r"(?:lines|times|messages|entries|events|occurrences|log lines|observations)"
_WITH = r"(?:with|of|that contain|containing|that say|saying|that have|for|matching)"
_WHAT = r"(?P<what>.+?)"
_GERMAN_SAID = r"(?:vor(?:gekommen)?|auf(?:getreten)?|gesehen|gemeldet|geloggt|aufgetaucht|da|passiert)"
_COUNT = tuple(
    re.compile(rf"^{pattern}$")
    for pattern in (
        rf"how (?:often|many times|frequently)\s+(?:did|does|do|has|have|had|was|were|is|are)\s+(?:there\s+)?{_WHAT}\s+{_SAID}{_IN}",
        rf"how (?:often|many times|frequently)\s+(?:did|does|do|has|have|had|was|were|is|are)\s+(?:there\s+)?(?:been\s+)?{_WHAT}{_IN}",
        rf"how many\s+{_LINES}\s+(?:are there\s+|were there\s+)?{_WITH}\s+{_WHAT}(?:\s+(?:are|were|have)(?:\s+there)?(?:\s+been)?)?{_IN}",
        rf"how many\s+{_WHAT}\s+(?:are|were)(?:\s+there)?{_IN}",
        rf"how many\s+{_WHAT}\s+(?:have|has) been{_IN}",
        rf"(?:count|number of|the number of)\s+(?:the\s+)?(?:{_LINES}\s+{_WITH}\s+|occurrences of\s+)?{_WHAT}{_IN}",
        rf"wie (?:oft|häufig)\s+(?:kam|kommt|trat|tritt|gab es|gibt es|wurde|wird|ist|war|steht|stand|erschien|erscheint)\s+{_WHAT}{_IN}"
        rf"(?:\s+{_GERMAN_SAID})?",
        rf"wie viele\s+(?:zeilen|meldungen|einträge)\s+(?:gibt es\s+|gab es\s+)?mit\s+{_WHAT}(?:\s+(?:gibt|gab) es)?{_IN}",
        rf"zähle?\s+(?:die\s+)?(?:zeilen mit\s+)?{_WHAT}{_IN}",
    )
)
_WHETHER = tuple(
    re.compile(rf"^{pattern}$")
    for pattern in (
        rf"(?:did|has|have|does)\s+{_WHAT}\s+(?:ever\s+)?{_SAID}{_IN}",
        rf"(?:was|were|is|are)\s+(?:there\s+)?(?:any\s+)?{_WHAT}\s+(?:seen|logged|found|reported|recorded){_IN}",
        rf"(?:kam|trat|ist|wurde)\s+{_WHAT}{_IN}\s+{_GERMAN_SAID}",
    )
)
_KNOWN = tuple(
    re.compile(rf"^{pattern}$")
    for pattern in (
        rf"(?:what|which things)\s+(?:do|did|have)\s+you\s+(?:know|known|remember|learn|learned|learnt|"
        rf"see|seen|observe|observed|got|have)\s+(?:about|of|on|regarding)\s+{_WHAT}",
        rf"what\s+(?:is|was)\s+(?:known|remembered)\s+(?:about|of|on)\s+{_WHAT}",
        rf"(?:tell me|say)\s+(?:what you know|everything|something|anything)?\s*(?:you know\s+)?about\s+{_WHAT}",
        rf"do you\s+(?:know|remember)\s+(?:anything|something)\s+(?:about|of|on)\s+{_WHAT}",
        rf"was\s+(?:weißt|weisst|wisst)\s+(?:du|ihr)\s+(?:alles\s+)?(?:über|ueber|von|zu|zum|zur)\s+{_WHAT}",
        rf"was\s+ist\s+(?:dir\s+|euch\s+)?(?:über|ueber|von|zu)\s+{_WHAT}\s+bekannt",
        rf"(?:erzähle?|sag)\s+(?:mir\s+)?(?:was du|etwas|was|alles)\s+(?:weißt\s+)?(?:über|ueber|von|zu)\s+{_WHAT}",
    )
)
_NO_THING = re.compile(r"^(?:it|this|that|they|you|i|we|he|she|es|das|du|ich|wir)\b")
_ADVICE = re.compile(r"\b(?:should|shall|could|can|must|would|will|soll(?:te|ten|en)?|muss|kann)\b")
_FILLER = re.compile(
    r"^(?:the|a|an|any|der|die|das|den|ein|eine|einen)\s+|"
    r"^(?:word|words|message|messages|line|lines|error message|text|string|meldung|zeile)\s+(?=\x00)"
)


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked. `what` is counted or known about; `source` as it was written, empty for all; `since` None: from the beginning.

    `quoted`: the words to count stood in quotes. `whether`: yes or no is wanted, and with `normal` yes means that nothing is unusual.
    `unclear` says what is not understood.
    """

    kind: Kind
    what: str = ""
    source: str = ""
    since: datetime | None = None
    quoted: bool = False
    whether: bool = False
    normal: bool = False
    unclear: str = ""


def parse(text: str, asked_at: datetime) -> Question | None:
    """The question; None when it is none of those that rules answer."""
    if len(text) > MAX_QUESTION:
        return None
    quoted: list[str] = []

    def keep(found: re.Match[str]) -> str:
        quoted.append(next(group for group in found.groups() if group is not None))
        return f" \x00{len(quoted) - 1}\x00 "

    folded = " ".join(_QUOTES.sub(keep, text.replace("\x00", " ")).lower().split())
    folded = _POLITE.sub("", folded.strip(" .?!")).strip(" .?!,")
    known = _known(folded, quoted, text)
    if known is not None:
        return known
    span = take_time(folded, asked_at)
    folded = span.rest.strip(" .?!,")
    question = _asked(folded, quoted, text)
    if question is None or not span.unclear:
        return question and msgspec.structs.replace(question, since=span.since)
    return msgspec.structs.replace(question, unclear="from when on")


def topic_of(goal: Goal) -> str:
    """What memory is to be asked about a goal: what is to be known about or counted, else all of it."""
    question = parse(goal.text, goal.asked_at)
    return (question.what or question.source if question else "") or goal.text


def _asked(folded: str, quoted: list[str], text: str) -> Question | None:
    for pattern in _UNUSUAL:
        if (found := pattern.match(folded)) is not None:
            parts = found.groupdict()
            source = _given(parts.get("source"), quoted, text)[0]
            return Question(kind="unusual", source=source, whether=True, normal=bool(parts.get("normal")))
    if _ADVICE.search(folded):
        return None
    for patterns, whether in ((_COUNT, False), (_WHETHER, True)):
        for pattern in patterns:
            if (found := pattern.match(folded)) is None:
                continue
            what, is_quoted = _given(found["what"], quoted, text)
            if not what or (not is_quoted and _NO_THING.match(what.lower())):
                continue
            source = _given(found["source"], quoted, text)[0]
            return Question(kind="count", what=what, source=source, quoted=is_quoted, whether=whether)
    return None


def _known(folded: str, quoted: list[str], text: str) -> Question | None:
    for pattern in _KNOWN:
        if (found := pattern.match(folded)) is not None:
            what, is_quoted = _given(found["what"], quoted, text)
            return Question(kind="known", what=what, quoted=is_quoted) if what else None
    return None


def _given(part: str | None, quoted: list[str], text: str) -> tuple[str, bool]:
    """A part of the question as it was written, and whether it stood in quotes."""
    part = _FILLER.sub("", _FILLER.sub("", (part or "").strip(" .?!,"))).strip()
    marks = re.findall(r"\x00(\d+)\x00", part)
    if len(marks) == 1 and (
        part == f"\x00{marks[0]}\x00" or part.replace(f"\x00{marks[0]}\x00", "").strip() in ("log", "logs", "source")
    ):
        return quoted[int(marks[0])].strip(), True
    for mark in marks:
        part = part.replace(f"\x00{mark}\x00", quoted[int(mark)])
    at = text.lower().find(part)
    return (text[at : at + len(part)] if at >= 0 and len(text.lower()) == len(text) else part), False
