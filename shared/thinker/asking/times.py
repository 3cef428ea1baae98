"""From when on, as people write it: a date, a time of day, so long ago, yesterday. English and German. Pure and total.

Times without a zone are UTC. A time of day that is still to come was yesterday's.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec

_UNITS = {
    "second": r"seconds?|secs?|s|sekunden?",
    "minute": r"minutes?|mins?|m|minuten?",
    "hour": r"hours?|hrs?|h|stunden?",
    "day": r"days?|d|tag(?:en|e)?",
    "week": r"weeks?|w|wochen?",
}
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_UNIT = "|".join(_UNITS.values())
_NUMBERS = {
    "a": 1,
    "an": 1,
    "one": 1,
    "einer": 1,
    "einem": 1,
    "two": 2,
    "zwei": 2,
    "three": 3,
    "drei": 3,
    "ten": 10,
    "zehn": 10,
}
_NUMBER = r"\d{1,6}|" + "|".join(sorted(_NUMBERS, key=len, reverse=True))
_DATE = r"\d{4}-\d{2}-\d{2}(?:[t ]\d{1,2}:\d{2}(?::\d{2})?(?:\.\d{1,6})?\s?(?:z|utc|[+-]\d{2}:?\d{2})?)?"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?\s?(?:z|utc|uhr)?|\d{1,2}\s?(?:am|pm|uhr)"
_DAY = r"yesterday|gestern|today|heute|midnight|mitternacht|noon|mittag"
_EVER = r"ever|always|the (?:beginning|start)|(?:dem )?(?:anfang|beginn)|jeher"
_SINCE = re.compile(
    rf"\b(?:since|seit|after|from|ab)\s+(?:(?P<date>{_DATE})|(?P<clock>{_CLOCK})|(?P<day>{_DAY})(?:\s(?:at\s|um\s)?(?P<at>{_CLOCK}))?"
    rf"|(?P<ever>{_EVER})|(?P<n>{_NUMBER})\s?(?P<unit>{_UNIT})(?:\s+ago)?)(?![\w:])"
)
_AGO = re.compile(rf"\b(?:vor|since|seit)\s+(?P<n>{_NUMBER})\s?(?P<unit>{_UNIT})(?:\s+ago)?\b")
_LAST = re.compile(
    rf"\b(?:(?:in|within|over|during|for)\s+)?(?:the\s+|den\s+|der\s+|dem\s+|in\s+den\s+|in\s+der\s+)?"
    rf"(?:last|past|letzten?|letztem|vergangenen)\s+(?:(?P<n>{_NUMBER})\s?)?(?P<unit>{_UNIT})\b"
)
_TODAY = re.compile(r"\b(?:today|heute|yesterday|gestern)\b")
_WORD = re.compile(r"\b(?:since|seit)\b")


class Span(msgspec.Struct, frozen=True):
    """From when on, what is left of the text, and whether it speaks of a time that is not understood."""

    since: datetime | None
    rest: str
    unclear: bool = False


def take_time(text: str, asked_at: datetime) -> Span:
    """The time in a text, taken out of it. `text` is lower case; `asked_at` is what "ago" and "today" count from."""
    for pattern in (_SINCE, _AGO, _LAST, _TODAY):
        found = pattern.search(text)
        if found is None:
            continue
        rest = " ".join(f"{text[: found.start()]} {text[found.end() :]}".split())
        try:
            return Span(_told(pattern, found, asked_at.astimezone(UTC)), rest, bool(_WORD.search(rest)))
        except (ValueError, OverflowError):
            return Span(None, text, unclear=True)
    return Span(None, text, unclear=bool(_WORD.search(text)))


def _told(pattern: re.Pattern[str], found: re.Match[str], now: datetime) -> datetime | None:
    if pattern is _TODAY:
        return _day(found[0], now)
    parts = found.groupdict()
    if parts.get("unit"):
        number = parts["n"] or "1"
        count = int(number) if number.isdigit() else _NUMBERS[number]
        unit = next(name for name, written in _UNITS.items() if re.fullmatch(written, parts["unit"]))
        return now - timedelta(seconds=count * _SECONDS[unit])
    if parts["ever"]:
        return None
    if parts["date"]:
        return _date(parts["date"])
    if parts["clock"]:
        at = _clock(parts["clock"], now)
        return at if at <= now else at - timedelta(days=1)
    day = _day(parts["day"], now)
    return day if parts["at"] is None else _clock(parts["at"], day)


def _date(text: str) -> datetime:
    day, _, clock = text.replace(" ", "t", 1).partition("t")
    clock = clock.replace(" ", "").removesuffix("utc").removesuffix("z")
    if clock and clock[1:2] == ":":
        clock = f"0{clock}"
    at = datetime.fromisoformat(f"{day}T{clock}" if clock else day)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def _clock(text: str, on: datetime) -> datetime:
    afternoon, morning = text.endswith("pm"), text.endswith("am")
    hours, *rest = (int(part) for part in re.findall(r"\d+", text))
    if afternoon or morning:
        if not 1 <= hours <= 12:
            raise ValueError(text)
        hours = hours % 12 + 12 * afternoon
    minute, second = (*rest, 0, 0)[:2]
    return on.replace(hour=hours, minute=minute, second=second, microsecond=0)


def _day(word: str, now: datetime) -> datetime:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match word:
        case "yesterday" | "gestern":
            return midnight - timedelta(days=1)
        case "noon" | "mittag":
            noon = midnight + timedelta(hours=12)
            return noon if noon <= now else noon - timedelta(days=1)
        case _:
            return midnight
