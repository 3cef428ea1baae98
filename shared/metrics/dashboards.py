"""Grafana dashboards, made from rows: `deploy/observability/dashboards`. A test holds each expression to the table of metrics.

What the gateway folds from the log is told alike by each of its replicas, so it is taken once (`max`); all else is summed.
"""

from __future__ import annotations

import json

import msgspec

from shared.metrics import table
from shared.metrics.instruments import Instrument
from shared.metrics.slo import SLOS

WIDTH, HEIGHT, COLUMNS = 8, 7, 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Panel(msgspec.Struct, frozen=True):
    """`exprs`: expression and legend. `unit` is Grafana's."""

    title: str
    exprs: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"


class Dashboard(msgspec.Struct, frozen=True, kw_only=True):
    uid: str
    title: str
    panels: tuple[Panel, ...]


def once(metric: Instrument, by: str = "") -> str:
    """A rate of what the gateway folds; `by` all its labels."""
    rate = f"rate({metric.name}[$__rate_interval])"
    return f"max by ({by}) ({rate})" if by else f"max(sum by (instance) ({rate}))"


def each(metric: Instrument, by: str) -> str:
    """A rate of what each process tells of itself."""
    return f"sum by ({by}) (rate({metric.name}[$__rate_interval]))"


def p95(metric: Instrument, by: str = "") -> str:
    """The 95th percentile of a histogram, of every process together."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile(0.95, sum by ({labels}) (rate({metric.name}_bucket[$__rate_interval])))"


DASHBOARDS = (
    Dashboard(
        uid="swarm-overview",
        title="Swarm: what comes of it",
        panels=(
            *(
                Panel(
                    slo.title,
                    ((f'swarm:slo_value:6h{{slo="{slo.id}"}}', "six hours"),),
                    "short" if slo.at_most else "percentunit",
                    "stat",
                )
                for slo in SLOS
            ),
            Panel("Burn of objectives, one hour", (("max by (slo) (swarm:slo_burn:1h)", "{{slo}}"),)),
            Panel("Proposals by verdict", (
                (once(table.PROPOSALS), "created"), (once(table.AUTHORIZED), "authorised"), (once(table.ASKED), "people asked"),
                (once(table.REJECTED, "stage"), "rejected: {{stage}}"),
            ), "cps"),
            Panel("Why proposals are rejected", ((once(table.REASONS, "reason"), "{{reason}}"),), "cps"),
            Panel("Time to the first verdict", ((p95(table.DECISION_SECONDS), "p95"),), "s"),
            Panel("People's time", ((p95(table.APPROVAL_SECONDS), "p95"),), "s"),
            Panel("Authorisation to outcome", ((p95(table.ACTION_SECONDS), "p95"),), "s"),
            Panel("Actions by outcome", ((once(table.OUTCOMES, "kind, outcome"), "{{kind}} {{outcome}}"),), "cps"),
            Panel("Unsafe actions", ((once(table.UNSAFE, "fate"), "{{fate}}"),), "cps"),
            Panel("Personas", ((f"max by (stage) ({table.LIVES.name})", "{{stage}}"),)),
            Panel("Beginnings and ends", ((once(table.SPAWNED), "spawned"), (once(table.ENDED, "how"), "ended: {{how}}")), "cps"),
            Panel("Thoughts", ((once(table.THOUGHTS, "status"), "{{status}}"),), "cps"),
            Panel("Tokens", (
                (once(table.TOKENS, "direction"), "{{direction}}"), (once(table.GRANTED_TOKENS), "granted"),
                (once(table.SETTLED_TOKENS), "settled"),
            ), "cps"),
            Panel("Money, an hour", ((f"3600 * {once(table.MONEY)}", "spent"),), "currencyUSD"),
            Panel("Compute", (
                (once(table.COMPUTE), "spent"), (once(table.GRANTED_COMPUTE), "granted"), (once(table.SETTLED_COMPUTE), "settled"),
            ), "s"),
            Panel("Grants, and requests that found too little", (
                (once(table.GRANTS), "grants"), (once(table.EXHAUSTED, "resource"), "exhausted: {{resource}}"),
            ), "cps"),
            Panel("Intents", (
                (once(table.INTENTS), "submitted"), (once(table.INTENTS_ENDED, "outcome"), "{{outcome}}"),
            ), "cps"),
            Panel("Intents that are open", ((f"max({table.INTENTS_OPEN.name})", "open"),)),
            Panel("Submission to the first route, and to the close", (
                (p95(table.ROUTING_SECONDS), "routed, p95"), (p95(table.INTENT_SECONDS), "closed, p95"),
            ), "s"),
            Panel("Conflicts", ((once(table.CONFLICTS, "resolution"), "{{resolution}}"),), "cps"),
            Panel("Conflicts that are open, targets that are held", (
                (f"max({table.CONFLICTS_OPEN.name})", "open"), (f"max({table.HOLDS.name})", "held"),
            )),
            Panel("From raising a conflict to its ruling", ((p95(table.RULING_SECONDS), "p95"),), "s"),
            Panel("Observations", ((once(table.OBSERVATIONS), "recorded"),), "cps"),
            Panel("Snapshots", (
                (once(table.SNAPSHOT_SOURCE), "source"), (once(table.SNAPSHOT_STORED), "stored"),
            ), "Bps"),
            Panel("Snapshots taken", ((once(table.SNAPSHOTS, "smaller"), "smaller: {{smaller}}"),), "cps"),
            Panel("From draining to reaped", ((p95(table.PERSONA_DRAIN_SECONDS), "p95"),), "s"),
        ),
    ),
    Dashboard(
        uid="swarm-processes",
        title="Swarm: processes",
        panels=(
            Panel("Not ready",
                ((f"max by (service, instance, check) ({table.NOT_READY.name}) == 1", "{{service}} {{instance}} {{check}}"),),
                kind="table"),
            Panel("Ready", ((f"min by (service) ({table.READY.name})", "{{service}}"),)),
            Panel("Warned of", ((f"max by (service, warning) ({table.WARNED.name}) == 1", "{{service}} {{warning}}"),)),
            Panel("Stored to stored, per hop", ((p95(table.HOP_SECONDS, "service"), "{{service}}"),), "s"),
            Panel("Handling one message", ((p95(table.HANDLE_SECONDS, "service"), "{{service}}"),), "s"),
            Panel("Deliveries by verdict", ((each(table.DELIVERIES, "service, verdict"), "{{service}} {{verdict}}"),), "cps"),
            Panel("Behind", ((f"max by (consumer) ({table.LAG.name})", "{{consumer}}"),)),
            Panel("Not acknowledged", ((f"max by (consumer) ({table.UNACKED.name})", "{{consumer}}"),)),
            Panel("Held here", (
                (f"sum by (service) ({table.IN_FLIGHT.name})", "{{service}} in flight"),
                (f"sum by (service) ({table.WAITING.name})", "{{service}} waiting"),
            )),
            Panel("Commits", ((each(table.COMMITS, "service, outcome"), "{{service}} {{outcome}}"),), "cps"),
            Panel("Dead letters, ten minutes",
                ((f"sum by (service, reason) (increase({table.DEAD_LETTERS.name}[10m]))", "{{service}} {{reason}}"),)),
            Panel("Refused by quota", ((each(table.REFUSALS, "quota"), "{{quota}}"),), "cps"),
            Panel("Store", ((f"max({table.STORE_USED.name})", "used"), (f"max({table.HELD_BACK.name})", "held back")), "percentunit"),
            Panel("Position of the log", ((f"max({table.POSITION.name})", "folded"),)),
            Panel("Lateness of event loops", ((f"max by (service) ({table.LOOP_LAG.name})", "{{service}}"),), "s"),
            Panel("Clocks against the broker's", ((f"max by (service) ({table.CLOCK_OFF.name})", "{{service}}"),), "s"),
            Panel("Memory of processes", (('sum by (service) (process_resident_memory_bytes{job="swarm"})', "{{service}}"),), "bytes"),
            Panel("Processor",
                (('sum by (service) (rate(process_cpu_seconds_total{job="swarm"}[$__rate_interval]))', "{{service}}"),), "percentunit"),
            Panel("What runs",
                ((f"max by (service, instance, version, python) ({table.BUILD.name})", "{{service}} {{version}}"),), kind="table"),
        ),
    ),
    Dashboard(
        uid="swarm-outside",
        title="Swarm: people, models, memory",
        panels=(
            Panel("Requests by status", ((each(table.HTTP_REQUESTS, "status"), "{{status}}"),), "reqps"),
            Panel("Slowest routes", ((f"topk(5, {p95(table.HTTP_SECONDS, 'route')})", "{{route}}"),), "s"),
            Panel("Event streams", ((f"sum({table.STREAM_CLIENTS.name})", "open"),)),
            Panel("Spans for a collector", ((each(table.SPANS, "fate"), "{{fate}}"),), "cps"),
            Panel("Calls of models",
                ((f"sum by (outcome) (rate({table.MODEL_SECONDS.name}_count[$__rate_interval]))", "{{outcome}}"),), "cps"),
            Panel("Proposals of models left out", ((each(table.PROPOSALS_LEFT_OUT, "why"), "{{why}}"),), "cps"),
            Panel("How long models take", ((p95(table.MODEL_SECONDS, "outcome"), "{{outcome}}"),), "s"),
            Panel("Checks that models could not have", ((each(table.ASKS_REFUSED, "reason"), "{{reason}}"),), "cps"),
            Panel("Personas by runner", (
                (f"sum by (instance) ({table.PERSONAS.name})", "{{instance}}"), (f"sum({table.THOUGHTS_DUE.name})", "due"),
            )),
            Panel("Recalls", ((p95(table.RECALL_SECONDS), "p95"),), "s"),
            Panel("Memory behind the log", (
                (f"max({table.MEMORY_BEHIND.name})", "events"), (f"max({table.MEMORY_BEHIND_S.name})", "seconds"),
            )),
            Panel("Writing a snapshot", ((p95(table.SNAPSHOT_SECONDS), "p95"),), "s"),
            Panel("Cold storage", ((p95(table.S3_SECONDS, "call"), "{{call}}"),), "s"),
            Panel("Reads of memory denied", ((each(table.MEMORY_DENIED, "namespace"), "{{namespace}}"),), "cps"),
            Panel("Cold storage failing", ((each(table.S3_FAILED, "call"), "{{call}}"),), "cps"),
            Panel("Proposals verified", ((once(table.VERIFIED, "verdict"), "{{verdict}}"),), "cps"),
            Panel("Policies' answers", ((each(table.POLICY_MEMO, "outcome"), "{{outcome}}"),), "cps"),
            Panel("Policies in the shadow", ((each(table.POLICY_SHADOW, "difference"), "{{difference}}"),), "cps"),
        ),
    ),
)  # fmt: skip


def document(dashboard: Dashboard) -> str:
    """As Grafana imports it."""
    panels = [_panel(number, panel) for number, panel in enumerate(dashboard.panels)]
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    return _json(
        {
            "uid": dashboard.uid,
            "title": dashboard.title,
            "tags": ["swarm"],
            "schemaVersion": 39,
            "editable": True,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "templating": {"list": [source]},
            "panels": panels,
        }
    )


def _panel(number: int, panel: Panel) -> dict[str, object]:
    across = COLUMNS // WIDTH
    options = {"table": {}, "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}}}
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": {"x": number % across * WIDTH, "y": number // across * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": options.get(panel.kind, {"legend": {"displayMode": "list", "placement": "bottom"}}),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": expr,
                "legendFormat": legend,
                **({"format": "table", "instant": True} if panel.kind == "table" else {}),
            }
            for index, (expr, legend) in enumerate(panel.exprs)
        ],
    }


def files() -> dict[str, str]:
    """All of it by path in `deploy/observability/`."""
    return {f"dashboards/{dashboard.uid}.json": document(dashboard) for dashboard in DASHBOARDS}


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
