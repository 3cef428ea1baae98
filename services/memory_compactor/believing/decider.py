"""Theory of operation: what a swarm believes, and how long.

A check that confirmed or refuted a hypothesis of a persona that shares is what a belief is made from; what follows is in `judging`.
A swarm's blackboard is one boundary, `belief.*.<swarm>.>`, read together with who was born with `share_memory`. The hypothesis is
looked up (`Look`), for a check names it and does not say it; so what is claimed is what the log holds, under whoever may have said it.

A belief is its own timer: what asserted, confirmed or revised it is handed back until the review it names, by the broker, so a
restart forgets none. Whichever of several comes when that is no longer its review finds so on the board, and says nothing.

Invariants: no belief without a confirmed hypothesis; what contradicts each other says so of each other; a check that is delivered
again, however late, says nothing again (its id is remembered, and it is too old by then); times are those of the check and the review.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from services.memory_compactor.believing import board as boards
from services.memory_compactor.believing.board import Board
from services.memory_compactor.believing.judging import Claim, aged, judge, settled
from shared.contracts import boundaries
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    BeliefAsserted,
    BeliefConfirmed,
    BeliefRevised,
    CheckResult,
    HypothesisRaised,
)
from shared.contracts.events.beliefs import topic_token
from shared.contracts.ids import EVERYONE, caused_token
from shared.decider import NOTHING, Boundary, Decision, Delivered, Effect, Input, Performed, Result, Tick
from shared.evidence import says_tainted

REVIEW_S = 24 * 3600.0
ARCHIVE_S = 7 * 24 * 3600.0
SOONEST_RETRY_S = 0.05
CONSUMED = ("check.result",)


class Look(Effect, frozen=True, kw_only=True):
    """Find the hypothesis a persona had checked, said before `seq`, and what it and the check rest on in the end. `born`: whether it
    shares is to be found too, for the board has forgotten."""

    swarm: str
    persona: str
    check: Recorded
    born: bool = False


class Looked(Result, frozen=True, kw_only=True):
    """The hypothesis as the log holds it, or None where it holds none that counts. `grounds` as in `events.beliefs`; `tainted`: any of
    what it rests on is an outsider's word, or was not there to be looked at. `shares`: whether its persona does, where that was asked."""

    shares: bool = False
    hypothesis: HypothesisRaised | None = None
    grounds: tuple[str, ...] = ()
    tainted: bool = True


class Believer(msgspec.Struct, frozen=True, kw_only=True):
    """A `shared.decider.Decider`. A belief nobody brings anything new for is stale after `review_s`, and archived `archive_s` later."""

    review_s: float = REVIEW_S
    archive_s: float = ARCHIVE_S

    def initial(self) -> Board:
        return Board()

    def boundary(self, message: Delivered | Tick) -> Boundary | None:
        if isinstance(message, Tick):
            return None
        event = message.recorded.event
        match event:
            case CheckResult(outcome="confirmed" | "refuted"):
                # who does not share, or was taken into account, stays so
                board = boundaries.beliefs(event.swarm)
                return Boundary(reads=(f"persona.spawned.{event.swarm}.*", board), guards=(board,), lags=True)
            case BeliefAsserted() | BeliefConfirmed() | BeliefRevised() if event.swarm != EVERYONE:
                board = boundaries.beliefs(event.swarm)
                return Boundary(reads=(f"persona.spawned.{event.swarm}.*", board), guards=(board,))
            case _:
                return None

    def decide(self, state: Board, message: Input) -> Decision:
        match message:
            case Delivered(recorded=recorded):
                if isinstance(recorded.event, CheckResult):
                    return self._checked(state, message, recorded.event)
                return self._reviewed(state, message)
            case Performed(cause=Delivered() as cause, result=Looked() as looked):
                return self._looked(state, cause, looked)
            case _:
                return NOTHING

    def _checked(self, board: Board, message: Delivered, check: CheckResult) -> Decision:
        recorded = message.recorded
        if not board.members.get(check.persona, True) or recorded.id in board.causes:
            return NOTHING
        if recorded.envelope.time + timedelta(seconds=self.review_s + self.archive_s) <= message.now:
            return NOTHING
        is_unknown = check.persona not in board.members
        return Decision(effect=Look(swarm=check.swarm, persona=check.persona, check=recorded, born=is_unknown))

    def _looked(self, board: Board, cause: Delivered, looked: Looked) -> Decision:
        recorded, said = cause.recorded, looked.hypothesis
        check = recorded.event
        # private, unless it is known to share; its id is taken meanwhile where the same check was delivered twice at once
        if said is None or not isinstance(check, CheckResult) or not board.members.get(check.persona, looked.shares):
            return NOTHING
        if recorded.id in board.causes:
            return NOTHING
        claim = Claim(
            id=caused_token(recorded.id, "b"),
            swarm=check.swarm,
            by=check.persona,
            key_id=topic_token(said.topic),
            key=said.topic,
            text=said.claim,
            confidence=said.confidence,
            confirmed=check.outcome == "confirmed",
            evidence=tuple(dict.fromkeys((*said.evidence, *check.evidence))),
            grounds=looked.grounds,
            tainted=looked.tainted or says_tainted(check),
            at=recorded.envelope.time,
            seq=recorded.seq,
            review_after=recorded.envelope.time + timedelta(seconds=self.review_s),
        )
        return Decision(events=judge(board, claim))

    def _reviewed(self, board: Board, message: Delivered) -> Decision:
        event = message.recorded.event
        assert isinstance(event, BeliefAsserted | BeliefConfirmed | BeliefRevised)
        belief = board.beliefs.get(event.belief_id)
        if belief is None or event.review_after is None or belief.review_after != event.review_after:
            return NOTHING
        if message.now < belief.review_after:
            return Decision(retry_s=max(SOONEST_RETRY_S, (belief.review_after - message.now).total_seconds()))
        after = aged(belief, event.swarm, timedelta(seconds=self.archive_s))
        over = {belief.id} if after.status in boards.OVER else set[str]()
        return Decision(events=(after, *(settled(board, event.swarm, over) if over else ())))

    def evolve(self, state: Board, recorded: Recorded) -> Board:
        return boards.evolve(state, recorded)
