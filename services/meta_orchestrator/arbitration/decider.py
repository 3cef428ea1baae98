"""Which of the verified proposals that cannot all be done goes first; and nobody is kept waiting for it by who comes after.

Theory of operation. `Look` says where a verified proposal meets others: at what it would change, or over grounds that a contested
belief joins; never over what merely sounds alike. Nobody there: nothing is said, and it has cost nobody a request.

    verified ─ Look ─ nobody ─────────────────────────────────────────→ nothing
                 ├─ others, no conflict → raised  + joined (each side) ──→ Gather → resolved + settled (each side)
                 ├─ others, in one      → extended + joined (it) ──┘
                 └─ one of them was ruled to go first, or it loses too often → settled: lost, at once

Each arrow is one batch. `conflict.joined` and `conflict.settled` are in the proposal's own life, which the gate's verdict is guarded
by, so from the one to the other it authorises nothing, and who has lost never. Beside the lives a batch moves the boundary of the
target and rests on it: so there is one conflict over a target at a time, who joins is ruled on, and each is ruled once, whoever
decides, and however often. What an effect has read comes with the sequences it was read at (`Decision.expects`).

Who has won stands: who comes later loses at once, and the winner hears nothing of it. So a proposal is stopped once at its target, for
as long as a ruling takes, whatever others propose. Where effects differ and a person or a vote is wanted, that is waited
for: `conflict.raised` comes back as its own timer, and at `until` the order rules; a tick makes up for one that
was lost (`overdue.py`). A vote is an intent to personas of the swarms
concerned, in the batch that raises the conflict (`voting.py`); its end rules, without a winner by order. All else is ruled at once.

Invariants: a proposal is joined at most once at a target; of those that would change one thing exactly one goes on; nothing is said in
the life of a proposal that has its verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from services.meta_orchestrator.arbitration.lives import Standing
from services.meta_orchestrator.arbitration.strategies import Ruling, rank, rule
from services.meta_orchestrator.arbitration.voting import ballot, conflict_of, votes
from shared import conflicts
from shared.conflicts import Conflict, key_of
from shared.contracts import boundaries
from shared.contracts.action_kinds import touched
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ConflictExtended,
    ConflictJoined,
    ConflictRaised,
    ConflictResolved,
    ConflictRuled,
    ConflictSettled,
    EvidenceRef,
    IntentClosed,
    ProposalKey,
    ProposalVerified,
    Resolution,
    Side,
    Strategy,
)
from shared.contracts.events.conflicts import MAX_SIDES
from shared.contracts.ids import LifeId
from shared.contracts.text import plain
from shared.decider import NOTHING, Boundary, Decision, Delivered, Effect, Input, Performed, Result, Tick

State = Conflict
MAX_MERGED = 256
"""Cited events that one proposal is given from others that wanted the same."""
BEFORE_DEADLINE = timedelta(seconds=2)
"""Who waits for a person is ruled on so long before the first of the sides is over."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator wants: by which strategy, how long a person is waited for, and how many conflicts one may lose in an hour."""

    strategy: Strategy = "order"
    person_s: float = 600.0
    losses_per_hour: int = 10


class Look(Effect, frozen=True, kw_only=True):
    """Where does this proposal meet others, by the log up to `seq` at least? `past`: places where nothing is to be said."""

    verified: ProposalVerified
    seq: int
    past: tuple[str, ...] = ()


class Met(msgspec.Struct, frozen=True, kw_only=True):
    """One place with others. `conflict` is the newest over it, by what was said up to `seq`; `mine` and `sides` are all that are open,
    `standings` where each stands, mine first."""

    target_id: str
    what: str
    target: str
    conflict: Conflict
    seq: int
    mine: Side
    sides: tuple[Side, ...]
    standings: tuple[Standing, ...]


class Looked(Result, frozen=True, kw_only=True):
    """The first place where something is to be said, if any, whether there may be more, and how many conflicts its persona lost."""

    met: Met | None = None
    more: bool = False
    losses: int = 0
    rules: Rules = Rules()


class Gather(Effect, frozen=True, kw_only=True):
    """Where does each side stand?"""

    sides: tuple[ProposalKey, ...]


class Gathered(Result, frozen=True, kw_only=True):
    """By the log, in the order asked for."""

    standings: tuple[Standing, ...]


class Due(Result, frozen=True, kw_only=True):
    """A tick's fact: it should be ruled by now."""

    target_id: LifeId
    generation: int


def initial() -> State:
    """No conflict."""
    return Conflict()


def boundary(message: Delivered | Tick) -> Boundary | None:
    """A verified proposal rests on what `Look` reads; a conflict on what was said of its target."""
    if isinstance(message, Tick):
        return _of(message.facts.target_id) if isinstance(message.facts, Due) else None
    match message.recorded.event:
        case ProposalVerified(proposal=created) as event if created is not None:
            found = touched(created.action, event.swarm, event.persona, event.row)
            return None if found is None else Boundary(reads=(), guards=())
        case ConflictRaised() | ConflictRuled() as event:
            return _of(event.target_id)
        case IntentClosed() as event if (asked := conflict_of(event.intent_id)) is not None:
            return _of(asked[0])
        case _:
            return None


