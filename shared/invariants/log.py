"""The whole of it: one look at each event of the log, in order, handed to the part whose it is."""

from __future__ import annotations

from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    BeliefEvent,
    BudgetGranted,
    BudgetLimited,
    BudgetSettled,
    CheckRequested,
    CheckResult,
    ConflictExtended,
    ConflictRaised,
    ConflictResolved,
    GrantRequested,
    IntentAnswered,
    IntentAssigned,
    LotGranted,
    MeshHalted,
    MeshResumed,
    ObservationRecorded,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    ProposalEvent,
    SignersChanged,
    SpawnRefused,
    TargetFreed,
    TargetHeld,
    ThoughtGenerated,
    ThoughtSealed,
)
from shared.contracts.ids import EVERYONE
from shared.invariants.allowances import AllowanceInvariants
from shared.invariants.beliefs import BeliefInvariants
from shared.invariants.credits import CreditInvariants, Limits
from shared.invariants.families import FamilyInvariants
from shared.invariants.intents import IntentInvariants
from shared.invariants.personas import PersonaInvariants
from shared.invariants.proposals import Life, ProposalInvariants
from shared.invariants.sayings import SayingInvariants
from shared.invariants.targets import TargetInvariants, hold_of
from shared.placement import Placements


class Invariants:
    """Feed it with `absorb`; read `violations`, `histories_forked`, `budget_overshoot` and `unfinished()`.

    `roots` say who signs verdicts; by default the root of the first word there is, for the log alone tells no other.
    """

    def __init__(self, limits: Limits, roots: tuple[str, ...] = ()) -> None:
        self.violations: list[str] = []
        self.events = 0
        self._ids: dict[str, int] = {}
        self._routes: dict[tuple[str, str, str, int], bool] = {}
        self._last_seq = 0
        self._placements = Placements()
        self._intents = IntentInvariants(self._broken)
        self._families = FamilyInvariants(self._broken)
        self._allowances = AllowanceInvariants(self._broken)
        self._sayings = SayingInvariants(self._broken)
        self._personas = PersonaInvariants(self._broken, limits.lifetime_children)
        self._credits = CreditInvariants(self._broken, limits, self._personas, self._families)
        self._targets = TargetInvariants(self._broken)
        self._proposals = ProposalInvariants(self._broken, roots, self._credits, self._targets)
        self._beliefs = BeliefInvariants(self._broken)

    @property
    def lives(self) -> dict[str, Life]:
        """Proposals by id."""
        return self._proposals.lives

    @property
    def histories_forked(self) -> int:
        """Steps that follow none, or another."""
        return self._personas.histories_forked

    @property
    def budget_overshoot(self) -> int:
        """How often something was charged or spent beyond its limit."""
        return self._credits.overshoot

    def absorb(self, recorded: Recorded) -> None:
        """Take the next event; sequences only grow."""
        self.events += 1
        if recorded.seq <= self._last_seq:
            self._broken(recorded, "the log ran backwards")
        self._last_seq = recorded.seq
        self._placements.add(recorded)
        if self._placements.why_not(recorded) is not None:
            return  # it is stored, and counts for nobody
        if recorded.id in self._ids and not isinstance(recorded.event, SpawnRefused | GrantRequested):
            # a refusal rests on the lineage and is guarded by it, so two governors may say the same one twice; a request for credits
            # rests on the history and does not move it, so one on its way may come after the dedup window, and is granted once
            self._broken(recorded, f"its id is already at sequence {self._ids[recorded.id]}")
        self._ids[recorded.id] = recorded.seq
        event = recorded.event
        self._personas.next(recorded, event)
        self._intents.absorb(recorded)
        self._families.absorb(recorded)
        self._allowances.absorb(recorded)
        self._sayings.absorb(recorded)
        owed, self._proposals.owes = self._proposals.owes, None
        if owed is not None and owed != hold_of(event):
            self._broken(recorded, f"{owed} should have been said in one batch with what stands before it")
        match event:
            case TargetHeld() | TargetFreed():
                is_over = self._proposals.over(event.holder.proposal_id)
                self._targets.hold(recorded, event, is_owed=owed is not None, is_over=is_over)
            case ConflictRaised() | ConflictExtended() | ConflictResolved():
                self._targets.conflict(recorded, event)
            case ThoughtSealed():
                self._personas.seal(recorded, event)
            case ThoughtGenerated():
                self._personas.think(recorded, event)
                self._credits.spend(recorded, event)
            case PersonaSpawned() | PersonaDraining() | PersonaReaped():
                self._personas.live(recorded, event)
            case BudgetGranted() | BudgetSettled():
                self._credits.grant(recorded, event)
            case LotGranted():
                self._credits.lot(recorded, event)
            case BudgetLimited(swarm=swarm) if swarm != EVERYONE:
                self._credits.share(recorded, event)
            case ProposalEvent():
                self._proposals.absorb(recorded, event)
            case CheckRequested():
                self._beliefs.ask(event)
            case CheckResult():
                self._beliefs.answer(recorded, event)
            case ObservationRecorded():
                self._beliefs.observe(recorded, event)
                self._proposals.observe(recorded, event)
            case BeliefEvent():
                self._beliefs.believe(recorded, event)
            case SignersChanged():
                self._proposals.sign(recorded, event)
            case MeshHalted() | MeshResumed():
                self._proposals.halt(is_halted=isinstance(event, MeshHalted))
            case IntentAssigned():
                self._routes.setdefault((event.swarm, event.persona, event.intent_id, event.route), False)
            case IntentAnswered():
                route = (event.swarm, event.persona, event.intent_id, event.route)
                if self._routes.get(route, True):
                    self._broken(recorded, "it answers what it was not asked, or has answered already")
                self._routes[route] = True
            case _:
                pass

    def unruled(self) -> list[str]:
        """Targets over which a conflict is open."""
        return self._targets.unruled()

    def unmarked(self) -> list[str]:
        """Beliefs that were contradicted last, and do not say so."""
        return self._beliefs.unmarked()

    def unfinished(self) -> list[str]:
        """Proposals that have not reached their one terminal state."""
        return self._proposals.unfinished()

    def unparted(self) -> list[tuple[str, str]]:
        """Swarm and id of those that began a swarm as another's children and do not drain yet."""
        return self._families.unparted()

    def open_intents(self) -> list[str]:
        """Intents that are neither closed nor cancelled yet."""
        return self._intents.open()

    def _broken(self, recorded: Recorded, what: str) -> None:
        self.violations.append(f"{recorded.seq} {recorded.subject}: {what}")
