"""The actuator's effects: check, execute, inquire. What acts on the world is in `hands`, and called from here alone.

Raises `LogUnavailable` (before anything was done) through to the shell, which retries the delivery.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from services.actuator.hands import mesh
from services.actuator.hands.hand import Hand, Task, cannot_tell, failed
from services.actuator.journal import Entry, Journal
from services.actuator.lots import Lots
from services.actuator.terms import Allot, Check, Checked, Claim, Execute, Inquire, Job, NotOurs, Outcome
from shared.allowances import standings
from shared.contracts.action_kinds import KINDS, read
from shared.contracts.envelope import Recorded, Stored, Unreadable
from shared.contracts.events import ActionClaimed
from shared.contracts.ids import utc_now
from shared.contracts.kinds.kind import Problem
from shared.crypto import verify_verdict
from shared.decider import Effect, Result
from shared.holds import holder_of
from shared.killswitch import is_on
from shared.log.port import Log, LogUnavailable
from shared.looking import look
from shared.policy.activations import Followed
from shared.runtime.halting import Halting
from shared.runtime.heard import Heard
from shared.signers import NOBODY
from shared.signers import Followed as Signers

MAX_INSTANCE = 60


class ActuatorEffects(msgspec.Struct, frozen=True, kw_only=True):
    """Performs the actuator's effects.

    `hands` are all there are, by the name in a kind's row; `site` names the workspace this process acts in, in its claims.
    `signers` says whose verdicts are good, `policies` which versions; `heard`, where there is one, tells both, and of halts, what was
    said before an authorisation.
    `kill_switch` is a path: while something is there, or nobody can tell, it is as while the log says halted: what is not claimed
    waits, and what is begins no more. `instance` names this process in claims.
    """

    log: Log
    hands: Mapping[str, Hand]
    site: str
    lots: Lots
    journal: Journal
    halting: Halting
    signers: Signers
    policies: Followed
    heard: Heard | None = None
    kill_switch: Path | None = None
    instance: str = "actuator"
    clock: Callable[[], datetime] = utc_now

    async def perform(self, effect: Effect) -> Result:
        match effect:
            case Check():
                return await self.check(effect)
            case Allot(job=job):
                return await self.lots.take(job.swarm, job.persona, job.key)
            case Execute():
                return await self.execute(effect)
            case Inquire():
                return await self.inquire(effect)
            case _:
                raise TypeError(f"the actuator has no effect {type(effect).__name__}")

    async def check(self, effect: Check) -> Checked:
        """Signature, policy version, kill switch, halts and what is lost; and a mark no other attempt has."""
        verdict, problems = effect.authorized, []
        folds = self.halting, self.signers, self.policies
        if self.heard is None:
            await look(*folds)
        else:
            await self.heard.look(*folds, upto=effect.seq if effect.is_first else 0)
        halts, known = self.halting.state, self.signers.known
        key = f"{verdict.swarm}.{verdict.persona}.{verdict.proposal_id}"
        lost = halts.is_lost(key) or key in self.journal.entries
        if effect.seq < halts.epoch:
            said = f"it was authorised at {effect.seq}, before the log went back; what is before {halts.epoch} is void"
            problems.append(("void_after_rollback", said))
        if not known.words:
            raise LogUnavailable(NOBODY)  # it waits, for nobody can tell
        if not verify_verdict(verdict, known.at(effect.seq), effect.at):
            problems.append(("bad_signature", "no key that was good then, by the log, signed this authorisation"))
        if (trouble := self.policies.known.trouble(verdict.policy_version)) is not None:
            problems.append(trouble)
        holder, hold_seq = await holder_of(self.log, effect.target) if effect.target else (None, 0)
        mark = f"{self.instance[:MAX_INSTANCE]}/{self.site}/{secrets.token_hex(8)}"
        return Checked(
            problems=tuple(problems),
            halted=is_on(self.kill_switch) or halts.halt is not None,
            lost=lost,
            holder=f"{holder.swarm}.{holder.persona}.{holder.proposal_id}" if holder else "",
            hold_seq=hold_seq,
            halts_seq=halts.seq,
            standings=await standings(self.log, effect.limits),
            facts=None if effect.job is None else await mesh.known(self.log, effect.job, self.clock),
            actuator=mark,
        )

    async def execute(self, effect: Execute) -> Outcome | NotOurs:
        """Do it once, if the claim is this attempt's."""
        began = time.monotonic()
        claim = effect.claim or await self._own_claim(effect)
        if not isinstance(claim, Claim):
            return claim
        outcome = await self._begun(effect.job, effect.digest, claim.id) or await self._act(effect, claim)
        return msgspec.structs.replace(outcome, duration_ms=round((time.monotonic() - began) * 1000))

    async def _begun(self, job: Job, digest: str, claim_id: str) -> Outcome | None:
        """On disk, and looked at halts again, before anything is done; why it may not be done, if so."""
        entry = Entry(
            swarm=job.swarm,
            persona=job.persona,
            proposal_id=job.proposal_id,
            digest=digest,
            claim_id=claim_id,
            at=self.clock(),
        )
        looking = asyncio.ensure_future(self.halting.look())
        try:
            await self.journal.put(entry)
        except OSError as error:
            looking.cancel()
            said = f"the journal of claims cannot be written: {error.strerror or error}"
            return failed("journal_unwritable", said)
        await looking
        return None

    async def _act(self, effect: Execute, claim: Claim) -> Outcome:
        def hindered() -> Outcome | None:
            return self._hindered(effect.deadline)

        params = read(effect.job.action)
        if isinstance(params, Problem):
            return failed(params.code, params.detail)
        remaining_s = (effect.deadline - self.clock()).total_seconds()
        task = Task(
            job=effect.job,
            params=params,
            claim=claim,
            mark=effect.actuator,
            timeout_s=remaining_s,
            hindered=hindered,
        )
        return hindered() or await self.hands[KINDS[effect.job.action.kind].hand].act(task)

    async def inquire(self, effect: Inquire) -> Outcome:
        """Whether a claimed action happened, by its target's word."""
        claim = await self._claim_of(effect.job)
        if not isinstance(claim, Recorded) or not isinstance(claim.event, ActionClaimed):
            return cannot_tell("the claim is not readable")
        params = read(effect.job.action)
        if isinstance(params, Problem):
            return failed(params.code, f"never begun: {params.detail}")
        age = self.clock() - claim.stored_at
        task = Task(job=effect.job, params=params, claim=effect.claim, mark=claim.event.actuator, age=age)
        return await self.hands[KINDS[effect.job.action.kind].hand].inquire(task)

    async def _own_claim(self, effect: Execute) -> Claim | Outcome | NotOurs:
        """The claim in the log, if it is this attempt's."""
        claim = await self._claim_of(effect.job)
        if isinstance(claim, Unreadable):
            return cannot_tell("what cannot be read may have claimed it, and done it")
        if claim is None or not isinstance(claim.event, ActionClaimed) or claim.event.actuator != effect.actuator:
            return NotOurs()
        return Claim(id=claim.id, actuator=effect.actuator, at=claim.stored_at, timeout_ms=claim.event.timeout_ms)

    async def _claim_of(self, job: Job) -> Stored | None:
        """The first claim in the log, readable or not."""
        claims = await self.log.stored([f"action.claimed.{job.key}"])
        return claims[0] if claims else None

    def _hindered(self, deadline: datetime) -> Outcome | None:
        """Why nothing may begin any more, if so. Asked again right before the effect: it may have waited for its turn."""
        if is_on(self.kill_switch):
            return failed("kill_switch", "the kill switch is on")
        if self.halting.why is not None:
            return failed("halted", self.halting.why)
        if self.clock() >= deadline:
            return failed("too_late", "the time-out passed before it began")
        return None
