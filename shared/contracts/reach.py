"""Where an action stands to what its persona may do."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from shared.contracts.action import Action
from shared.contracts.action_kinds import is_outward, read
from shared.contracts.capabilities import Capabilities, DailyLimit, Given, Reach
from shared.contracts.ids import Token
from shared.contracts.kinds.files import is_own
from shared.contracts.kinds.kind import Params, Problem
from shared.contracts.persona import PersonaPolicy
from shared.contracts.row import Row
from shared.contracts.targets import scoped_url

Member = tuple[Token, Token, Capabilities]
"""Swarm and persona of the proposer or of one above it, with what it may do."""


def reach_of(
    capabilities: Capabilities | None,
    action: Action,
    swarm: str,
    persona: str,
    *,
    tainted: bool = False,
    row: Row | None = None,
    costs: bool = False,
) -> Reach:
    """What its own folder is to anybody needs no scope. What cannot be read is beyond whoever has scopes. Of who is tainted, what goes out
    in a parameter that no scope names people are asked about."""
    typed = read(action)
    if isinstance(typed, Problem):
        return "unstated" if capabilities is None else "beyond"
    if _is_own(action, swarm, persona):
        return "own"
    if capabilities is None:
        return "unstated"
    outward = tainted and is_outward(action.kind, row)
    carried = _carried(action, typed) if outward else frozenset()
    return capabilities.reach(action.kind, *_scoped(action, typed), carried=carried, costs=costs)


def limits_of(family: Iterable[Member], action: Action, swarm: str, persona: str) -> tuple[DailyLimit, ...]:
    """What the action counts against: of each of the family, the proposer and all above it, every scope with a limit that it is within."""
    typed = read(action)
    if isinstance(typed, Problem) or _is_own(action, swarm, persona):
        return ()
    target, params = _scoped(action, typed)
    return tuple(
        DailyLimit(swarm=home, persona=name, scope=n, per_day=scope.per_day, microusd_per_day=scope.microusd_per_day)
        for home, name, capabilities in family
        for n, scope in capabilities.covering(action.kind, target, params)
        if scope.per_day is not None or scope.microusd_per_day is not None
    )


def _is_own(action: Action, swarm: str, persona: str) -> bool:
    return action.kind.startswith("file.") and is_own(action.target, swarm, persona)


def _scoped(action: Action, typed: Params) -> tuple[str | None, dict[str, Given]]:
    """Its target as scopes spell it, and its parameters with their defaults."""
    target = scoped_url(action.target) if action.kind == "http.request" else action.target
    return target, {**msgspec.structs.asdict(typed), **action.params}


def _carried(action: Action, typed: Params) -> frozenset[str]:
    """The parameters that may say something: those given otherwise than they are anyway. Methods a scope has of its own."""
    usual = {field.name: field.default for field in msgspec.structs.fields(typed)}
    given = {name for name, value in action.params.items() if name not in usual or value != usual[name]}
    return frozenset(given - {"method"} if action.kind == "http.request" else given)


def may_propose(policy: PersonaPolicy, kind: str) -> bool:
    """Whether any action of the kind could be within what the persona may do; what exactly is for the gate."""
    if policy.allowed_tools and kind not in policy.allowed_tools:
        return False
    own = kind.startswith("file.")  # in its own folder
    return own or policy.capabilities is None or any(kind in scope.kinds for scope in policy.capabilities.scopes)
