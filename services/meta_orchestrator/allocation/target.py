"""A fair part of the global budget for each swarm: weighted dominant resource fairness within floors and ceilings. Pure.

Theory of operation (Ghodsi et al., Dominant Resource Fairness, NSDI 2011; with floors as in weighted max-min). A swarm's dominant
share is the largest part of any resource it has. All rise together, each by its weight and in the proportions of its demand, until a
resource is used up; who needs that one stops, the others go on. A floor is where a swarm begins as far as it has use for it, so what
it does not use is lent. What then is left of a resource goes to who wants more of that one; and what nobody wants is spread by weight,
floors first, so that a burst finds room at once, but for a part that is kept for swarms that are yet to come.

A *family* is a swarm with those its personas began, and theirs: it counts once, on the terms of the first of it, and what it gets is
shared out within it in the same way. So nobody gains by having more swarms.

What holds, up to one unit of rounding a swarm:
- nobody has more than its ceiling, all together no more than there is;
- everybody has at least its floor or all it demands, where the floors are within what there is;
- of each resource either all demand within ceilings is met, or nothing is left;
- of what rises together (`fair`, before anything is left over) nobody would rather have what another has, in proportion to their
  weights, but for floors; and nobody gets more of use to it by claiming more than it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

import msgspec

from shared.contracts.events import Credits

RESOURCES = ("tokens", "compute_ms", "actions", "cost_microusd")
MOST = 2**53
KEPT_PART = 16
"""Of what nobody wants, one part in so many of all there is stays unshared."""
_CLOSE = 1e-6
Vector = list[float]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One swarm: what it has use for, and within which bounds; `weight` against the others'. `wish` is what of the demand is only
    declared: of a family's the largest counts. `family`: the first swarm of it; None: it is alone.
    """

    swarm: str
    family: str | None = None
    wish: Credits = Credits()
    demand: Credits = Credits()
    floor: Credits = Credits()
    ceiling: Credits
    weight: int = 100


def target(claims: Sequence[Claim], total: Credits) -> dict[str, Credits]:
    """What each swarm is to have, as whole credits."""
    families: dict[str, list[Claim]] = {}
    for claim in claims:
        families.setdefault(claim.family or claim.swarm, []).append(claim)
    found = _split([_as_one(name, members) for name, members in families.items()], total, KEPT_PART)
    for name, members in families.items():
        if len(members) > 1:
            whole = found.pop(name)
            found.update(_split(members, whole, None))
        elif members[0].swarm != name:
            found[members[0].swarm] = found.pop(name)
    return {claim.swarm: found[claim.swarm] for claim in claims}


def _as_one(name: str, members: Sequence[Claim]) -> Claim:
    """A family as if all of it were its first swarm, or whoever is left."""
    first = next((claim for claim in members if claim.swarm == name), members[0])
    demand: dict[str, int] = {}
    for r in RESOURCES:
        wishes = [min(getattr(claim.wish, r), getattr(claim.demand, r)) for claim in members]
        demand[r] = min(MOST, sum(getattr(claim.demand, r) for claim in members) - sum(wishes) + max(wishes))
    return msgspec.structs.replace(first, swarm=name, demand=Credits(**demand))


def _split(claims: Sequence[Claim], total: Credits, kept_part: int | None) -> dict[str, Credits]:
    have, parties = vector(total), [_Party(claim, total) for claim in claims]
    _dominant(parties, have)
    for r, amount in enumerate(have):
        _raise(parties, r, [party.demand[r] for party in parties], amount)
        _raise(parties, r, [min(party.floor[r], party.ceiling[r]) for party in parties], amount)
        spread = amount - amount / kept_part if kept_part else amount
        _raise(parties, r, [party.ceiling[r] for party in parties], spread)
    return {party.name: credits for party, credits in zip(parties, _whole(parties, total), strict=True)}


def fair(claims: Sequence[Claim], total: Credits) -> dict[str, Vector]:
    """What each has when its dominant share has risen with the others', in the order of `RESOURCES`."""
    parties = [_Party(claim, total) for claim in claims]
    _dominant(parties, vector(total))
    return {party.name: party.got for party in parties}


