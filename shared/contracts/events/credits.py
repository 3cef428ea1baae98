"""Who may spend how much: grants to runners, lots of actions to actuators, shares of swarms and what people want them to be."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.contracts.capabilities import MAX_SCOPES
from shared.contracts.events.common import Count, Event, Reason, Short, Window
from shared.contracts.events.conflicts import ProposalKey
from shared.contracts.ids import CORE, EventId, Instant, Slot, Token
from shared.contracts.persona import Name

MAX_SWARMS = 1000
"""That may have a share of the global budget at once."""


class Credits(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of models, milliseconds of compute, actions on the world, money in millionths of a dollar."""

    tokens: Count = 0
    compute_ms: Count = 0
    actions: Count = 0
    cost_microusd: Count = 0


class GrantRequested(Event, frozen=True, kw_only=True, tag="grant.requested"):
    """A runner asks for credits ahead of need; `closing` settles the grant it is done with at what it really used."""

    need: Credits
    closing: EventId | None = None
    used: Credits = Credits()
    slot: Slot = CORE


class BudgetGranted(Event, frozen=True, kw_only=True, tag="budget.granted"):
    """Credits to spend until `expires_at`, debited in `window` (minutes since 1970) from the persona and all its ancestors."""

    grant_id: EventId
    window: Window
    credits: Credits
    expires_at: Instant


class BudgetSettled(Event, frozen=True, kw_only=True, tag="budget.settled"):
    """What a grant cost in the end; `in_full` when it expired unclosed and so counts as spent."""

    grant_id: EventId
    window: Window
    credits: Credits
    in_full: bool = False


class BudgetExhausted(Event, frozen=True, kw_only=True, tag="budget.exhausted"):
    """No: `scope` (persona, an ancestor's id, swarm, or not_live) has too little of `resource` left before `retry_at`.

    With a `need` the persona stands in line for it and is granted it as soon as there is room; it asks again at `retry_at` if not.
    """

    scope: Short
    resource: Literal["tokens", "compute_ms", "actions", "cost_microusd"]
    retry_at: Instant
    need: Credits = Credits()


class BudgetRefused(Event, frozen=True, kw_only=True, tag="budget.refused"):
    """Spending or a closing that rests on no grant of the persona's: no_grant, unknown_grant or anothers_grant.

    `credits` were spent all the same and are charged in `window` like a grant's; a closing changes nothing. `upto` is the
    sequence of the persona's last thought looked at.
    """

    reason: Reason
    grant_id: EventId | None = None
    window: Window
    credits: Credits = Credits()
    upto: Count = 0


class LotShare(msgspec.Struct, frozen=True, kw_only=True):
    """Actions of one persona; where there are none, `scope` (persona, an ancestor's id, swarm) says whose limit it is."""

    persona: Token
    actions: Count
    scope: Short = ""


class ScopeUse(msgspec.Struct, frozen=True, kw_only=True):
    """What the day has of one scope: how many actions, and what they cost."""

    scope: Count
    actions: Count = 0
    microusd: Count = 0


class AllowanceUsed(Event, frozen=True, kw_only=True, tag="allowance.used"):
    """What the limited scopes of a persona have done of `day` (days since 1970, UTC), with the action of `by`, its own or of somebody below
    it. In one batch with that one's claim; the newest tells it all."""

    day: Count
    used: Annotated[tuple[ScopeUse, ...], Meta(max_length=MAX_SCOPES)]
    by: ProposalKey


Shares = Annotated[tuple[LotShare, ...], Meta(max_length=256)]


class LotRequested(Event, frozen=True, kw_only=True, tag="lot.requested"):
    """An actuator, named as `persona`, wants to do so many actions of these personas."""

    wants: Shares


class LotGranted(Event, frozen=True, kw_only=True, tag="lot.granted"):
    """Actions that the actuator may do until `expires_at`, debited in `window` from each persona, all above it and the swarm.

    `held` is what was wanted beyond them, and whose limit was in the way. A lot is debited as a whole, done or not.
    """

    lot_id: EventId
    window: Window
    shares: Shares = ()
    held: Shares = ()
    expires_at: Instant


class SwarmShare(msgspec.Struct, frozen=True, kw_only=True):
    """What one swarm is to have a minute."""

    swarm: Token
    credits: Credits


class AllocationChanged(Event, frozen=True, kw_only=True, tag="allocation.changed"):
    """How the global budget is to be shared among the swarms from now on, whole; `swarm` and `persona` are `all`.

    It is a wish: what holds is what the governor has written (`budget.limited`). A swarm that is not named keeps what it has.
    """

    shares: Annotated[tuple[SwarmShare, ...], Meta(max_length=MAX_SWARMS)] = ()
    window: Window = 0
    reason: Annotated[str, Meta(max_length=1000)] = ""


class BudgetLimited(Event, frozen=True, kw_only=True, tag="budget.limited"):
    """What a swarm may spend a minute from here on, in `window` and later, until the next one; `persona` is `all`.

    A swarm without one may spend nothing. Of the swarm `all`, and in the same batch: what no swarm has now. `window` never falls,
    and what a swarm had at any time in it counts against the others to its end. `source`: the swarm began with `carved` of that
    one's share, as the reason `founded` says; what there is no room for in this minute comes with the next.
    """

    credits: Credits
    window: Window
    reason: Reason = "allocated"
    source: Token | None = None
    carved: Credits = Credits()


class Most(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody may have at most of each; None: what the settings say."""

    tokens: Count | None = None
    compute_ms: Count | None = None
    actions: Count | None = None
    cost_microusd: Count | None = None


class LimitsChanged(Event, frozen=True, kw_only=True, tag="limits.changed"):
    """What a person wants a swarm to have, whole: at least `floor` when it has use for it, at most `ceiling`, and how it weighs.

    It wins over what the allocator wants, is in force at once, and takes nothing back. `version` counts from 1; `persona` is `all`.
    """

    version: Annotated[int, Meta(ge=1, le=2**53)]
    floor: Credits = Credits()
    ceiling: Most = Most()
    weight: Annotated[int, Meta(ge=1, le=10_000)] = 100
    principal: Name
    reason: Annotated[str, Meta(max_length=1000)] = ""
