"""Who lives under whom in one swarm: the fold of `persona.*` and `spawn.refused`.

A persona is live, then draining, then reaped; it never goes back and its id is never given again. Counts and indexes are
kept beside the tree, so that a spawn costs the same in a lineage of ten and of ten thousand.

A child that began a swarm of its own lives in that one's lineage, at its top, and knows its `mother`. Here it is a *daughter*: it counts
as its parent's child, and its budgets are lent to it by the parent and all above, until it drains and has parted.

Who was reaped leaves the tree: not at once, for grants, actions and repeated requests come a little later, and not before all
below it have left. For ever only eight bytes of its id's hash are kept: ids that hash alike are refused, never given twice.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from services.governor.limits import Limits
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    PersonaDraining,
    PersonaFounded,
    PersonaParted,
    PersonaReaped,
    PersonaSpawned,
    SpawnRefused,
)
from shared.contracts.ids import hash64
from shared.contracts.persona import PersonaPolicy

REMEMBERED_REFUSALS = 1000
NO_DEPTH = 2**32
"""Deeper than any persona may be."""
STAYS = timedelta(hours=1)
"""So long a reaped persona stays in the tree: longer than grants and authorisations last."""


class Member(msgspec.Struct, kw_only=True):
    """One persona in the tree. `request` is the id of the event that asked for it; `had_children` counts all there ever were.

    `mother`: swarm and id of a parent that lives in another swarm; then `parent` is None. `lent_tokens`, `lent_compute_ms`: a minute, to
    the daughters of its own and of those below it.
    """

    parent: str | None
    depth: int
    policy: PersonaPolicy
    created_at: datetime
    request: str | None
    charter: str | None
    hibernates: bool = False
    phase: Literal["live", "draining", "reaped"] = "live"
    children: dict[str, None] = {}
    had_children: int = 0
    live_children: int = 0
    reason: str = ""
    deadline: datetime | None = None
    mother: tuple[str, str] | None = None
    lent_tokens: int = 0
    lent_compute_ms: int = 0

    @property
    def tokens(self) -> int:
        """What it and all below it here may spend a minute."""
        return max(0, self.policy.token_budget_per_minute - self.lent_tokens)

    @property
    def compute_ms(self) -> int:
        return max(0, self.policy.compute_ms_per_minute - self.lent_compute_ms)


class Daughter(msgspec.Struct, frozen=True, kw_only=True):
    """Who began a swarm: the child, its parent here, and what was lent to it."""

    child: str
    parent: str
    tokens: int
    compute_ms: int


class Lineage(msgspec.Struct, kw_only=True):
    """One swarm's personas. `recent` holds the latest creation times, sorted, as many as the spawn rate needs.

    `orphans` are live with a parent that is not; `refused` holds the last request ids answered with no. `given` holds the hash of
    every id there ever was, `reaped` when those ended that have yet to leave. `daughters` by the swarm each began.
    """

    members: dict[str, Member] = {}
    given: set[int] = set()
    reaped: dict[str, datetime] = {}
    live: int = 0
    live_roots: int = 0
    recent: list[datetime] = []
    orphans: dict[str, None] = {}
    draining: dict[str, None] = {}
    refused: dict[str, None] = {}
    daughters: dict[str, Daughter] = {}

    def was_given(self, persona: str) -> bool:
        """Whether there is or was a persona of this id."""
        return hash64(persona) in self.given

    def is_live(self, persona: str) -> bool:
        member = self.members.get(persona)
        return member is not None and member.phase == "live"

    def ancestors(self, persona: str) -> Iterator[tuple[str, Member]]:
        """The persona itself, its parent, and so on to the root: depths fall on the way, so a circle that was stored ends."""
        name: str | None = persona
        depth = NO_DEPTH
        while name is not None and (member := self.members.get(name)) is not None and member.depth < depth:
            yield name, member
            name, depth = member.parent, member.depth

    def subtree(self, persona: str) -> Iterator[tuple[str, Member]]:
        """The persona and its descendants, parents before children, whatever their phase."""
        level = [persona]
        while level:
            below: list[str] = []
            for name in level:
                member = self.members[name]
                yield name, member
                below += (child for child in member.children if self.members[child].depth > member.depth)
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
                lineage.reaped[persona] = recorded.envelope.time
            _forget(lineage, recorded.envelope.time)
        case PersonaFounded() as event:
            _founded(lineage, event, limits)
        case PersonaParted(daughter=name, child=child):
            daughter = lineage.daughters.get(name)
            if daughter is not None and daughter.child == child:
                del lineage.daughters[name]
                if (parent := lineage.members.get(daughter.parent)) is not None:
                    parent.live_children -= 1
                _lend(lineage, daughter, -1)
        case SpawnRefused() if recorded.envelope.causation is not None:
            lineage.refused[recorded.envelope.causation] = None
            if len(lineage.refused) > REMEMBERED_REFUSALS:
                del lineage.refused[next(iter(lineage.refused))]
        case _:
            pass


def _spawned(lineage: Lineage, event: PersonaSpawned, recorded: Recorded, limits: Limits) -> None:
    identity, envelope = event.identity, recorded.envelope
    if lineage.was_given(identity.id):
        return
    lineage.given.add(hash64(identity.id))
    parent_id = identity.parent_id if event.parent_swarm is None else None
    lineage.members[identity.id] = Member(
        parent=parent_id,
        depth=identity.depth,
        policy=event.policy,
        created_at=identity.created_at,
        request=envelope.causation,
        charter=envelope.charter,
        hibernates=event.hibernates,
        mother=event.parent if event.parent_swarm is not None else None,
    )
    lineage.live += 1
    _count(lineage, identity.created_at, limits)
    if parent_id is None:
        lineage.live_roots += 1
    elif (parent := lineage.members.get(parent_id)) is not None:
        parent.children[identity.id] = None
        parent.had_children += 1
        parent.live_children += 1
        if parent.phase != "live":
            lineage.orphans[identity.id] = None


def _founded(lineage: Lineage, event: PersonaFounded, limits: Limits) -> None:
    if event.daughter in lineage.daughters:
        return
    daughter = Daughter(
        child=event.child,
        parent=event.persona,
        tokens=event.policy.token_budget_per_minute,
        compute_ms=event.policy.compute_ms_per_minute,
    )
    lineage.daughters[event.daughter] = daughter
    _count(lineage, event.created_at, limits)
    if (parent := lineage.members.get(event.persona)) is not None:
        parent.had_children += 1
        parent.live_children += 1
    _lend(lineage, daughter, 1)


def _lend(lineage: Lineage, daughter: Daughter, sign: int) -> None:
    for _, member in lineage.ancestors(daughter.parent):
        member.lent_tokens = max(0, member.lent_tokens + sign * daughter.tokens)
        member.lent_compute_ms = max(0, member.lent_compute_ms + sign * daughter.compute_ms)


def _count(lineage: Lineage, created_at: datetime, limits: Limits) -> None:
    insort(lineage.recent, created_at)
    del lineage.recent[: -limits.spawns_per_minute]


def _end(lineage: Lineage, persona: str, member: Member) -> None:
    """A live member is live no more."""
    lineage.live -= 1
    lineage.orphans.pop(persona, None)
    if member.parent is None:
        lineage.live_roots -= 1
    elif (parent := lineage.members.get(member.parent)) is not None:
        parent.live_children -= 1
    lineage.orphans.update((child, None) for child in member.children if lineage.is_live(child))


def _forget(lineage: Lineage, now: datetime) -> None:
    """Who was reaped long ago leaves, and those above it that stayed only for its sake."""
    while lineage.reaped and now - lineage.reaped[first := next(iter(lineage.reaped))] > STAYS:
        del lineage.reaped[first]
        name: str | None = first
        while name is not None and (member := lineage.members.get(name)) is not None:
            if member.phase != "reaped" or member.children or name in lineage.reaped:
                break
            del lineage.members[name]
            if member.parent is not None and (parent := lineage.members.get(member.parent)) is not None:
                parent.children.pop(name, None)
            name = member.parent
