"""A log line without what varies: the words of its template, and whether a line has a given template.

Two marks stand for what varies. `<#>` is a part that is variable by its shape: a number, id, address, path with a number,
quoted value. `<*>` is any one word, where lines agree in all others; a final `<**>` is any words, also none. A line has a
template when their words agree one by one. Both the fold that counts (`shared.thinker.perceiving.perception`) and the probe that
re-counts (`log.count`) go through `words` and `agrees`, so they cannot disagree. A claim shows every mark as `<*>`.

Who writes a template has seen a line as it stands, or a claim, not its words. So what is written is read in both ways (`reading`): without
what varies, as a line would be, and as it stands, word by word. A copy of a line, with any of its words starred and with or without its
time, is a template of that line, and so is what a claim shows of it.

Every function is pure and total on any text, and takes time linear in it. The idea is Drain's (He et al., ICWS 2017),
without its merging by similarity, which would put `accepted` and `refused` under one template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

SHAPE = "<#>"
ANY = "<*>"
REST = "<**>"
CUT = "…"
MAX_TEXT = 600
"""Characters of a line that are looked at; half of it when not all are ASCII, so that states have a bound in bytes."""
MAX_WORDS = 24
MAX_WORD = 64

Words = tuple[str, ...]

_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_PREFIX = re.compile(
    rf"""\s*(?:<\d{{1,3}}>(?:1\ )?)?\[?(?P<stamp>
      \d{{4}}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{{1,9}})?\ ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)?(?![\d:])
    | (?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\ )?(?:{_MONTHS})\ [ \d]\d\ \d\d:\d\d:\d\d(?:\.\d{{1,9}})?(?:\ \d{{4}}(?=[\s\]]))?
    | 1\d{{9}}(?:\d{{3}}|\.\d{{1,9}})?(?=[\s\]:])
    )[\]:,]*\s+""",
    re.VERBOSE | re.ASCII,
)
_UPTIME = re.compile(r"\[\s*\d{1,9}\.\d{1,9}\]\s*", re.ASCII)
_ACCESS = re.compile(
    r'\[(?P<stamp>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "(?P<method>[A-Z]{3,8}) [^"]*" (?P<status>\d{3})\b'
    r"(?P<rest>[^\n]*)",
    re.ASCII,
)
_TOLD = re.compile(r'\b(msg|message|event|error|err|reason|level)="([^"]*)"')
_QUOTED = re.compile(r""""[^"]*"|(?<![\w>])'[^']*'(?!\w)""")
_VARIABLE = re.compile(
    r"(?<![A-Za-z0-9_./@%+\-])(?!status_[0-9]{3}(?!\w))[A-Za-z_./@%+\-]*+[0-9][A-Za-z0-9_./:@%+\-]*+", re.ASCII
)
_NAMED = re.compile(r"(?:\S+\s+){0,3}[A-Za-z][\w.\-/@]{0,40}(?:\(\w{1,40}\))?(?:\[[^\]\s]{1,20}\])?:\s+(?=\S)")
_STAMPS = ("ts", "time", "timestamp", "@timestamp", "t", "date")
_LEVELS = ("level", "lvl", "severity", "levelname", "log.level")
_NAMES = ("service", "logger", "name", "component", "app", "module")
_MESSAGES = ("msg", "message", "event", "error", "err", "exception")
_PINO = {10: "trace", 20: "debug", 30: "info", 40: "warning", 50: "error", 60: "fatal"}


class Line(NamedTuple):
    """A line taken apart: `stamp` as written (empty when there is none), `body` without it, `masked` without what varies."""

    stamp: str
    body: str
    masked: str


def read(text: str) -> Line:
    """Take a line apart. JSON objects are read as `<level> <service>: <message>`, access logs as `<method> <status>`."""
    stamp, body = "", _cut(text)
    if body.startswith("{") and (told := _json(text)) is not None:
        stamp, body = told
    elif (prefix := _PREFIX.match(body)) is not None:
        stamp, body = prefix["stamp"], body[prefix.end() :]
    elif '"' in body and (access := _ACCESS.search(body)) is not None:
        body = f"{SHAPE} {access['method']} {SHAPE} status_{access['status']}"
        return Line(access["stamp"], body, body)
    if body.startswith("["):
        body = _UPTIME.sub("", body, count=1)
    return Line(stamp, body, masked_with(body, SHAPE, SHAPE))


Shape = str | Callable[[re.Match[str]], str]


def masked_with(body: str, quoted: Shape, varying: Shape) -> str:
    """The body with something in place of what is quoted, and of what varies by its shape."""
    if '="' in body:
        body = _TOLD.sub(r"\1=\2", body)
    if '"' in body or "'" in body:
        body = _QUOTED.sub(quoted, body)
    return _VARIABLE.sub(varying, body)


def accessed(text: str) -> Words:
    """What the words of an access log line stand for: client, method, path, status; empty when it is none."""
    found = _ACCESS.search(_cut(text))
    if found is None:
        return ()
    asked = found[0].partition('"')[2].split('"')[0].split()
    client = text.split(None, 1)[0]
    return client, found["method"], asked[1] if len(asked) > 1 else "", f"status_{found['status']}"


