"""An intent's life: a goal for somebody, who has it until when, what they answered, what came of it.

What is said of the intent itself is on `intent.<verb>.<home>.all.<intent>`, of which `home` is the swarm it was submitted to; what
concerns one persona that has it, on that persona's own subject, with the intent's id behind it.

What a runner has to know: `intent.assigned` on the persona's subject makes a goal of its own until `until`; it answers by one
`intent.answered` with the assignment's `home`, `intent_id` and `route`, or declines by the same (`declined`, and `answer` says why).
Only the first for a route counts, only from who holds the persona, and only while the route is open; after its end it is dissent, and
after a cancellation nothing. `intent.released` for that `route` ends it before: nothing more is to be spent on it. `spent` counts up to
the assignment's `budget`. A route whose time is over is charged in full.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.contracts.events.common import MAX_REFS, Count, Event, EvidenceRef, Lines, Ratio, Reason, Short
from shared.contracts.events.conflicts import ProposalKey
from shared.contracts.events.credits import Credits
from shared.contracts.ids import CORE, EventId, Instant, LifeId, Slot, Token
from shared.contracts.persona import Name

MAX_FAN_OUT = 16
REPORT = "report"
"""The tag of an intent whose answer is to be written down: who answers proposes it as a file, and all of them the same file."""
MAX_ROUTES = 64
"""Of one intent, over all its rounds."""
Merge = Literal["first", "best", "vote", "combine"]
"""How answers become one: the first, the surest, what most choose, or all together."""
Goal = Annotated[str, Meta(min_length=1, max_length=2000)]
Result = Annotated[str, Meta(max_length=8000)]
Tags = Annotated[tuple[Token, ...], Meta(max_length=16)]
Options = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=120)], ...], Meta(max_length=16)]


class IntentEvent(Event, frozen=True, kw_only=True):
    """An event in one intent's life; the intent's id is the fifth token of its subject."""

    intent_id: LifeId


class IntentSubmitted(IntentEvent, frozen=True, kw_only=True, tag="intent.submitted"):
    """A goal for somebody; `swarm` is its home and `persona` is `all`.

    `tags` are capabilities wanted. `priority` 0 to 9, higher first. `budget` bounds what all who work on it may spend on it
    together, and what intents made of it may have (`parent_id`, of the same home). `options`: what a vote is between.
    `among`: it is for personas of these swarms, as many of each as there are.
    `proposal`: a persona proposed it, and is told what came of it.
    """

    goal: Goal
    tags: Tags = ()
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    deadline: Instant
    budget: Credits = Credits()
    wanted_swarm: Token | None = None
    wanted_persona: Token | None = None
    among: Annotated[tuple[Token, ...], Meta(max_length=16)] = ()
    fan_out: Annotated[int, Meta(ge=1, le=MAX_FAN_OUT)] = 1
    merge: Merge = "first"
    options: Options = ()
    max_routes: Annotated[int, Meta(ge=1, le=MAX_ROUTES)] = 8
    parent_id: LifeId | None = None
    principal: Name
    tainted: bool = False
    proposal: ProposalKey | None = None


class IntentDelegated(IntentEvent, frozen=True, kw_only=True, tag="intent.delegated"):
    """In the life of the parent: so much of its budget is now that of `child_id`; in one batch with the child's submission."""

    child_id: LifeId
    budget: Credits


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A persona that was considered, with its scores in 0…1: higher is better, `total` is what they were ordered by."""

    swarm: Token
    persona: Token
    capability: Ratio = 0.0
    load: Ratio = 0.0
    price: Ratio = 0.0
    success: Ratio = 0.0
    memory: Ratio = 0.0
    total: Ratio = 0.0
    note: Annotated[str, Meta(max_length=200)] = ""


class IntentRouted(IntentEvent, frozen=True, kw_only=True, tag="intent.routed"):
    """Who has it until `until`, as a lease: `to` were assigned it in the same batch, each with `budget` of the intent's.

    `why` has the best candidates with their scores, those chosen among them. `route` counts the intent's routes from 1.
    """

    to: Annotated[tuple[Candidate, ...], Meta(min_length=1, max_length=MAX_FAN_OUT)]
    until: Instant
    route: Annotated[int, Meta(ge=1, le=MAX_ROUTES)]
    budget: Credits = Credits()
    why: Annotated[tuple[Candidate, ...], Meta(max_length=32)] = ()
    reason: Annotated[str, Meta(max_length=1000)] = ""


class IntentDelayed(IntentEvent, frozen=True, kw_only=True, tag="intent.delayed"):
    """Nobody suitable has it: why, and when somebody is looked for again."""

    reason: Reason
    detail: Annotated[str, Meta(max_length=1000)] = ""
    until: Instant


class IntentAssigned(IntentEvent, frozen=True, kw_only=True, tag="intent.assigned"):
    """To one persona, until `until`: work on this, and answer or decline. `budget` is its part of the intent's."""

    home: Token
    goal: Goal
    tags: Tags = ()
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    merge: Merge = "first"
    options: Options = ()
    until: Instant
    budget: Credits = Credits()
    route: Annotated[int, Meta(ge=1, le=MAX_ROUTES)] = 1
    principal: Name
    tainted: bool = False


