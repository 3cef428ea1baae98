"""Who a persona is, what it may use, and the hash that ties every event to its charter."""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec

from shared.contracts.capabilities import Capabilities
from shared.contracts.ids import Instant, Token

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
Tags = Annotated[tuple[Annotated[str, msgspec.Meta(max_length=64)], ...], msgspec.Meta(max_length=64)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=120)]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Immutable for the persona's whole life; a changed charter is a new version by an approved proposal."""

    id: Token
    name: Name
    role: Name
    charter: Text
    swarm_id: Token
    parent_id: Token | None = None
    depth: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0
    created_at: Instant
    tags: Tags = ()


class PersonaPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Hard limits of one persona; a child's are clamped to its parent's.

    `idle_ttl_secs`: so long without useful progress a persona lives; 0: for ever. `allowed_tools` narrows which action kinds the
    persona may propose; empty narrows nothing (the policy gate still decides). `capabilities` None: none are stated; a child's are
    never wider than its parent's: a wish for more is refused, not clamped.
    """

    max_spawn_depth: Annotated[int, msgspec.Meta(ge=0, le=64)] = 4
    max_branching_factor: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 4
    token_budget_per_minute: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 20_000
    compute_ms_per_minute: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 10_000
    idle_ttl_secs: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = 3600
    share_memory: bool = False
    allowed_tools: Tags = ()
    capabilities: Capabilities | None = None


NEVER = 2**63
"""What an `idle_ttl_secs` of 0 compares as."""


def charter_sha256(identity: Identity) -> str:
    """SHA-256 over the identity in canonical field order; it travels on every event the persona causes."""
    return hashlib.sha256(msgspec.json.encode(identity, order="deterministic")).hexdigest()


def clamp(child: PersonaPolicy, parent: PersonaPolicy) -> PersonaPolicy:
    """The child's policy with no limit wider than its parent's, where its capabilities are not (`capabilities.excess`)."""
    tools = child.allowed_tools
    if parent.allowed_tools:
        tools = tuple(t for t in child.allowed_tools if t in parent.allowed_tools) or parent.allowed_tools
    return PersonaPolicy(
        max_spawn_depth=min(child.max_spawn_depth, parent.max_spawn_depth),
        max_branching_factor=min(child.max_branching_factor, parent.max_branching_factor),
        token_budget_per_minute=min(child.token_budget_per_minute, parent.token_budget_per_minute),
        compute_ms_per_minute=min(child.compute_ms_per_minute, parent.compute_ms_per_minute),
        idle_ttl_secs=min((child.idle_ttl_secs, parent.idle_ttl_secs), key=lambda ttl: ttl or NEVER),
        share_memory=child.share_memory and parent.share_memory,
        allowed_tools=tools,
        capabilities=parent.capabilities if child.capabilities is None else child.capabilities,
    )
