"""A belief's life: a claim one persona had confirmed and offers to its swarm, what others hold for and against it, how it ends.

All that concerns one topic has the same last token in its subject, derived from the key, and `belief.*.<swarm>.>` is a swarm's
blackboard. Nothing here is the last word: what contradicts a belief stands beside it, and what is over has an interval.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from shared.contracts.events.common import MAX_REFS, Event, EvidenceRef, Ratio, Short
from shared.contracts.ids import Instant, LifeId, Token, caused_token

MAX_CONTRADICTIONS = 16
MAX_GROUNDS = 64
MAX_SOURCES = 64
BeliefStatus = Literal["active", "stale", "invalidated", "archived"]
Claim = Annotated[str, Meta(min_length=1, max_length=2000)]
Cited = Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_REFS)]
Ids = Annotated[tuple[Token, ...], Meta(max_length=MAX_CONTRADICTIONS)]
Grounds = Annotated[tuple[Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$(?!\n)")], ...], Meta(max_length=MAX_GROUNDS)]
"""What a claim rests on in the end: words from outside and measurements, each by the head of the SHA-256 of its text, so that the
same words recorded twice are the same ground, and nobody's own words are any."""


def topic_token(key: str) -> str:
    """The last token of the subjects of all beliefs with this key."""
    return caused_token(key, "k")


class BeliefEvent(Event, frozen=True, kw_only=True):
    """`persona` is whose word this is, and `by` too; on the blackboard of several swarms (`all`, `all`) `by` is the swarm's name.

    `key_id` is the topic, the fifth token of the subject. `evidence`, `grounds` and `tainted` are of what is said here; a belief is
    tainted when anything it was made from is.
    """

    key_id: LifeId
    belief_id: Token
    by: Token
    evidence: Cited = ()
    grounds: Grounds = ()
    tainted: bool = True


class BeliefAsserted(BeliefEvent, frozen=True, kw_only=True, tag="belief.asserted"):
    """A claim that a check confirmed, offered to others under a stable key. It held from `valid_from`; unless somebody brings
    something new by `review_after` it is stale then. `contradicts`: beliefs that say otherwise; they stand beside it.

    `sources`: on the blackboard of several swarms, the events of the beliefs it was made from.
    """

    belief_key: Short
    claim: Claim
    confidence: Ratio
    contradicts: Ids = ()
    valid_from: Instant
    review_after: Instant
    sources: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_SOURCES)] = ()


class BeliefConfirmed(BeliefEvent, frozen=True, kw_only=True, tag="belief.confirmed"):
    """Somebody else had the same confirmed, and on other grounds. `confidence` and `review_after` are the belief's from now on."""

    claim: Claim
    confidence: Ratio
    review_after: Instant
    sources: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_SOURCES)] = ()


class BeliefContested(BeliefEvent, frozen=True, kw_only=True, tag="belief.contested"):
    """Somebody's check refuted it, or somebody had the opposite confirmed: `claim` is what was refuted, or holds instead.

    `contradicts`: the beliefs that say the opposite. `confidence` is the belief's from now on.
    """

    claim: Annotated[str, Meta(max_length=2000)]
    confidence: Ratio
    reason: Literal["refuted_check", "opposite_claim"] = "refuted_check"
    contradicts: Ids = ()
    sources: Annotated[tuple[EvidenceRef, ...], Meta(max_length=MAX_SOURCES)] = ()


class BeliefRevised(BeliefEvent, frozen=True, kw_only=True, tag="belief.revised"):
    """It now stands like this. `invalidated` and `archived` are its end, at `valid_to`; `active` is new evidence of somebody who
    holds it already. `settled`: nothing that stands speaks against it any more."""

    confidence: Ratio
    status: BeliefStatus
    reason: Annotated[str, Meta(max_length=1000)] = ""
    review_after: Instant | None = None
    valid_to: Instant | None = None
    settled: bool = False
