"""One result per check.

Theory of operation. A check is measured by one effect, `RunProbe`, and judged here: the effect counts, the decider says what the
count means.

Invariant: one `check.result` per check, whichever checker says it (guarded by the boundary, which only checkers can move).
"""

from __future__ import annotations

import msgspec

from services.checker.meaning import meaning
from shared.contracts.boundaries import said
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    CheckRequested,
    CheckResult,
    EvidenceRef,
    Found,
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
    """Measure. `seq` is the check's own: what came later is not looked at. `correlation` is the cycle of who asks. That and the
    others are for the envelope of the recall that a probe of memory commits."""

    swarm: Token
    persona: Token
    probe: Probe
    seq: int = 2**53
    check_event_id: str
    correlation: str
    traceparent: str | None = None
    asked_at: Instant


class Measured(Result, frozen=True, kw_only=True):
    """What a probe measured: a count, or a score times 1000. `complete` False: only part of it, for the reason in `detail`. `before`:
    what was counted before the span that was asked about. `found`: what else it brings. `passing`: whoever asks again may be told more."""

    value: int
    before: int | None = None
    complete: bool = True
    detail: str = ""
    evidence: tuple[EvidenceRef, ...] = ()
    tainted: bool = True
    found: Found | None = None
    passing: bool = False


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
        seq=message.recorded.seq,
        check_event_id=envelope.id,
        correlation=envelope.correlation,
        traceparent=envelope.traceparent,
        asked_at=message.now,
    )
    return Decision(effect=probe)


def _report(check: CheckRequested, measured: Measured, charter: str | None, slot: Slot) -> Decision:
    outcome, findings = meaning(
        check.probe, measured.value, measured.before, measured.found, complete=measured.complete
    )
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
        found=measured.found,
        slot=slot,
    )
    return Decision(events=(result,), charter=charter)
