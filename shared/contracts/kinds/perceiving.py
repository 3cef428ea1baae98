"""Kinds that change what the persona itself perceives."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from shared.contracts.ids import is_token
from shared.contracts.kinds.kind import MESH, ActionKind, Params, Problem
from shared.contracts.kinds.mesh import unfit
from shared.contracts.text import plain

MAX_WATCHES = 8
"""Rules of one persona at a time."""


class WatchAdd(Params, frozen=True, kw_only=True):
    """A rule on what the persona perceives; the target is the rule's name, and a rule of a known name takes its place.

    `pattern` is a line with `<*>` for each word that may be anything. With `silence_s` it is told when no such line came for so long,
    else when there were `at_least` of them within `within_s`. It lasts `for_s`; with 0 the rule of that name ends.
    """

    pattern: Annotated[str, Meta(min_length=1, max_length=1000)]
    source: Annotated[str, Meta(max_length=200)] = ""
    at_least: Annotated[int, Meta(ge=1, le=100_000)] = 1
    within_s: Annotated[int, Meta(ge=1, le=86_400)] = 60
    silence_s: Annotated[int, Meta(ge=0, le=7 * 86_400)] = 0
    for_s: Annotated[int, Meta(ge=0, le=30 * 86_400)] = 7 * 86_400


def _trouble(target: str, params: WatchAdd) -> Problem | None:
    if not is_token(target):
        return Problem(code="bad_target", detail=f"{target[:60]!r} is no name of a rule: a-z, 0-9 and -, at most 48")
    if plain(params.pattern) != params.pattern or not params.pattern.replace("<*>", "").strip():
        return Problem(code="bad_params", detail="pattern is one line, and not of <*> alone")
    return unfit(target, params.source)


def _dry_run(target: str, params: WatchAdd) -> str:
    if not params.for_s:
        return f"would end the rule {target}"
    told = f"{params.at_least} within {params.within_s} s" if not params.silence_s else f"none for {params.silence_s} s"
    return f"would watch for {told} of: {params.pattern}"


KINDS: dict[str, ActionKind] = {
    "watch.add": ActionKind(
        about="a rule on one's own perception: so many lines of a pattern, or none for a while; the target is the rule's name",
        hand=MESH,
        says=("watch.added",),
        params=WatchAdd,
        risk="low",
        reversible=True,
        blast_radius="none",
        idempotency="once",
        timeout_ms=10_000,
        trouble=_trouble,
        dry_run=_dry_run,
    ),
}
