"""Notices to people outside, by the operator's templates: what a persona may say of one. To whom they go only the actuator is told, by
the operator's file."""

from __future__ import annotations

import re

import msgspec

from shared.contracts.kinds.kind import ActionKind, Named, Problem, Whose
from shared.contracts.kinds.tools import arguments_trouble
from shared.contracts.targets import Touched, a_notice
from shared.contracts.text import MAX_TITLE

_TARGET = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")


class NoticeSend(Named, frozen=True, kw_only=True):
    """The arguments by name, as the operator's template has them."""


def _trouble(target: str, params: NoticeSend) -> Problem | None:
    if not _TARGET.fullmatch(target):
        return Problem(code="bad_target", detail="the target is the name of a notice: up to 48 of a-z, 0-9 and -")
    for name, value in params.arguments.items():
        if isinstance(value, str) and (len(value) > MAX_TITLE or not value.isprintable()):
            return Problem(code="bad_params", detail=f"{name[:40]} must be up to {MAX_TITLE} printable characters")
    return arguments_trouble(params.arguments)


def _touches(target: str, params: NoticeSend, whose: Whose) -> Touched | None:
    return a_notice(target, msgspec.json.encode(params.arguments, order="sorted").decode())


def _dry_run(target: str, params: NoticeSend) -> str:
    given = ", ".join(f"{name}={value}" for name, value in sorted(params.arguments.items()))
    return f"would send the notice {target} with {given or 'no arguments'}"


KINDS: dict[str, ActionKind] = {
    "notice.send": ActionKind(
        about="a notice to people outside, by a template that the operator named; the target is its name, the parameters its arguments",
        hand="notices",
        params=NoticeSend,
        risk="high",
        reversible=False,
        blast_radius="outside",
        idempotency="fenced",
        timeout_ms=65_000,
        trouble=_trouble,
        touches=_touches,
        exclusive=True,
        outward=True,
        dry_run=_dry_run,
    ),
}
