"""What a log line says about itself: when, how bad, and which program. Pure, and total on any text."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from math import isfinite

INFO, WARNING, ERROR, CRITICAL = 0, 1, 2, 3
SEVERITY_NAMES = ("information", "warning", "error", "critical error")

_LEVEL = re.compile(
    r"(?:^|[\s\[(|<=\"':])(?P<word>TRACE|DEBUG|INFO|NOTICE|LOG|WARN|WARNING|ERROR|ERR|SEVERE|FATAL|CRITICAL|CRIT|ALERT|EMERG|PANIC"
    r"|(?<=\[)(?:debug|info|notice|warn|warning|error|crit|alert|emerg)(?=\])"
    r"|(?<=level=)[a-z]+|^(?:trace|debug|info|notice|warn|warning|error|fatal|critical)(?=\s))(?=[\s\])|>:\"',]|$)"
)
_OF_LEVEL = {
    **dict.fromkeys(("warn", "warning"), WARNING),
    **dict.fromkeys(("error", "err", "severe"), ERROR),
    **dict.fromkeys(("fatal", "critical", "crit", "alert", "emerg", "panic"), CRITICAL),
}
_COUNTED = re.compile(
    r"\b(?:no|without|zero|[0-9]+) (?:\w+ )?(?:errors?|failures?|failed|warnings?|timeouts?)\b"
    r"|\b(?:errors?|failures?|failed|warnings?|timeouts?)[=:] ?[0-9]+|\bfail2ban\b|\berror[-_]log\b",
    re.IGNORECASE,
)
_CRITICAL = re.compile(
    r"\b(?:out of memory|oom-kill(?:er)?|kernel panic|segfault|general protection fault|call trace|data corruption|"
    r"corrupt(?:ed|ion)|read-only file ?system|core dumped|no space left|machine check (?:exception|error)|hardware error)\b",
    re.IGNORECASE,
)
_ERROR = re.compile(
    r"\b(?:fail(?:ed|ure|ures|ing|s)?|errors?|refused|denied|unreachable|exception|traceback|fatal|panic|crash(?:ed|es)?|aborted|"
    r"unable to|cannot|can't|could not|couldn't|not responding|timed out|deadlock|killed|unauthorized|rejected|lost|"
    r"i/o error|broken pipe|start request repeated)\b|[a-z](?:Error|Exception)\b|\bstatus_5[0-9]{2}\b",
    re.IGNORECASE,
)
_WARNING = re.compile(
    r"\b(?:warn(?:ing)?|timeout|invalid|illegal|retry(?:ing)?|restart(?:ing|ed)? (?:job|counter)|slow|throttl(?:ed|ing)|"
    r"degraded|exceeded|deprecated|disconnect(?:ed)?|reset by|unknown|missing|exited)\b|\bstatus_4[0-9]{2}\b",
    re.IGNORECASE,
)
_PROGRAM = re.compile(
    r"^(?:[\w.\-]+ ){0,2}?(?P<name>[A-Za-z][\w.\-/@]{0,40})(?:\(\w{1,40}\))?(?:\[[^\]\s]{1,20}\])?:(?=\s|$)"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def severity(body: str) -> int:
    """INFO to CRITICAL, by the level the line gives itself, else by its words. `body` is the line without its time.

    A line that calls itself informational and yet speaks of a failure counts as a warning; "0 errors" is no failure.
    """
    said = _COUNTED.sub(" ", body)
    by_words = (
        CRITICAL
        if _CRITICAL.search(said)
        else ERROR
        if _ERROR.search(said)
        else WARNING
        if _WARNING.search(said)
        else INFO
    )
    level = _LEVEL.search(body[:200])
    if level is None:
        return by_words
    own = _OF_LEVEL.get(level["word"].lower(), INFO)
    return own if own != INFO else min(by_words, WARNING)


def program(body: str) -> str:
    """The program a line is from, as in `host sshd[812]: ...` or `kernel: ...`; empty when it does not say."""
    found = _PROGRAM.match(body)
    return "" if found is None or found["name"].lower() in _NOT_PROGRAMS else found["name"]


_NOT_PROGRAMS = frozenset(
    (
        "error",
        "warning",
        "warn",
        "info",
        "notice",
        "debug",
        "fatal",
        "log",
        "critical",
        "panic",
        "detail",
        "statement",
        "hint",
    )
)


def when(stamp: str, near: datetime) -> float | None:
    """Seconds since 1970 of a time as written in a line; None when it is no time.

    A time without a zone is taken as UTC; one without a year gets the year that puts it last before `near` plus a day.
    """
    return _when(stamp, near.date()) if stamp else None


@lru_cache(maxsize=4096)
def _when(stamp: str, near: date) -> float | None:
    try:
        found = _parse(stamp.strip(), near)
    except (ValueError, IndexError, OverflowError, OSError):
        return None
    return found if isfinite(found) else None


def _parse(stamp: str, near: date) -> float:
    if stamp.replace(".", "", 1).isdigit():
        value = float(stamp)
        value = value / 1e9 if value > 1e17 else value / 1e6 if value > 1e14 else value / 1e3 if value > 1e11 else value
        return datetime.fromtimestamp(value, UTC).timestamp()
    if stamp[0].isdigit() and stamp[2:3] == "/":
        east_s = (int(stamp[22:24]) * 60 + int(stamp[24:26])) * 60
        return (
            _midnight(int(stamp[7:11]), stamp[3:6], int(stamp[:2]))
            + _clock(stamp[12:20])
            - (-east_s if stamp[21] == "-" else east_s)
        )
    if stamp[0].isdigit():
        text = stamp.replace("/", "-").replace(",", ".").replace(" UTC", "Z").replace(" GMT", "Z")
        parsed = datetime.fromisoformat(text[:19] + _fraction(text[19:]))
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    name, day, clock, *given = stamp.split()[-4 if stamp[-5:-4] == " " else -3 :]
    if given:
        return _midnight(int(given[0]), name, int(day)) + _clock(clock)
    latest = near + timedelta(days=1)
    later_in_year = (_MONTHS.index(name) + 1, int(day)) > (latest.month, latest.day)
    return _midnight(latest.year - later_in_year, name, int(day)) + _clock(clock)


@lru_cache(maxsize=64)
def _midnight(year: int, month: str, day: int) -> float:
    return datetime(year, _MONTHS.index(month) + 1, day, tzinfo=UTC).timestamp()


def _clock(text: str) -> float:
    """Seconds since midnight of `13:00:01.250`."""
    return int(text[:2]) * 3600 + int(text[3:5]) * 60 + float(text[6:])


def _fraction(tail: str) -> str:
    """A fraction of any length as the six digits `fromisoformat` takes, and the zone after it without its space."""
    if not tail.startswith("."):
        return tail.strip()
    digits = re.match(r"\.(\d+)", tail)
    if digits is None:
        raise ValueError(tail)
    return "." + digits[1][:6].ljust(6, "0") + tail[digits.end() :].strip()
