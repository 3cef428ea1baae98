"""The limits a governor holds everyone to. All governors of a mesh must be given the same ones."""

from __future__ import annotations

from typing import Annotated

import msgspec

from shared.contracts.events import MAX_SWARMS, Credits
from shared.contracts.persona import PersonaPolicy

Positive = Annotated[int, msgspec.Meta(ge=1)]
RESOURCES = ("tokens", "compute_ms", "actions", "cost_microusd")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Per swarm unless it says otherwise.

    `global_per_minute` is what all swarms have together; `swarm_per_minute` what one of them has at most where no person set
    another ceiling. Raises `ValueError` when that is above the first.
    """

    max_roots: Positive = 64
    """Live personas without a parent."""
    max_personas: Positive = 10_000
    """Live personas."""
    max_lifetime_children: Positive = 64
    """Children one persona may ever have had."""
    spawns_per_minute: Positive = 120
    """In any 60 s."""
    root_policy: PersonaPolicy = PersonaPolicy()
    """What a root gets that asked for no policy."""
    drain_s: Positive = 20
    """From draining to its deadline: so long the runner may take for a last thought."""
    drain_patience_s: Positive = 3600
    """How long nobody may have left a final snapshot before a draining persona without one is given up."""
    batch: Annotated[int, msgspec.Meta(ge=2, le=900)] = 500
    """Most events of one decision; what is left over is for the next reconciliation."""
    grant_ttl_s: Positive = 90
    """How long granted credits may be spent, and are held when nobody closes them."""
    request_ttl_s: Positive = 120
    """A request for credits older than this is not answered: whoever asked has asked again, or is gone."""
    actions_per_minute: Annotated[int, msgspec.Meta(ge=0)] = 60
    """Of one persona and its descendants together; tokens and compute are in each persona's policy."""
    swarm_per_minute: Credits = Credits(tokens=1_000_000, compute_ms=600_000, actions=600, cost_microusd=10**11)
    global_per_minute: Credits = Credits(tokens=10_000_000, compute_ms=6_000_000, actions=6_000, cost_microusd=10**12)
    max_swarms: Annotated[int, msgspec.Meta(ge=1, le=MAX_SWARMS)] = 200
    """Swarms that have a share at once."""

    def __post_init__(self) -> None:
        for resource in RESOURCES:
            swarm, mesh = getattr(self.swarm_per_minute, resource), getattr(self.global_per_minute, resource)
            if swarm > mesh:
                raise ValueError(f"swarm_per_minute.{resource} is {swarm}, above global_per_minute's {mesh}")
