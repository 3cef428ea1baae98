"""Ids as clients give them, and as words of subjects.

Clients of the base contract name personas, swarms and proposals by `[A-Za-z0-9_-]`; a subject's token has lower case only. An id
that is a token stands for itself. Any other becomes `x--` and its characters, where a capital is `-` and its small letter, `_`
is `-0` and `-` is `--`. So two ids never are one token, and every token says the id it was given as.
"""

from __future__ import annotations

import re

import msgspec

from services.gateway.wire.problems import Problem
from services.gateway.wire.views import PersonaIdentity
from shared.contracts.ids import is_token
from shared.contracts.persona import Identity

GIVEN_PATTERN = r"^[A-Za-z0-9_-]{1,64}$(?!\n)"
_GIVEN = re.compile(GIVEN_PATTERN)
_PREFIX = "x--"
_ESCAPES = {"-": "--", "_": "-0"}


def as_given(token: str) -> str:
    """The id that a token stands for."""
    given = _decoded(token.removeprefix(_PREFIX)) if token.startswith(_PREFIX) else None
    return token if given is None or as_token(given) != token else given


def as_token(given: str) -> str:
    """The token of an id; what can be none stays as it is."""
    if not _GIVEN.match(given) or (is_token(given) and as_given(given) == given):
        return given
    return _PREFIX + "".join(_ESCAPES.get(c) or (f"-{c.lower()}" if c.isupper() else c) for c in given)


def shown(identity: Identity) -> PersonaIdentity:
    """The identity with its ids as they were given."""
    given = {
        name: as_given(token)
        for name in ("id", "swarm_id", "parent_id")
        if (token := getattr(identity, name)) is not None
    }
    return PersonaIdentity(**{**msgspec.structs.asdict(identity), **given})


def _decoded(escaped: str) -> str | None:
    found, characters = "", iter(escaped)
    for c in characters:
        if c != "-":
            found += c
            continue
        of = next(characters, "")
        if of in ("-", "0"):
            found += "-" if of == "-" else "_"
        elif of.isalpha():
            found += of.upper()
        else:
            return None
    return found


def token(name: str, given: str) -> str:
    """The token. Raises `Problem` (422), with the name of the field, for an id that can be none."""
    found = as_token(given)
    if not is_token(found):
        detail = f"{name}: {given[:60]!r} does not match {GIVEN_PATTERN}"
        if _GIVEN.match(given):
            detail = (
                f"{name}: {given[:60]!r} is too long; it needs {len(found)} of 48 characters, a capital or _ needs two"
            )
        raise Problem(422, detail, reason="not_a_token")
    return found
