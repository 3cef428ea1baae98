"""What was measured, said: whether it confirms what was asked, and a sentence with the numbers. Pure."""

from __future__ import annotations

from shared.contracts.events import (
    Answer,
    Counted,
    Found,
    History,
    LogCount,
    LogResolve,
    LogSearch,
    MemoryRecall,
    Probe,
    Recollection,
    Report,
    Surroundings,
    Table,
    Values,
)
from shared.contracts.probe_kinds import name_of


def meaning(
    probe: Probe, value: int, before: int | None, found: Found | None, *, complete: bool
) -> tuple[bool | None, str]:
    """True: confirmed; False: refuted; None: cannot be told from what was measured, or decides nothing. And a sentence with the numbers."""
    match probe:
        case LogCount():
            most = probe.at_most
            wanted = f"at least {probe.at_least}" if most is None else f"{probe.at_least} to {most}"
            seen = f"{value} matching observations between {probe.first_seq} and {probe.last_seq}, {wanted} expected"
            if before is not None:
                seen += f"; {before} between {probe.before_seq} and {probe.first_seq - 1}"
            if most is not None and value > most:
                return False, seen  # counting on cannot make it fewer
            if complete:
                return value >= probe.at_least, seen
            return (True if most is None and value >= probe.at_least else None), seen
        case LogSearch():
            seen = f"{value} observations found between {probe.first_seq} and {probe.last_seq}, at least {probe.at_least} expected"
            if complete:
                return value >= probe.at_least, seen
            return (True if value >= probe.at_least > 0 else None), seen
        case LogResolve():
            cited = len({(ref.seq, ref.id) for ref in probe.evidence})
            seen = f"{value} of {cited} cited events are in the log and readable"
            return (value == cited if complete and cited else None), seen
        case MemoryRecall():
            least = round(probe.min_score * 1000)
            seen = f"the closest memory scores {value / 1000:.3f}, at least {probe.min_score:.3f} expected"
            return (value >= least if complete else None), seen
        case _:
            return None, f"{name_of(probe)}: {_told(found)}"


def _told(found: Found | None) -> str:
    match found:
        case None:
            return "nothing was found"
        case Counted():
            return f"{found.count} counted"
        case Surroundings():
            return f"{len(found.lines)} lines"
        case Values():
            return f"{len(found.slots)} words vary in {found.lines} lines"
        case Table():
            return f"{len(found.rows)} kinds of line in {found.lines} lines"
        case Recollection():
            return f"{len(found.memories)} found"
        case History():
            return f"{len(found.proposals)} proposals"
        case Report():
            return f"{found.size} characters"
        case Answer():
            return f"{found.row} answered with {found.size} bytes" + (
                f", {found.status}" if found.status is not None else ""
            )
