"""The limits a governor is told, and those it refuses to be told."""

from __future__ import annotations

import pytest

from services.governor.decider import Limits
from services.governor.service import limits_of
from shared.configuration import load
from shared.contracts.events import Credits
from shared.settings import Global, Governor, Persona, Settings, SettingsError, Swarm


def test_the_settings_are_the_limits() -> None:
    told = {
        "SWARM_SWARM_SPAWNS_PER_MINUTE": "7",
        "SWARM_GOVERNOR_MAX_ROOTS": "3",
        "SWARM_GOVERNOR_DRAIN_S": "0.2",
        "SWARM_GOVERNOR_GRANT_TTL_S": "30",
        "SWARM_PERSONA_ACTIONS_PER_MINUTE": "0",
        "SWARM_SWARM_ACTIONS_PER_MINUTE": "9",
        "SWARM_GLOBAL_ACTIONS_PER_MINUTE": "9",
        "SWARM_SWARM_COST_MICROUSD_PER_MINUTE": "5",
        "SWARM_GLOBAL_COST_MICROUSD_PER_MINUTE": "50",
        "SWARM_GLOBAL_SWARMS": "3",
    }
    expected = Limits(
        spawns_per_minute=7,
        max_roots=3,
        drain_s=1,
        grant_ttl_s=30,
        actions_per_minute=0,
        swarm_per_minute=Credits(tokens=200_000, compute_ms=600_000, actions=9, cost_microusd=5),
        global_per_minute=Credits(tokens=2_000_000, compute_ms=6_000_000, actions=9, cost_microusd=50),
        max_swarms=3,
    )
    assert expected == limits_of(load(told))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            Settings(global_=Global(actions_per_minute=10)),
            "swarm_per_minute.actions is 120, above global_per_minute's 10",
        ),
        (Settings(swarm=Swarm(spawns_per_minute=0)), "spawns_per_minute"),
        (Settings(governor=Governor(max_lifetime_children=-1)), "max_lifetime_children"),
        (Settings(persona=Persona(actions_per_minute=-1)), "actions_per_minute"),
        (Settings(swarm=Swarm(tokens_per_minute=-5)), "swarm_per_minute.tokens"),
    ],
)
def test_what_can_be_no_limit_stops_the_governor_and_is_named(told: Settings, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        limits_of(told)
