"""Nothing at all, for measuring the way there."""

from __future__ import annotations

from typing import Annotated

import msgspec

from shared.contracts.kinds.kind import ActionKind, Params


class Noop(Params, frozen=True, kw_only=True):
    """`note` tells one from another."""

    note: Annotated[str, msgspec.Meta(max_length=200)] = ""


def _dry_run(target: str, params: Noop) -> str:
    return "would do nothing"


KINDS: dict[str, ActionKind] = {
    "test.noop": ActionKind(
        about="nothing at all, for measuring the way there",
        hand="nothing",
        params=Noop,
        risk="low",
        reversible=True,
        blast_radius="none",
        idempotency="free",
        timeout_ms=1_000,
        dry_run=_dry_run,
    ),
}
