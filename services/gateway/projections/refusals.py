"""What was refused because a quota was reached: how often, and what was refused last. Pure; one line for each row of the table."""

from __future__ import annotations

from datetime import datetime

import msgspec

from services.gateway.wire.ids import as_given
from services.gateway.wire.mesh import QuotaView
from shared import quotas
from shared.contracts.envelope import Recorded
from shared.contracts.events import ActionExecuted, AnyEvent, BudgetRefused, ProposalRejected, SpawnRefused
from shared.metrics.table import REFUSALS
from shared.settings import variable

MAX_DETAIL = 400


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """`persona` is None where a whole swarm or key was refused."""

    count: int
    at: datetime
    swarm: str
    persona: str | None
    detail: str


class Refusals:
    """By reason. One is folded from the log; another counts what this process turned away, which is in no log."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}

    def apply(self, recorded: Recorded) -> None:
        event = recorded.event
        if (reason := quotas.refused(event)) is not None:
            self._add(reason, event.swarm, event.persona, _detail(event), recorded.envelope.time)

    def note(self, reason: str, swarm: str, persona: str | None, detail: str, at: datetime) -> None:
        """Turned away here: also a metric."""
        REFUSALS.by[reason] += 1
        self._add(reason, swarm, persona, detail, at)

    def _add(self, reason: str, swarm: str, persona: str | None, detail: str, at: datetime) -> None:
        before = self.lines.get(reason)
        count = 1 if before is None else before.count + 1
        self.lines[reason] = Line(count=count, at=at, swarm=swarm, persona=persona, detail=detail[:MAX_DETAIL])


def view(limits: dict[str, float], *all_of_them: Refusals) -> tuple[QuotaView, ...]:
    """Every quota with its limit and what was refused for it; `limits` by setting."""
    return tuple(_row(quota, limits, all_of_them) for quota in quotas.QUOTAS)


def _row(quota: quotas.Quota, limits: dict[str, float], all_of_them: tuple[Refusals, ...]) -> QuotaView:
    lines = [line for refusals in all_of_them if (line := refusals.lines.get(quota.reason)) is not None]
    last = max(lines, key=lambda line: line.at, default=None)
    return QuotaView(
        reason=quota.reason,
        what=quota.what,
        per=quota.per,
        by=quota.by,
        setting=None if quota.setting is None else variable(quota.setting),
        limit=limits.get(quota.setting or ""),
        refused=sum(line.count for line in lines),
        last_at=None if last is None else last.at,
        last_swarm_id=None if last is None else as_given(last.swarm),
        last_persona_id=None if last is None or last.persona is None else as_given(last.persona),
        last_detail=None if last is None else last.detail,
    )


def _detail(event: AnyEvent) -> str:
    match event:
        case SpawnRefused(detail=detail) | ProposalRejected(detail=detail) | ActionExecuted(summary=detail):
            return detail
        case BudgetRefused(credits=credits, grant_id=grant_id):
            spent = f"{credits.tokens} tokens and {credits.compute_ms} ms were spent"
            return f"{spent} {'without a grant' if grant_id is None else f'with {grant_id}'}, and charged"
        case _:
            return ""