def _of(target_id: str) -> Boundary:
    guard = boundaries.conflict(target_id)
    return Boundary(reads=(guard,), guards=(guard,))


evolve = conflicts.evolve


def decide(state: State, message: Input) -> Decision:
    """See the module's theory of operation."""
    cause = message.cause if isinstance(message, Performed) else message
    if isinstance(cause, Tick):
        return _overdue(state, message, cause)
    match message, cause.recorded.event:
        case Delivered(), ProposalVerified() as event:
            return Decision(effect=Look(verified=event, seq=cause.recorded.seq))
        case Performed(result=Looked(met=Met() as met) as looked, effect=Look() as look), ProposalVerified():
            return _meet(met, looked, look, message.now)
        case Delivered(now=now), ConflictRaised() | ConflictRuled() | IntentClosed():
            return _due(state, cause.recorded, now)
        case Performed(result=Gathered(standings=standings)), ConflictRaised() | ConflictRuled():
            return _resolve(state, standings, {}) if state.open else NOTHING
        case Performed(result=Gathered(standings=standings)), IntentClosed() as event:
            return _resolve(state, standings, votes(state.sides, event)) if state.open else NOTHING
        case _:
            return NOTHING


# -- meeting ---------------------------------------------------------------------------------------------------------


def _meet(met: Met, looked: Looked, look: Look, now: datetime) -> Decision:
    """Join, raise, or lose at once."""
    further = msgspec.structs.replace(look, past=(*look.past, met.target_id)) if looked.more else None
    against = [side for side, _ in _with(met) if _excludes(met, side)]
    if against and looked.losses > looked.rules.losses_per_hour:
        why = f"its persona has lost {looked.losses} conflicts within an hour, the limit is {looked.rules.losses_per_hour}"
        return _lose(met, _foremost(against), "too_often", why)
    winners = [side for side, one in _with(met) if met.target_id in one.won]
    standing = [side for side in winners if _excludes(met, side)]
    if standing:
        return _lose(met, _foremost(standing), "standing", "it was ruled to go first before this one came")
    others = [side for side in met.sides if side not in winners]  # who was ruled on is not stopped again
    if not others and not met.conflict.open:
        return NOTHING if further is None else Decision(effect=further)
    there = met.conflict.sides if met.conflict.open else others
    mine_joined = ConflictJoined(
        **_whose(met.mine),
        target_id=met.target_id,
        generation=met.conflict.generation if met.conflict.open else met.conflict.generation + 1,
        others=tuple(key_of(side) for side in there[: MAX_SIDES - 1]),
    )
    mine = met.standings[0]
    if met.conflict.open:
        if len(met.conflict.sides) >= MAX_SIDES:
            why = f"{MAX_SIDES} are in the conflict already, which is the limit"
            return _lose(met, _foremost(met.conflict.sides), "standing", why)
        extended = ConflictExtended(target_id=met.target_id, generation=met.conflict.generation, side=met.mine)
        both = ((boundaries.conflict(met.target_id), met.seq), (_life(mine.key), mine.seq))
        return Decision(events=(extended, mine_joined), expects=both, effect=further)
    sides = (met.mine, *sorted(others, key=rank)[: MAX_SIDES - 1])
    joined = [mine_joined]
    for side in sides[1:]:
        rest = tuple(key_of(other) for other in sides if other is not side)
        joined.append(msgspec.structs.replace(mine_joined, **_whose(side), others=rest))
    what: Literal["target", "grounds"] = "grounds" if met.what == "grounds" else "target"
    strategy = looked.rules.strategy if rule(what, sides).resolution == "order" else "order"
    raised = ConflictRaised(
        target_id=met.target_id,
        generation=mine_joined.generation,
        what=what,
        target=met.target[:1000],
        sides=sides,
        strategy=strategy,
        until=now if strategy == "order" else _until(sides, looked.rules, now),
    )
    asked = ballot(raised, now) if strategy == "vote" else None
    at = {one.key: one.seq for one in met.standings}
    lives = tuple((_life(key_of(side)), at[key_of(side)]) for side in sides)
    expects = ((boundaries.conflict(met.target_id), met.seq), *lives)
    return Decision(events=(raised, *joined, *(() if asked is None else (asked,))), expects=expects, effect=further)


def _excludes(met: Met, side: Side) -> bool:
    """Whether the two cannot both be done, by what is known before a ruling."""
    return (side.exact == met.mine.exact) is (met.what == "target")


def _with(met: Met) -> list[tuple[Side, Standing]]:
    """The others, with where they stand."""
    return list(zip(met.sides, met.standings[1:], strict=True))


def _until(sides: Iterable[Side], rules: Rules, now: datetime) -> datetime:
    """When nobody is waited for any longer."""
    first = min(side.deadline for side in sides) - BEFORE_DEADLINE
    return max(now, min(now + timedelta(seconds=rules.person_s), first))


