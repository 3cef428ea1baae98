"""Routes about policies: which are in force, which there are, and which to go by."""

from __future__ import annotations

import asyncio

from litestar import get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from services.gateway.commands import policies
from services.gateway.commands.bus import Command
from services.gateway.context import Gateway, needs
from services.gateway.wire.mesh import PickView, PoliciesState, PolicyView
from services.gateway.wire.requests import PickPolicy, ShadowPolicy
from shared.policy.bundle import about, found, names, read_folder, version_of
from shared.policy.picks import Pick, Picks

READ, ADMIN = [needs("read")], [needs("admin")]


async def _state(gateway: Gateway) -> PoliciesState:
    picks, known = Picks(gateway.bus.log), gateway.projection.policies
    await picks.look()
    since = known.last.get(known.active, 0)
    built_in = await asyncio.to_thread(_built_in)
    return PoliciesState(
        version=known.active,
        name=next((view.name for view in built_in if view.version == known.active), ""),
        gate=known.gate,
        principal=known.principal,
        seq=since,
        picked=_view(picks.active, pending=picks.active is not None and picks.active.seq > since),
        shadow=_view(picks.shadow, pending=False),
        policies=built_in,
        earlier=tuple(version for version in reversed(known.last) if version != known.active),
    )


def _view(pick: Pick | None, *, pending: bool) -> PickView | None:
    if pick is None or not pick.event.which:
        return None
    event = pick.event
    return PickView(policy=event.which, principal=event.principal, reason=event.reason, seq=pick.seq, pending=pending)


def _built_in() -> tuple[PolicyView, ...]:
    folders = [(name, found(name)) for name in names()]
    return tuple(
        PolicyView(name=name, version=version_of(read_folder(folder)), about=about(folder)) for name, folder in folders
    )


@get("/v1/policies", guards=READ)
async def listed(gateway: NamedDependency[Gateway]) -> PoliciesState:
    """Which policies are in force, by whose word, and which there are."""
    return await _state(gateway)


@post("/v1/policies/activate", status_code=200, guards=ADMIN)
async def activate(
    gateway: NamedDependency[Gateway], command: NamedDependency[Command], data: JSONBody[PickPolicy]
) -> PoliciesState:
    """Go by these policies, within seconds; only who may do everything may say so. Gates prove them first; `pending` until they have."""
    await policies.activate(gateway.bus, command, data)
    return await _state(gateway)


@post("/v1/policies/shadow", status_code=200, guards=ADMIN)
async def shadow(
    gateway: NamedDependency[Gateway], command: NamedDependency[Command], data: JSONBody[ShadowPolicy]
) -> PoliciesState:
    """Ask these policies beside those in force, and count where they differ (`swarm_policy_shadow_total`); without one, none."""
    await policies.shadow(gateway.bus, command, data)
    return await _state(gateway)


ROUTES: tuple[HTTPRouteHandler, ...] = (listed, activate, shadow)
