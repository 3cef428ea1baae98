"""Theory of operation: three boundaries of one swarm, and every limit a compare-and-set.

*Lineage* (`lineage.py`, decided in `lifecycle.py`) reads all of a swarm's `persona.*` events and its own refusals, and
guards `persona.*.<swarm>.>`: whatever another governor decided meanwhile refuses our commit, and we decide again. So
with any number of replicas, after any crash, and at every prefix of the log:
- a persona's depth, live children and lifetime children are within its parent's limits, its policy within its parent's;
- spawns in any 60 s are within the quota; an id is given once; one request is answered once;
- a persona is live, then draining, then reaped, and below one that is not live everything drains.

Reaping is two-phase. Draining tells the runner to finish its step and the compactor to leave a final snapshot; that
snapshot is what lets the governor say reaped, and seal the persona's thoughts in the same commit, so that no step of a runner
that was stalled meanwhile comes after it. A crash anywhere leaves the persona draining, and whoever comes next
goes on. Ticks find what nobody else will: orphans, the idle, drains that never ended, and zombies.

*Ledger* (`ledger.py`) reads `persona.*` and `budget.*` and guards `budget.*.<swarm>.>`. In each minute (window), for
every persona and for the swarm: outstanding grants in full + settled ones at their cost <= the limit. The swarm's limit is its share,
which is written on the same boundary (`sharing.py`, a decider of its own: it sees all swarms). An outstanding grant
ends by its holder closing it, or by expiring, and is then charged in full by the next tick that finds it. Who found too little
left is served when there is room again, in the order in which they came.

*Lots* (`lots.py`) reads `persona.*`, `lot.granted` and the swarm's share, and guards lots. In each minute, for every persona with all
below it and for the swarm: actions in lots <= the limit, the swarm's being the most its share was in that minute, for a share is not
guarded there. Grants hold no actions, so that each is counted in one place.

All three states are the one `State`, folded from different subjects, and per swarm.
"""

from __future__ import annotations

import msgspec

from services.governor import ledger, lifecycle, lineage, lots
from services.governor.ledger import ExpiredGrants, Ledger
from services.governor.lifecycle import LastThoughts
from services.governor.limits import Limits
from services.governor.lineage import Lineage
from services.governor.lots import Lots
from shared.contracts import boundaries
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    BudgetLimited,
    GrantRequested,
    LotRequested,
    ReapRequested,
    SnapshotCompressed,
    SpawnRequested,
)
from shared.contracts.ids import EVERYONE
from shared.decider import NOTHING, Boundary, Decision, Delivered, Input, Performed, Tick

__all__ = ["ExpiredGrants", "Governor", "LastThoughts", "Limits", "State"]


class State(msgspec.Struct, kw_only=True):
    """What is folded from a boundary; on each boundary the others' part stays empty."""

    lineage: Lineage = msgspec.field(default_factory=Lineage)
    ledger: Ledger = msgspec.field(default_factory=Ledger)
    lots: Lots = msgspec.field(default_factory=Lots)


def lineage_boundary(swarm: str) -> Boundary:
    personas = f"persona.*.{swarm}.>"
    return Boundary(reads=(personas, f"spawn.refused.{swarm}.>"), guards=(personas,))


def ledger_boundary(swarm: str) -> Boundary:
    budget = boundaries.budget(swarm)
    return Boundary(reads=(f"persona.*.{swarm}.>", budget), guards=(budget,))


def lots_boundary(swarm: str) -> Boundary:
    granted = boundaries.lots(swarm)
    return Boundary(reads=(f"persona.*.{swarm}.>", granted, f"budget.limited.{swarm}.{EVERYONE}"), guards=(granted,))


class Governor(msgspec.Struct, frozen=True, kw_only=True):
    """A `shared.decider.Decider` under these limits. A tick with `ExpiredGrants` is the ledger's, any other the lineage's."""

    limits: Limits = Limits()

    def initial(self) -> State:
        return State()

    def boundary(self, message: Delivered | Tick) -> Boundary | None:
        if isinstance(message, Tick):
            of = ledger_boundary if isinstance(message.facts, ExpiredGrants) else lineage_boundary
            return of(message.swarm)
        match message.recorded.event:
            case SpawnRequested() as event if message.crowd:
                return lifecycle.answers(event)
            case _ if message.crowd:  # for no other request is a refusal said
                return None
            case SpawnRequested(swarm=swarm) | ReapRequested(swarm=swarm) | SnapshotCompressed(swarm=swarm, final=True):
                return lineage_boundary(swarm)
            case GrantRequested(swarm=swarm):
                return ledger_boundary(swarm)
            case BudgetLimited(swarm=swarm) if swarm != EVERYONE:
                return ledger_boundary(swarm)
            case LotRequested(swarm=swarm):
                return lots_boundary(swarm)
            case _:
                return None

    def decide(self, state: State, message: Input) -> Decision:
        match message:
            case Tick(facts=ExpiredGrants()):
                return ledger.reconcile(state.ledger, state.lineage, message, self.limits)
            case Tick():
                return lifecycle.reconcile(state.lineage, message, self.limits)
            case Performed():
                return NOTHING
        match message.recorded.event:
            case SpawnRequested() as event if message.crowd:
                return lifecycle.crowded(state.lineage, message, event)
            case SpawnRequested() as event:
                return lifecycle.spawn(state.lineage, message, event, self.limits)
            case ReapRequested() as event:
                return lifecycle.reap(state.lineage, message, event, self.limits)
            case SnapshotCompressed() as event:
                return lifecycle.snapshot(state.lineage, event)
            case GrantRequested() as event:
                return ledger.answer(state.ledger, state.lineage, message, event, self.limits)
            case BudgetLimited():
                return ledger.widen(state.ledger, state.lineage, message, self.limits)
            case LotRequested() as event:
                return lots.answer(state.lots, state.lineage, message, event, self.limits)
            case _:
                return NOTHING

    def evolve(self, state: State, recorded: Recorded) -> State:
        lineage.evolve(state.lineage, recorded, self.limits)
        ledger.evolve(state.ledger, state.lineage, recorded, self.limits)
        lots.evolve(state.lots, state.lineage, recorded)
        return state
