"""The services as a page for people, `docs/services.md`."""

from __future__ import annotations

from collections.abc import Iterable

from shared.contracts.services import BOOTSTRAP_EMITS, REPLICAS, SERVICES, ServiceRow

_HEAD = """# Services

Written by `scripts/gen` from `shared/contracts/services.py`; a change here is lost. Each is started as `python -m services.<name>`.

`CORE`, `RUN` and `CHECK` are accounts of the broker: in CORE are those that decide, the others reach the log through exports only. A
durable consumer is shared by all instances of a service, a tail is an instance's own. *Holds*: the secrets it is told beside its own seed.
"""

_BOOTSTRAP = (
    "## bootstrap\n",
    f"No service: a process that declares the streams and ends. Says {', '.join(f'`{name}`' for name in BOOTSTRAP_EMITS)}, which nobody "
    "else may.\n",
)


def page() -> str:
    """The whole page, Markdown."""
    table = [
        "| Service | Job | Account | Durables | Tails of | Holds | Instances |",
        "|---|---|---|---|---|---|---|",
        *(_row(row) for row in SERVICES.values()),
    ]
    return "\n".join([_HEAD, *table, "", *(_section(row) for row in SERVICES.values()), *_BOOTSTRAP]).rstrip() + "\n"


def _row(row: ServiceRow) -> str:
    cells = (
        f"`{row.name}`",
        row.job,
        row.account,
        _listed(durable for _, durable in row.durables),
        _listed(row.tails),
        _listed(row.holds),
        REPLICAS[row.replicas],
    )
    return f"| {' | '.join(cells)} |"


def _section(row: ServiceRow) -> str:
    lines = [f"## {row.name}\n", f"Says {_listed(row.emits)}.\n", f"Hears {_listed(row.consumes)}.\n"]
    if row.timers:
        lines.append(f"Hands back until their time has come {_listed(row.timers)}.\n")
    if row.refused_when_crowded:
        lines.append(f"Refuses when it holds too many of one swarm {_listed(row.refused_when_crowded)}.\n")
    return "\n".join(lines)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words) or "–"
