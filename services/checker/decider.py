"""One result per check.

Theory of operation. A check is measured by one effect, `RunProbe`, and judged here: the effect counts, the decider says what the
count means.

Invariant: one `check.result` per check, whichever checker says it (guarded by the boundary, which only checkers can move).
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from shared.contracts.boundaries import said
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    CheckRequested,
    CheckResult,
    EvidenceRef,
    LogCount,
    LogResolve,
    LogSearch,
    MemoryRecall,
    Probe,
)
from shared.contracts.ids import CORE, Instant, Slot, Token
from shared.decider import NOTHING, Boundary, Decision, Delivered, Effect, Input, Performed, Result, Tick

MAX_EVIDENCE = 256
"""Cited events that a probe looks up; each is one read."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the check of this id has its result."""

    answered: bool = False


class RunProbe(Effect, frozen=True, kw_only=True):
    """Measure. The last four are for the envelope of the recall that a probe of memory commits."""

    swarm: Token
    persona: Token
    probe: Probe
    check_event_id: str
    correlation: str
    traceparent: str | None = None
    asked_at: Instant


class Measured(Result, frozen=True, kw_only=True):
    """What a probe measured: a count, or a score times 1000. `complete` False: only part of it, for the reason in `detail`. `before`:
    what was counted before the span that was asked about."""

    value: int
    before: int | None = None
    complete: bool = True
    detail: str = ""
    evidence: tuple[EvidenceRef, ...] = ()
    tainted: bool = True


class Checker(msgspec.Struct, frozen=True, kw_only=True):
    """A `shared.decider.Decider`. `slot`: of this instance."""

    slot: Slot = CORE

    def initial(self) -> State:
        """No result yet."""
        return State()

    def boundary(self, message: Delivered | Tick) -> Boundary | None:
        """The check's results. What verifiers said before there were checkers had no slot: it is read, for it settles a check too."""
        if isinstance(message, Tick) or not isinstance(check := message.recorded.event, CheckRequested):
            return None
        results = said("check.result", check.swarm, check.persona, check.check_id)
        return Boundary(reads=(results.removesuffix(".*"), results), guards=(results,), keeps=False)

    def evolve(self, state: State, recorded: Recorded) -> State:
        """Settled by a result."""
        return State(answered=True) if isinstance(recorded.event, CheckResult) else state

    def decide(self, state: State, message: Input) -> Decision:
        """See the module's theory of operation."""
        if state.answered:
            return NOTHING
        match message:
            case Delivered(recorded=recorded, crowd=crowd) if isinstance(check := recorded.event, CheckRequested):
                if crowd:
                    why = f"{crowd} checks of {check.swarm} wait already, more than its share; ask again later"
                    unmeasured = Measured(value=0, complete=False, detail=why)
                    return _report(check, unmeasured, recorded.envelope.charter, self.slot)
                return _ask(check, message)
            case Performed(cause=Delivered(recorded=recorded), result=Measured() as measured):
                if isinstance(check := recorded.event, CheckRequested):
                    return _report(check, measured, recorded.envelope.charter, self.slot)
        return NOTHING


def _ask(check: CheckRequested, message: Delivered) -> Decision:
    envelope = message.recorded.envelope
    probe = RunProbe(
        swarm=check.swarm,
        persona=check.persona,
        probe=check.probe,
        check_event_id=envelope.id,
        correlation=envelope.correlation,
        traceparent=envelope.traceparent,
        asked_at=message.now,
    )
    return Decision(effect=probe)


def _report(check: CheckRequested, measured: Measured, charter: str | None, slot: Slot) -> Decision:
    outcome, findings = _meaning(check.probe, measured)
    result = CheckResult(
        swarm=check.swarm,
        persona=check.persona,
        check_id=check.check_id,
        hypothesis_id=check.hypothesis_id,
        outcome="inconclusive" if outcome is None or check.beside else "confirmed" if outcome else "refuted",
        findings=(f"{findings} ({measured.detail})" if measured.detail else findings)[:2000],
        measured=measured.value,
        evidence=measured.evidence,
        tainted=measured.tainted,
        beside=check.beside,
        slot=slot,
    )
    return Decision(events=(result,), charter=charter)


def _meaning(probe: Probe, measured: Measured) -> tuple[bool | None, str]:
    """True: confirmed; False: refuted; None: cannot be told from what was measured. And a sentence with the numbers."""
    value = measured.value
    match probe:
        case LogCount():
            most = probe.at_most
            wanted = f"at least {probe.at_least}" if most is None else f"{probe.at_least} to {most}"
            seen = f"{value} matching observations between {probe.first_seq} and {probe.last_seq}, {wanted} expected"
            if measured.before is not None:
                seen += f"; {measured.before} between {probe.before_seq} and {probe.first_seq - 1}"
            if most is not None and value > most:
                return False, seen  # counting on cannot make it fewer
            if measured.complete:
                return value >= probe.at_least, seen
            return (True if most is None and value >= probe.at_least else None), seen
        case LogSearch():
            seen = f"{value} observations found between {probe.first_seq} and {probe.last_seq}, at least {probe.at_least} expected"
            if measured.complete:
                return value >= probe.at_least, seen
            return (True if value >= probe.at_least > 0 else None), seen
        case LogResolve():
            cited = len({(ref.seq, ref.id) for ref in probe.evidence})
            seen = f"{value} of {cited} cited events are in the log and readable"
            return (value == cited if measured.complete and cited else None), seen
        case MemoryRecall():
            least = round(probe.min_score * 1000)
            seen = f"the closest memory scores {value / 1000:.3f}, at least {probe.min_score:.3f} expected"
            return (value >= least if measured.complete else None), seen
        case _:
            assert_never(probe)