def words(text: str) -> Words:
    """The words of the line's own template; never empty, and never with a wildcard."""
    return split(read(text).masked)


def split(masked: str) -> Words:
    """The words of a masked text, at most `MAX_WORDS` of at most `MAX_WORD` characters."""
    if "<*" in masked:  # a line has no wildcards
        masked = masked.replace(ANY, SHAPE).replace(REST, SHAPE)
    return tuple(word[:MAX_WORD] for word in masked.split(None, MAX_WORDS)[:MAX_WORDS]) or (SHAPE,)


def agrees(template: Words, line: Words) -> bool:
    """Whether the words of a line have the template."""
    if template and template[-1] == REST:
        template = template[:-1]
        line = line[: len(template)]
    if len(template) != len(line):
        return False
    for a, b in zip(template, line, strict=True):  # noqa: SIM110 - a generator costs thrice as much
        if a != b and a != ANY:
            return False
    return True


def parse(template: str) -> Words:
    """A written template as words. Words with digits stand for their shape, so `ssh2` in a template means what it does in a line."""
    written = (word if "status_" in word else _VARIABLE.sub(SHAPE, word) for word in template.split())
    return _marked(written)


def _marked(written: Iterable[str]) -> Words:
    """As `split`, with the marks in it: one within a word is a part by its shape there."""
    found = tuple(word if word in (ANY, REST) else word.replace(ANY, SHAPE) for word in written)
    rest = found[-1:] == (REST,) or len(found) > MAX_WORDS
    found = tuple(word[:MAX_WORD] for word in found[:MAX_WORDS] if word != REST)
    return (*found, REST) if rest and len(found) < MAX_WORDS else found


def ways(template: str) -> tuple[Words, ...]:
    """What a written template may mean, each once."""
    return tuple(dict.fromkeys((parse(template), _marked(read(template).masked.split()))))


def matcher(template: str) -> Callable[[str], bool]:
    """A test of lines against one template, for counting many."""
    readings = ways(template)
    literal = _Literal(template)

    def matches_line(text: str) -> bool:
        line = read(text)
        own = split(line.masked)
        if any(agrees(wanted, own) for wanted in readings):
            return True
        named = after_program(line.body)
        return (named != line.body and any(agrees(wanted, split(read(named).masked)) for wanted in readings)) or any(
            literal.matches(form) for form in dict.fromkeys((text, line.body, named))
        )

    return matches_line


class _Literal:
    """A template as it stands. An ellipsis at its end is where whoever showed the line cut it."""

    def __init__(self, template: str) -> None:
        self._words = template.split()
        self._longest = max((word for word in self._words if ANY not in word and REST not in word), key=len, default="")
        self._cut: list[str] | None = None
        if self._words and self._words[-1].endswith(CUT):
            self._cut = [*self._words[:-1], self._words[-1].removesuffix(CUT)]

    def matches(self, text: str) -> bool:
        if self._cut is None and self._longest not in text:
            return False
        found = text.split()
        if _agree(self._words, found):
            return True
        if self._cut is None or len(found) < len(self._cut):
            return False
        *whole, last = self._cut
        return _agree(whole, found[: len(whole)]) and _has(f"{last}{ANY}", found[len(whole)])


def _agree(written: list[str], found: list[str]) -> bool:
    if written and written[-1] == REST:
        written = written[:-1]
        found = found[: len(written)]
    return len(written) == len(found) and all(map(_has, written, found))


def _has(pattern: str, word: str) -> bool:
    """Whether the word has the parts of the pattern in their order, `<*>` being anything between them."""
    if ANY not in pattern or pattern == word:
        return pattern == word
    first, *between, last = pattern.split(ANY)
    if len(word) < len(first) + len(last) or not (word.startswith(first) and word.endswith(last)):
        return False
    at, end = len(first), len(word) - len(last)
    for part in between:
        found = word.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def after_program(body: str) -> str:
    """What a claim shows of a line: without the host and the program before it."""
    found = _NAMED.match(body)
    return body if found is None else body[found.end() :]


def matches(template: str, text: str) -> bool:
    """Whether `text` has the template. `log.count` counts exactly the observations for which this holds."""
    return matcher(template)(text)


def is_status(word: str) -> bool:
    """Whether the word is the status of an access log line, such as `status_502`."""
    return word.startswith("status_")


def shown(template: Words) -> str:
    """The template as a person would write it, every variable part `<*>`."""
    return " ".join(template).replace(SHAPE, ANY)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT // 2 else text[: MAX_TEXT if text.isascii() else MAX_TEXT // 2]


def _json(text: str) -> tuple[str, str] | None:
    try:
        told = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    if not isinstance(told, dict):
        return None
    said = [str(told[key]) for key in _MESSAGES if isinstance(told.get(key), str)]
    if not said:
        return None
    level = next((told[key] for key in _LEVELS if isinstance(told.get(key), str | int)), "")
    name = next((told[key] for key in _NAMES if isinstance(told.get(key), str)), "")
    stamp = next((told[key] for key in _STAMPS if isinstance(told.get(key), str | int | float)), "")
    level = _PINO.get(level, "") if isinstance(level, int) else level
    return str(stamp)[:40], _cut(f"{level} {name}: {' '.join(said)}".strip())
