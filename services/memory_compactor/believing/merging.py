"""Theory of operation: what several swarms believe together, where policy permits each of them to (`memory.merge`; by default none).

A swarm says on the mesh's blackboard what its own says: the rules of `judging` are the same, with swarms for those who speak, so what
two swarms assert on the same grounds is an echo, what they found out apart confirms, and the opposite stands beside it. The boundary
is one topic there, read together with that topic of all swarms. Each event of a swarm's blackboard is looked at once, as of when it
was said: which policies are in force is asked before (`Permit`), and a swarm that may not says nothing.

What ends or goes stale on a swarm's own blackboard ends or goes stale here, unless other swarms hold it. A permit that is taken back
takes nothing back that was said under it: it ends with its sources.
"""

from __future__ import annotations

import msgspec

from services.memory_compactor.believing import board as boards
from services.memory_compactor.believing.board import Belief, Board
from services.memory_compactor.believing.judging import Claim, ended, judge, settled
from shared.contracts import boundaries
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AnyEvent,
    BeliefAsserted,
    BeliefConfirmed,
    BeliefContested,
    BeliefEvent,
    BeliefRevised,
    EvidenceRef,
)
from shared.contracts.ids import EVERYONE, caused_token
from shared.decider import NOTHING, Boundary, Decision, Delivered, Effect, Input, Performed, Result, Tick

CONSUMED = ("belief.asserted", "belief.confirmed", "belief.contested", "belief.revised")


class Permit(Effect, frozen=True, kw_only=True):
    """Ask the policies in force whether what this swarm believes may be believed by all."""

    swarm: str


class Permitted(Result, frozen=True, kw_only=True):
    """The answer."""

    allow: bool


class Topic(msgspec.Struct, kw_only=True):
    """One topic: `mesh` is the mesh's blackboard, `own` those of the swarms."""

    mesh: Board = msgspec.field(default_factory=Board)
    own: dict[str, Board] = {}


class Merger(msgspec.Struct, frozen=True, kw_only=True):
    """A `shared.decider.Decider`."""

    def initial(self) -> Topic:
        return Topic()

    def boundary(self, message: Delivered | Tick) -> Boundary | None:
        if isinstance(message, Tick):
            return None
        event = message.recorded.event
        if not isinstance(event, BeliefEvent) or event.swarm == EVERYONE:
            return None
        return Boundary(reads=(f"belief.*.*.*.{event.key_id}",), guards=(boundaries.merged_beliefs(event.key_id),))

    def decide(self, state: Topic, message: Input) -> Decision:
        match message:
            case Delivered(recorded=recorded) if recorded.id not in state.mesh.causes:
                event = recorded.event
                if isinstance(event, BeliefRevised) and _held_by(state.mesh, event.swarm) == []:
                    return NOTHING
                return Decision(effect=Permit(swarm=event.swarm))
            case Performed(cause=Delivered(recorded=recorded), result=Permitted(allow=allow)):
                if recorded.id in state.mesh.causes:
                    return NOTHING
                return Decision(events=_follows(state, recorded, allow=allow))
            case _:
                return NOTHING

    def evolve(self, state: Topic, recorded: Recorded) -> Topic:
        event = recorded.event
        if isinstance(event, BeliefEvent):
            board = state.mesh if event.swarm == EVERYONE else state.own.setdefault(event.swarm, Board())
            boards.evolve(board, recorded)
        return state


def _follows(topic: Topic, recorded: Recorded, *, allow: bool) -> tuple[AnyEvent, ...]:
    event = recorded.event
    assert isinstance(event, BeliefEvent)
    own = topic.own.get(event.swarm, Board()).beliefs.get(event.belief_id)
    match event:
        case BeliefAsserted() | BeliefConfirmed() if allow and own is not None:
            return judge(topic.mesh, _claim(own, recorded, confirmed=True))
        case BeliefRevised(status="active") if allow and own is not None:
            return judge(topic.mesh, _claim(own, recorded, confirmed=True))
        case BeliefContested(reason="refuted_check") if allow and own is not None:
            return judge(topic.mesh, _claim(own, recorded, confirmed=False))
        case BeliefRevised(status="stale" | "invalidated" | "archived") as over:
            return _over(topic, over)
        case _:
            return ()


def _claim(own: Belief, recorded: Recorded, *, confirmed: bool) -> Claim:
    """What the swarm says with its belief as it stands."""
    event = recorded.event
    assert isinstance(event, BeliefEvent)
    sources = dict.fromkeys((EvidenceRef(id=own.event_id, seq=own.seq), EvidenceRef(id=recorded.id, seq=recorded.seq)))
    return Claim(
        id=caused_token(recorded.id, "b"),
        swarm=EVERYONE,
        by=event.swarm,
        key_id=own.key_id,
        key=own.key,
        text=own.claim,
        confidence=own.confidence,
        confirmed=confirmed,
        evidence=event.evidence,
        grounds=tuple(own.grounds) if confirmed else event.grounds,
        tainted=own.tainted or event.tainted,
        sources=tuple(sources),
        at=own.valid_from if isinstance(event, BeliefAsserted) else recorded.envelope.time,
        seq=recorded.seq,
        review_after=own.review_after,
    )


def _held_by(mesh: Board, swarm: str) -> list[Belief]:
    return [belief for belief in mesh.beliefs.values() if swarm in belief.holders]


def _over(topic: Topic, over: BeliefRevised) -> tuple[AnyEvent, ...]:
    """What nobody holds any more ends here too; as long as one swarm holds the same words, it stands."""
    ends: list[BeliefRevised] = []
    for belief in _held_by(topic.mesh, over.swarm):
        key = boards.claim_key(belief.key_id, belief.claim)
        if any(
            boards.claim_key(own.key_id, own.claim) == key and not own.stale
            for swarm in belief.holders
            for own in topic.own.get(swarm, Board()).beliefs.values()
        ):
            continue
        held = any(
            boards.claim_key(own.key_id, own.claim) == key
            for swarm in belief.holders
            for own in topic.own.get(swarm, Board()).beliefs.values()
        )
        if held and belief.stale:
            continue
        if held:
            ends.append(
                BeliefRevised(
                    swarm=EVERYONE,
                    persona=EVERYONE,
                    key_id=belief.key_id,
                    belief_id=belief.id,
                    by=belief.by,
                    confidence=round(belief.confidence / 2, 4),
                    status="stale",
                    reason="it is stale where it comes from",
                    tainted=belief.tainted,
                )
            )
        else:
            at = over.valid_to or belief.review_after
            ends.append(ended(belief, EVERYONE, "archived", at, "no swarm holds it any more"))
    gone = {end.belief_id for end in ends if end.status in boards.OVER}
    return (*ends, *settled(topic.mesh, EVERYONE, gone)) if ends else ()
