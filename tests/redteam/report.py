"""What came of the attacks: one row each, as a table and as JSON."""

from __future__ import annotations

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One attack. `by`: who refused it, empty when it succeeded; `seen`: what the log, or the victim, shows."""

    name: str
    refused: bool
    by: str = ""
    seen: str = ""


class Report(msgspec.Struct, kw_only=True):
    """All of it. Ratios are p95 with the attacks running to p95 without; None when floods were not run."""

    attacks: list[Row] = []
    core_commit_p95_ratio: float | None = None
    verdict_p95_ratio: float | None = None
    took_s: float = 0.0

    @property
    def succeeded(self) -> list[str]:
        return [row.name for row in self.attacks if not row.refused]

    @property
    def passed(self) -> bool:
        return bool(self.attacks) and not self.succeeded


def table(rows: list[Row]) -> str:
    """Name, refused or not, by whom, what was seen."""
    cells = [("attack", "refused", "by", "seen")]
    cells += [(row.name, "yes" if row.refused else "NO", row.by or "-", row.seen) for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(3)]
    return "\n".join("  ".join([*(line[i].ljust(widths[i]) for i in range(3)), line[3]]).rstrip() for line in cells)
