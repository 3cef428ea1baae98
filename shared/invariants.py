"""What must hold of any log at every prefix, whatever died while it was written.

`Invariants` is fed the log in order and collects violations as sentences. The simulation, the chaos runs and anybody with an
export of the log use the same code; it knows nothing of the services, only of events.
"""

from __future__ import annotations

import msgspec

from shared.contracts.approvals import answered
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionClaimed,
    ActionExecuted,
    ActionResolved,
    AnyEvent,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    BeliefAsserted,
    BeliefConfirmed,
    BeliefContested,
    BeliefEvent,
    BeliefRevised,
    BudgetGranted,
    BudgetLimited,
    BudgetSettled,
    CheckRequested,
    CheckResult,
    ConflictExtended,
    ConflictJoined,
    ConflictRaised,
    ConflictResolved,
    ConflictSettled,
    Credits,
    IntentAnswered,
    IntentAssigned,
    LotGranted,
    ObservationRecorded,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    ProposalAuthorized,
    ProposalCreated,
    ProposalEvent,
    ProposalKey,
    ProposalRejected,
    ProposalVerified,
    SignersChanged,
    SpawnRefused,
    TargetFreed,
    TargetHeld,
    ThoughtGenerated,
    ThoughtSealed,
)
from shared.contracts.ids import EVERYONE
from shared.crypto import verify_verdict
from shared.family_invariants import FamilyInvariants
from shared.intent_invariants import IntentInvariants
from shared.memory.dedup import Said, relation
from shared.placement import Placements
from shared.signers import Signers

