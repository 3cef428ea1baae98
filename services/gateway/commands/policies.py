"""Commands about policies: which to go by, and which to ask beside them. Gates follow what is in the log."""

from __future__ import annotations

from typing import Literal

from services.gateway.commands.bus import Bus, Command
from services.gateway.wire.problems import Problem
from services.gateway.wire.requests import PickPolicy, ShadowPolicy
from shared.contracts.events import PolicyPicked
from shared.contracts.ids import EVERYONE
from shared.policy.activations import Activations
from shared.policy.bundle import names


async def activate(bus: Bus, command: Command, request: PickPolicy) -> None:
    """Gates go by it from now on. Raises `Problem` (404) for what is none."""
    await _pick(bus, command, "active", request.policy, request.reason)


async def shadow(bus: Bus, command: Command, request: ShadowPolicy) -> None:
    """Gates ask it too from now on; without one they ask none beside. Raises `Problem` (404) for what is none."""
    await _pick(bus, command, "shadow", request.policy or "", request.reason)


async def _pick(bus: Bus, command: Command, mode: Literal["active", "shadow"], which: str, reason: str | None) -> None:
    event_id = command.event_id("policy.picked")
    event = PolicyPicked(
        swarm=EVERYONE, persona=EVERYONE, mode=mode, which=which, principal=command.principal, reason=reason or ""
    )
    if await bus.repeated(event_id, event):
        return
    if which and not _is_known(bus.feed.projection.policies, which):
        detail = f"there are {', '.join(names())}, and the versions that were in force; not {which[:64]!r}"
        raise Problem(404, detail, reason="unknown_policy")
    await bus.send(command, [bus.message(command, event_id, event)])


def _is_known(activations: Activations, which: str) -> bool:
    return which in names() or which in activations.last
