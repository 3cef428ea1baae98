"""What commands print: tables for people, JSON for programs. Text from outside is made harmless for a terminal first."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.contracts.text import escaped, lines, plain


def emit(value: object) -> None:
    """One JSON document on stdout."""
    _write(msgspec.json.format(msgspec.json.encode(value), indent=2))


def emit_line(value: object) -> None:
    """One JSON object on one line, at once."""
    _write(msgspec.json.encode(value))


def _write(document: bytes) -> None:
    """UTF-8 whatever the terminal speaks (RFC 8259 section 8.1), and nothing it would obey."""
    sys.stdout.buffer.write(escaped(document.decode()).encode() + b"\n")
    sys.stdout.flush()


def say(text: str, *, prefix: str = "") -> None:
    """Lines for people on stderr, beside the output, after a prefix of ours. Where nobody reads it any more, the work goes on unsaid."""
    with suppress(OSError):
        sys.stderr.write(f"{prefix}{lines(text)}\n")
        sys.stderr.flush()


def safe(text: object, limit: int = 0) -> str:
    """On one line, with nothing a terminal would obey, cut to `limit` characters (0: not)."""
    return plain(str(text), limit)


def table(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str], *, nothing: str) -> None:
    """Rows as a table on a terminal, tab-separated elsewhere. `columns` maps keys to headings."""
    if not rows:
        sys.stdout.write(nothing + "\n")
        return
    if not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write("\t".join(safe(row.get(key, "")) for key in columns) + "\n")
        return
    shown = Table(box=None, pad_edge=False)
    for heading in columns.values():
        shown.add_column(heading, no_wrap=heading == "ID", overflow="fold")  # an id that was cut is of no use
    for row in rows:
        shown.add_row(*(Text(safe(row.get(key, ""))) for key in columns))
    Console().print(shown)
