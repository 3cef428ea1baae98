"""What came of a storm, by the log alone.

The judge reads the log with its own connection and knows nothing of what the services believe: every acknowledged
observation is there once, every proposal reached one terminal state, no effect happened twice (counted on disk and at an HTTP
sink), and `shared.invariants` hold at every prefix.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.governor.decider import Limits as GovernorLimits
from shared.contracts.catalog import LOG_CLASSES, class_filter, class_of
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionExecuted,
    Event,
    IntentCancelled,
    IntentClosed,
    IntentSubmitted,
    ObservationRecorded,
    PersonaDraining,
    PersonaReaped,
    ProposalCreated,
    ProposalEvent,
    ProposalRejected,
    ThoughtSealed,
)
from shared.invariants import BEHIND_THE_SEAL, Invariants, Limits
from shared.log.jetstream import JetStreamLog
from shared.log.port import LogUnavailable
from tests.chaos.contending import Contending, misdone
from tests.chaos.load import ROOT, Hits, Load
from tests.chaos.rollback import RolledBack

_TIME = re.compile("deadline|expired")
REST_TIMEOUT_S = 180.0
A_STORM_MIN = 1.0
"""A storm of so many minutes has had time for all that is asked of one."""
BETWEEN = (
    "intent.submitted",
    "intent.routed",
    "intent.closed",
    "intent.cancelled",
    "conflict.raised",
    "conflict.resolved",
    "target.held",
    "limits.changed",
    "allocation.changed",
)
"""Of each there is one at least, or the storm has shown nothing of it."""
Say = Callable[[str], None]


class Report(msgspec.Struct, kw_only=True):
    """What happened; everything that must not is 0 or empty.

    `struck` counts by fault and process, `left_out` says which faults could not be had here, `died` counts the times a process
    ended that nobody had ended, `gave_up` those in which it said that the broker is away, as one that starts in an
    outage does. `untimely` are proposals rejected for a time that had not come. `max_outage_s` is the longest time in which the API took
    no observation; `outage_s` that in which several brokers took none of `beats` commits, by the fault that began last. `behind_the_seal`
    are steps that were in flight when their persona was reaped, on several brokers, and were sealed off again.
    `between` counts by class what swarms had with each other; `open` are intents without an end and conflicts without a ruling.
    """

    seed: int
    minutes: float
    struck: dict[str, int] = {}
    left_out: dict[str, str] = {}
    poisoned: int = 0
    died: dict[str, int] = {}
    gave_up: dict[str, int] = {}
    events: int = 0
    acked: int = 0
    beats: int = 0
    lost: int = 0
    duplicated: int = 0
    duplicate_effects: int = 0
    missing_effects: int = 0
    budget_overshoot: int = 0
    histories_forked: int = 0
    proposals: int = 0
    terminal: int = 0
    outcomes: dict[str, int] = {}
    thoughts: int = 0
    effects: int = 0
    personas: int = 0
    unfinished_drains: int = 0
    behind_the_seal: int = 0
    untimely: int = 0
    between: dict[str, int] = {}
    open: list[str] = []
    violations: list[str] = []
    max_outage_s: float = 0.0
    outage_s: dict[str, float] = {}
    rest_s: float = 0.0
    rolled_back: RolledBack | None = None

    @property
    def passed(self) -> bool:
        bad = (self.lost, self.duplicated, self.duplicate_effects, self.missing_effects, self.budget_overshoot)
        alive = self.thoughts > 0 and self.effects > 0 and self.acked > 0
        if self.minutes >= A_STORM_MIN:
            alive = alive and all(self.between.get(name, 0) > 0 for name in BETWEEN)
        return (
            not any(bad)
            and alive
            and not self.violations
            and not self.open
            and not self.histories_forked
            and not self.unfinished_drains
            and not self.untimely
            and not self.died
            and self.terminal == self.proposals
            and (self.rolled_back is None or self.rolled_back.passed)
        )


async def rest(log: JetStreamLog, say: Say) -> list[Recorded]:
    """The whole log, once every proposal is terminal and every drain and intent has ended; or as it is when that never comes."""
    deadline = time.monotonic() + REST_TIMEOUT_S
    records: list[Recorded] = []
    filters = tuple(class_filter(name) for name in LOG_CLASSES)
    while True:
        try:
            records += await log.read(filters, records[-1].seq if records else 0)
        except LogUnavailable:
            await asyncio.sleep(0.5)
            continue
        open_proposals, drains = _open_ends(records)
        submitted, ended = _intents(records)
        intents = submitted - ended
        if not open_proposals and not drains and not intents:
            return records
        if time.monotonic() > deadline:
            say(
                f"never came to rest: proposals {sorted(open_proposals.items())[:8]}, drains {sorted(drains)[:5]}, "
                f"intents {sorted(intents)[:5]}"
            )
            return records
        await asyncio.sleep(0.5)


def _open_ends(records: list[Recorded]) -> tuple[dict[str, str], set[str]]:
    """Proposals that are not terminal with the last class in their life, and personas that still drain."""
    proposals: dict[str, str] = {}
    drains: set[str] = set()
    for recorded in records:
        event = recorded.event
        match event:
            case ProposalCreated():
                proposals[event.proposal_id] = class_of(event)
            case PersonaDraining():
                drains.add(event.persona)
            case PersonaReaped():
                drains.discard(event.persona)
            case _ if class_of(event) in ("proposal.rejected", "action.executed"):
                proposals.pop(event.proposal_id, None)  # type: ignore[union-attr]
            case ProposalEvent() if event.proposal_id in proposals:
                proposals[event.proposal_id] = class_of(event)
            case _:
                pass
    return proposals, drains


def _intents(records: list[Recorded]) -> tuple[set[str], set[str]]:
    """Those that were submitted, and those that have an end."""
    submitted: set[str] = set()
    ended: set[str] = set()
    for recorded in records:
        match recorded.event:
            case IntentSubmitted(intent_id=name):
                submitted.add(name)
            case IntentClosed(intent_id=name) | IntentCancelled(intent_id=name):
                ended.add(name)
            case _:
                pass
    return submitted, ended


def judge(
    report: Report,
    records: list[Recorded],
    load: Load,
    contending: Contending,
    sink: Hits,
    workspace: Path,
    governor: GovernorLimits,
    *,
    replicated: bool = False,
) -> None:
    """Fill in the report from the log, the disk and the sink."""
    invariants = Invariants(
        Limits(
            swarm_per_minute=governor.swarm_per_minute,
            actions_per_minute=governor.actions_per_minute,
            lifetime_children=governor.max_lifetime_children,
            global_per_minute=governor.global_per_minute,
        )
    )
    texts: Counter[str] = Counter()
    outcomes: dict[str, str] = {}
    classes: Counter[str] = Counter()
    sealed: dict[str, int] = {}
    for recorded in records:
        invariants.absorb(recorded)
        classes[class_of(recorded.event)] += 1
        if isinstance(recorded.event, ObservationRecorded):
            texts[recorded.event.text] += 1
        if isinstance(recorded.event, ThoughtSealed):
            sealed[f"{recorded.event.swarm}.{recorded.event.persona}"] = recorded.seq
        if isinstance(recorded.event, ActionExecuted):
            outcomes[recorded.event.proposal_id] = recorded.event.outcome
        report.untimely += recorded.event.persona == ROOT and _is_over(recorded.event)
    report.events = len(records)
    acked = load.observed.keys() | load.beats
    report.acked, report.beats = len(acked), len(load.beats)
    report.lost = sum(1 for text in acked if texts[text] == 0)
    report.outage_s = load.outage_s
    report.duplicated = sum(1 for count in texts.values() if count > 1)
    # Of three brokers a step that was in flight at the very moment of a reap may be stored behind the seal; then it is sealed once more,
    # and the step counts for nobody (decision 16).
    behind = [what for what in invariants.violations if replicated and _is_sealed_again(what, sealed)]
    report.behind_the_seal = len(behind)
    report.violations = [what for what in invariants.violations if what not in behind][:50]
    report.histories_forked = invariants.histories_forked
    report.budget_overshoot = invariants.budget_overshoot
    report.proposals = len(invariants.lives)
    report.terminal = report.proposals - len(invariants.unfinished())
    report.outcomes = dict(Counter(outcomes.values()) | {"rejected": classes["proposal.rejected"]})
    report.thoughts = classes["thought.generated"]
    report.personas = classes["persona.spawned"]
    report.unfinished_drains = len(_open_ends(records)[1])
    report.max_outage_s = round(max((b - a for a, b in zip(load.acks, load.acks[1:], strict=False)), default=0.0), 2)
    report.between = {name: classes[name] for name in BETWEEN} | {
        name: classes[name] for name in ("intent.answered", "conflict.settled", "budget.limited")
    }
    report.open = [f"intent {name}" for name in invariants.open_intents()]
    report.open += [f"conflict {name}" for name in invariants.unruled()]
    submitted, ended = _intents(records)
    for name in contending.submitted:
        if name not in submitted:
            report.violations.append(f"{name}: submitted as the API said, and not in the log")
    for name in contending.cancelled - ended:
        report.violations.append(f"{name}: cancelled as the API said, and not in the log")
    report.violations += misdone(contending.wanted, workspace, outcomes)
    _effects(report, load, sink, workspace, outcomes)


def _is_sealed_again(violation: str, sealed: dict[str, int]) -> bool:
    where, _, what = violation.partition(": ")
    seq, _, subject = where.partition(" ")
    return what == BEHIND_THE_SEAL and sealed.get(".".join(subject.split(".")[2:4]), 0) > int(seq)


def _is_over(event: Event) -> bool:
    """Whether it ends a proposal because a time was over; in a storm none is, so a wrong clock said it."""
    match event:
        case ProposalRejected(reasons=reasons):
            return any(_TIME.search(reason) for reason in reasons)
        case ActionExecuted(error=str(reason)):
            return bool(_TIME.search(reason))
        case _:
            return False


def _effects(report: Report, load: Load, sink: Hits, workspace: Path, outcomes: dict[str, str]) -> None:
    """Count what really happened, against what the log says happened."""
    for proposal_id, action in load.proposed.items():
        if action.kind == "http.request":
            count = sink.hits[f"/{proposal_id}"]
        else:
            file = workspace / action.target
            count = int(file.exists() and file.read_text() == action.params["content"])
        outcome = outcomes.get(proposal_id, "none")
        report.effects += count
        report.duplicate_effects += max(0, count - 1)
        if (outcome == "success" and count == 0) or (outcome in ("none", "failure") and count > 0):
            report.missing_effects += 1
            report.violations.append(f"{proposal_id} {action.kind}: the log says {outcome}, the world has {count}")
