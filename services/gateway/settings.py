"""What the gateway is told at start."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

import msgspec

from shared.contracts.events import Credits
from shared.contracts.ids import Sha256
from shared.contracts.persona import Name

Scope = Literal["read", "control", "approve", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "control", "approve", "admin")


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """Who may do what. `sha256` is of the bearer token; the token itself is never kept. `admin` includes all other scopes."""

    sha256: Sha256
    principal: Name
    scopes: tuple[Scope, ...] = ("read",)


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """`rate_per_s` and `burst` are per key, or per address where no key is known.

    `outcome_timeout_s` is how long a POST waits for the service that decides it; `stream_buffer` is how many events a
    slow client of the stream may lag before it is skipped ahead; `max_streams` is how many one principal
    may have open. `swarm_open_requests` is of one swarm and kind, `swarm_open_intents` of one
    swarm; observations and recalls are of one key in one swarm,
    spawns (asked for, whatever becomes of them) of a swarm.
    `swarm_ceiling` is what a swarm may spend a minute where nobody set another; `global_budget` what all may; `max_swarms` may have a
    part of it.
    `four_eyes`, `approval_ttl_s` and `kill_switch` must be what the policy gate is told.
    """

    host: str = "127.0.0.1"
    port: int = 4096
    keys: tuple[Key, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    verdict_roots: tuple[str, ...] = ()
    cognition_enabled: bool = True
    four_eyes: bool = True
    loop_interval_ms: int = 2000
    approval_ttl_s: float = 3600.0
    kill_switch: Path | None = None
    rate_per_s: float = 200.0
    burst: int = 400
    max_body_bytes: int = 256 * 1024
    outcome_timeout_s: float = 5.0
    stream_buffer: int = 1000
    swarm_open_requests: int = 16
    swarm_open_intents: int = 256
    observations_per_minute: int = 120_000
    recalls_per_minute: int = 600
    spawns_per_minute: int = 600
    swarm_ceiling: Credits = Credits(tokens=200_000, compute_ms=600_000, actions=120, cost_microusd=10**11)
    global_budget: Credits = Credits(tokens=2_000_000, compute_ms=6_000_000, actions=1200, cost_microusd=10**12)
    max_swarms: int = 200
    max_streams: int = 256
    max_streams_total: int = 1024
    heartbeat_s: float = 15.0
    grace_s: float = 3.0

    @property
    def keyless(self) -> bool:
        return not self.keys


class Unsafe(Exception):
    """The settings would expose the mesh. Remedy: configure a key, or bind to a loopback address."""


def is_loopback(host: str) -> bool:
    """Whether a bind address or a `Host` header's name is this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def assert_safe(settings: GatewaySettings) -> None:
    """Raises `Unsafe` when no key is configured on a bind that others can reach."""
    if settings.keyless and not is_loopback(settings.host):
        raise Unsafe(
            f"no API key is configured and {settings.host} is no loopback address: configure http.keys or bind to 127.0.0.1"
        )