_HOLDS = {TargetHeld: "target.held", TargetFreed: "target.freed"}
_FIELDS = ("tokens", "compute_ms", "actions", "cost_microusd")
_MOST = 2**53
_WINDOWS = 8
BEHIND_THE_SEAL = "a thought of one who was reaped"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits the log was written under. `swarm_per_minute` held for each swarm until shares were written."""

    swarm_per_minute: Credits
    actions_per_minute: int
    lifetime_children: int
    global_per_minute: Credits = Credits(tokens=_MOST, compute_ms=_MOST, actions=_MOST, cost_microusd=_MOST)


class Life(msgspec.Struct):
    """One proposal so far. `verdict` is its first authorisation, which is the one that counts."""

    digest: str
    stages: list[str] = []
    verdict: Recorded | None = None
    quorum: int = 0
    request: str = ""
    granted: set[str] = msgspec.field(default_factory=set)
    claims: int = 0
    outcomes: int = 0
    hold: str = ""
    resolved: bool = False
    conflicts: set[str] = msgspec.field(default_factory=set)
    lost: bool = False


class _Conflict(msgspec.Struct):
    """The newest over one target. `exact` by side: what each would change, or which side of a contradiction it is on."""

    generation: int = 0
    what: str = ""
    open: bool = False
    exact: dict[str, str] = msgspec.field(default_factory=dict)


class _Persona(msgspec.Struct):
    spawned: PersonaSpawned
    phase: str = "live"
    step: int = 0
    final: bool = False
    live_children: int = 0
    children: int = 0


class _Grant(msgspec.Struct):
    persona: tuple[str, str]
    window: int
    credits: Credits
    spent: dict[str, int]
    open: bool = True


class _Shares:
    """What each swarm may spend a minute, and the most it might in each of the last minutes: a share that it had when one began, or
    was given in it."""

    def __init__(self) -> None:
        self.written: dict[str, Credits] = {}
        self.window = 0
        self._most: dict[int, dict[str, dict[str, int]]] = {}

    def write(self, event: BudgetLimited) -> None:
        if event.window > self.window:
            self.window = event.window
            self._most[event.window] = {swarm: _amounts(credits) for swarm, credits in self.written.items()}
            for old in [w for w in self._most if w <= event.window - _WINDOWS]:
                del self._most[old]
        self.written[event.swarm] = event.credits
        most, now = self._most[self.window].setdefault(event.swarm, {}), _amounts(event.credits)
        self._most[self.window][event.swarm] = {field: max(now[field], most.get(field, 0)) for field in _FIELDS}

    def most(self, swarm: str, window: int) -> dict[str, int]:
        """The most the swarm might spend in the minute."""
        if window > self.window:
            return _amounts(self.written.get(swarm, Credits()))
        known = self._most.get(max((w for w in self._most if w <= window), default=-1), {})
        return known.get(swarm, _amounts(Credits()))

    def sums(self) -> dict[str, int]:
        """Of all swarms, in the present minute."""
        now = self._most.get(self.window, {}).values()
        return {field: sum(most[field] for most in now) for field in _FIELDS}


def _amounts(credits: Credits) -> dict[str, int]:
    return {field: getattr(credits, field) for field in _FIELDS}


class Invariants:
    """Feed it with `absorb`; read `violations`, `histories_forked`, `budget_overshoot` and `unfinished()`.

    `roots` say who signs verdicts; by default the root of the first word there is, for the log alone tells no other. A log without one
    (of the simulation) has nothing to hold a signature against.
    """

    def __init__(self, limits: Limits, roots: tuple[str, ...] = ()) -> None:
        self._limits = limits
        self._roots, self._signers = roots, Signers()
        self.violations: list[str] = []
        self.histories_forked = 0
        self.budget_overshoot = 0
        self.events = 0
        self.lives: dict[str, Life] = {}
        self._ids: dict[str, int] = {}
        self._personas: dict[tuple[str, str], _Persona] = {}
        self._grants: dict[str, _Grant] = {}
        self._charged: dict[tuple[str, str, int], list[int]] = {}
        self._lots: dict[str, dict[tuple[str, str], int]] = {}
        self._shares = _Shares()
        self._checks: set[str] = set()
        self._confirmed: dict[str, tuple[str, str]] = {}
        self._boards: dict[tuple[str, str], dict[str, str]] = {}
        self._unmarked: dict[str, tuple[str | None, set[str]]] = {}
        self._believed: dict[str, str] = {}
        self._outside: set[str] = set()
        self._routes: dict[tuple[str, str, str, int], bool] = {}
        self._last_seq = 0
        self._placements = Placements()
        self._intents = IntentInvariants(self._broken)
        self._families = FamilyInvariants(self._broken)
        self._unsealed: tuple[str, str] | None = None
        self._holds: dict[str, str] = {}
        """Who has each target that is held."""
        self._owes: tuple[str, str, str] | None = None
        """What the next event must be: class, target, proposal."""
        self._conflicts: dict[str, _Conflict] = {}

    def absorb(self, recorded: Recorded) -> None:
        """Take the next event; sequences only grow."""
        self.events += 1
        if recorded.seq <= self._last_seq:
            self._broken(recorded, "the log ran backwards")
        self._last_seq = recorded.seq
        self._placements.add(recorded)
        if self._placements.why_not(recorded) is not None:
            return  # it is stored, and counts for nobody
        if recorded.id in self._ids and not isinstance(recorded.event, SpawnRefused):
            # a refusal rests on the lineage and is guarded by it, so two governors may say the same one twice
            self._broken(recorded, f"its id is already at sequence {self._ids[recorded.id]}")
        self._ids[recorded.id] = recorded.seq
        event = recorded.event
        if self._unsealed is not None and not (
            isinstance(event, ThoughtSealed) and (event.swarm, event.persona) == self._unsealed
        ):
            self._broken(recorded, f"{self._unsealed} was reaped and its thoughts were not sealed with it")
        self._unsealed = None
        self._intents.absorb(recorded)
        self._families.absorb(recorded)
        owed, self._owes = self._owes, None
        if owed is not None and owed != _hold_of(event):
            self._broken(recorded, f"{owed} should have been said in one batch with what stands before it")
        match event:
            case TargetHeld() | TargetFreed():
                self._hold(recorded, event, owed is not None)
            case ConflictRaised() | ConflictExtended() | ConflictResolved():
                self._conflict(recorded, event)
            case ThoughtSealed():
                if (persona := self._personas.get((event.swarm, event.persona))) is None or persona.phase != "reaped":
                    self._broken(recorded, "sealed, but it is not reaped")
            case ThoughtGenerated():
                self._thought(recorded, event)
            case PersonaSpawned() | PersonaDraining() | PersonaReaped():
                self._lifecycle(recorded, event)
            case BudgetGranted() | BudgetSettled():
                self._credits(recorded, event)
            case LotGranted():
                self._lot(recorded, event)
            case BudgetLimited(swarm=swarm) if swarm != EVERYONE:
                self._share(recorded, event)
            case ProposalEvent():
                self._proposal(recorded, event)
            case CheckResult(check_id=check):
                if f"asked {check}" not in self._checks or f"answered {check}" in self._checks:
                    self._broken(recorded, "a check was answered twice, or never asked")
                self._checks.add(f"answered {check}")
                if event.tainted:
                    self._outside.add(recorded.id)
                if event.outcome == "confirmed":
                    self._confirmed[recorded.id] = (event.swarm, event.persona)
            case BeliefEvent():
                self._belief(recorded, event)
            case CheckRequested(check_id=check):
                self._checks.add(f"asked {check}")
            case SignersChanged(root=root):
                self._roots = self._roots or (root,)
                self._signers.apply(recorded, self._roots)
            case IntentAssigned():
                self._routes.setdefault((event.swarm, event.persona, event.intent_id, event.route), False)
            case IntentAnswered():
                route = (event.swarm, event.persona, event.intent_id, event.route)
                if self._routes.get(route, True):
                    self._broken(recorded, "it answers what it was not asked, or has answered already")
                self._routes[route] = True
            case ObservationRecorded(tainted=True):
                self._outside.add(recorded.id)
            case _:
                pass

    def _hold(self, recorded: Recorded, event: TargetHeld | TargetFreed, is_owed: bool) -> None:
        """Of two exclusive actions on one target the second is claimed after the outcome of the first."""
        key, has = _key(event.holder), self._holds.get(event.persona)
        if isinstance(event, TargetHeld):
            if has is not None:
                self._broken(recorded, f"{key} takes what {has} holds")
            if not is_owed:
                self._broken(recorded, "a hold without its claim")
            self._holds[event.persona] = key
            return
        if has != key:
            self._broken(recorded, f"{key} frees what {has or 'nobody'} holds")
        life = self.lives.get(event.holder.proposal_id)
        if not is_owed and not (life is not None and life.resolved):
            self._broken(recorded, "freed without an outcome or a person's word")
        self._holds.pop(event.persona, None)

    def _conflict(self, recorded: Recorded, event: ConflictRaised | ConflictExtended | ConflictResolved) -> None:
        """One over a target at a time, ruled once; of those that would change one thing exactly one is kept."""
        known = self._conflicts.setdefault(event.target_id, _Conflict())
        if isinstance(event, ConflictRaised):
            if known.open or event.generation != known.generation + 1:
                self._broken(
                    recorded, f"conflict {event.generation} over it, after {known.generation}, which is open or not"
                )
            exact = {_key(side): side.exact for side in event.sides}
            self._conflicts[event.target_id] = _Conflict(event.generation, event.what, True, exact)
            return
        if not known.open or event.generation != known.generation:
            self._broken(recorded, f"of conflict {event.generation} over it, which is not open")
            return
        if isinstance(event, ConflictExtended):
            known.exact[_key(event.side)] = event.side.exact
            return
        known.open = False
        kept, lost = [_key(one) for one in event.kept], [_key(one) for one in event.lost]
        if not set(kept + lost) <= set(known.exact) or set(kept) & set(lost):
            self._broken(recorded, "ruled on who is not in it, or for and against one")
            return
        things = [known.exact[one] for one in kept]
        if known.what == "target" and len(set(things)) != len(things):
            self._broken(recorded, "two go on that would change one thing")
        if known.what == "grounds" and len(set(things)) > 1 and lost:
            self._broken(recorded, "both sides of a contradiction go on")
        if lost and not kept:
            self._broken(recorded, "all have lost")

    def unruled(self) -> list[str]:
        """Targets over which a conflict is open."""
        return [target for target, conflict in self._conflicts.items() if conflict.open]

    def _belief(self, recorded: Recorded, event: BeliefEvent) -> None:
        """No belief without a confirmed hypothesis, or on the mesh's blackboard without a swarm's belief; none twice; none that
        contradicts another without both saying so; and an outsider's word stays one."""
        cause = recorded.envelope.causation or ""
        rests_on = {cause, *(ref.id for ref in event.evidence)}
        if event.tainted:
            self._outside.add(recorded.id)
        elif isinstance(event, BeliefAsserted | BeliefConfirmed) and rests_on & self._outside:
            self._broken(recorded, "it rests on an outsider's word, and does not say so")
        board = self._boards.setdefault((event.swarm, event.key_id), {})
        unmarked = self._unmarked.pop(event.swarm, (None, set()))
        if unmarked[0] == recorded.envelope.causation:
            self._unmarked[event.swarm] = unmarked
        elif unmarked[1]:
            self._broken(recorded, f"before it {sorted(unmarked[1])} were contradicted and do not say so")
        match event:
            case BeliefAsserted():
                if event.belief_id in board:
                    self._broken(recorded, "it was asserted before")
                if event.swarm == EVERYONE:
                    if self._believed.get(cause) != event.by:
                        self._broken(recorded, "the swarm that is said to believe it does not")
                elif self._confirmed.get(cause) != (event.swarm, event.by):
                    self._broken(recorded, "no check of its author's confirmed it")
                said = Said(event.claim)
                against = {name for name, claim in board.items() if relation(said, Said(claim)) == "opposite"}
                board[event.belief_id] = event.claim
                self._unmarked[event.swarm] = (recorded.envelope.causation, against | set(event.contradicts))
            case BeliefContested(contradicts=contradicts) if contradicts:
                self._unmarked.get(event.swarm, (None, set()))[1].discard(event.belief_id)
            case BeliefRevised(status="invalidated" | "archived"):
                board.pop(event.belief_id, None)
                self._unmarked.get(event.swarm, (None, set()))[1].discard(event.belief_id)
            case _:
                pass
        self._believed[recorded.id] = event.swarm

    def unmarked(self) -> list[str]:
        """Beliefs that were contradicted last, and do not say so."""
        return [name for _, names in self._unmarked.values() for name in sorted(names)]

    def unfinished(self) -> list[str]:
        """Proposals that have not reached their one terminal state."""
        return [name for name, life in self.lives.items() if life.outcomes == 0 and "rejected" not in life.stages]

    def unparted(self) -> list[tuple[str, str]]:
        """Swarm and id of those that began a swarm as another's children and do not drain yet."""
        return self._families.unparted()

    def open_intents(self) -> list[str]:
        """Intents that are neither closed nor cancelled yet."""
        return self._intents.open()

    def _broken(self, recorded: Recorded, what: str) -> None:
        self.violations.append(f"{recorded.seq} {recorded.subject}: {what}")

    def _thought(self, recorded: Recorded, event: ThoughtGenerated) -> None:
        persona = self._personas.get((event.swarm, event.persona))
        if persona is None:
            self._broken(recorded, "a persona nobody spawned is thinking")
            return
        if event.step != persona.step + 1:
            self.histories_forked += 1
            self._broken(recorded, f"step {event.step} follows step {persona.step}: two histories")
        if persona.phase == "reaped":
            self._broken(recorded, BEHIND_THE_SEAL)
        elif persona.final:
            self._broken(recorded, "a thought after the final one")
        persona.step, persona.final = event.step, event.final
        if event.grant_id is None:
            return
        grant = self._grants.get(event.grant_id)
        if grant is None:
            self._broken(recorded, f"it spends a grant nobody gave: {event.grant_id}")
            return
        grant.spent["tokens"] += event.usage.tokens
        grant.spent["compute_ms"] += event.usage.compute_ms
        if grant.spent["tokens"] > grant.credits.tokens or grant.spent["compute_ms"] > grant.credits.compute_ms:
            self.budget_overshoot += 1
            self._broken(recorded, f"it overspends its grant: {grant.spent} of {grant.credits}")

    def _lifecycle(self, recorded: Recorded, event: PersonaSpawned | PersonaDraining | PersonaReaped) -> None:
        key = (event.swarm, event.persona)
        persona = self._personas.get(key)
        match event:
            case PersonaSpawned():
                if persona is not None:
                    self._broken(recorded, "it was spawned before")
                    return
                self._personas[key] = _Persona(event)
                if event.parent is not None:
                    self._child(recorded, event, self._personas.get(event.parent))
            case PersonaDraining():
                if persona is None or persona.phase != "live":
                    self._broken(recorded, f"draining, but it is {persona.phase if persona else 'unknown'}")
                    return
                persona.phase = "draining"
                parent = self._personas.get(persona.spawned.parent or ("", ""))
                if parent is not None:
                    parent.live_children -= 1
            case PersonaReaped():
                if persona is None or persona.phase != "draining":
                    self._broken(recorded, f"reaped, but it is {persona.phase if persona else 'unknown'}")
                    return
                persona.phase = "reaped"
                self._unsealed = key

    def _child(self, recorded: Recorded, event: PersonaSpawned, parent: _Persona | None) -> None:
        if parent is None or parent.phase != "live":
            self._broken(recorded, "its parent does not live")
            return
        policy, own = parent.spawned.policy, event.policy
        parent.live_children += 1
        parent.children += 1
        if event.identity.depth != parent.spawned.identity.depth + 1 or event.identity.depth > policy.max_spawn_depth:
            self._broken(recorded, f"depth {event.identity.depth}, the limit is {policy.max_spawn_depth}")
        if parent.live_children > policy.max_branching_factor:
            self._broken(recorded, f"{parent.live_children} live children, the limit is {policy.max_branching_factor}")
        if parent.children > self._limits.lifetime_children:
            self._broken(recorded, f"{parent.children} children ever, the limit is {self._limits.lifetime_children}")
        for name in ("max_spawn_depth", "max_branching_factor", "token_budget_per_minute", "compute_ms_per_minute"):
            if getattr(own, name) > getattr(policy, name):
                self._broken(recorded, f"its {name} is wider than its parent's")

    def _credits(self, recorded: Recorded, event: BudgetGranted | BudgetSettled) -> None:
        if isinstance(event, BudgetGranted):
            if event.grant_id in self._grants:
                self._broken(recorded, "the grant was given before")
                return
            spent = dict.fromkeys(_FIELDS, 0)
            self._grants[event.grant_id] = _Grant((event.swarm, event.persona), event.window, event.credits, spent)
            self._charge(recorded, event.swarm, event.persona, event.window, event.credits, 1)
            self._within_share(recorded, event)
            return
        grant = self._grants.get(event.grant_id)
        if grant is None or not grant.open:
            self._broken(recorded, "it settles a grant that is not outstanding")
            return
        grant.open = False
        if any(getattr(event.credits, f) > getattr(grant.credits, f) for f in _FIELDS):
            self.budget_overshoot += 1
            self._broken(recorded, "it settles for more than was granted")
        # a limit may have fallen since: what was granted before is not judged again
        self._charge(recorded, event.swarm, event.persona, grant.window, grant.credits, -1)
        self._charge(recorded, event.swarm, event.persona, grant.window, event.credits, 1, is_new=False)

    def _lot(self, recorded: Recorded, event: LotGranted) -> None:
        if event.lot_id in self._lots:
            self._broken(recorded, "the lot was given before")
            return
        self._lots[event.lot_id] = {(event.swarm, share.persona): share.actions for share in event.shares}
        for share in event.shares:
            self._charge(recorded, event.swarm, share.persona, event.window, Credits(actions=share.actions), 1)

    def _share(self, recorded: Recorded, event: BudgetLimited) -> None:
        """Conservation: what all swarms have, or had at any time in this minute, is within the global budget."""
        if event.window < self._shares.window:
            self._broken(recorded, f"a share of window {event.window} after one of {self._shares.window}")
        self._shares.write(event)
        for field, total in self._shares.sums().items():
            if total > (limit := getattr(self._limits.global_per_minute, field)):
                self._broken(recorded, f"the shares of window {event.window} are {total} {field}, the limit is {limit}")

    def _within_share(self, recorded: Recorded, event: BudgetGranted) -> None:
        """A grant is within what the swarm may spend as it is given, not only within what it might before in that minute."""
        charged, share = self._charged[event.swarm, "*", event.window], self._shares.written.get(event.swarm)
        for i, field in enumerate(_FIELDS):
            if share is not None and getattr(event.credits, field) and charged[i] > getattr(share, field):
                self.budget_overshoot += 1
                self._broken(recorded, f"{charged[i]} {field} are charged in {event.window}, the share is {share}")

    def _taken(self, recorded: Recorded, event: ActionClaimed) -> None:
        """A claim is one action of a lot that has one left for its persona."""
        left = self._lots.get(event.lot_id or "", {})
        whose = (event.swarm, event.persona)
        left[whose] = left.get(whose, 0) - 1
        if left[whose] < 0:
            self._broken(recorded, "a claim beyond its lot, or of none")

    def _signed(self, recorded: Recorded, verdict: Recorded | None) -> None:
        """What is claimed was authorised by a key that was good at its place in the log."""
        if verdict is None or not isinstance(verdict.event, ProposalAuthorized) or not self._signers.words:
            return
        if not verify_verdict(verdict.event, self._signers.at(verdict.seq), verdict.stored_at):
            self._broken(recorded, f"claimed on {verdict.seq}, which no key signed that was good there")

    def _charge(
        self,
        recorded: Recorded,
        swarm: str,
        persona: str,
        window: int,
        credits: Credits,
        sign: int,
        *,
        is_new: bool = True,
    ) -> None:
        """Conservation: what is charged to a persona is charged to all above it and to the swarm, each within its limit."""
        share = self._limits.swarm_per_minute
        if self._shares.written:
            share = Credits(**self._shares.most(swarm, window))
        accounts: list[tuple[str, Credits]] = [("*", share)]
        name: str | None = persona
        while name is not None and (found := self._personas.get((swarm, name))) is not None:
            policy, (tokens, compute_ms) = found.spawned.policy, self._families.lent(swarm, name)
            limit = Credits(
                tokens=policy.token_budget_per_minute - tokens,
                compute_ms=policy.compute_ms_per_minute - compute_ms,
                actions=self._limits.actions_per_minute,
                cost_microusd=_MOST,
            )
            accounts.append((name, limit))
            name = found.spawned.identity.parent_id if found.spawned.parent_swarm is None else None
        for account, limit in accounts:
            charged = self._charged.setdefault((swarm, account, window), [0] * len(_FIELDS))
            for i, field in enumerate(_FIELDS):
                charged[i] += sign * getattr(credits, field)
                if is_new and sign > 0 and getattr(credits, field) and charged[i] > getattr(limit, field):
                    self.budget_overshoot += 1
                    self._broken(
                        recorded,
                        f"{account} is charged {charged[i]} {field} in window {window}, the limit is {getattr(limit, field)}",
                    )

    def _proposal(self, recorded: Recorded, event: ProposalEvent) -> None:
        life = self.lives.get(event.proposal_id)
        if isinstance(event, ProposalCreated):
            if life is not None:
                self._broken(recorded, "it was proposed before")
            self.lives[event.proposal_id] = Life(event.digest)
            return
        if life is None:
            self._broken(recorded, "nobody proposed it")
            return
        if getattr(event, "digest", life.digest) != life.digest:
            self._broken(recorded, "its digest is not the proposal's")
        ended = life.outcomes > 0 or "rejected" in life.stages
        match event:
            case ProposalVerified():
                self._stage(recorded, life, "verified", allowed=not life.stages)
            case ProposalRejected():
                self._stage(recorded, life, "rejected", allowed="authorized" not in life.stages and not ended)
            case ApprovalRequested():
                life.quorum, life.request = max(life.quorum, event.quorum), recorded.id
                life.granted.clear()  # a new request is for new eyes: what was said to an old one does not carry over
            case ApprovalGranted() if answered(recorded) == life.request:
                if life.quorum == 0 or event.principal in life.granted:
                    self._broken(recorded, "an approval nobody asked for, or given twice")
                life.granted.add(event.principal)
            case ApprovalDenied():
                life.quorum = max(life.quorum, 1)
            case ConflictJoined() | ConflictSettled():
                name = f"{event.target_id}.{event.generation}"
                if life.stages != ["verified"]:
                    self._broken(recorded, f"in a conflict after {life.stages or 'nothing'}")
                if isinstance(event, ConflictJoined):
                    life.conflicts.add(name)
                else:
                    life.conflicts.discard(name)
                    life.lost |= event.outcome == "lost"
            case ProposalAuthorized():
                life.verdict = life.verdict or recorded
                if life.conflicts or life.lost:
                    self._broken(recorded, f"authorised in a conflict, {'lost' if life.lost else 'open'}")
                self._stage(recorded, life, "authorized", allowed="verified" in life.stages and not ended)
                if len(life.granted) < life.quorum:
                    self._broken(recorded, f"authorised with {len(life.granted)} of {life.quorum} approvals")
                if event.risk in ("high", "critical") and life.quorum == 0:
                    self._broken(recorded, f"{event.risk} risk was authorised without people")
            case ActionClaimed():
                self._taken(recorded, event)
                self._signed(recorded, life.verdict)
                life.claims += 1
                if life.claims > 1 or "authorized" not in life.stages or life.outcomes:
                    self._broken(recorded, "a claim that is not the first, or without an authorisation")
                if event.hold is not None:
                    life.hold = event.hold
                    self._owes = ("target.held", event.hold, _key(event))
            case ActionExecuted():
                life.outcomes += 1
                gone = event.error == "claim_lost"  # with the part of the log that had its claim and authorisation
                if life.outcomes > 1 or ("authorized" not in life.stages and not gone):
                    self._broken(recorded, "an outcome that is not the first, or without an authorisation")
                if event.outcome != "failure" and life.claims != 1 and not gone:
                    self._broken(recorded, "executed without a claim")
                if life.hold and event.outcome != "unknown" and not gone:
                    self._owes = ("target.freed", life.hold, _key(event))
            case ActionResolved():
                if life.outcomes != 1 or life.resolved:
                    self._broken(recorded, "a person's word on what has no outcome, or the second one")
                life.resolved = True
            case _:
                pass

    def _stage(self, recorded: Recorded, life: Life, stage: str, *, allowed: bool) -> None:
        if not allowed or stage in life.stages:
            self._broken(recorded, f"{stage} after {life.stages or 'nothing'}")
        life.stages.append(stage)


def _key(of: ProposalEvent | ProposalKey) -> str:
    return f"{of.swarm}.{of.persona}.{of.proposal_id}"


def _hold_of(event: AnyEvent) -> tuple[str, str, str] | None:
    """Class, target and proposal of what is said of a hold."""
    if not isinstance(event, TargetHeld | TargetFreed):
        return None
    return _HOLDS[type(event)], event.persona, _key(event.holder)
