"""Fold of the log into numbers: what `shared/metrics/table.py` says the gateway counts. Pure; the clock is the broker's stamps.

Bounded by the metrics' labels. Each event is taken in after the parts that know proposals and personas; what those forgot, or
never knew because the log no longer has it, is not counted. Times are those at which the broker stored, so one clock made all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial

import msgspec

from services.gateway.projections.conflicts import Conflicts
from services.gateway.projections.intents import Entry, Intents
from services.gateway.projections.personas import Persona, Personas
from services.gateway.projections.proposals import Life, Proposals
from shared.contracts.action_kinds import KINDS
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionClaimed,
    ActionExecuted,
    BudgetExhausted,
    BudgetGranted,
    BudgetSettled,
    ConflictResolved,
    ConflictSettled,
    IntentCancelled,
    IntentClosed,
    IntentEvent,
    IntentRouted,
    IntentSubmitted,
    ObservationRecorded,
    PersonaReaped,
    PersonaSpawned,
    ProposalEvent,
    ProposalRejected,
    ProposalVerified,
    SnapshotCompressed,
    ThoughtGenerated,
)
from shared.metrics import table
from shared.metrics.instruments import Counts, Distribution, Key, Spread, Tally
from shared.metrics.slo import COUNTED

TALLIES = (
    table.PROPOSALS, table.VERIFIED, table.AUTHORIZED, table.ASKED, table.REJECTED, table.REASONS, table.OUTCOMES,
    table.UNSAFE, table.SPAWNED, table.ENDED, table.THOUGHTS, table.TOKENS, table.COMPUTE, table.MONEY, table.GRANTS,
    table.GRANTED_TOKENS, table.SETTLED_TOKENS, table.GRANTED_COMPUTE, table.SETTLED_COMPUTE, table.EXHAUSTED,
    table.SNAPSHOTS, table.SNAPSHOT_SOURCE, table.SNAPSHOT_STORED, table.OBSERVATIONS,
    table.INTENTS, table.INTENTS_ENDED,
    table.CONFLICTS,
)  # fmt: skip
SPREADS = (
    table.DECISION_SECONDS,
    table.APPROVAL_SECONDS,
    table.ACTION_SECONDS,
    table.PERSONA_DRAIN_SECONDS,
    table.ROUTING_SECONDS,
    table.INTENT_SECONDS,
    table.RULING_SECONDS,
)
WITHOUT_DANGER = frozenset(
    ("too_many_waiting", "too_many_open", "deadline_passed", "approval_expired", "void_after_rollback", "too_large",
     "no_evidence", "evidence_missing", "too_much_evidence", "persona_not_live", "unknown_kind", "bad_params")
)  # fmt: skip
"""Reasons that say something of the proposal's form or time, and nothing of what it would have done."""


AT_ONCE = ("standing", "too_often")
"""How a conflict is lost that nobody else hears of."""
KEEP_HOURS = 30 * 24
HOUR_S = 3600


class Number(msgspec.Struct, array_like=True):
    """One series, as it is checkpointed."""

    metric: str
    labels: list[str]
    count: float = 0
    spread: Distribution | None = None


class Hour(msgspec.Struct, kw_only=True):
    """What objectives rest on, of the hour `at` (since 1970): counts by metric and labels, and how soon was decided."""

    at: int
    counts: dict[str, float] = {}
    decided: Distribution