class IntentReleased(IntentEvent, frozen=True, kw_only=True, tag="intent.released"):
    """To one persona that was assigned it: no longer; work on it stops. The intent is cancelled, closed, or someone else's."""

    home: Token
    route: Annotated[int, Meta(ge=1, le=MAX_ROUTES)] = 1
    reason: Reason


class IntentReturned(IntentEvent, frozen=True, kw_only=True, tag="intent.returned"):
    """In the intent's life: a route of one persona ended without an answer, why, and what it is charged with.

    Reasons: declined, expired, draining, reaped, no_budget, cancelled. In one batch with the persona's `intent.released` unless the
    persona itself declined.
    """

    of_swarm: Token
    of_persona: Token
    route: Annotated[int, Meta(ge=1, le=MAX_ROUTES)]
    reason: Reason
    detail: Short = ""
    spent: Credits = Credits()


class IntentAnswered(IntentEvent, frozen=True, kw_only=True, tag="intent.answered"):
    """A persona's answer with evidence and confidence, or, `declined`, that it has none, and why."""

    home: Token
    route: Annotated[int, Meta(ge=1, le=MAX_ROUTES)] = 1
    declined: bool = False
    answer: Result = ""
    choice: Annotated[str, Meta(max_length=120)] = ""
    confidence: Ratio = 0.0
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()
    spent: Credits = Credits()
    tainted: bool = True
    slot: Slot = CORE


class Contribution(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, by the id of its event."""

    swarm: Token
    persona: Token
    answer_id: EventId
    seq: Count = 0
    confidence: Ratio = 0.0
    choice: Annotated[str, Meta(max_length=120)] = ""
    text: Annotated[str, Meta(max_length=600)] = ""


class IntentAccepted(IntentEvent, frozen=True, kw_only=True, tag="intent.accepted"):
    """In the intent's life: an answer of who held a route, which counts. `evidence` is what of the cited was found in the log and may
    be read by that persona; `unresolved` counts the rest."""

    by: Contribution
    route: Annotated[int, Meta(ge=1, le=MAX_ROUTES)]
    answer: Result = ""
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()
    unresolved: Count = 0
    spent: Credits = Credits()
    tainted: bool = True


class IntentCancelled(IntentEvent, frozen=True, kw_only=True, tag="intent.cancelled"):
    """Somebody wants it no longer; so do intents made of it end. An intent that is closed stays closed."""

    principal: Name
    reason: Annotated[str, Meta(max_length=1000)] = ""


Contributions = Annotated[tuple[Contribution, ...], Meta(max_length=MAX_ROUTES)]


class IntentClosed(IntentEvent, frozen=True, kw_only=True, tag="intent.closed"):
    """What came of it: the merged result, who contributed, who dissented; or `failed`, with the reasons of each route.

    `reason`: merged, with fewer answers than were wanted (partial), a vote without a winner (tie, and `choice` is empty); of what
    failed deadline, no_budget, routes_used_up. `choice` is what a vote chose.
    """

    outcome: Literal["answered", "failed"]
    result: Result = ""
    choice: Annotated[str, Meta(max_length=120)] = ""
    confidence: Ratio = 0.0
    evidence: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)] = ()
    contributors: Contributions = ()
    dissent: Contributions = ()
    reasons: Lines = ()
    reason: Short = ""
    spent: Credits = Credits()
    tainted: bool = True


class IntentDissented(IntentEvent, frozen=True, kw_only=True, tag="intent.dissented"):
    """An answer that came after its route or the intent had ended: kept beside the result, changing nothing of it."""

    late: Contribution
    route: Annotated[int, Meta(ge=1, le=MAX_ROUTES)] = 1
