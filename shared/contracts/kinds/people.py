"""Kinds that go to people: a question, whose answer comes back as an observation."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from shared.contracts.kinds.kind import MESH, ActionKind, Params, Problem
from shared.contracts.kinds.mesh import MAX_OPTIONS, OPTION_CHARS, listed, unfit
from shared.contracts.text import plain

ANYONE = "anyone"
MAX_OPEN_S = 7 * 86_400


class PersonAsk(Params, frozen=True, kw_only=True):
    """A question to whoever is at the inbox; the target is `anyone`, or the person it is for.

    `options` are answers to choose among, a line each; without them the answer is a text. It is open for `open_s` seconds.
    """

    question: Annotated[str, Meta(min_length=1, max_length=1000)]
    options: Annotated[str, Meta(max_length=2000)] = ""
    open_s: Annotated[int, Meta(ge=60, le=MAX_OPEN_S)] = 86_400


def _trouble(target: str, params: PersonAsk) -> Problem | None:
    if plain(target) != target or len(target) > 120:
        return Problem(code="bad_target", detail="who is asked is a name on one line, at most 120 characters")
    return unfit(target, params.question, params.options) or listed(
        params.options, "options", MAX_OPTIONS, OPTION_CHARS, "\n"
    )


def _dry_run(target: str, params: PersonAsk) -> str:
    return f"would ask {target}: {params.question}"


KINDS: dict[str, ActionKind] = {
    "person.ask": ActionKind(
        about="a question to people; the answer comes back as an observation; the target is `anyone` or a person's name",
        hand=MESH,
        says=("question.asked",),
        params=PersonAsk,
        risk="low",
        reversible=False,
        blast_radius="people",
        idempotency="once",
        timeout_ms=10_000,
        per_day=8,
        trouble=_trouble,
        dry_run=_dry_run,
    ),
}
