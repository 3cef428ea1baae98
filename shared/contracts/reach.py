"""Where an action stands to what its persona may do."""

from __future__ import annotations

import msgspec

from shared.contracts.action import Action
from shared.contracts.action_kinds import read
from shared.contracts.capabilities import Capabilities, Given, Reach
from shared.contracts.kinds.files import is_own
from shared.contracts.kinds.kind import Problem
from shared.contracts.targets import scoped_url


def reach_of(capabilities: Capabilities | None, action: Action, swarm: str, persona: str) -> Reach:
    """What its own folder is to anybody needs no scope. What cannot be read is beyond whoever has scopes."""
    typed = read(action)
    if isinstance(typed, Problem):
        return "unstated" if capabilities is None else "beyond"
    if action.kind.startswith("file.") and is_own(action.target, swarm, persona):
        return "own"
    if capabilities is None:
        return "unstated"
    target = scoped_url(action.target) if action.kind == "http.request" else action.target
    params: dict[str, Given] = {**msgspec.structs.asdict(typed), **action.params}
    return capabilities.reach(action.kind, target, params)
