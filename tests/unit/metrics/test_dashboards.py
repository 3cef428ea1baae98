"""Dashboards, rules and the scrape configuration speak of metrics there are, with the labels these have, and of all of them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.metrics import rules, table
from shared.metrics.dashboards import DASHBOARDS, document
from shared.metrics.instruments import Spread
from shared.metrics.slo import SLOS

FOLDER = Path(__file__).resolve().parents[3] / "deploy" / "observability"
SCRAPING = FOLDER.parent / "compose" / "prometheus.yaml"
RECORDED = {f"swarm:slo_burn:{window}" for window in rules.WINDOWS} | {"swarm:slo_value:6h"}
OURS = {"job", "instance", "service"}
"""Labels that scraping adds."""
STANDARD = {"up": set(), "process_resident_memory_bytes": set(), "process_cpu_seconds_total": set()}


def dashboard_exprs() -> Iterator[str]:
    for path in sorted((FOLDER / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            yield from (target["expr"] for target in panel["targets"])


def rule_exprs() -> Iterator[str]:
    for line in (FOLDER / "rules.yaml").read_text().splitlines():
        if line.strip().startswith("expr: "):
            yield json.loads(line.partition("expr: ")[2])


def labels_of(name: str) -> set[str]:
    """The labels a series of that name may have. Raises `KeyError` for one there is not."""
    if name in RECORDED:
        return {"slo"}
    if name in STANDARD:
        return set()
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    if base != name and isinstance(table.BY_NAME.get(base), Spread):
        return set(table.BY_NAME[base].labels) | ({"le"} if name.endswith("_bucket") else set())
    return set(table.BY_NAME[name].labels)


def faults(expr: str) -> Iterator[str]:
    """What it asks for that nobody tells."""
    plain = re.sub(r'"[^"]*"', '""', expr)
    names = re.findall(r"\b(?:swarm[:_][a-z0-9_:]+|up|process_[a-z_]+)\b", plain)
    known = set(OURS)
    for name in names:
        try:
            known |= labels_of(name)
        except KeyError:
            yield f"{name} is no metric"
    for name, matchers in re.findall(r"([a-z_:0-9]+)\{([^}]*)\}", plain):
        asked = set(re.findall(r"([a-z_]+)\s*=?[=!~]", matchers))
        try:
            yield from (f"{name} has no label {label}" for label in asked - labels_of(name) - OURS)
        except KeyError:
            continue
    for grouped in re.findall(r"\bby \(([^)]*)\)", plain):
        yield from (f"grouped by {label}" for label in re.findall(r"[a-z_]+", grouped) if label not in known)


@pytest.mark.parametrize("expr", [*dashboard_exprs(), *rule_exprs()])
def test_every_expression_asks_for_what_there_is(expr: str) -> None:
    assert [] == list(faults(expr))


def test_an_expression_about_what_there_is_not_is_found() -> None:
    assert ["swarm_nothing_total is no metric"] == list(faults("rate(swarm_nothing_total[5m])"))
    assert ["swarm_commits_total has no label verdict"] == list(faults('swarm_commits_total{verdict="a"}'))
    assert ["grouped by reason"] == list(faults("sum by (reason) (swarm_commits_total)"))


def test_every_metric_is_on_a_dashboard() -> None:
    shown = " ".join(dashboard_exprs())
    assert [] == [i.name for i in table.TABLE if not re.search(rf"\b{i.name}(_bucket|_count|_sum)?\b", shown)]
    assert all(f'slo="{slo.id}"' in shown for slo in SLOS)


def test_prometheus_reads_every_expression_and_the_configuration(tmp_path: Path, promtool: str) -> None:
    parsed = [expr.replace("$__rate_interval", "5m") for expr in dashboard_exprs()]
    groups = {"groups": [{"name": "all", "rules": [{"record": f"r{n}", "expr": e} for n, e in enumerate(parsed)]}]}
    (tmp_path / "all.yaml").write_text(json.dumps(groups))
    for asked in (("rules", tmp_path / "all.yaml"), ("config", SCRAPING)):
        done = subprocess.run([promtool, "check", *map(str, asked)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_scraped_has_the_label_that_tells_services_apart() -> None:
    assert "source_labels: [__meta_dns_name]\n        target_label: service\n" in SCRAPING.read_text()


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=[dashboard.uid for dashboard in DASHBOARDS])
def test_panels_of_a_dashboard_have_their_own_places(dashboard: object) -> None:
    panels = json.loads(document(dashboard))["panels"]  # type: ignore[arg-type]
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["targets"] for panel in panels)
