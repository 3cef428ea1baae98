"""What must hold of swarms that personas of other swarms begin; a part of the whole (`log`)."""

from __future__ import annotations

from collections.abc import Callable

from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AnyEvent,
    BudgetLimited,
    PersonaDraining,
    PersonaFounded,
    PersonaParted,
    PersonaSpawned,
)

_FIELDS = ("tokens", "compute_ms", "actions", "cost_microusd")
Key = tuple[str, str]


class FamilyInvariants:
    """Fed with every event that counts, in order. What goes together lies together: the fall of the source's share, the share carved out
    of it, the child, and the parent's word of it; and the child's drain with its parting."""

    def __init__(self, broken: Callable[[Recorded, str], None]) -> None:
        self._broken = broken
        self._shares: dict[str, BudgetLimited] = {}
        self._before: tuple[int, AnyEvent | None, BudgetLimited | None] = (0, None, None)
        """The event before with its sequence, and the share it replaced."""
        self._parents: dict[Key, tuple[Key | None, int]] = {}
        self._inhabited: set[str] = set()
        self._founders: dict[Key, PersonaFounded] = {}
        self._owes: tuple[str, ...] | None = None
        self._lent: dict[Key, tuple[int, int]] = {}

    def lent(self, swarm: str, persona: str) -> tuple[int, int]:
        """Tokens and compute milliseconds a minute that the persona has lent to children in swarms of their own."""
        return self._lent.get((swarm, persona), (0, 0))

    def absorb(self, recorded: Recorded) -> None:
        event = recorded.event
        owed, self._owes = self._owes, None
        is_owed = owed is not None and owed == _word(event)
        if owed is not None and not is_owed:
            self._broken(recorded, f"{owed} should have been said in one commit with what stands before it")
        seq, last, replaced = self._before
        beside = last if seq == recorded.seq - 1 else None
        replaces: BudgetLimited | None = None
        match event:
            case BudgetLimited():
                replaces = self._shares.get(event.swarm)
                self._shares[event.swarm] = event
                if event.source is not None:
                    self._carved(recorded, event, beside, replaced)
            case PersonaSpawned():
                self._spawned(recorded, event, beside)
            case PersonaFounded():
                if not is_owed:
                    self._broken(recorded, "a child in a swarm of its own that was not spawned there")
                self._founders[event.daughter, event.child] = event
                self._lend(event, 1)
            case PersonaDraining() if (founded := self._founders.get((event.swarm, event.persona))) is not None:
                self._owes = ("parted", founded.swarm, founded.persona, event.swarm, event.persona)
            case PersonaParted():
                founded = self._founders.pop((event.daughter, event.child), None)
                if not is_owed or founded is None:
                    self._broken(recorded, "parted from one that does not drain")
                else:
                    self._lend(founded, -1)
            case _:
                pass
        self._before = recorded.seq, event, replaces

    def unparted(self) -> list[Key]:
        """Live personas that began a swarm, and whose parent is in another."""
        return list(self._founders)

    def _carved(
        self, recorded: Recorded, event: BudgetLimited, beside: AnyEvent | None, replaced: BudgetLimited | None
    ) -> None:
        """Conservation: a daughter has no more than its source lost."""
        if not isinstance(beside, BudgetLimited) or beside.swarm != event.source or replaced is None:
            self._broken(recorded, f"its credits are {event.source}'s, whose share did not fall with it")
            return
        for field in _FIELDS:
            fell = getattr(replaced.credits, field) - getattr(beside.credits, field)
            carved, has = getattr(event.carved, field), getattr(event.credits, field)
            if not has <= carved <= fell:
                self._broken(recorded, f"{has} {field} of {carved} carved, and {event.source} has {fell} less")

    def _spawned(self, recorded: Recorded, event: PersonaSpawned, beside: AnyEvent | None) -> None:
        if event.parent_swarm is not None:
            if event.swarm in self._inhabited:
                self._broken(recorded, "it begins a swarm in which somebody was")
            share = (beside.swarm, beside.source) if isinstance(beside, BudgetLimited) else None
            if share != (event.swarm, event.parent_swarm):
                self._broken(recorded, "it begins a swarm without credits of its parent's")
            parent = event.identity.parent_id or ""
            self._owes = ("founded", event.parent_swarm, parent, event.swarm, event.persona)
        self._inhabited.add(event.swarm)
        above = event.parent if event.parent_swarm is None else None
        self._parents.setdefault((event.swarm, event.persona), (above, event.identity.depth))

    def _lend(self, founded: PersonaFounded, sign: int) -> None:
        key: Key | None = (founded.swarm, founded.persona)
        depth = 2**32
        while key is not None and key in self._parents and self._parents[key][1] < depth:
            tokens, compute_ms = self._lent.get(key, (0, 0))
            self._lent[key] = (
                tokens + sign * founded.policy.token_budget_per_minute,
                compute_ms + sign * founded.policy.compute_ms_per_minute,
            )
            key, depth = self._parents[key]


def _word(event: AnyEvent) -> tuple[str, ...] | None:
    match event:
        case PersonaFounded():
            return "founded", event.swarm, event.persona, event.daughter, event.child
        case PersonaParted():
            return "parted", event.swarm, event.persona, event.daughter, event.child
        case _:
            return None
