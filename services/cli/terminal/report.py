"""What a run amounted to, counted from the event stream alone."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import PurePosixPath

import msgspec

from services.cli.terminal.output import safe


class StreamEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event as `GET /v1/cognition/stream` sends it."""

    id: str
    event_type: str
    persona_id: str | None
    swarm_id: str
    timestamp: datetime
    payload: dict[str, object] = {}

    def text(self, key: str) -> str:
        value = self.payload.get(key)
        return value if isinstance(value, str) else ""

    @property
    def is_beside(self) -> bool:
        """Of a check or its result: it decides nothing, it tells."""
        return self.payload.get("beside") is True


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal that would write a file about what was found; `path` is where the report is, once it was written."""

    title: str
    proposal_id: str
    outcome: str
    path: str | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the run began; latencies in milliseconds from creation to the policy gate's or verifier's last word."""

    ready: bool
    seconds: float
    observations: int
    thoughts: int
    thought_errors: int
    hypotheses: int
    checks: int
    check_results: dict[str, int]
    proposals: int
    proposals_by_outcome: dict[str, int]
    actions: int
    actions_by_outcome: dict[str, int]
    snapshots: int
    decision_p50_ms: float | None
    decision_p95_ms: float | None
    findings: tuple[Finding, ...]
    data: str
    api_url: str

    @property
    def ok(self) -> bool:
        """Whether the mesh was ready and thought."""
        return self.ready and self.thoughts > 0


class _Life(msgspec.Struct):
    title: str
    created: datetime | None
    kind: str = ""
    target: str = ""
    outcome: str = "pending"
    wrote: str | None = None


def _key(event: StreamEvent) -> tuple[str, str, str]:
    """Two swarms or personas may have proposals of one id."""
    return event.swarm_id, event.persona_id or "", event.text("proposal_id")


class Tally:
    """Folds stream events; each is counted once, by its id."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.errors = 0
        self._lives: dict[tuple[str, str, str], _Life] = {}
        self._decided_ms: list[float] = []
        self._seen: set[str] = set()

    def take(self, event: StreamEvent) -> bool:
        """False when the event was counted before."""
        if event.id in self._seen:
            return False
        self._seen.add(event.id)
        self.counts[event.event_type] += 1
        if event.event_type == "check_result":
            self.results["told_beside" if event.is_beside else event.text("outcome")] += 1
        elif event.event_type == "thought_generated" and event.payload.get("status", "ok") != "ok":
            self.errors += 1
        elif event.text("proposal_id"):
            self._live(event)
        return True

    def title(self, event: StreamEvent) -> str:
        """The title of the proposal an event is of, or its id when it began before; empty for other events."""
        life = self._lives.get(_key(event))
        return life.title if life and life.title else event.text("proposal_id")

    def _live(self, event: StreamEvent) -> None:
        life = self._lives.setdefault(_key(event), _Life(title="", created=None))
        match event.event_type:
            case "proposal_created" if life.created is None:
                action = event.payload.get("action")
                life.title, life.created = event.text("title"), event.timestamp
                if isinstance(action, dict):
                    life.kind, life.target = str(action.get("kind", "")), str(action.get("target", ""))
            case "proposal_verified":
                life.outcome = "verified"
            case "approval_requested":
                life.outcome = "awaiting_approval"
            case "proposal_rejected":
                life.outcome = f"rejected_by_{event.text('stage')}"
                self._decided(life, event)
            case "proposal_authorized":
                life.outcome = "authorized"
                self._decided(life, event)
            case "action_executed":
                life.outcome = f"executed_{event.text('outcome')}"
                receipt = event.payload.get("receipt")
                if event.text("outcome") == "success" and life.kind == "file.write":
                    life.wrote = str(receipt.get("target")) if isinstance(receipt, dict) else life.target

    def _decided(self, life: _Life, event: StreamEvent) -> None:
        if life.created is not None:
            self._decided_ms.append((event.timestamp - life.created).total_seconds() * 1000)

    def report(self, *, ready: bool, seconds: float, workspace: str, data: str, api_url: str) -> Report:
        """The report so far."""
        lives = {key: life for key, life in self._lives.items() if life.created is not None}
        outcomes = Counter(life.outcome for life in lives.values())
        acted = Counter(
            life.outcome.removeprefix("executed_")
            for life in self._lives.values()
            if life.outcome.startswith("executed_")
        )
        return Report(
            ready=ready,
            seconds=round(seconds, 1),
            observations=self.counts["observation_recorded"],
            thoughts=self.counts["thought_generated"],
            thought_errors=self.errors,
            hypotheses=self.counts["hypothesis_raised"],
            checks=self.counts["check_requested"],
            check_results=dict(self.results),
            proposals=len(lives),
            proposals_by_outcome=dict(outcomes),
            actions=self.counts["action_executed"],
            actions_by_outcome=dict(acted),
            snapshots=self.counts["snapshot_compressed"],
            decision_p50_ms=percentile(self._decided_ms, 50),
            decision_p95_ms=percentile(self._decided_ms, 95),
            findings=tuple(
                Finding(title=life.title, proposal_id=key[2], outcome=life.outcome, path=_path(life.wrote, workspace))
                for key, life in lives.items()
                if life.kind == "file.write"
            ),
            data=data,
            api_url=api_url,
        )


def percentile(values: list[float], percent: int) -> float | None:
    """Nearest rank; None of nothing."""
    if not values:
        return None
    ranked = sorted(values)
    return round(ranked[max(0, -(-len(ranked) * percent // 100) - 1)], 1)


def _path(wrote: str | None, workspace: str) -> str | None:
    return None if wrote is None else str(PurePosixPath(workspace) / wrote)


def lines(report: Report) -> list[str]:
    """The report for people."""

    def by(counts: dict[str, int]) -> str:
        return ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in sorted(counts.items())) or "none"

    def ms(value: float | None) -> str:
        return "-" if value is None else f"{value:g} ms"

    out = [
        f"after {report.seconds:g} s ({'ready' if report.ready else 'NOT READY'}), data in {report.data}",
        f"  observations  {report.observations}",
        f"  thoughts      {report.thoughts}" + (f" ({report.thought_errors} failed)" if report.thought_errors else ""),
        f"  hypotheses    {report.hypotheses}",
        f"  checks        {report.checks} ({by(report.check_results)})",
        f"  proposals     {report.proposals} ({by(report.proposals_by_outcome)})",
        f"  actions       {report.actions} ({by(report.actions_by_outcome)})",
        f"  snapshots     {report.snapshots}",
        f"  proposal to decision  p50 {ms(report.decision_p50_ms)}, p95 {ms(report.decision_p95_ms)}",
        f"  findings      {len(report.findings)}",
    ]
    return out + [f"    {safe(f.title)} -> {safe(f.path or f.outcome.replace('_', ' '))}" for f in report.findings]