class Measures:
    """All numbers since the log began, as far as it is there; of the last `KEEP_HOURS` hours those of objectives by the hour."""

    def __init__(self) -> None:
        self.hours: dict[int, Hour] = {}
        self._hour = Hour(at=0, decided=table.DECISION_SECONDS.empty())
        self.tallies = {tally.name: Counts(tally.known()) for tally in TALLIES}
        self.spreads = {spread.name: spread.empty() for spread in SPREADS}

    def apply(
        self, recorded: Recorded, proposals: Proposals, personas: Personas, intents: Intents, conflicts: Conflicts
    ) -> None:
        """One event, which all of them have taken in."""
        event = recorded.event
        self._hour = self._at(int(recorded.stored_at.timestamp()) // HOUR_S)
        if isinstance(event, ProposalEvent):
            if isinstance(event, ConflictSettled) and event.resolution in AT_ONCE:
                self._count(table.CONFLICTS, event.resolution)
            life = proposals.lives.get((event.swarm, event.persona, event.proposal_id))
            if life is not None and life.events[-1] is recorded:
                self._life(recorded, life)
            return
        if isinstance(event, IntentEvent):
            self._intent(event, recorded.stored_at, intents.by_key.get((event.swarm, event.intent_id)))
            return
        match event:
            case ConflictResolved():
                self._count(table.CONFLICTS, event.resolution)
                entry = conflicts.by_key.get((event.target_id, event.generation))
                if entry is not None and entry.resolved is event:
                    self._observe(table.RULING_SECONDS, entry.raised_at, recorded.stored_at)
            case ObservationRecorded():
                self._count(table.OBSERVATIONS)
            case ThoughtGenerated():
                self._thought(event)
            case PersonaSpawned():
                self._count(table.SPAWNED)
            case PersonaReaped():
                self._ended(event, recorded.stored_at, personas.by_key.get((event.swarm, event.persona)))
            case SnapshotCompressed():
                self._count(table.SNAPSHOTS, "yes" if event.ratio > 1 else "no")
                self._count(table.SNAPSHOT_SOURCE, "", round(event.ratio * event.size_bytes))
                self._count(table.SNAPSHOT_STORED, "", event.size_bytes)
            case BudgetGranted():
                self._count(table.GRANTS)
                self._count(table.GRANTED_TOKENS, "", event.credits.tokens)
                self._count(table.GRANTED_COMPUTE, "", event.credits.compute_ms / 1000)
            case BudgetSettled():
                self._count(table.SETTLED_TOKENS, "", event.credits.tokens)
                self._count(table.SETTLED_COMPUTE, "", event.credits.compute_ms / 1000)
            case BudgetExhausted():
                self._count(table.EXHAUSTED, event.resource)
            case _:
                pass

    def capture(self) -> list[Number]:
        """Every series."""
        counted = [
            Number(name, [*key] if isinstance(key, tuple) else [key], count)
            for name, counts in self.tallies.items()
            for key, count in counts.items()
        ]
        spread = (Number(name, [], spread=Distribution(list(d.counts), d.sum)) for name, d in self.spreads.items())
        return [*counted, *spread]

    def captured_hours(self) -> list[Hour]:
        """Copies of all hours."""
        return [
            Hour(at=h.at, counts=dict(h.counts), decided=Distribution(list(h.decided.counts), h.decided.sum))
            for h in self.hours.values()
        ]

    def restore(self, numbers: Iterable[Number], hours: Iterable[Hour]) -> None:
        self.hours = {hour.at: hour for hour in hours}
        for number in numbers:
            if number.spread is not None:
                self.spreads[number.metric] = number.spread
            else:
                key = number.labels[0] if len(number.labels) == 1 else tuple(number.labels)
                self.tallies[number.metric][key] = number.count

    def _at(self, hour: int) -> Hour:
        """The numbers of that hour; the oldest are forgotten."""
        found = self.hours.get(hour)
        if found is None:
            found = self.hours[hour] = Hour(at=hour, decided=table.DECISION_SECONDS.empty())
            for old in [known for known in self.hours if known <= max(self.hours) - KEEP_HOURS]:
                del self.hours[old]
        return found

    def _count(self, metric: Tally, key: Key = "", count: float = 1) -> None:
        self.tallies[metric.name].add(key, count)
        if metric.name in COUNTED:
            name = by_hour(metric.name, metric.values(key))
            self._hour.counts[name] = self._hour.counts.get(name, 0.0) + count

    def _observe(self, metric: Spread, began: datetime, ended: datetime) -> None:
        value = max(0.0, (ended - began).total_seconds())
        metric.put(self.spreads[metric.name], value)
        if metric is table.DECISION_SECONDS:
            metric.put(self._hour.decided, value)

    def _intent(self, event: IntentEvent, at: datetime, entry: Entry | None) -> None:
        if entry is None or entry.stored_at is None:
            return
        match event:
            case IntentSubmitted() if entry.life.submitted is event:
                self._count(table.INTENTS)
            case IntentRouted() if entry.life.rounds == 1:
                self._observe(table.ROUTING_SECONDS, entry.stored_at, at)
            case IntentClosed() if entry.life.closed is event:
                self._count(table.INTENTS_ENDED, event.outcome)
                self._observe(table.INTENT_SECONDS, entry.stored_at, at)
            case IntentCancelled() if entry.life.cancelled is event:
                self._count(table.INTENTS_ENDED, "cancelled")
            case _:
                pass

    def _thought(self, event: ThoughtGenerated) -> None:
        self._count(table.THOUGHTS, event.status)
        usage = event.usage
        self._count(table.TOKENS, "in", usage.tokens_in)
        self._count(table.TOKENS, "out", usage.tokens_out)
        self._count(table.COMPUTE, "", usage.compute_ms / 1000)
        self._count(table.MONEY, "", usage.cost_microusd / 1e6)

    def _ended(self, event: PersonaReaped, at: datetime, persona: Persona | None) -> None:
        how = "without_snapshot" if event.snapshot_id is None else _HOW.get(event.reason, "asked")
        self._count(table.ENDED, how)
        if persona is not None and persona.drains_since is not None:
            self._observe(table.PERSONA_DRAIN_SECONDS, persona.drains_since, at)

    def _life(self, recorded: Recorded, life: Life) -> None:
        event, at = recorded.event, recorded.stored_at
        if len(life.events) == 1:
            self._count(table.PROPOSALS)
        if life.decided is recorded:
            self._observe(table.DECISION_SECONDS, life.events[0].stored_at, at)
        if life.requested is recorded:
            self._count(table.ASKED)
        elif life.requested is not None and (event is life.authorized or event is life.rejected):
            self._observe(table.APPROVAL_SECONDS, life.requested.stored_at, at)
        match event:
            case ProposalVerified():
                self._count(table.VERIFIED, "passed")
            case ProposalRejected():
                self._rejected(event)
            case ActionClaimed():
                if not stands(life, event.digest, recorded.envelope.time):
                    self._count(table.UNSAFE, "done")
            case ActionExecuted():
                kind = life.created.action.kind
                self._count(table.OUTCOMES, (kind if kind in KINDS else "other", event.outcome))
                if life.claimed is None and event.outcome == "success":
                    self._count(table.UNSAFE, "done")
                since = next((r.stored_at for r in life.events if r.event is life.authorized), None)
                if since is not None:
                    self._observe(table.ACTION_SECONDS, since, at)
            case _ if event is life.authorized:
                self._count(table.AUTHORIZED)
            case _:
                pass

    def _rejected(self, event: ProposalRejected) -> None:
        self._count(table.REJECTED, event.stage)
        self._count(table.REASONS, event.reasons[0])
        if event.stage == "verify":
            self._count(table.VERIFIED, "rejected")
        if not WITHOUT_DANGER.issuperset(event.reasons):
            self._count(table.UNSAFE, "prevented")


def by_hour(metric: str, key: tuple[str, ...]) -> str:
    """What a series is called in an `Hour`."""
    return "|".join((metric, *key))


_HOW = {"idle_ttl": "idle", "orphaned": "orphaned"}


def stands(life: Life, digest: str, at: datetime) -> bool:
    """Whether the life has leave for an action of that digest at that time."""
    leave = life.authorized
    return leave is not None and life.rejected is None and leave.digest == digest and at <= leave.expires_at


def tell(measures: Measures, ready: Callable[[], bool]) -> None:
    """Have the table's metrics say these numbers; none while they are not of the present."""
    for tally in TALLIES:
        tally.source = partial(_counts, measures, tally.name, ready)
    for spread in SPREADS:
        spread.source = partial(_spreads, measures, spread.name, ready)


def _counts(measures: Measures, name: str, ready: Callable[[], bool]) -> Counts | None:
    return measures.tallies[name] if ready() else None


def _spreads(measures: Measures, name: str, ready: Callable[[], bool]) -> dict[Key, Distribution] | None:
    return {"": measures.spreads[name]} if ready() else None
