"""Who lives under whom: the fold of `persona.*` and `spawn.refused`.

A persona is live, then draining, then reaped; it never goes back and its id is never given again. Counts and indexes are
kept beside the tree, so that a spawn costs the same in a lineage of ten and of ten thousand.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import msgspec

from services.governor.limits import Limits
from shared.contracts.envelope import Recorded
from shared.contracts.events import PersonaDraining, PersonaReaped, PersonaSpawned, SpawnRefused
from shared.contracts.persona import PersonaPolicy

REMEMBERED_REFUSALS = 1000


class Member(msgspec.Struct, kw_only=True):
    """One persona, for ever. `request` is the id of the event that asked for it."""

    parent: str | None
    depth: int
    policy: PersonaPolicy
    created_at: datetime
    request: str | None
    charter: str | None
    hibernates: bool = False
    phase: Literal["live", "draining", "reaped"] = "live"
    children: list[str] = []
    live_children: int = 0
    reason: str = ""
    deadline: datetime | None = None


class Lineage(msgspec.Struct, kw_only=True):
    """One swarm's personas. `recent` holds the latest creation times, sorted, as many as the spawn rate needs.

    `orphans` are live with a parent that is not; `refused` holds the last request ids answered with no.
    """

    members: dict[str, Member] = {}
    live: int = 0
    live_roots: int = 0
    recent: list[datetime] = []
    orphans: dict[str, None] = {}
    draining: dict[str, None] = {}
    refused: dict[str, None] = {}

    def is_live(self, persona: str) -> bool:
        member = self.members.get(persona)
        return member is not None and member.phase == "live"

    def ancestors(self, persona: str) -> Iterator[tuple[str, Member]]:
        """The persona itself, its parent, and so on to the root."""
        name: str | None = persona
        while name is not None and (member := self.members.get(name)) is not None:
            yield name, member
            name = member.parent

    def subtree(self, persona: str) -> Iterator[tuple[str, Member]]:
        """The persona and its descendants, parents before children, whatever their phase."""
        level = [persona]
        while level:
            below: list[str] = []
            for name in level:
                member = self.members[name]
                yield name, member
                below += member.children
            level = below


def evolve(lineage: Lineage, recorded: Recorded, limits: Limits) -> None:
    """Takes one event in, in place."""
    match recorded.event:
        case PersonaSpawned() as event:
            _spawned(lineage, event, recorded, limits)
        case PersonaDraining(persona=persona) as event:
            member = lineage.members.get(persona)
            if member is not None and member.phase == "live":
                _end(lineage, persona, member)
                member.phase, member.reason, member.deadline = "draining", event.reason, event.deadline
                lineage.draining[persona] = None
        case PersonaReaped(persona=persona):
            member = lineage.members.get(persona)
            if member is not None and member.phase != "reaped":
                if member.phase == "live":
                    _end(lineage, persona, member)
                member.phase = "reaped"
                lineage.draining.pop(persona, None)
        case SpawnRefused() if recorded.envelope.causation is not None:
            lineage.refused[recorded.envelope.causation] = None
            if len(lineage.refused) > REMEMBERED_REFUSALS:
                del lineage.refused[next(iter(lineage.refused))]
        case _:
            pass


def _spawned(lineage: Lineage, event: PersonaSpawned, recorded: Recorded, limits: Limits) -> None:
    identity, envelope = event.identity, recorded.envelope
    if identity.id in lineage.members:
        return
    lineage.members[identity.id] = Member(
        parent=identity.parent_id,
        depth=identity.depth,
        policy=event.policy,
        created_at=identity.created_at,
        request=envelope.causation,
        charter=envelope.charter,
        hibernates=event.hibernates,
    )
    lineage.live += 1
    insort(lineage.recent, identity.created_at)
    del lineage.recent[: -limits.spawns_per_minute]
    if identity.parent_id is None:
        lineage.live_roots += 1
    elif (parent := lineage.members.get(identity.parent_id)) is not None:
        parent.children.append(identity.id)
        parent.live_children += 1
        if parent.phase != "live":
            lineage.orphans[identity.id] = None


def _end(lineage: Lineage, persona: str, member: Member) -> None:
    """A live member is live no more."""
    lineage.live -= 1
    lineage.orphans.pop(persona, None)
    if member.parent is None:
        lineage.live_roots -= 1
    elif (parent := lineage.members.get(member.parent)) is not None:
        parent.live_children -= 1
    lineage.orphans.update((child, None) for child in member.children if lineage.is_live(child))