def vector(credits: Credits) -> Vector:
    return [float(getattr(credits, name)) for name in RESOURCES]


class _Party:
    """A claim as numbers; `got` is what it has so far."""

    def __init__(self, claim: Claim, total: Credits) -> None:
        self.name, self.weight = claim.swarm, float(claim.weight)
        have = vector(total)
        self.ceiling = [min(most, all_) for most, all_ in zip(vector(claim.ceiling), have, strict=True)]
        self.demand = [min(want, most) for want, most in zip(vector(claim.demand), self.ceiling, strict=True)]
        self.floor = vector(claim.floor)
        self.got = [min(least, want) for least, want in zip(self.floor, self.demand, strict=True)]
        dominant = max((want / all_ for want, all_ in zip(self.demand, have, strict=True) if all_), default=0.0)
        self.rate = [self.weight * want / dominant if dominant else 0.0 for want in self.demand]
        """How much of each it gets as the level of all dominant shares rises by 1."""

    def at(self, level: float, r: int) -> float:
        return self.demand[r] if level == inf else max(self.got[r], min(self.demand[r], level * self.rate[r]))


def _dominant(parties: Sequence[_Party], have: Vector) -> None:
    """Raise everybody's dominant share together, from the floors on."""
    for r, amount in enumerate(have):
        floors = sum(party.got[r] for party in parties)
        for party in parties:
            party.got[r] *= min(1.0, amount / floors) if floors else 1.0
    rising = [party for party in parties if any(party.rate)]
    while rising:
        levels = []
        for r, amount in enumerate(have):
            stopped = sum(party.got[r] for party in parties if party not in rising)
            levels.append(_level([(p.got[r], p.demand[r], p.rate[r]) for p in rising], amount - stopped))
        level = min(levels)
        stops = [p for p in rising if level == inf or any(p.rate[r] and at <= level for r, at in enumerate(levels))]
        for party in stops:
            party.got = [party.at(level, r) for r in range(len(have))]
        names = {party.name for party in stops}
        rising = [party for party in rising if party.name not in names]


def _raise(parties: Sequence[_Party], r: int, caps: Sequence[float], amount: float) -> None:
    """Share one resource out by weight, from what everybody has of it up to its cap."""
    parts = [(p.got[r], max(cap, p.got[r]), p.weight) for p, cap in zip(parties, caps, strict=True)]
    level = _level(parts, amount)
    for party, (got, cap, weight) in zip(parties, parts, strict=True):
        party.got[r] = cap if level == inf else max(got, min(cap, level * weight))


def _level(parts: Iterable[tuple[float, float, float]], room: float) -> float:
    """The highest level at which Σ max(base, min(cap, level * rate)) is within the room; infinite when all caps are."""
    used, slope, at = 0.0, 0.0, 0.0
    turns: list[tuple[float, float]] = []
    for base, cap, rate in parts:
        used += base
        if rate > 0 and cap > base:
            turns += [(base / rate, rate), (cap / rate, -rate)]
    for point, change in sorted(turns):
        grows = max(0.0, slope) * (point - at)
        if used + grows > room + _CLOSE * max(1.0, room) * 1e-3:
            return at + max(0.0, room - used) / slope if slope > 0 else at
        used, slope, at = used + grows, slope + change, point
    return inf


def _whole(parties: Sequence[_Party], total: Credits) -> list[Credits]:
    """Rounded down, and never more than there is."""
    rows = [[int(amount + _CLOSE) for amount in party.got] for party in parties]
    for r, all_ in enumerate(vector(total)):
        while (over := sum(row[r] for row in rows) - int(all_)) > 0:
            most = max(range(len(rows)), key=[row[r] for row in rows].__getitem__)
            rows[most][r] -= min(over, rows[most][r])
    return [Credits(**dict(zip(RESOURCES, row, strict=True))) for row in rows]
