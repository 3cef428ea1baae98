"""What a log line says about itself: when, how bad, and which program. Pure, and total on any text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

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
    r"corrupt(?:ed|ion)|read-only file ?system|core dumped|no space left|machine check|hardware error)\b",
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
_PROGRAM = re.compile(r"^(?:[\w.\-]+ ){0,2}?(?P<name>[A-Za-z][\w.\-/@]{0,40})(?:\[[^\]\s]{1,20}\])?:(?=\s|$)")
_HTTP_TIME = "%d/%b/%Y:%H:%M:%S %z"


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
    return _when(stamp, near.year, near.month) if stamp else None


@lru_cache(maxsize=4096)
def _when(stamp: str, year: int, month: int) -> float | None:
    try:
        found = _parse(stamp.strip(), year, month)
    except (ValueError, OverflowError, OSError):
        return None
    return found


def _parse(stamp: str, year: int, month: int) -> float:
    if stamp.replace(".", "", 1).isdigit():
        value = float(stamp)
        value = value / 1e9 if value > 1e17 else value / 1e6 if value > 1e14 else value / 1e3 if value > 1e11 else value
        return datetime.fromtimestamp(value, UTC).timestamp()
    if stamp[0].isdigit() and stamp[2:3] == "/":
        return datetime.strptime(stamp, _HTTP_TIME).timestamp()
    if stamp[0].isdigit():
        text = stamp.replace("/", "-").replace(",", ".").replace(" UTC", "Z").replace(" GMT", "Z")
        parsed = datetime.fromisoformat(text[:19] + _fraction(text[19:]))
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    parts = stamp.split()
    if not parts[0][:3].isalpha() or parts[0] in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"):
        parts = parts[1:]
    given = int(parts[3]) if len(parts) > 3 else None
    clock = parts[2].partition(".")
    told = f"{given or 2024} {parts[0]} {parts[1]} {clock[0]}"
    parsed = datetime.strptime(told, "%Y %b %d %H:%M:%S").replace(tzinfo=UTC)
    if given is None:
        month_ahead = parsed.month - month
        parsed = parsed.replace(year=year - 1 if month_ahead > 1 else year + 1 if month_ahead == -11 else year)
    return (parsed + timedelta(seconds=float("0." + (clock[2] or "0")))).timestamp()


def _fraction(tail: str) -> str:
    """A fraction of any length as the six digits `fromisoformat` takes, and the zone after it without its space."""
    if not tail.startswith("."):
        return tail.strip()
    digits = re.match(r"\.(\d+)", tail)
    if digits is None:
        raise ValueError(tail)
    return "." + digits[1][:6].ljust(6, "0") + tail[digits.end() :].strip()
