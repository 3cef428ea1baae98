"""The six figures the mesh is judged by, each with what is promised of it: one definition for the gateway and for Prometheus.

Terms are series of the table, summed. `value` works on numbers the gateway has folded, `promql` writes the same for Prometheus; a
test holds the two together. What all replicas of the gateway tell alike is taken once (`max`).

A burn of 1 spends exactly what the objective allows (SRE workbook, chapter 5): of a share at least, what is wrong by what may be
wrong; of a value at most, the value by its limit.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shared.metrics import table
from shared.metrics.instruments import Instrument, Key, Level, Spread

LEAST_ALLOWED = 1e-6
"""What may be wrong of an objective of 1, so that the first of a million that is counts."""
Read = Callable[["Term"], float]


class Term(msgspec.Struct, frozen=True):
    """Series of one metric, added: counted in a window, or as they are now where it is a gauge. `at_most`: a histogram's values up
    to that bound."""

    metric: str
    keys: tuple[tuple[str, ...], ...]
    at_most: float | None = None

    def promql(self, window: str) -> str:
        instrument = table.BY_NAME[self.metric]
        name, matchers = self.metric, []
        for place, (label, known) in enumerate(instrument.labels.items()):
            values = dict.fromkeys(key[place] for key in self.keys)
            if set(values) != set(known):
                matchers.append(f'{label}{"=" if len(values) == 1 else "=~"}"{"|".join(values)}"')
        if isinstance(instrument, Spread):
            name += "_count" if self.at_most is None else "_bucket"
        if self.at_most is not None:
            matchers.append(f'le="{float(self.at_most)}"')
        series = f"{name}{{{','.join(matchers)}}}" if matchers else name
        counted = series if isinstance(instrument, Level) else f"increase({series}[{window}])"
        return f"max(sum by (instance) ({counted}))"


class Sum(msgspec.Struct, frozen=True):
    """Terms to be added; without any it is 1."""

    terms: tuple[Term, ...] = ()

    def value(self, read: Read) -> float:
        return sum(map(read, self.terms)) if self.terms else 1.0

    def promql(self, window: str) -> str:
        return "(" + " + ".join(term.promql(window) for term in self.terms) + ")" if self.terms else "1"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """What people want to know beside it: a sum by another, or a quantile of a histogram."""

    name: str
    over: Sum = Sum()
    under: Sum = Sum()
    quantile: float | None = None


class Slo(msgspec.Struct, frozen=True, kw_only=True):
    """`objective` is the least share of `total` that is good, or with `at_most` the largest `over` by `total`.

    What is good is said, or what is `over`: bad of a share, spent of a limit. `runbook`: what to do when it is missed.
    """

    id: str
    title: str
    meaning: str
    objective: float
    at_most: bool = False
    good: Sum | None = None
    over: Sum = Sum()
    total: Sum
    figures: tuple[Figure, ...]
    runbook: str

    @property
    def allowed(self) -> float:
        """The value of a burn of 1."""
        return self.objective if self.at_most else max(1 - self.objective, LEAST_ALLOWED)

    def value(self, read: Read) -> float:
        """The share, or the value that has a limit; of nothing the share is 1."""
        return self._over(read) if self.at_most else 1 - self._over(read)

    def burn(self, read: Read) -> float:
        return self._over(read) / self.allowed

    def _over(self, read: Read) -> float:
        total = self.total.value(read)
        over = self.over.value(read) if self.good is None else max(0.0, total - self.good.value(read))
        return over / max(1.0, total)

    def promql_value(self, window: str) -> str:
        return self._promql_over(window) if self.at_most else f"1 - {self._promql_over(window)}"

    def promql_burn(self, window: str) -> str:
        return f"{self._promql_over(window)} / {self.allowed:.9g}"

    def _promql_over(self, window: str) -> str:
        total = self.total.promql(window)
        over = self.over.promql(window) if self.good is None else f"clamp_min({total} - {self.good.promql(window)}, 0)"
        return f"{over} / clamp_min({total}, 1)"


def of(metric: Instrument, *keys: Key, at_most: float | None = None) -> Sum:
    """The sum of these series of a metric; without keys, of all that are known."""
    return Sum((Term(metric.name, tuple(map(metric.values, keys or tuple(metric.known()))), at_most),))


DECIDED_WITHIN_S = 2.0
USEFUL = of(table.OUTCOMES, *((kind, "success") for kind in table.ACTION_KINDS))

SLOS = (
    Slo(
        id="decision",
        title="Proposals are decided soon",
        meaning=f"of the proposals, those rejected, authorised or put before people within {DECIDED_WITHIN_S:g} s",
        objective=0.95,
        good=of(table.DECISION_SECONDS, at_most=DECIDED_WITHIN_S),
        total=of(table.PROPOSALS),
        figures=(
            Figure(name="p95_s", over=of(table.DECISION_SECONDS), quantile=0.95),
            Figure(name="p50_s", over=of(table.DECISION_SECONDS), quantile=0.5),
        ),
        runbook="See swarm_consumer_lag and swarm_hop_seconds of verifier and policy_gate: whose is high is slow or away. "
        "swarm_not_ready says why; more replicas of it share the work.",
    ),
    Slo(
        id="survival",
        title="Personas live until somebody means them to end",
        meaning="of the personas that live or ended, those not ended as orphans or without a last snapshot",
        objective=0.99,
        over=of(table.ENDED, "orphaned", "without_snapshot"),
        total=Sum((*of(table.ENDED).terms, *of(table.LIVES, "live").terms)),
        figures=(Figure(name="lost", over=of(table.ENDED, "orphaned", "without_snapshot")),),
        runbook="Without a snapshot: cold storage was away for longer than SWARM_GOVERNOR_DRAIN_PATIENCE_S (swarm_s3_failures_total, "
        "readiness of memory_compactor). Orphaned: a parent was reaped without its family; reap with cascade.",
    ),
    Slo(
        id="compaction",
        title="Snapshots are smaller than what they hold",
        meaning="bytes of snapshots in cold storage for each byte of the text they were made from",
        objective=1.0,
        at_most=True,
        over=of(table.SNAPSHOT_STORED),
        total=of(table.SNAPSHOT_SOURCE),
        figures=(
            Figure(name="source_by_stored", over=of(table.SNAPSHOT_SOURCE), under=of(table.SNAPSHOT_STORED)),
            Figure(name="snapshots", over=of(table.SNAPSHOTS)),
        ),
        runbook="Snapshots of a few thoughts do not compress: raise SWARM_SNAPSHOT_EVERY_THOUGHTS. If large ones do not, look at "
        "compaction_refused in the log of memory_compactor.",
    ),
    Slo(
        id="verification",
        title="What is proposed can be verified",
        meaning="of the proposals the verifier judged, those that passed",
        objective=0.8,
        over=of(table.VERIFIED, "rejected"),
        total=of(table.VERIFIED),
        figures=(Figure(name="passed", over=of(table.VERIFIED, "passed")), Figure(name="rejected", over=of(table.VERIFIED, "rejected"))),
        runbook="swarm_rejection_reasons_total says why. evidence_missing or digest_mismatch of one runner only: stop it and look at "
        "it. too_many_open: decide what waits (swarm proposals), or fewer personas propose.",
    ),
    Slo(
        id="cost",
        title="What is done is worth what it costs",
        meaning="tokens spent on thoughts for each action that succeeded, with at least one",
        objective=200_000,
        at_most=True,
        over=of(table.TOKENS),
        total=USEFUL,
        figures=(
            Figure(name="usd_per_action", over=of(table.MONEY), under=USEFUL),
            Figure(name="compute_s_per_action", over=of(table.COMPUTE), under=USEFUL),
            Figure(name="actions", over=USEFUL),
        ),
        runbook="Personas think and nothing comes of it: lower token_budget_per_minute, raise loop_interval_ms, or reap who makes no "
        "progress (swarm persona list).",
    ),
    Slo(
        id="unsafe",
        title="Nothing is done without leave",
        meaning="of what was refused for its danger or done without a standing authorisation, what was refused",
        objective=1.0,
        over=of(table.UNSAFE, "done"),
        total=of(table.UNSAFE),
        figures=(Figure(name="prevented", over=of(table.UNSAFE, "prevented")), Figure(name="done", over=of(table.UNSAFE, "done"))),
        runbook="swarm halt first. An action was claimed that no authorisation in the log stands for: the actuator's key or the broker's "
        "permissions are not as they should be. swarm proposals shows its life; keep the log.",
    ),
)  # fmt: skip


def quantile(bounds: tuple[float, ...], counts: list[int], share: float) -> float | None:
    """As `histogram_quantile` reckons it: by the bucket it falls into, evenly; above the last bound it is that one."""
    total = sum(counts)
    if not total:
        return None
    rank, below = share * total, 0
    for index, count in enumerate(counts[:-1]):
        if below + count >= rank:
            low = bounds[index - 1] if index else 0.0
            return low + (bounds[index] - low) * (rank - below) / count if count else low
        below += count
    return bounds[-1]


COUNTED = frozenset(
    term.metric
    for slo in SLOS
    for part in (
        slo.good or Sum(),
        slo.over,
        slo.total,
        *(s for figure in slo.figures for s in (figure.over, figure.under)),
    )
    for term in part.terms
)
"""The metrics that objectives rest on."""
