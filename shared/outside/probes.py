"""The operator's file of probes (TOML): what a checker may look at outside, each a row with a fixed file, host, command or tool.

    [probes.disk]
    kind = "file.read"
    root = "/var/log"
    path = "disk-{host}.log"
    arguments.host.one_of = ["web", "db"]

An argument is one of some texts, a number, a time, or an id that a pattern matches; none is free text, whoever asks. A row is asked again
after a crash, so it is one that may be.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta

from shared.contracts.action import Scalar
from shared.contracts.ids import Token
from shared.contracts.kinds.arguments import Argument, flaw_of, trouble_of
from shared.contracts.kinds.http import url_trouble
from shared.contracts.kinds.tools import TOOL
from shared.settings import SettingsError

MAX_BYTES = 256 * 1024
HOLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]{0,63})\}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,63}")
Absolute = Annotated[str, Meta(pattern=r"^/[^\0]*$", max_length=1024)]


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What all have. `outward`: what it is asked by leaves the machine, or reaches others than the operator's own."""

    about: Annotated[str, Meta(max_length=300)] = ""
    arguments: dict[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")], Argument] = {}
    timeout_s: Annotated[float, Meta(gt=0, le=30)] = 10.0
    output_bytes: Annotated[int, Meta(gt=0, le=MAX_BYTES)] = 64 * 1024
    outward: bool = True

    @property
    def parts(self) -> tuple[str, ...]:
        """Where arguments go."""
        return ()

    @property
    def kind(self) -> str:
        """The name that scopes and policies have for it."""
        return str(self.__struct_config__.tag)

    def trouble(self, given: Mapping[str, Scalar]) -> str:
        """Why it may not be asked so; empty when it may."""
        odd = [
            name
            for name, value in given.items()
            if isinstance(value, str) and not _is_bounded(self.arguments.get(name), value)
        ]
        return trouble_of(self.arguments, given) or (f"{odd[0]} is no id of up to 64 characters" if odd else "")


class FileRead(Row, frozen=True, kw_only=True, tag="file.read"):
    """The beginning of a file below a root, or its end."""

    root: Absolute
    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    tail: bool = False
    outward: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.path,)


class FileGrep(FileRead, frozen=True, kw_only=True, tag="file.grep"):
    """Its lines with some words in them."""

    words: Annotated[str, Meta(min_length=1, max_length=300)]

    @property
    def parts(self) -> tuple[str, ...]:
        return self.path, self.words


class HttpGet(Row, frozen=True, kw_only=True, tag="http.get"):
    """What a URL answers. `private`: its host's address may be one inside."""

    url: Annotated[str, Meta(max_length=1024)]
    private: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.url,)


class PrometheusQuery(Row, frozen=True, kw_only=True, tag="prometheus.query"):
    """What a query has for a value now; `url` is the server's, arguments stand within quotes in `query`."""

    url: Annotated[str, Meta(max_length=1024)]
    query: Annotated[str, Meta(min_length=1, max_length=1000)]
    private: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.query,)


class CommandProbe(Row, frozen=True, kw_only=True, tag="command.probe"):
    """What a command says, in the sandbox, where it can write nothing."""

    argv: Annotated[tuple[str, ...], Meta(min_length=1, max_length=64)]
    read: tuple[Absolute, ...] = ()
    network: bool = False
    memory_mb: Annotated[int, Meta(ge=16, le=64 * 1024)] = 512

    @property
    def parts(self) -> tuple[str, ...]:
        return self.argv


class McpRead(Row, frozen=True, kw_only=True, tag="mcp.read"):
    """What a tool answers that has a row which says that it reads alone, in the file of servers; its arguments are these."""

    server: Token
    tool: Annotated[str, Meta(pattern=f"^{TOOL}$")]


Asked = FileRead | FileGrep | HttpGet | PrometheusQuery | CommandProbe | McpRead


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    probes: dict[Token, Asked] = {}


def probes_of(path: str) -> dict[str, Asked]:
    """The rows of the operator's file; none where none is named. Raises `SettingsError`."""
    if not path:
        return {}
    try:
        rows = msgspec.convert(tomllib.loads(Path(path).read_text(encoding="utf-8")), _File).probes
    except (OSError, ValueError) as error:
        raise SettingsError(f"probes.file={path}: {error}") from error
    for name, row in rows.items():
        if flaw := _flaw(row):
            raise SettingsError(f"probes.file={path}: {name}: {flaw}")
    return rows


def url_of(row: HttpGet | PrometheusQuery, given: Mapping[str, Scalar]) -> str:
    """The whole URL; an argument is one piece of a path, or one value of a query."""
    if isinstance(row, HttpGet):
        return filled(row.url, given, lambda value: quote(value, safe=""))
    query = filled(row.query, given, lambda value: value.replace("\\", "\\\\").replace('"', '\\"'))
    return f"{row.url.rstrip('/')}/api/v1/query?query={quote(query, safe='')}"


def filled(part: str, given: Mapping[str, Scalar], spell: object = None) -> str:
    """With its arguments, each spelled as the place wants it."""

    def one(hole: re.Match[str]) -> str:
        value = given[hole[1]]
        text = ("true" if value else "false") if isinstance(value, bool) else str(value)
        return spell(text) if callable(spell) else text

    return HOLE.sub(one, part)


def _is_bounded(argument: Argument | None, value: str) -> bool:
    """Whether a text is one of the operator's, a number, a time, or an id."""
    return argument is None or argument.like is None or _ID.fullmatch(value) is not None


def _flaw(row: Asked) -> str:
    holes = {hole for part in row.parts for hole in HOLE.findall(part)}
    if not isinstance(row, McpRead) and (odd := sorted(holes ^ row.arguments.keys())):
        return f"what it asks and its arguments differ in {odd[0]}"
    if loose := [name for name, one in row.arguments.items() if one.chars or one.many or one.optional]:
        return f"{loose[0]} can be neither free text nor many nor optional"
    match row:
        case HttpGet() | PrometheusQuery():
            host = row.url.partition("://")[2].partition("/")[0]
            if HOLE.search(host) or (isinstance(row, PrometheusQuery) and HOLE.search(row.url)):
                return "its host is written out"
            if why := url_trouble(HOLE.sub("x", row.url)):
                return why
        case CommandProbe() if not row.argv[0].startswith("/") or HOLE.search(row.argv[0]):
            return "argv begins with the whole path of a program"
        case FileRead() if row.path.startswith("/") or any(name in ("", ".", "..") for name in row.path.split("/")):
            return "its path is one below its root"
        case _:
            pass
    return flaw_of(row.arguments)
