"""What is made from the tables of this package; `scripts/gen` writes it, a test and `scripts/gen --check` say when it differs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from shared.metrics import dashboards, rules
from shared.metrics.instruments import Instrument, Spread
from shared.metrics.slo import SLOS
from shared.metrics.table import TABLE

ROOT = Path(__file__).resolve().parents[2]


def files() -> dict[str, str]:
    """Every generated file by its path in the repository."""
    observability = {"rules.yaml": rules.document(), **dashboards.files()}
    return {"docs/metrics.md": page(), **{f"deploy/observability/{path}": text for path, text in observability.items()}}


def page() -> str:
    """The table for people."""
    lines = [
        "# Metrics",
        "",
        "Made by `scripts/gen` from `shared/metrics/table.py`. Each process answers `/metrics`; `swarm status` says where.",
        "What the gateway folds from the log is the same at each of its replicas and goes on over restarts: take the `max`,",
        "no sum. Series whose labels are known are there from the start, with 0. The Prometheus client's own `process_*` and",
        "`python_*` metrics are there too.",
        "",
        "| Name | Kind | Unit | Labels | Meaning | Of |",
        "|---|---|---|---|---|---|",
    ]
    objectives = [
        "",
        "## Objectives",
        "",
        "What the mesh is judged by (`shared/metrics/slo.py`); `swarm slo` and `GET /v1/slo` say how it fares,",
        "`deploy/observability/rules.yaml` has the same for Prometheus, with alerts by burn: 1 spends exactly what is allowed.",
        "",
        "| Id | What | Wanted | When it is missed |",
        "|---|---|---|---|",
        *(
            f"| `{s.id}` | {s.meaning} | {'at most' if s.at_most else 'at least'} {s.objective:g} | {s.runbook} |"
            for s in SLOS
        ),
    ]
    return "\n".join([*lines, *map(_row, TABLE), *objectives]) + "\n"


def _row(i: Instrument) -> str:
    labels = "; ".join(f"`{name}`: {', '.join(values) or 'open'}" for name, values in i.labels.items())
    meaning = i.meaning
    if isinstance(i, Spread):
        meaning += f". Up to {', '.join(f'{bound:g}' for bound in i.bounds)}"
    return f"| `{i.name}` | {i.kind} | {i.unit} | {labels} | {meaning} | {', '.join(i.by_services) or 'all'} |"


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Write what differs; with `--check` only name it and exit 1."""
    stale = [path for path, text in files().items() if not _is(root / path, text)]
    for path in stale:
        if arguments:
            sys.stderr.write(f"{path} differs from what it is made of; run scripts/gen\n")
            continue
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(files()[path], encoding="utf-8")
        sys.stdout.write(f"{path}\n")
    return 1 if arguments and stale else 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
