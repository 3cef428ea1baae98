"""When a target becomes a table: only when it matters to somebody, and not again at once.

Theory of operation. The boundary is the table itself, `allocation.changed.all.all`: one guarded event says all of it, so of several
meta-orchestrators one is heard, and the others decide again on what it said. A tick brings the claims of all swarms, as its replica
measured them; replicas that measured a little differently may want different tables, and the first holds.

A table is said again when
- a swarm lives that it does not name, or one it names lives no more;
- a person changed limits since;
- together it is more than there is;
- a swarm has use for a tenth more than it has, and is entitled to that; but not within `APART_S` of the last table.
Nothing else moves it: who has enough is not better off with more, so at rest nothing is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from services.meta_orchestrator.allocation.target import RESOURCES, Claim, target
from shared.contracts.boundaries import ALLOCATION
from shared.contracts.envelope import Recorded
from shared.contracts.events import MAX_SWARMS, AllocationChanged, Credits, SwarmShare
from shared.contracts.ids import EVERYONE
from shared.decider import NOTHING, Boundary, Decision, Delivered, Input, Result, Tick

APART_S = 15.0
MATERIAL = 10
"""A share that grows by less than one part in so many is not worth a word."""
WINDOW_S = 60
NOBODY = Credits()


class Claims(Result, frozen=True, kw_only=True):
    """Facts of a tick: the claims of all swarms in which somebody lives, and the sequence up to which people's limits are in them."""

    claims: tuple[Claim, ...] = ()
    limits_seq: int = 0


class Table(msgspec.Struct, kw_only=True):
    """The last one, at sequence `seq`."""

    shares: dict[str, Credits] = {}
    seq: int = 0
    at: datetime | None = None


class Allocator(msgspec.Struct, frozen=True, kw_only=True):
    """A `shared.decider.Decider`. `total` is the global budget a minute; at most `max_swarms` have a part of it."""

    total: Credits
    max_swarms: int = MAX_SWARMS

    def initial(self) -> Table:
        return Table()

    def boundary(self, message: Delivered | Tick) -> Boundary | None:
        if not isinstance(message, Tick) or not isinstance(message.facts, Claims):
            return None
        return Boundary(reads=(ALLOCATION,), guards=(ALLOCATION,))

    def decide(self, state: Table, message: Input) -> Decision:
        if not isinstance(message, Tick) or not isinstance(message.facts, Claims):
            return NOTHING
        claims = self._heard(state, message.facts.claims)
        wanted = target(claims, self.total)
        why = self._why(state, message, claims, wanted)
        gone = {name: NOBODY for name, has in state.shares.items() if name not in wanted and has != NOBODY}
        shares = dict(sorted({**wanted, **gone}.items()))
        if why is None or shares == state.shares:
            return NOTHING
        changed = AllocationChanged(
            swarm=EVERYONE,
            persona=EVERYONE,
            shares=tuple(SwarmShare(swarm=name, credits=credits) for name, credits in shares.items())[:MAX_SWARMS],
            window=int(message.now.timestamp()) // WINDOW_S,
            reason=why,
        )
        return Decision(events=(changed,))

    def evolve(self, state: Table, recorded: Recorded) -> Table:
        if isinstance(recorded.event, AllocationChanged):
            return Table(
                shares={share.swarm: share.credits for share in recorded.event.shares},
                seq=recorded.seq,
                at=recorded.envelope.time,
            )
        return state

    def _heard(self, state: Table, claims: tuple[Claim, ...]) -> tuple[Claim, ...]:
        """Those of at most `max_swarms`: who has a share keeps it, others in the order of their names."""
        if len(claims) <= self.max_swarms:
            return claims
        known = sorted(claims, key=lambda c: (state.shares.get(c.swarm, NOBODY) == NOBODY, c.swarm))
        return tuple(sorted(known[: self.max_swarms], key=lambda c: c.swarm))

    def _why(self, state: Table, tick: Tick, claims: tuple[Claim, ...], wanted: Mapping[str, Credits]) -> str | None:
        """What makes another table worth it; None: nothing does."""
        assert isinstance(tick.facts, Claims)
        named = {name for name, credits in state.shares.items() if credits != NOBODY}
        if new := sorted(name for name, credits in wanted.items() if credits != NOBODY and name not in named):
            return _told("new", new)
        if gone := sorted(named - wanted.keys()):
            return _told("gone", gone)
        if tick.facts.limits_seq > state.seq:
            return "a person changed limits"
        for name in RESOURCES:
            if sum(getattr(credits, name) for credits in state.shares.values()) > getattr(self.total, name):
                return f"{name} of all together are more than there is"
        if state.at is not None and tick.now - state.at < timedelta(seconds=APART_S):
            return None
        short = [c.swarm for c in claims if _short(c, state.shares.get(c.swarm, NOBODY), wanted[c.swarm])]
        return _told("short", short) if short else None


def _short(claim: Claim, has: Credits, wanted: Credits) -> bool:
    """Whether it has use for more of something, and is entitled to so much more that it matters."""
    return any(
        min(getattr(claim.demand, name), getattr(wanted, name)) * MATERIAL > getattr(has, name) * (MATERIAL + 1)
        for name in RESOURCES
    )


def _told(what: str, names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{what}: {', '.join(names[:8])}{more}"
