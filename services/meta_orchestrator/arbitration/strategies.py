"""How a conflict is ruled: from its sides, and perhaps what people or personas said, to who goes on. Pure tables of examples beside it.

Of those that are still open, by what they would change (`exact`): where no two would change the same, both go on (`combine`). Where
all who would change a thing want the same of it, one is kept (`merge`). Else one goes first: whom a person named, whom most voted for,
or by order of lower risk, authority of the charter (nearer to the root), evidence that counts, and age.

Where grounds contradict each other, `exact` is which side of the contradiction a proposal rests on: the first in the order takes its
side along, and the other side has lost.

Invariants: what is ruled does not depend on the order in which sides came; all that would change one thing have exactly one winner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from shared.conflicts import key_of
from shared.contracts.action_kinds import RISKS
from shared.contracts.events import ProposalKey, Resolution, Side


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """Who goes on, and who has lost to whom."""

    resolution: Resolution
    kept: tuple[Side, ...] = ()
    lost: tuple[tuple[Side, Side], ...] = ()
    reason: str = ""


def rank(side: Side) -> tuple[int, int, int, int, str, str, str]:
    """Who is less goes first; no two proposals are equal."""
    return (
        RISKS.index(side.risk),
        side.depth,
        -side.evidence,
        side.seq,
        side.swarm,
        side.persona,
        side.proposal_id,
    )


def rule(
    what: Literal["target", "grounds"],
    sides: Iterable[Side],
    *,
    person: ProposalKey | None = None,
    votes: Mapping[ProposalKey, int] | None = None,
) -> Ruling:
    """See the module. `person` is whom a person named, `votes` how many are for whom; who is not among the sides does not count."""
    ordered = sorted(sides, key=rank)
    if len(ordered) < 2:
        return Ruling(resolution="lapsed", kept=tuple(ordered), reason="the others have ended meanwhile")
    named = [side for side in ordered if key_of(side) == person]
    if named:
        return _first(named[0], ordered, "person", "a person named it")
    elected = _elected(ordered, votes or {})
    if what == "grounds":
        first = elected or ordered[0]
        with_it = [side for side in ordered if side.exact == first.exact]
        against = [side for side in ordered if side.exact != first.exact]
        if not against:
            return Ruling(resolution="lapsed", kept=tuple(ordered), reason="nobody is left on the other side")
        return Ruling(
            resolution="vote" if elected else "order",
            kept=tuple(with_it),
            lost=tuple((side, first) for side in against),
            reason=_why(first, against[0], elected, votes or {}),
        )
    return _by_thing(ordered, elected, votes or {})


def _by_thing(ordered: Sequence[Side], elected: Side | None, votes: Mapping[ProposalKey, int]) -> Ruling:
    """One winner for each thing that would be changed."""
    things: dict[str, list[Side]] = {}
    for side in ordered:
        things.setdefault(side.exact, []).append(side)
    if len(things) == len(ordered):
        return Ruling(resolution="combine", kept=tuple(ordered), reason="they change different things")
    kept: list[Side] = []
    lost: list[tuple[Side, Side]] = []
    differ = None
    for group in things.values():
        first = elected if elected in group else group[0]
        assert first is not None
        kept.append(first)
        lost += [(side, first) for side in group if side is not first]
        other = next((side for side in group if side.effect != first.effect), None)
        if other is not None and differ is None:
            differ = (first, other)
    if differ is None:
        reason = "they want the same; one is done, for the grounds of all"
        return Ruling(resolution="merge", kept=tuple(kept), lost=tuple(lost), reason=reason)
    first, other = differ
    voted = elected is not None and elected in kept
    return Ruling(
        resolution="vote" if voted else "order",
        kept=tuple(kept),
        lost=tuple(lost),
        reason=_why(first, other, elected if voted else None, votes),
    )


def _first(first: Side, ordered: Sequence[Side], resolution: Resolution, reason: str) -> Ruling:
    lost = tuple((side, first) for side in ordered if side is not first)
    return Ruling(resolution=resolution, kept=(first,), lost=lost, reason=reason)


def _elected(ordered: Sequence[Side], votes: Mapping[ProposalKey, int]) -> Side | None:
    """Who has more votes than any other; None for a tie, or when nobody has any."""
    by_votes = sorted(ordered, key=lambda side: -votes.get(key_of(side), 0))
    most = votes.get(key_of(by_votes[0]), 0)
    return by_votes[0] if most > votes.get(key_of(by_votes[1]), 0) else None


def _why(first: Side, other: Side, elected: Side | None, votes: Mapping[ProposalKey, int]) -> str:
    """The first of the rules that tells the two apart, in words."""
    if elected is not None:
        return f"{votes.get(key_of(first), 0)} voted for it, {votes.get(key_of(other), 0)} for the other"
    if first.risk != other.risk:
        return f"its risk is {first.risk}, the other's {other.risk}"
    if first.depth != other.depth:
        return f"its persona stands at depth {first.depth}, the other's at {other.depth}"
    if first.evidence != other.evidence:
        return f"evidence that counts is {first.evidence} events, the other's {other.evidence}"
    return "it was verified first"
