"""Prometheus' rules, made from the objectives and one table of alerts: `deploy/observability/rules.yaml`.

An objective burns fast or slowly; each alert looks at a long window and at a short one, so that it comes soon and goes soon (SRE
workbook, chapter 5). Where an objective allows so much that no burn is that high, there is no such alert.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec

from shared.metrics import table
from shared.metrics.slo import SLOS, Slo

WINDOWS = ("5m", "30m", "1h", "6h", "3d")
BURNS = (
    ("Fast", "1h", "5m", 14.4, "0m", "page"),
    ("Slow", "6h", "30m", 6.0, "0m", "page"),
    ("Drift", "3d", "6h", 1.0, "1h", "ticket"),
)
"""Name, long and short window, least burn, for how long, severity:
2 % of a month's allowance in an hour, 5 % in six, 10 % in three days."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """`for_` is how long it must be so."""

    name: str
    expr: str
    for_: str
    severity: str
    summary: str
    runbook: str


ALERTS = (
    Alert(
        name="SwarmDeadLetters", expr=f"increase({table.DEAD_LETTERS.name}[10m]) > 0", for_="0m", severity="ticket",
        summary="messages were buried for {{ $labels.reason }}",
        runbook="swarm doctor counts them by class and swarm; nats stream view DEAD shows each whole, with its reason.",
    ),
    Alert(
        name="SwarmNotReady", expr=f"max by (job, instance, check) ({table.NOT_READY.name}) == 1", for_="2m", severity="page",
        summary="{{ $labels.job }} {{ $labels.instance }} is not ready: {{ $labels.check }}",
        runbook="/health/ready of that process says why, in words; docs/operations.md, When it breaks.",
    ),
    Alert(
        name="SwarmProcessGone", expr='up{job=~"swarm.*"} == 0', for_="2m", severity="page",
        summary="{{ $labels.instance }} does not answer",
        runbook="Its log says why it ended; swarm doctor looks at all of them.",
    ),
    Alert(
        name="SwarmGatewayAbsent", expr=f"absent({table.PROPOSALS.name})", for_="5m", severity="page",
        summary="no gateway tells what is in the log, so no objective is known",
        runbook="A gateway tells it once it has read the log: swarm_log_position must rise. Else look at its readiness.",
    ),
    Alert(
        name="SwarmHeldBack", expr=f"max({table.HELD_BACK.name}) == 1", for_="1m", severity="page",
        summary="the store is so full that nothing new is taken in",
        runbook="Readiness says whether it is the store or its disk; raise SWARM_STORE_BYTES or free the disk.",
    ),
    Alert(
        name="SwarmStoreFilling", expr=f"predict_linear({table.STORE_USED.name}[6h], 86400) > 0.85", for_="1h", severity="ticket",
        summary="the store will be full within a day",
        runbook="Raise SWARM_STORE_BYTES, or have less be said: fewer observations, fewer personas, a longer loop interval.",
    ),
    Alert(
        name="SwarmClockOff", expr=f"abs({table.CLOCK_OFF.name}) > 1", for_="1m", severity="ticket",
        summary="the clock of {{ $labels.instance }} differs from the broker's",
        runbook="Past SWARM_CLOCK_TOLERANCE_S it takes no work: set up time synchronisation on both machines.",
    ),
    Alert(
        name="SwarmConsumerBehind",
        expr=f"min by (consumer) (min_over_time({table.LAG.name}[10m])) > 1000", for_="5m", severity="ticket",
        summary="{{ $labels.consumer }} has been behind for ten minutes",
        runbook="More replicas where its row allows them, or more of a core; swarm_handle_seconds says what one message takes.",
    ),
    Alert(
        name="SwarmMemoryBehind", expr=f"max({table.MEMORY_BEHIND_S.name}) > 60", for_="5m", severity="ticket",
        summary="memory has not taken in what is a minute old: recalls lag, snapshots wait",
        runbook="docs/operations.md, warnings.memory_behind: think less often, or give memory_compactor more of a core.",
    ),
    Alert(
        name="SwarmBugs", expr=f'increase({table.DELIVERIES.name}{{verdict="failed"}}[10m]) > 0', for_="0m", severity="ticket",
        summary="{{ $labels.instance }} failed at a message",
        runbook="The log line handler_failed has the trace; after ten times it is in the dead letters.",
    ),
    Alert(
        name="SwarmUnknownOutcomes", expr=f'sum by (kind) (increase({table.OUTCOMES.name}{{outcome="unknown"}}[1h])) > 0',
        for_="0m", severity="page",
        summary="nobody can tell whether an action ({{ $labels.kind }}) happened",
        runbook="A person looks at the target; swarm proposals shows the claim. It is never retried.",
    ),
    Alert(
        name="SwarmModelFailing",
        expr=f'sum(rate({table.MODEL_SECONDS.name}_count{{outcome!="ok"}}[10m])) / '
        f"clamp_min(sum(rate({table.MODEL_SECONDS.name}_count[10m])), 0.001) > 0.5",
        for_="10m", severity="ticket",
        summary="more than half of the calls of models fail",
        runbook="Thoughts say the provider's own words (status model_error); check its address, key and limits.",
    ),
    Alert(
        name="SwarmColdStorageFailing", expr=f"increase({table.S3_FAILED.name}[10m]) > 0", for_="10m", severity="ticket",
        summary="cold storage fails at {{ $labels.call }}",
        runbook="Snapshots wait and nothing is lost; readiness of memory_compactor (cold) says the store's own words.",
    ),
)  # fmt: skip


def document() -> str:
    """As YAML, every scalar as JSON writes it."""
    lines = [
        "# Made by scripts/gen from shared/metrics/slo.py and rules.py: change these, not this.",
        "groups:",
        "  - name: swarm-slo",
        "    rules:",
    ]
    for slo in SLOS:
        for window in WINDOWS:
            lines += _record(f"swarm:slo_burn:{window}", slo, slo.promql_burn(window))
        lines += _record("swarm:slo_value:6h", slo, slo.promql_value("6h"))
    lines += ["  - name: swarm-slo-alerts", "    rules:"]
    for alert in slo_alerts():
        lines += _alert(alert)
    lines += ["  - name: swarm-alerts", "    rules:"]
    for alert in ALERTS:
        lines += _alert(alert)
    return "\n".join(lines) + "\n"


def slo_alerts() -> Iterator[Alert]:
    """Of each objective those that can be."""
    for slo in SLOS:
        for speed, long, short, burn, for_, severity in BURNS:
            if not slo.at_most and burn * slo.allowed >= 1:
                continue
            if slo.at_most and severity == "page":
                continue  # a price is no emergency
            yield Alert(
                name=f"SwarmSlo{slo.id.title()}{speed}",
                expr=" and ".join(f'swarm:slo_burn:{window}{{slo="{slo.id}"}} > {burn:g}' for window in (long, short)),
                for_=for_,
                severity=severity,
                summary=f"{slo.title}: missed, burn {{{{ $value | humanize }}}} over {long}",
                runbook=slo.runbook,
            )


def _record(name: str, slo: Slo, expr: str) -> list[str]:
    return [f"      - record: {name}", f"        expr: {_text(expr)}", "        labels:", f"          slo: {slo.id}"]


def _alert(alert: Alert) -> list[str]:
    return [
        f"      - alert: {alert.name}",
        f"        expr: {_text(alert.expr)}",
        f"        for: {alert.for_}",
        "        labels:",
        f"          severity: {alert.severity}",
        "        annotations:",
        f"          summary: {_text(alert.summary)}",
        f"          runbook: {_text(alert.runbook)}",
    ]


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
