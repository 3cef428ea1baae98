"""What follows for a blackboard from one claim that a check confirmed or refuted. Pure; the rules of believing.

Who says something is a persona, or, on the blackboard of several swarms, a swarm: the rules are the same.

- The same claim, by somebody else, on grounds of which the belief has none: it is confirmed. On the same grounds it is an echo, and
  says nothing. By somebody who holds it already, on new grounds: it is revised, and due for review later.
- The opposite: it is asserted too, beside the other, and both say that they contradict each other. Neither wins.
- Neither the same nor the opposite, by words alone: it is another belief on the topic.
- Somebody's own earlier claim ends where the later one begins, unless others hold it: then it stands, without its author.
- A refuted claim contests the belief that says it; its author's own, that nobody else holds, ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta

import msgspec

from services.memory_compactor.believing.board import Belief, Board, claim_key
from shared.contracts.events import (
    AnyEvent,
    BeliefAsserted,
    BeliefConfirmed,
    BeliefContested,
    BeliefRevised,
    EvidenceRef,
)
from shared.contracts.events.beliefs import MAX_CONTRADICTIONS, BeliefStatus
from shared.contracts.ids import EVERYONE
from shared.memory.dedup import Said, relation

MAX_BELIEFS = 512
"""That stand on one blackboard."""
MAX_EVIDENCE = 32
REFUTED = 1.0
"""How sure a refuted check is."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody says now. `id` names the belief it would become; `at` is since when it holds and `seq` where it was
    said; `review_after`: until when it need not be looked at again."""

    id: str
    swarm: str
    by: str
    key_id: str
    key: str
    text: str
    confidence: float
    confirmed: bool
    evidence: tuple[EvidenceRef, ...] = ()
    grounds: tuple[str, ...] = ()
    tainted: bool = True
    sources: tuple[EvidenceRef, ...] = ()
    at: datetime
    seq: int
    review_after: datetime

    @property
    def persona(self) -> str:
        """Whose subject it is said on."""
        return EVERYONE if self.swarm == EVERYONE else self.by


def judge(board: Board, claim: Claim) -> tuple[AnyEvent, ...]:
    """The events that follow, to be committed together; none when it says nothing new."""
    said = Said(claim.text)
    standing = board.on(claim.key_id)
    how = {belief.id: relation(said, Said(belief.claim)) for belief in standing}
    same = next((belief for belief in standing if how[belief.id] == "same"), None)
    if not claim.confirmed:
        return () if same is None or claim.seq < same.seq else _refuted(board, same, claim)
    if same is None and claim.seq < board.ends.get(claim_key(claim.key_id, claim.text), 0):
        return ()  # it comes late: what it says has ended since
    mine = [belief for belief in standing if belief.by == claim.by and belief is not same]
    if any(belief.valid_from > claim.at for belief in mine):
        return ()  # it comes late: who says it has said otherwise since
    opposite = [belief for belief in standing if how[belief.id] == "opposite"]
    over = [belief for belief in mine if not belief.held_by]
    events: list[AnyEvent] = []
    against: list[Belief] = []
    if same is not None:
        events += _again(same, claim)
    else:
        over += _making_room(board, claim, standing, over)
        against = [belief for belief in opposite if belief not in over]
        events.append(_asserted(claim, against))
        events += [_contested(belief, claim, (claim.id,)) for belief in against]
    for belief in over:
        status: BeliefStatus = "invalidated" if belief in opposite and belief in mine else "archived"
        events.append(ended(belief, claim.swarm, status, claim.at, _why_over(belief, claim, mine)))
    gone = {belief.id for belief in over}
    return (*events, *settled(board, claim.swarm, gone, contested={belief.id for belief in against}))


def ended(belief: Belief, swarm: str, status: BeliefStatus, at: datetime, reason: str) -> BeliefRevised:
    """Its end at a time."""
    return _revised(belief, swarm, status=status, valid_to=at, reason=reason)


def settled(board: Board, swarm: str, over: set[str], contested: Collection[str] = ()) -> list[BeliefRevised]:
    """For each belief that only those that end now spoke against: that nothing does any more. `contested` are so anew."""
    return [
        _revised(
            belief,
            swarm,
            status="stale" if belief.stale else "active",
            settled=True,
            reason="what contradicted it is over",
        )
        for belief in board.beliefs.values()
        if belief.id not in over
        and belief.id not in contested
        and not belief.refuted
        and belief.contradicts
        and not set(belief.contradicts) - over
    ]


def aged(belief: Belief, swarm: str, archive_after: timedelta) -> BeliefRevised:
    """What becomes of it at its review: first it is stale, then archived; it held until then."""
    if belief.stale:
        return ended(belief, swarm, "archived", belief.review_after, "nobody has looked at it again")
    return _revised(
        belief,
        swarm,
        status="stale",
        confidence=round(belief.confidence / 2, 4),
        review_after=belief.review_after + archive_after,
        reason="nothing new was brought by its review",
    )


def _again(same: Belief, claim: Claim) -> list[AnyEvent]:
    """What the same claim says: a confirmation by somebody else, news of somebody who holds it, or nothing."""
    fresh = tuple(ground for ground in claim.grounds if ground not in same.grounds)
    if claim.by in same.holders:
        if not fresh or claim.review_after <= same.due:
            return []
        return [
            _revised(
                same,
                claim.swarm,
                persona=claim.persona,
                by=claim.by,
                status="active",
                confidence=max(same.confidence, round(claim.confidence, 4)),
                evidence=claim.evidence[:MAX_EVIDENCE],
                grounds=claim.grounds,
                tainted=claim.tainted,
                review_after=max(same.review_after, claim.review_after),
                reason="new evidence of somebody who holds it",
            )
        ]
    if not fresh or len(fresh) < len(claim.grounds):
        return []
    return [
        BeliefConfirmed(
            swarm=claim.swarm,
            persona=claim.persona,
            key_id=same.key_id,
            belief_id=same.id,
            by=claim.by,
            claim=claim.text,
            confidence=round(1 - (1 - same.confidence) * (1 - claim.confidence / 2), 4),
            evidence=claim.evidence[:MAX_EVIDENCE],
            grounds=claim.grounds,
            tainted=claim.tainted,
            review_after=max(same.review_after, claim.review_after),
            sources=claim.sources,
        )
    ]


def _asserted(claim: Claim, against: list[Belief]) -> BeliefAsserted:
    return BeliefAsserted(
        swarm=claim.swarm,
        persona=claim.persona,
        key_id=claim.key_id,
        belief_id=claim.id,
        by=claim.by,
        belief_key=claim.key,
        claim=claim.text,
        confidence=round(claim.confidence, 4),
        evidence=claim.evidence[:MAX_EVIDENCE],
        grounds=claim.grounds,
        tainted=claim.tainted,
        contradicts=tuple(belief.id for belief in against),
        valid_from=claim.at,
        review_after=claim.review_after,
        sources=claim.sources,
    )


def _contested(belief: Belief, claim: Claim, contradicts: tuple[str, ...]) -> BeliefContested:
    weight = claim.confidence if contradicts else REFUTED
    return BeliefContested(
        swarm=claim.swarm,
        persona=claim.persona,
        key_id=belief.key_id,
        belief_id=belief.id,
        by=claim.by,
        claim=claim.text,
        confidence=belief.confidence if claim.by in belief.against else round(belief.confidence * (1 - weight / 2), 4),
        reason="opposite_claim" if contradicts else "refuted_check",
        evidence=claim.evidence[:MAX_EVIDENCE],
        grounds=claim.grounds,
        tainted=claim.tainted,
        contradicts=contradicts,
        sources=claim.sources,
    )


def _refuted(board: Board, belief: Belief, claim: Claim) -> tuple[AnyEvent, ...]:
    if belief.by == claim.by and not belief.held_by:
        end = ended(belief, claim.swarm, "invalidated", claim.at, "whoever asserted it found it refuted")
        return (end, *settled(board, claim.swarm, {belief.id}))
    return () if claim.by in belief.against else (_contested(belief, claim, ()),)


def _making_room(board: Board, claim: Claim, standing: list[Belief], over: list[Belief]) -> list[Belief]:
    """Who makes room for one more: on a full topic the weakest, on a full board the weakest of whoever asserted most."""
    room: list[Belief] = []
    topic = [belief for belief in standing if belief not in over]
    if len(topic) >= MAX_CONTRADICTIONS:
        room.append(min(topic, key=_strength))
    left = [belief for belief in board.beliefs.values() if belief not in over and belief not in room]
    if len(left) >= MAX_BELIEFS:
        counts = Counter(belief.by for belief in left)
        counts[claim.by] += 1
        most = max(counts.values())
        room.append(min([b for b in left if counts[b.by] == most] or left, key=_strength))
    return room


def _strength(belief: Belief) -> tuple[bool, float, datetime, str]:
    return (not belief.stale, belief.confidence, belief.review_after, belief.id)


def _why_over(belief: Belief, claim: Claim, mine: list[Belief]) -> str:
    if belief in mine:
        return f"whoever asserted it says otherwise since: {claim.text}"[:1000]
    return f"it made room: a topic holds {MAX_CONTRADICTIONS} beliefs, a blackboard {MAX_BELIEFS}"


def _revised(
    belief: Belief,
    swarm: str,
    *,
    status: BeliefStatus,
    reason: str,
    persona: str | None = None,
    by: str | None = None,
    confidence: float | None = None,
    evidence: tuple[EvidenceRef, ...] = (),
    grounds: tuple[str, ...] = (),
    tainted: bool | None = None,
    review_after: datetime | None = None,
    valid_to: datetime | None = None,
    settled: bool = False,
) -> BeliefRevised:
    return BeliefRevised(
        swarm=swarm,
        persona=persona or (EVERYONE if swarm == EVERYONE else belief.by),
        key_id=belief.key_id,
        belief_id=belief.id,
        by=by or belief.by,
        confidence=belief.confidence if confidence is None else confidence,
        status=status,
        reason=reason,
        evidence=evidence,
        grounds=grounds,
        tainted=belief.tainted if tainted is None else tainted,
        review_after=review_after,
        valid_to=valid_to,
        settled=settled,
    )
