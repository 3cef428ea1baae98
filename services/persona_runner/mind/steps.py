"""The words between the decider and its shell: what is known at a tick, what is to be thought, what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from services.persona_runner.mind.cadence import Limits
from shared.contracts.events import Credits, Memory, Usage
from shared.decider import Effect, Result
from shared.thinker.port import Context, Finding, Percept, Thought


class Percepts(Result, frozen=True, kw_only=True):
    """What the host knows at a tick. `percept` is what came after the state's cursor; `findings` by topic, for open hypotheses."""

    running: bool
    loop_interval_ms: int
    percept: Percept = Percept()
    findings: Mapping[str, Finding] = {}
    thinker: str
    runner: str = ""
    limits: Limits = Limits()


class Think(Effect, frozen=True, kw_only=True):
    """Think one step. `grant_id` None: there is nothing to pay with; only say what the worst case would cost."""

    context: Context
    grant_id: str | None
    limit: Credits
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


class Unaffordable(Result, frozen=True, kw_only=True):
    """The worst case does not fit what is left of the grant; nothing was called."""

    worst: Usage
