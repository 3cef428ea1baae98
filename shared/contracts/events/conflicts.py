"""Proposals that cannot both be done: who met on what, how it was ruled, and the hold an exclusive action has on its target.

What is said of a conflict is on `conflict.<verb>.all.all.<target>`: one boundary a target, whose conflicts are numbered from 1
(`generation`). What it means for one proposal is said in that proposal's life, in the same batch, so the verdict of the gate is
guarded by it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.contracts.events.common import MAX_REFS, Count, Event, EvidenceRef, ProposalEvent, Risk, Short
from shared.contracts.ids import EVERYONE, EventId, Instant, LifeId, Sha256, Token
from shared.contracts.persona import Name

MAX_SIDES = 16
"""Of one conflict; who comes beyond them has lost."""
Strategy = Literal["order", "vote", "person"]
"""What rules where effects differ: the order of the proposals, the personas of the swarms concerned, or a person."""
Resolution = Literal["combine", "merge", "order", "vote", "person", "standing", "too_often", "lapsed"]
"""How it was ruled: both, for they touch different things; one, for they do the same; by a strategy; the one a ruling stands for
goes first; who has lost too often loses at once; nobody is left to rule on."""
Generation = Annotated[int, Meta(ge=1, le=2**53)]
_Target = Annotated[str, Meta(max_length=1100)]


class ProposalKey(msgspec.Struct, frozen=True, kw_only=True):
    """Names one proposal: an id alone may be two."""

    swarm: Token
    persona: Token
    proposal_id: LifeId


class Side(ProposalKey, frozen=True, kw_only=True):
    """A proposal in a conflict, and what it is ordered by; nothing of it is the persona's own word.

    `seq` is where it was verified. `exact` tells apart what only nearly met, `effect` what would be done. `depth` of the persona, 0
    for a root. `evidence`: cited events, as far as they count.
    """

    seq: Count
    exact: Sha256
    effect: Sha256
    risk: Risk
    depth: Count = 0
    evidence: Count = 0
    deadline: Instant
    title: Short = ""


Sides = Annotated[tuple[Side, ...], Meta(max_length=MAX_SIDES)]
Keys = Annotated[tuple[ProposalKey, ...], Meta(max_length=MAX_SIDES)]


class ConflictEvent(Event, frozen=True, kw_only=True):
    """An event on the boundary of one target; its token is the fifth of the subject, `swarm` and `persona` are `all`."""

    swarm: Token = EVERYONE
    persona: Token = EVERYONE
    target_id: LifeId
    generation: Generation


class ConflictRaised(ConflictEvent, frozen=True, kw_only=True, tag="conflict.raised"):
    """Open proposals touch one target, or rest on grounds of which one contradicts the other.

    At `until` it is ruled without people, if nothing has ruled before.
    """

    what: Literal["target", "grounds"] = "target"
    target: _Target
    sides: Annotated[tuple[Side, ...], Meta(min_length=2, max_length=MAX_SIDES)]
    strategy: Strategy = "order"
    until: Instant


class ConflictExtended(ConflictEvent, frozen=True, kw_only=True, tag="conflict.extended"):
    """One more has come while it was open."""

    side: Side


class ConflictRuled(ConflictEvent, frozen=True, kw_only=True, tag="conflict.ruled"):
    """A person says who goes first."""

    winner: ProposalKey
    principal: Name
    reason: Annotated[str, Meta(max_length=1000)] = ""


class ConflictResolved(ConflictEvent, frozen=True, kw_only=True, tag="conflict.resolved"):
    """How the conflict ended: who goes on, who has lost, and why."""

    resolution: Resolution
    kept: Keys = ()
    lost: Keys = ()
    reason: Annotated[str, Meta(max_length=1000)] = ""


class ConflictJoined(ProposalEvent, frozen=True, kw_only=True, tag="conflict.joined"):
    """In a proposal's life: until the conflict is settled it is not authorised."""

    target_id: LifeId
    generation: Generation
    others: Keys = ()


class ConflictSettled(ProposalEvent, frozen=True, kw_only=True, tag="conflict.settled"):
    """In a proposal's life: it goes on, or has lost to `winner`. `evidence`: what those cited that wanted the same."""

    target_id: LifeId
    generation: Generation
    outcome: Literal["kept", "lost"]
    winner: ProposalKey | None = None
    resolution: Resolution
    reason: Annotated[str, Meta(max_length=1000)] = ""
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()


class TargetHeld(Event, frozen=True, kw_only=True, tag="target.held"):
    """An exclusive action has this target until its outcome is known; `persona` is the target's token. In one batch with the claim."""

    swarm: Token = EVERYONE
    holder: ProposalKey
    target: _Target


class TargetFreed(Event, frozen=True, kw_only=True, tag="target.freed"):
    """It is over: in one batch with the outcome, or with a person's word on one that was unknown."""

    swarm: Token = EVERYONE
    holder: ProposalKey


class ActionResolved(ProposalEvent, frozen=True, kw_only=True, tag="action.resolved"):
    """A person says what became of an action whose outcome was `unknown`."""

    digest: Sha256
    outcome: Literal["success", "failure"]
    executed_id: EventId
    principal: Name
    reason: Annotated[str, Meta(min_length=1, max_length=1000)]
