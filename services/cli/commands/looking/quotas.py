"""What was refused because a quota was reached, as `swarm doctor` and `swarm status` tell it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.cli.terminal.output import safe


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `GET /v1/quotas`, as far as it is told."""

    reason: str
    what: str
    per: str
    limit: float | None
    setting: str | None
    refused: int
    last_at: datetime | None = None
    last_swarm_id: str | None = None
    last_persona_id: str | None = None
    last_detail: str | None = None


def lines(told: Sequence[Told]) -> list[str]:
    """One for each quota something was refused for, the latest first."""
    reached = sorted((t for t in told if t.refused and t.last_at), key=lambda t: str(t.last_at), reverse=True)
    return [_line(one) for one in reached]


def _line(one: Told) -> str:
    whose = "/".join(name for name in (one.last_swarm_id, one.last_persona_id) if name and name != "all")
    limit = f" (limit {one.limit:g} per {one.per}, {one.setting})" if one.setting and one.limit is not None else ""
    last = f"last {one.last_at:%Y-%m-%d %H:%M:%S}Z{f' {whose}' if whose else ''}: {one.last_detail or ''}"
    return safe(f"{one.refused} {one.reason}{limit}, {last}")
