"""The filter strings of boundaries, each in one place.

Everybody who writes on a boundary carries the same string: on several brokers, what is in flight is compared by that string
alone, so two filters over one subject would not see each other's uncommitted writes.
"""

from __future__ import annotations


def thoughts(swarm: str, persona: str) -> str:
    """One history per persona; the governor's seal ends it."""
    return f"thought.*.{swarm}.{persona}"


def lots(swarm: str) -> str:
    """The action limits of a swarm and its personas."""
    return f"lot.granted.{swarm}.*"
