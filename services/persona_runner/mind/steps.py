"""The words between the decider and its shell: what is known at a tick, what is to be thought, what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from services.persona_runner.mind.cadence import Limits
from shared.contracts.events import Credits, DeclaredRow, EvidenceRef, Memory, Usage
from shared.decider import Effect, Result
from shared.thinker.port import Context, Finding, Percept, SourceSeen, Thought


class Percepts(Result, frozen=True, kw_only=True):
    """What the host knows at a tick. `percept` is what came after the state's cursor; `findings` by topic, for open hypotheses and
    assignments; `sources`, and what was observed `lately`, perceived already or not, for assignments; `rows` as in `Context`; `alarm_at`:
    when a rule of the persona's tells, or told, of silence that it has not looked at."""

    running: bool
    loop_interval_ms: int
    percept: Percept = Percept()
    findings: Mapping[str, Finding] = {}
    sources: tuple[SourceSeen, ...] = ()
    lately: tuple[tuple[EvidenceRef, str], ...] = ()
    rows: tuple[DeclaredRow, ...] = ()
    alarm_at: datetime | None = None
    thinker: str
    runner: str = ""
    limits: Limits = Limits()


class Think(Effect, frozen=True, kw_only=True):
    """Think one step. `grant_id` None: there is nothing to pay with; only say what the worst case would cost.

    `allowance`: what is left of the budget of what it is thought for.
    """

    context: Context
    grant_id: str | None
    limit: Credits
    allowance: Credits | None = None
    final: bool = False


class Thoughtful(Result, frozen=True, kw_only=True):
    """A thought, what the context gained on the way, and the worst case of it."""

    thought: Thought
    worst: Usage
    memories: tuple[Memory, ...] = ()


class Thoughtless(Result, frozen=True, kw_only=True):
    """No thought: nobody answered (`model_error`), or nothing usable was said (`empty`). `worst` None: nobody was asked."""

    status: Literal["model_error", "empty"]
    detail: str
    usage: Usage = Usage()
    worst: Usage | None = None
    retry_after_s: float = 0.0


class OverBudget(Result, frozen=True, kw_only=True):
    """The worst case does not fit what is left of the assignment's budget; nothing was called."""

    worst: Usage


class Unaffordable(Result, frozen=True, kw_only=True):
    """The worst case does not fit what is left of the grant; nothing was called."""

    worst: Usage
