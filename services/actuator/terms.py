"""What the actuator's decider asks to have done, and what it is told: its effects and their results."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from services.actuator.saying import Facts
from shared.allowances import Standing
from shared.contracts.action import Action
from shared.contracts.capabilities import DailyLimit
from shared.contracts.events import ProposalAuthorized, Receipt
from shared.contracts.ids import EventId, Instant, Sha256, Token
from shared.decider import Effect, Result

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Who took it, and from when its time-out runs. `hold`: the token of the target it holds."""

    id: EventId
    hold: Token | None = None
    actuator: str
    at: Instant
    timeout_ms: int


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An action and whose it is. `key`, `<swarm>.<persona>.<proposal>`, names it for ever. `row`: the digest of the operator's row it was
    judged by, where its kind has rows."""

    swarm: Token
    persona: Token
    proposal_id: Token
    action: Action
    row: str = ""

    @property
    def key(self) -> str:
        return f"{self.swarm}.{self.persona}.{self.proposal_id}"


class Check(Effect, frozen=True, kw_only=True):
    """Verify the signature against the keys that were good where and when it was stored, the policy version, that the mesh is not
    halted by log or kill switch, that it is not void, and that it was not claimed before in what is lost. `target`: look who holds it.
    `job`: what is to be said to the mesh, whose facts are looked up. `limits`: what it counts against, whose counts are looked up.
    `is_first`: of halts, keys and policies what was said before the authorisation will do; else as of now."""

    authorized: ProposalAuthorized
    target: Token | None = None
    job: Job | None = None
    limits: tuple[DailyLimit, ...] = ()
    seq: int = 0
    at: Instant = LONG_AGO
    is_first: bool = False


class Checked(Result, frozen=True, kw_only=True):
    """What is wrong, as (reason code, sentence), and the mark under which to claim if nothing is. `lost`: it was claimed before, in a
    part of the log that is gone. `holder` has the target, by what was said of it up to `hold_seq`; halts were looked at up to
    `halts_seq`. `standings`: what the day has of its limits."""

    problems: tuple[tuple[str, str], ...] = ()
    halted: bool = False
    lost: bool = False
    holder: str = ""
    hold_seq: int = 0
    facts: Facts | None = None
    halts_seq: int = 0
    standings: tuple[Standing, ...] = ()
    actuator: str


class Allot(Effect, frozen=True, kw_only=True):
    """Take one action of the persona from a lot. `hold_seq`, `facts`, `halts_seq` and `standings` as in `Checked`."""

    job: Job
    actuator: str
    hold_seq: int = 0
    facts: Facts | None = None
    halts_seq: int = 0
    standings: tuple[Standing, ...] = ()


class Allotted(Result, frozen=True, kw_only=True):
    """The lot it is taken from; else until when `scope` has none left; neither: nobody answered.

    `too_many`: so many of the swarm wait already that this one may not.
    """

    lot_id: EventId | None = None
    scope: str = ""
    until: Instant | None = None
    too_many: int = 0


class Execute(Effect, frozen=True, kw_only=True):
    """Do it, and begin no effect after `deadline`. Without a `claim`, which is surely this attempt's, only if the one in the log bears
    `actuator`."""

    job: Job
    digest: Sha256
    actuator: str
    deadline: Instant
    claim: Claim | None = None


class Inquire(Effect, frozen=True, kw_only=True):
    """Find out whether the claimed action happened; where possible, make sure that it no longer can."""

    job: Job
    claim: Claim


NOT_YET = "cannot_tell_yet"
"""The code of an outcome nobody can tell now: it is asked again before it is recorded."""


class Outcome(Result, frozen=True, kw_only=True):
    """How it went. `error` is a reason code unless it is a success. `output`: what the target answered, as it was read."""

    outcome: Literal["success", "failure", "unknown"]
    summary: str
    error: str | None = None
    receipt: Receipt | None = None
    duration_ms: int = 0
    output: str = ""


LOST = Outcome(
    outcome="unknown",
    summary="it was claimed, and perhaps done, in a part of the log that is gone; a person decides",
    error="claim_lost",
)


class NotOurs(Result, frozen=True, kw_only=True):
    """The claim in the log is another attempt's; nothing was done."""