def _lose(met: Met, winner: Side, resolution: Resolution, why: str) -> Decision:
    """It has lost, and nobody else hears of it."""
    mine = met.standings[0]
    settled = ConflictSettled(
        swarm=mine.key.swarm,
        persona=mine.key.persona,
        proposal_id=mine.key.proposal_id,
        target_id=met.target_id,
        generation=max(1, met.conflict.generation),
        outcome="lost",
        winner=key_of(winner),
        resolution=resolution,
        reason=why,
    )
    return Decision(events=(settled,), expects=((_life(mine.key), mine.seq),))


def _foremost(sides: Iterable[Side]) -> Side:
    return min(sides, key=rank)


# -- ruling ----------------------------------------------------------------------------------------------------------


def _due(state: State, recorded: Recorded, now: datetime) -> Decision:
    """Whether it is to be ruled now; the conflict is its own timer."""
    event = recorded.event
    asked = conflict_of(event.intent_id) if isinstance(event, IntentClosed) else None
    generation = getattr(event, "generation", 0) if asked is None else asked[1]
    if not state.open or generation != state.generation or (asked is not None and state.strategy != "vote"):
        return NOTHING
    if (
        asked is None
        and state.until is not None
        and state.ruled is None
        and now < state.until
        and state.strategy != "order"
    ):
        waits = isinstance(event, ConflictRaised)
        return Decision(retry_s=max(0.01, (state.until - now).total_seconds())) if waits else NOTHING
    return Decision(effect=Gather(sides=tuple(key_of(side) for side in state.sides)))


def _overdue(state: State, message: Input, tick: Tick) -> Decision:
    """Whoever should have ruled has not."""
    due = tick.facts
    late = state.until is None or state.until <= tick.now
    if not isinstance(due, Due) or not state.open or due.generation != state.generation or not late:
        return NOTHING
    if isinstance(message, Performed) and isinstance(message.result, Gathered):
        return _resolve(state, message.result.standings, {})
    return Decision(effect=Gather(sides=tuple(key_of(side) for side in state.sides)))


def _resolve(state: State, standings: tuple[Standing, ...], voted: Mapping[ProposalKey, int]) -> Decision:
    """One batch: how it ended, and what that means for each that is still open."""
    by_key = {one.key: one for one in standings}
    if any(key_of(side) not in by_key for side in state.sides):
        return Decision(effect=Gather(sides=tuple(key_of(side) for side in state.sides)))  # one has joined meanwhile
    still = [side for side in state.sides if by_key[key_of(side)].open]
    ruling = rule(state.what, still, person=state.ruled.winner if state.ruled else None, votes=voted)
    reason = ruling.reason
    if ruling.resolution == "person" and state.ruled is not None:
        reason = plain(f"{state.ruled.principal}: {state.ruled.reason or 'no reason given'}", 1000)
    resolved = ConflictResolved(
        target_id=state.target_id,
        generation=state.generation,
        resolution=ruling.resolution,
        kept=tuple(key_of(side) for side in ruling.kept),
        lost=tuple(key_of(side) for side, _ in ruling.lost),
        reason=reason,
    )
    settled = [_settled(resolved, side, None, _merged(side, ruling, by_key)) for side in ruling.kept]
    settled += [_settled(resolved, side, winner, ()) for side, winner in ruling.lost]
    expects = tuple((_life(key), by_key[key].seq) for key in (*resolved.kept, *resolved.lost))
    return Decision(events=(resolved, *settled), expects=expects)


def _settled(
    resolved: ConflictResolved, side: Side, winner: Side | None, evidence: tuple[EvidenceRef, ...]
) -> ConflictSettled:
    return ConflictSettled(
        swarm=side.swarm,
        persona=side.persona,
        proposal_id=side.proposal_id,
        target_id=resolved.target_id,
        generation=resolved.generation,
        outcome="kept" if winner is None else "lost",
        winner=None if winner is None else key_of(winner),
        resolution=resolved.resolution,
        reason=resolved.reason,
        evidence=evidence,
    )


def _merged(side: Side, ruling: Ruling, by_key: dict[ProposalKey, Standing]) -> tuple[EvidenceRef, ...]:
    """What those cited that wanted the same as the one that is kept, without what it cites itself."""
    own = by_key[key_of(side)].verified
    found = {} if own is None else dict.fromkeys(own.evidence, False)
    for other, winner in ruling.lost:
        theirs = by_key[key_of(other)].verified
        if winner is side and other.effect == side.effect and theirs is not None:
            for ref in theirs.evidence:
                found.setdefault(ref, True)
    return tuple(ref for ref, is_new in found.items() if is_new)[:MAX_MERGED]


def _whose(side: Side) -> dict[str, str]:
    return {"swarm": side.swarm, "persona": side.persona, "proposal_id": side.proposal_id}


def _life(key: ProposalKey) -> str:
    return boundaries.life(key.swarm, key.persona, key.proposal_id)
