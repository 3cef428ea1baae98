"""Where an action stands to what its persona may do."""

from __future__ import annotations

import msgspec

from shared.contracts.action import Action
from shared.contracts.action_kinds import is_outward, read
from shared.contracts.capabilities import Capabilities, Given, Reach
from shared.contracts.kinds.files import is_own
from shared.contracts.kinds.kind import Params, Problem
from shared.contracts.row import Row
from shared.contracts.targets import scoped_url


def reach_of(
    capabilities: Capabilities | None,
    action: Action,
    swarm: str,
    persona: str,
    *,
    tainted: bool = False,
    row: Row | None = None,
) -> Reach:
    """What its own folder is to anybody needs no scope. What cannot be read is beyond whoever has scopes. Of who is tainted, what goes out
    in a parameter that no scope names people are asked about."""
    typed = read(action)
    if isinstance(typed, Problem):
        return "unstated" if capabilities is None else "beyond"
    if action.kind.startswith("file.") and is_own(action.target, swarm, persona):
        return "own"
    if capabilities is None:
        return "unstated"
    target = scoped_url(action.target) if action.kind == "http.request" else action.target
    params: dict[str, Given] = {**msgspec.structs.asdict(typed), **action.params}
    outward = tainted and is_outward(action.kind, row)
    return capabilities.reach(action.kind, target, params, _carried(action, typed) if outward else frozenset())


def _carried(action: Action, typed: Params) -> frozenset[str]:
    """The parameters that may say something: those given otherwise than they are anyway. Methods a scope has of its own."""
    usual = {field.name: field.default for field in msgspec.structs.fields(typed)}
    given = {name for name, value in action.params.items() if name not in usual or value != usual[name]}
    return frozenset(given - {"method"} if action.kind == "http.request" else given)
