"""The one table of metrics: what is exposed, from the start, and that nothing counts what is not in it."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import stamina
from prometheus_client.parser import text_string_to_metric_families

from shared.contracts.services import SERVICES
from shared.metrics import generate, table
from shared.metrics.instruments import MOST_VALUES, OTHER, Counts, Level, Spread, Tally

ROOT = Path(__file__).resolve().parents[3]
CODE = [path for room in ("shared", "services") for path in (ROOT / room).rglob("*.py")]


@pytest.mark.parametrize("service", SERVICES)
def test_promtool_finds_nothing_to_say_of_what_a_service_exposes(service: str, promtool: str) -> None:
    table.tell_build(service, "0")
    text = table.exposition(service)
    said = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (0, "", "") == (said.returncode, said.stdout.decode(), said.stderr.decode())


@pytest.mark.parametrize("service", SERVICES)
def test_every_series_whose_labels_are_known_is_there_before_anything_happened(service: str) -> None:
    samples = {
        (sample.name, *sample.labels.values())
        for family in text_string_to_metric_families(table.exposition(service).decode())
        for sample in family.samples
    }
    for instrument in table.of(service):
        name = f"{instrument.name}_count" if isinstance(instrument, Spread) else instrument.name
        for key in instrument.known():
            assert (name, *instrument.values(key)) in samples


def test_nobody_is_told_when_a_series_was_created() -> None:
    """Nor by the library that retries, which begins to count in the process's own registry with the first retry."""

    @stamina.retry(on=ZeroDivisionError, attempts=2, wait_initial=0.001, wait_max=0.001, wait_jitter=0)
    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert b"stamina_retries_total" in table.exposition("governor")
    for service in SERVICES:
        lines = table.exposition(service).decode().splitlines()
        names = {re.split("[{ ]", line)[0] for line in lines if not line.startswith("#")}
        assert names and not [name for name in names if name.endswith("_created")]


def test_every_metric_belongs_to_services_there_are_and_has_a_name_of_its_own() -> None:
    assert len(table.TABLE) == len(table.BY_NAME)
    for instrument in table.TABLE:
        assert set(instrument.by_services) <= set(SERVICES)
        assert re.fullmatch(r"swarm_[a-z0-9_]+", instrument.name)
        assert instrument.name.endswith("_total") == isinstance(instrument, Tally)


def test_every_reason_for_burying_is_in_the_table() -> None:
    """Of a reason that is not, no alert sees the first."""
    found = set()
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("bury", "_bury", "dead", "Malformed", "Dead"):
                found |= {a.value for a in node.args if isinstance(a, ast.Constant) and _is_code(a.value)}
            found |= {k.value.value for k in node.keywords if k.arg == "reject" and isinstance(k.value, ast.Constant)}
    assert {"bad_body", "handler_failed", "not_taken"} <= found
    assert found <= {*table.BURIED, "SWARM"}


def _is_code(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z]+(_[a-z]+)*", value) is not None


def test_no_metric_is_made_outside_the_table() -> None:
    makers = {"Counter", "Gauge", "Histogram", "Summary", "Tally", "Level", "Spread"}
    for path in CODE:
        if path.parent == ROOT / "shared" / "metrics":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in makers and node.args:
                assert not (isinstance(node.args[0], ast.Constant) and str(node.args[0].value).startswith("swarm_"))


def test_values_that_others_name_are_bounded() -> None:
    counts = Counts(("known",))
    for number in range(3 * MOST_VALUES):
        counts.add(f"reason_{number}")
    assert MOST_VALUES + 2 == len(counts)
    assert 2 * MOST_VALUES == counts[OTHER]
    assert 0 == counts["known"]


def test_a_histogram_counts_a_value_on_a_bound_below_it() -> None:
    spread = Spread("s_seconds", "s", bounds=(1, 2))
    for value in (1, 1.5, 3):
        spread.observe(value)
    (family,) = spread.collect()
    assert {"1.0": 1, "2.0": 2, "+Inf": 3} == {s.labels["le"]: s.value for s in family.samples if "le" in s.labels}


def test_a_gauge_that_follows_is_asked_when_it_is_read() -> None:
    level, value = Level("l", "l"), [1.0]
    level.follow(lambda: value[0])
    value[0] = 5
    (family,) = level.collect()
    assert [5] == [sample.value for sample in family.samples]


def test_what_is_generated_is_what_the_table_says(tmp_path: Path) -> None:
    assert 0 == generate.main(["--check"])
    assert 1 == generate.main(["--check"], tmp_path)
    assert 0 == generate.main([], tmp_path)
    assert 0 == generate.main(["--check"], tmp_path)
    page = (tmp_path / "docs/metrics.md").read_text(encoding="utf-8")
    assert all(f"`{instrument.name}`" in page for instrument in table.TABLE)
