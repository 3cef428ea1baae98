"""What the policy gate does beyond deciding: ask Cedar, look up the proposal's side, sign.

Raises `LogUnavailable` through to the shell, which retries the delivery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from services.policy_gate.decider import Evaluate, Evaluated, Grant, Sign, Signed, eligible
from services.policy_gate.policies import Policies
from services.policy_gate.shadow import Shadow, outcome
from services.policy_gate.sides import Sides
from services.policy_gate.signing import Signing
from shared.allowances import no_room, standings
from shared.contracts.events import Risk
from shared.contracts.ids import utc_now
from shared.decider import Effect, Result
from shared.killswitch import is_on
from shared.log.port import Log
from shared.looking import look
from shared.policy.asking import told
from shared.policy.types import QUORUM, PolicyRequest
from shared.runtime.halting import Halting
from shared.runtime.heard import Heard


class PolicyGateEffects(msgspec.Struct, frozen=True, kw_only=True):
    """Performs the gate's effects.

    `heard`, where there is one, tells of halts, activations and signers what was said before a verdict. `signing` holds the seeds of
    verdicts. While `kill_switch` is on it is as while the log says halted: what is asked waits, and policies are told so besides.
    `four_eyes` False lets the proposer's side approve too, for a mesh that has a single person.
    """

    log: Log
    sides: Sides
    halting: Halting
    policies: Policies
    signing: Signing
    shadow: Shadow = msgspec.field(default_factory=lambda: Shadow(None))
    environment: str = "local"
    allowed_hosts: tuple[str, ...] = ()
    heard: Heard | None = None
    kill_switch: Path | None = None
    quorum: Mapping[Risk, int] = msgspec.field(default_factory=lambda: QUORUM)
    four_eyes: bool = True
    authorization_ttl_s: float = 300.0
    approval_ttl_s: float = 3600.0
    clock: Callable[[], datetime] = utc_now

    def __repr__(self) -> str:
        return f"PolicyGateEffects(environment={self.environment!r})"  # never a seed

    async def perform(self, effect: Effect) -> Result:
        match effect:
            case Evaluate():
                return await self._evaluate(effect)
            case Sign(verdict=verdict):
                return Signed(verdict=await self.signing.sign(verdict))
            case _:
                raise TypeError(f"the policy gate has no effect {type(effect).__name__}")

    async def _evaluate(self, effect: Evaluate) -> Evaluated:
        folds = self.halting, self.policies.activations, self.signing.followed
        if self.heard is None:
            await look(*folds)
        else:
            await self.heard.look(*folds, upto=effect.seq)
        halts, bundle = self.halting.state, await self.policies.in_force()
        counted: tuple[Grant, ...] = ()
        if effect.grants and effect.bound_version == bundle.version:
            side: frozenset[str] | None = frozenset()
            if self.four_eyes:
                side = await self.sides.of(effect.swarm, effect.persona, effect.proposed_seq)
                side = None if side is None else side | {effect.filed_by}
            counted = () if side is None else eligible(effect.grants, side)
        quorum = max(1, effect.quorum, self.quorum[effect.risk])
        known = await standings(self.log, effect.limits)
        over = no_room(effect.limits, known, effect.cost_microusd, self.clock())
        thrown = is_on(self.kill_switch)
        request = PolicyRequest(
            swarm=effect.swarm,
            persona=effect.persona,
            action=effect.action.kind,
            target=effect.action.target,
            digest=effect.digest,
            risk=effect.risk,
            tainted=effect.tainted,
            labels=effect.labels,
            scope=effect.scope,
            row=effect.row,
            cost_microusd=effect.cost_microusd,
            over_limit=bool(over),
            params=told(effect.action),
            environment=self.environment,
            approvals=len(counted),
            quorum=quorum,
            kill_switch=thrown,
            allowed_hosts=self.allowed_hosts,
        )
        as_is = bundle.decide(request)
        agreed = msgspec.structs.replace(request, approvals=max(quorum, len(counted)))
        with_people = as_is if as_is.allow else bundle.decide(agreed)
        self.shadow.compare(request, agreed, outcome(as_is, with_people))
        return Evaluated(
            as_is=as_is,
            with_people=with_people,
            approvals=tuple(grant.event_id for grant in counted),
            quorum=quorum,
            authorization_ttl_s=self.authorization_ttl_s,
            approval_ttl_s=self.approval_ttl_s,
            over=over,
            halted=thrown or halts.halt is not None,
            epoch=halts.epoch,
        )
