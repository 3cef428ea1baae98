"""Messages to another NATS account, on subjects that the operator named."""

from __future__ import annotations

import re

import msgspec

from shared.contracts.events.common import Risk
from shared.contracts.kinds.kind import ActionKind, Named, Problem, Whose
from shared.contracts.kinds.tools import arguments_trouble
from shared.contracts.targets import Touched, a_subject

_TARGET = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")


class NatsPublish(Named, frozen=True, kw_only=True):
    """The arguments by name, as the operator's row of the subject has them."""


def _trouble(target: str, params: NatsPublish) -> Problem | None:
    if not _TARGET.fullmatch(target):
        return Problem(code="bad_target", detail="the target is the name of a subject: up to 48 of a-z, 0-9 and -")
    return arguments_trouble(params.arguments)


def _grade(target: str, params: NatsPublish, whose: Whose) -> Risk:
    return "high" if whose.row is None else whose.row.risk


def _touches(target: str, params: NatsPublish, whose: Whose) -> Touched | None:
    if whose.row is not None and not whose.row.exclusive:
        return None
    return a_subject(target, msgspec.json.encode(params.arguments, order="sorted").decode())


def _dry_run(target: str, params: NatsPublish) -> str:
    given = ", ".join(f"{name}={value}" for name, value in sorted(params.arguments.items()))
    return f"would publish on {target} {given or 'nothing'}"


KINDS: dict[str, ActionKind] = {
    "nats.publish": ActionKind(
        about="a message to another NATS account, on a subject that the operator named; the target is its name",
        hand="bridge",
        params=NatsPublish,
        rows=True,
        risk="low",
        grade=_grade,
        reversible=False,
        blast_radius="outside",
        idempotency="fenced",
        timeout_ms=35_000,
        trouble=_trouble,
        touches=_touches,
        exclusive=True,
        outward=True,
        dry_run=_dry_run,
    ),
}
