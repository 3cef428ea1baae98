"""Wiring: the policies in force, the verdict keys, one shell."""

from __future__ import annotations

from pathlib import Path

from services.policy_gate import decider
from services.policy_gate.effects import PolicyGateEffects
from services.policy_gate.policies import Policies
from services.policy_gate.shadow import Shadow
from services.policy_gate.sides import Sides
from services.policy_gate.signing import Signing
from shared.policy.bundle import BadBundle, beside, found
from shared.runtime.service import Service
from shared.settings import SettingsError, listed
from shared.signers import Followed, roots_of

RELOAD_EVERY_S = 5.0


async def wire(service: Service) -> None:
    """Consume verified proposals and what people say. Raises `SettingsError` when there is no good policy."""
    settings = service.settings
    try:
        folder = Path(settings.policy.dir) if settings.policy.dir else found(settings.policy.bundle)
        policies = Policies(service.log, service.bucket("policies"), folder, gate=service.instance)
        await policies.begin()
        shadow = Shadow(beside(settings.policy.shadow), policies.picks, service.bucket("policies"))
    except BadBundle as error:
        raise SettingsError(f"SWARM_POLICY_DIR, SWARM_POLICY_BUNDLE or SWARM_POLICY_SHADOW: {error}") from error
    await shadow.look()
    followed = Followed(service.log, roots_of(settings.verdict.root))
    signing = Signing.of(settings.verdict, followed)
    service.ready("verdict_keys", signing.unready)
    service.health.warn("verdict_keys", followed.trouble)
    service.ready("policies", policies.unready)
    service.health.warn("policies", lambda: policies.trouble)
    service.health.warn("policy_shadow", lambda: shadow.trouble)

    kill_switch = Path(settings.kill_switch.file) if settings.kill_switch.file else None
    halting = service.obeys_halts(kill_switch)
    effects = PolicyGateEffects(
        log=service.log,
        sides=Sides(service.log),
        halting=halting,
        heard=service.hears("proposal.verified", halting, policies.activations, followed),
        policies=policies,
        shadow=shadow,
        signing=signing,
        environment=settings.policy.environment,
        allowed_hosts=listed(settings.outbound.allow),
        kill_switch=kill_switch,
        four_eyes=settings.approval.four_eyes,
        authorization_ttl_s=settings.authorization.ttl_s,
        approval_ttl_s=settings.approval.ttl_s,
    )
    service.consume(service.shell(decider, perform=effects.perform))
    timers = service.shell(decider, perform=effects.perform)
    service.consume(timers, classes=service.row.timers, suffix="-timers", max_ack_pending=100_000)
    service.every(RELOAD_EVERY_S, policies.look, "policy-reload")
    service.every(RELOAD_EVERY_S, shadow.look, "policy-shadow")
