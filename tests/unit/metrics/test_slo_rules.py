"""Objectives in Prometheus: the rules say what the gateway says, and each alert fires when it should and is quiet else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from shared.metrics import rules, table
from shared.metrics.instruments import Level
from shared.metrics.slo import SLOS, Term, quantile

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "deploy" / "observability" / "rules.yaml"
Rates = Mapping[str, float]
"""By series, how much it grows a minute; of a gauge, what it is."""

WELL: Rates = {
    "swarm_proposals_total": 10,
    'swarm_decision_seconds_bucket{le="2.0"}': 10,
    'swarm_personas_ended_total{how="asked"}': 1,
    'swarm_personas_ended_total{how="orphaned"}': 0,
    'swarm_personas_ended_total{how="without_snapshot"}': 0,
    'swarm_personas{stage="live"}': 40,
    "swarm_snapshot_source_bytes_total": 9000,
    "swarm_snapshot_stored_bytes_total": 3000,
    'swarm_verified_total{verdict="passed"}': 9,
    'swarm_verified_total{verdict="rejected"}': 1,
    'swarm_spent_tokens_total{direction="in"}': 1000,
    'swarm_actions_total{kind="file.write",outcome="success"}': 5,
    'swarm_unsafe_actions_total{fate="prevented"}': 1,
    'swarm_unsafe_actions_total{fate="done"}': 0,
}
BADLY: Mapping[str, Rates] = {
    "decision": {'swarm_decision_seconds_bucket{le="2.0"}': 1},
    "survival": {'swarm_personas_ended_total{how="orphaned"}': 4},
    "compaction": {"swarm_snapshot_stored_bytes_total": 12_000},
    "verification": {'swarm_verified_total{verdict="rejected"}': 9},
    "cost": {'swarm_spent_tokens_total{direction="in"}': 9_000_000},
    "unsafe": {'swarm_unsafe_actions_total{fate="done"}': 1},
}


def series(rates: Rates, minutes: int, step: int) -> list[dict[str, str]]:
    """The same at two replicas of the gateway."""
    found = []
    for name, rate in rates.items():
        metric, _, labels = name.partition("{")
        of = labels.removesuffix("}")
        gauge = isinstance(table.BY_NAME.get(metric), Level)
        values = f"{rate:g}x{minutes // step}" if gauge else f"0+{rate * step:g}x{minutes // step}"
        found += [
            {"series": f'{metric}{{{of and of + ","}instance="{at}"}}', "values": values} for at in ("one", "two")
        ]
    return found


def judged(tmp_path: Path, promtool: str, every: str, *tests: dict[str, object]) -> None:
    """`every`: how often the rules are evaluated."""
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": every,
        "group_eval_order": ["swarm-slo", "swarm-slo-alerts", "swarm-alerts"],
        "tests": list(tests),
    }
    path = tmp_path / "test.yaml"
    path.write_text(json.dumps(document))  # JSON is YAML
    done = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def firing(rates: Rates, at_min: int, step: int, *names: str) -> dict[str, object]:
    """A world, and all that fires in it then."""
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)]
    expr = 'sort_desc(count by (alertname) (ALERTS{alertstate="firing"}))'
    return {
        "interval": f"{step}m",
        "input_series": series(rates, at_min + step, step),
        "promql_expr_test": [{"expr": expr, "eval_time": f"{at_min}m", "exp_samples": samples}],
    }


def test_promtool_finds_nothing_to_say_of_the_rules(promtool: str) -> None:
    done = subprocess.run([promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_every_objective_has_an_alert_and_every_alert_a_name_of_its_own_and_says_what_to_do() -> None:
    every = [*rules.slo_alerts(), *rules.ALERTS]
    assert len({alert.name for alert in every}) == len(every)
    assert all(alert.runbook and alert.summary and alert.severity in ("page", "ticket") for alert in every)
    for slo in SLOS:
        assert any(alert.name.startswith(f"SwarmSlo{slo.id.title()}") for alert in every)


def test_what_goes_well_wakes_nobody(tmp_path: Path, promtool: str) -> None:
    judged(tmp_path, promtool, "10m", firing(WELL, 50, 1))


def test_a_page_comes_within_the_hour_for_what_burns_fast_and_wakes_for_nothing_else(
    tmp_path: Path, promtool: str
) -> None:
    """The share of the others is too small for a fast burn, and a ticket looks at three days."""
    judged(tmp_path, promtool, "10m", *(firing({**WELL, **BADLY[i]}, 50, 1, *names) for i, names in SOON.items()))


def test_a_ticket_comes_for_what_is_missed_for_days_and_none_for_what_is_met(tmp_path: Path, promtool: str) -> None:
    everything = {name: rate for rates in (WELL, *BADLY.values()) for name, rate in rates.items()}
    tickets = [f"SwarmSlo{slo.id.title()}Drift" for slo in SLOS]
    judged(tmp_path, promtool, "2h", firing(WELL, 74 * 60, 120), firing(everything, 74 * 60, 120, *tickets))


def test_the_gateway_and_prometheus_reckon_every_objective_alike(tmp_path: Path, promtool: str) -> None:
    everything = {name: rate for rates in (WELL, *BADLY.values()) for name, rate in rates.items()}
    tests = []
    for rates in (WELL, everything):
        read = reading(rates, minutes=360)
        said = [
            (slo, what, value) for slo in SLOS for what, value in (("burn", slo.burn(read)), ("value", slo.value(read)))
        ]
        expected = [
            {
                "expr": f'round(swarm:slo_{what}:6h{{slo="{slo.id}"}}, 1e-6)',
                "eval_time": "6h",
                "exp_samples": [{"labels": f'{{slo="{slo.id}"}}', "value": round(value, 6)}],
            }
            for slo, what, value in said
        ]
        tests.append({"interval": "1m", "input_series": series(rates, 370, 1), "promql_expr_test": expected})
    judged(tmp_path, promtool, "3h", *tests)


def reading(rates: Rates, *, minutes: int) -> Callable[[Term], float]:
    """What the gateway would have counted."""

    def read(term: Term) -> float:
        instrument = table.BY_NAME[term.metric]
        total = 0.0
        for key in term.keys:
            labels = dict(zip(instrument.labels, key, strict=True))
            name = term.metric if term.at_most is None else f"{term.metric}_bucket"
            labels.update({} if term.at_most is None else {"le": f"{term.at_most}"})
            said = ",".join(f'{label}="{value}"' for label, value in labels.items())
            rate = rates.get(f"{name}{{{said}}}" if said else name, 0.0)
            total += rate if isinstance(instrument, Level) else rate * minutes
        return total

    return read


def test_each_other_alert_fires_for_its_sign_and_not_without(tmp_path: Path, promtool: str) -> None:
    assert {alert.name for alert in rules.ALERTS} == set(SIGNS)
    worlds = []
    there = series({"swarm_proposals_total": 1}, 95, 1)
    for name, (sign, calm) in SIGNS.items():
        loud, quiet = firing({}, 90, 1, name), firing({}, 90, 1)
        loud["input_series"] = (there if sign else []) + [{"series": s, "values": v} for s, v in sign.items()]
        quiet["input_series"] = there + [{"series": s, "values": v} for s, v in calm.items()]
        worlds += [loud, quiet]
    judged(tmp_path, promtool, "5m", *worlds)


def test_a_quantile_is_reckoned_as_prometheus_does() -> None:
    bounds = (1.0, 2.0, 4.0)
    assert quantile(bounds, [0, 0, 0, 0], 0.95) is None
    assert 0.5 == quantile(bounds, [10, 0, 0, 0], 0.5)
    assert 3.0 == quantile(bounds, [5, 0, 10, 0], 2 / 3)
    assert 4.0 == quantile(bounds, [1, 0, 0, 9], 0.95)


SOON = {
    "decision": ("SwarmSloDecisionFast", "SwarmSloDecisionSlow"),
    "survival": ("SwarmSloSurvivalFast", "SwarmSloSurvivalSlow"),
    "unsafe": ("SwarmSloUnsafeFast", "SwarmSloUnsafeSlow"),
}
ZERO, RISING = "0x95", "0x60 1x35"
SIGNS: Mapping[str, tuple[dict[str, str], dict[str, str]]] = {
    "SwarmDeadLetters": (
        {'swarm_dead_letters_total{reason="bad_body"}': "0x85 1x10"},
        {'swarm_dead_letters_total{reason="bad_body"}': ZERO},
    ),
    "SwarmNotReady": ({'swarm_not_ready{check="cold"}': RISING}, {'swarm_not_ready{check="cold"}': "0x89 1x6"}),
    "SwarmProcessGone": ({'up{job="swarm"}': "1x60 0x35"}, {'up{job="swarm"}': "1x95"}),
    "SwarmGatewayAbsent": ({}, {}),
    "SwarmHeldBack": ({"swarm_held_back": RISING}, {"swarm_held_back": ZERO}),
    "SwarmStoreFilling": ({"swarm_store_used_ratio": "0+0.002x95"}, {"swarm_store_used_ratio": "0.5x95"}),
    "SwarmClockOff": ({"swarm_clock_off_seconds": "-1.5x95"}, {"swarm_clock_off_seconds": "-0.5x95"}),
    "SwarmConsumerBehind": (
        {'swarm_consumer_lag{consumer="verifier"}': "5000x95"},
        {'swarm_consumer_lag{consumer="verifier"}': "5000x80 0x15"},
    ),
    "SwarmMemoryBehind": ({"swarm_memory_behind_seconds": "90x95"}, {"swarm_memory_behind_seconds": "30x95"}),
    "SwarmBugs": (
        {'swarm_deliveries_total{verdict="failed"}': "0x85 1x10"},
        {'swarm_deliveries_total{verdict="retry"}': "0+1x95"},
    ),
    "SwarmUnknownOutcomes": (
        {'swarm_actions_total{kind="http.request",outcome="unknown"}': "0x80 1x15"},
        {'swarm_actions_total{kind="http.request",outcome="failure"}': "0+1x95"},
    ),
    "SwarmModelFailing": (
        {'swarm_model_seconds_count{outcome="busy"}': "0+9x95", 'swarm_model_seconds_count{outcome="ok"}': "0+1x95"},
        {'swarm_model_seconds_count{outcome="busy"}': "0+1x95", 'swarm_model_seconds_count{outcome="ok"}': "0+9x95"},
    ),
    "SwarmColdStorageFailing": (
        {'swarm_s3_failures_total{call="put"}': "0x60 0+1x35"},
        {'swarm_s3_failures_total{call="put"}': "0x85 1x10"},
    ),
}
