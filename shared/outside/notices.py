"""The operator's file of notices to people (TOML): what is said, with which arguments, and to whom.

    [notices.disk]
    about = "tells who is on call that a disk fills up"
    targets_file = "/run/secrets/on-call"    an Apprise URL a line; or `targets`, the same as a list
    title = "Disk of {host} is {percent} % full"
    body = "{what}. See the runbook, chapter 3."
    arguments.host.one_of = ["db-1", "web-1"]
    arguments.percent = {least = 0, most = 100}
    arguments.what.title = true

Its URLs are secrets: no event, log, error or outcome has one. One that names several recipients is one target.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.contracts.action import Scalar
from shared.contracts.ids import Token
from shared.contracts.kinds.arguments import Argument, flaw_of, trouble_of
from shared.contracts.kinds.tools import ARGUMENT
from shared.contracts.text import title_trouble
from shared.outside.apprising import NotInstalled, flaw_of_target
from shared.settings import SettingsError

MAX_TARGETS = 16
_HOLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]{0,63})\}")


class Notice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row. `about` is for people and personas."""

    about: Annotated[str, Meta(max_length=300)] = ""
    targets: tuple[str, ...] = ()
    targets_file: str = ""
    title: Annotated[str, Meta(min_length=1, max_length=200)]
    body: Annotated[str, Meta(min_length=1, max_length=4000)]
    arguments: dict[Annotated[str, Meta(pattern=f"^{ARGUMENT}$")], Argument] = {}
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 20.0

    def __repr__(self) -> str:
        return f"Notice({self.title!r} to {len(self.targets)})"

    def trouble(self, given: Mapping[str, Scalar]) -> str:
        """Why that may not be said; empty when it may."""
        if why := trouble_of(self.arguments, given):
            return why
        texts = [(name, str(given[name])) for name, argument in self.arguments.items() if argument.like is not None]
        return next((f"{name} {why}" for name, text in texts if (why := title_trouble(text))), "")

    def filled(self, given: Mapping[str, Scalar]) -> tuple[str, str]:
        """Title and body. Raises `KeyError` for an argument that is not given."""
        title, body = (_HOLE.sub(lambda hole: str(given[hole[1]]), text) for text in (self.title, self.body))
        return title, body


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    notices: dict[Token, Notice] = {}


def notices_of(path: str) -> dict[str, Notice]:
    """The rows of the operator's file, `targets` being all of each; none where none is named. Raises `SettingsError`."""
    if not path:
        return {}
    try:
        read = msgspec.convert(tomllib.loads(Path(path).read_text(encoding="utf-8")), _File).notices
        rows = {name: msgspec.structs.replace(row, targets=_targets(row)) for name, row in read.items()}
    except (OSError, ValueError) as error:
        raise SettingsError(f"notices.file={path}: {error}") from None
    try:
        for name, row in rows.items():
            if flaw := _flaw(row):
                raise SettingsError(f"notices.file={path}: {name}: {flaw}")
    except NotInstalled as error:
        raise SettingsError(f"notices.file={path}: {error}") from None
    return rows


def _targets(row: Notice) -> tuple[str, ...]:
    lines = Path(row.targets_file).read_text(encoding="utf-8").splitlines() if row.targets_file else []
    return (*row.targets, *(line.strip() for line in lines if line.strip() and not line.startswith("#")))


def _flaw(row: Notice) -> str:
    holes = {*_HOLE.findall(row.title), *_HOLE.findall(row.body)}
    if odd := sorted(holes ^ row.arguments.keys()):
        return f"its templates and arguments differ in {odd[0]}"
    for name, argument in row.arguments.items():
        if argument.optional or argument.many or argument.chars:
            return f"{name} can be neither optional nor many, nor any text: a title is the one text there is"
    if why := flaw_of(row.arguments):
        return why
    if not 1 <= len(row.targets) <= MAX_TARGETS:
        return f"it has {len(row.targets)} targets, of 1 to {MAX_TARGETS}"
    return next((f"target {n} {why}" for n, url in enumerate(row.targets, 1) if (why := flaw_of_target(url))), "")
