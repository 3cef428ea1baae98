"""The operator's file of subjects outside the mesh (TOML): on which server, in which account, and what may be said there.

    [subjects.alert]
    url = "tls://nats.example.org:4222"
    creds_file = "/run/secrets/bridge.creds"
    subject = "alerts.{team}"
    stream = "ALERTS"                     where one keeps it: then it is there once, and can be asked for
    arguments.team.one_of = ["db", "web"]
    arguments.level = {least = 1, most = 5}

What is published is one JSON object of all arguments. An argument in the subject is one token of it.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from shared.contracts.action import Action, Scalar
from shared.contracts.events.common import Risk
from shared.contracts.ids import Token
from shared.contracts.kinds.arguments import Argument, flaw_of, trouble_of
from shared.contracts.kinds.tools import ARGUMENT
from shared.contracts.row import Row
from shared.settings import SettingsError

_HOLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]{0,63})\}")
_SUBJECT = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,15}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Subject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row. What it says of risk is judged by, by default as badly as may be."""

    about: Annotated[str, Meta(max_length=300)] = ""
    url: Annotated[str, Meta(pattern="^(nats|tls)://", max_length=300)]
    creds_file: str = ""
    subject: Annotated[str, Meta(max_length=300)]
    stream: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{0,64}$")] = ""
    arguments: dict[Annotated[str, Meta(pattern=f"^{ARGUMENT}$")], Argument] = {}
    risk: Risk = "high"
    outward: bool = True
    exclusive: bool = True
    reversible: bool = False
    cost_microusd: Annotated[int, Meta(ge=0, le=2**53)] = 0
    timeout_s: Annotated[float, Meta(gt=0, le=30)] = 10.0

    @property
    def row(self) -> Row:
        """What is judged by it."""
        return Row(
            digest=hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest(),
            risk=self.risk,
            outward=self.outward,
            exclusive=self.exclusive,
            reversible=self.reversible,
            cost_microusd=self.cost_microusd,
        )

    def filled(self, given: Mapping[str, Scalar]) -> str:
        """The whole subject. Raises `KeyError` for an argument that is not given."""
        return _HOLE.sub(lambda hole: str(given[hole[1]]), self.subject)

    def trouble(self, given: Mapping[str, Scalar]) -> str:
        """Why that may not be said; empty when it may."""
        if why := trouble_of(self.arguments, given):
            return why
        odd = [name for name in _HOLE.findall(self.subject) if not _TOKEN.fullmatch(str(given[name]))]
        return f"{odd[0]} is no token of a subject" if odd else ""

    def payload(self, given: Mapping[str, Scalar]) -> bytes:
        """What is published."""
        said = {name: self.arguments[name].outside(value) for name, value in given.items()}
        return msgspec.json.encode(said, order="sorted")


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    subjects: dict[Token, Subject] = {}


def subjects_of(path: str, own: str = "") -> dict[str, Subject]:
    """The rows of the operator's file; none where none is named. `own` is the mesh's broker, where nothing is published without an account
    of its own. Raises `SettingsError`."""
    if not path:
        return {}
    try:
        rows = msgspec.convert(tomllib.loads(Path(path).read_text(encoding="utf-8")), _File).subjects
    except (OSError, ValueError) as error:
        raise SettingsError(f"bridge.file={path}: {error}") from error
    ours = {urlsplit(one.strip()).netloc for one in own.split(",")}
    for name, row in rows.items():
        if flaw := _flaw(row, ours):
            raise SettingsError(f"bridge.file={path}: {name}: {flaw}")
    return rows


def _flaw(row: Subject, ours: set[str]) -> str:
    holes = set(_HOLE.findall(row.subject))
    if unknown := sorted(holes - row.arguments.keys()):
        return f"its subject has {unknown[0]}, its arguments have not"
    if not _SUBJECT.fullmatch(_HOLE.sub("x", row.subject)):
        return "its subject is no literal one, of tokens with a dot between them"
    if loose := [name for name in sorted(holes) if row.arguments[name].optional or row.arguments[name].many]:
        return f"{loose[0]} is in the subject, and can be neither optional nor many"
    if not row.creds_file and urlsplit(row.url).netloc in ours:
        return "that is the mesh's own broker: an account of its own is needed there (creds_file)"
    return flaw_of(row.arguments)


def row_of(rows: Mapping[str, Subject], action: Action) -> Row | str:
    """What is judged by, or in a sentence why there is nothing."""
    row = rows.get(action.target)
    if row is None:
        return f"the operator has named no subject {action.target}"
    return row.trouble(action.params) or row.row
