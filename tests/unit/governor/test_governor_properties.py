"""Two governors, any interleaving, duplicates and lost commits: the invariants hold at every prefix of the log."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.governor.decider import ExpiredGrants, Governor, LastThoughts, Limits
from services.governor.limits import RESOURCES
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AnyEvent,
    BudgetExhausted,
    BudgetGranted,
    BudgetSettled,
    Credits,
    GrantRequested,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    ReapRequested,
    SnapshotCompressed,
    SnapshotCounts,
    SpawnRefused,
    SpawnRequested,
)
from shared.contracts.persona import PersonaPolicy, clamp
from shared.decider import Decision, Delivered, Tick
from tests.unit.governor.governor_model import MiniLog, Replica, at, share

LIMITS = Limits(
    max_roots=2,
    max_personas=8,
    max_lifetime_children=4,
    spawns_per_minute=2,
    batch=2,
    drain_s=20,
    drain_patience_s=40,
    swarm_per_minute=Credits(tokens=150, compute_ms=60, actions=3),
    actions_per_minute=2,
)
NAMES = tuple(f"p{i}" for i in range(12))
personas = st.sampled_from(NAMES)
picks = st.integers(0, 20)
policies = st.none() | st.builds(
    PersonaPolicy,
    max_spawn_depth=st.sampled_from((2, 1, 3, 0)),
    max_branching_factor=st.sampled_from((2, 1, 0)),
    token_budget_per_minute=st.sampled_from((100, 60, 0)),
    compute_ms_per_minute=st.sampled_from((50, 0)),
    idle_ttl_secs=st.sampled_from((300, 40)),
)
credits = st.builds(
    Credits,
    tokens=st.sampled_from((40, 60, 1, 0)),
    compute_ms=st.sampled_from((0, 20)),
    actions=st.sampled_from((0, 1)),
)


class Audit:
    """The invariants, folded naively from the whole log by someone who has never seen the governor's state."""

    def __init__(self) -> None:
        self.spawned: dict[str, PersonaSpawned] = {}
        self.phase: dict[str, str] = {}
        self.answers: set[str] = set()
        self.granted: dict[str, BudgetGranted] = {}
        self.cost: dict[str, Credits] = {}

    def above(self, persona: str) -> list[str]:
        chain: list[str] = []
        name: str | None = persona
        while name is not None:
            chain.append(name)
            name = self.spawned[name].identity.parent_id
        return chain

    def live(self, parent: str | None) -> int:
        return sum(e.identity.parent_id == parent and self.phase[n] == "live" for n, e in self.spawned.items())

    def take(self, recorded: Recorded) -> None:
        event: AnyEvent = recorded.event
        if isinstance(event, PersonaSpawned | SpawnRefused | BudgetGranted | BudgetExhausted):
            cause = recorded.envelope.causation
            if isinstance(event, BudgetGranted | BudgetExhausted):
                # what makes room, a request or a tick, also serves those in line
                cause = f"{cause or recorded.envelope.time} {event.persona}"
            assert cause is not None and cause not in self.answers, "a request is answered once"
            self.answers.add(cause)
        match event:
            case PersonaSpawned():
                self.take_spawned(event)
            case PersonaDraining():
                assert self.phase[event.persona] == "live"
                self.phase[event.persona] = "draining"
            case PersonaReaped():
                assert self.phase[event.persona] == "draining"
                self.phase[event.persona] = "reaped"
            case BudgetGranted():
                assert event.persona in self.spawned
                self.granted[event.grant_id], self.cost[event.grant_id] = event, event.credits
                self.conserved(event)
            case BudgetSettled():
                grant = self.granted[event.grant_id]
                assert (event.persona, event.window) == (grant.persona, grant.window)
                for resource in RESOURCES:
                    assert getattr(event.credits, resource) <= getattr(grant.credits, resource)
                assert not event.in_full or (
                    event.credits == grant.credits and recorded.envelope.time >= grant.expires_at
                )
                assert f"settled {event.grant_id}" not in self.answers, "a grant is settled once"
                self.answers.add(f"settled {event.grant_id}")
                self.cost[event.grant_id] = event.credits

    def take_spawned(self, event: PersonaSpawned) -> None:
        identity = event.identity
        assert identity.id not in self.spawned, "an id is given once"
        if identity.parent_id is not None:
            parent = self.spawned[identity.parent_id]
            assert all(self.phase[name] == "live" for name in self.above(identity.parent_id))
            assert identity.depth == parent.identity.depth + 1 <= parent.policy.max_spawn_depth
            assert event.policy == clamp(event.policy, parent.policy), "no limit wider than the parent's"
        self.spawned[identity.id], self.phase[identity.id] = event, "live"
        if identity.parent_id is None:
            assert self.live(None) <= LIMITS.max_roots
        else:
            assert self.live(identity.parent_id) <= self.spawned[identity.parent_id].policy.max_branching_factor
            siblings = [e for e in self.spawned.values() if e.identity.parent_id == identity.parent_id]
            assert len(siblings) <= LIMITS.max_lifetime_children
        assert sum(phase == "live" for phase in self.phase.values()) <= LIMITS.max_personas
        starts = [e.identity.created_at for e in self.spawned.values()]
        for end in starts:
            assert sum(end - timedelta(seconds=60) < start <= end for start in starts) <= LIMITS.spawns_per_minute

    def conserved(self, latest: BudgetGranted) -> None:
        spent: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for grant_id, grant in self.granted.items():
            if grant.window == latest.window:
                for name in (*self.above(grant.persona), "swarm"):
                    for resource in RESOURCES:
                        spent[name][resource] += getattr(self.cost[grant_id], resource)
        for name, amounts in spent.items():
            if name == "swarm":
                limit = LIMITS.swarm_per_minute
            else:
                policy = self.spawned[name].policy
                limit = Credits(
                    tokens=policy.token_budget_per_minute,
                    compute_ms=policy.compute_ms_per_minute,
                    actions=LIMITS.actions_per_minute,
                )
            for resource in RESOURCES:
                assert amounts[resource] <= getattr(limit, resource), f"{name} {resource} in {latest.window}"


Undecided = tuple[Delivered | Tick, Decision, dict[str, int]]


class Governors(RuleBasedStateMachine):
    """Deciding and committing are two steps, so anything may happen between them; a crash is a decision never committed."""

    def __init__(self) -> None:
        super().__init__()
        self.log = MiniLog()
        self.replicas = [Replica(self.log, Governor(limits=LIMITS)), Replica(self.log, Governor(limits=LIMITS))]
        self.held: list[Undecided | None] = [None, None]
        self.second, self.ticks, self.audited = 0.0, 0, 0
        self.asked: list[Recorded] = []
        self.audit = Audit()

    def now(self) -> datetime:
        return at(self.second)

    def ask(self, event: AnyEvent) -> None:
        self.asked.append(self.log.append(event, now=self.now(), event_id=f"ask{len(self.asked)}"))

    def ticked(self, facts: LastThoughts | ExpiredGrants) -> Tick:
        self.ticks += 1
        return Tick(id=f"tick{self.ticks}", now=self.now(), swarm="s", facts=facts)

    def alive(self, pick: int) -> str:
        """Some persona that is live now, or one that never was."""
        names = [name for name, phase in self.audit.phase.items() if phase == "live"]
        return names[pick % len(names)] if names else NAMES[pick % len(NAMES)]

    @initialize()
    def there_is_a_family(self) -> None:
        self.log.append(share("s", LIMITS.swarm_per_minute), now=self.now(), event_id="share")
        for persona, parent in (("root", None), ("a", "root"), ("b", "root"), ("a1", "a")):
            policy = PersonaPolicy(max_branching_factor=3, max_spawn_depth=3, token_budget_per_minute=100)
            self.wish(persona, parent, policy)
            self.second += 31
        self.second += 31
        self.every_prefix_keeps_the_limits()

    @rule(persona=personas, parent=st.none() | picks, policy=policies, now=st.booleans())
    def someone_wants_a_persona(
        self, persona: str, parent: int | None, policy: PersonaPolicy | None, now: bool
    ) -> None:
        self.wish(persona, None if parent is None else self.alive(parent), policy, now)

    def wish(self, persona: str, parent: str | None, policy: PersonaPolicy | None, now: bool = True) -> None:
        self.ask(
            SpawnRequested(swarm="s", persona=persona, name="n", role="r", charter="c", parent_id=parent, policy=policy)
        )
        if now:
            self.deliver(-1, 0)

    @rule(pick=picks, cascade=st.booleans(), now=st.booleans())
    def someone_reaps(self, pick: int, cascade: bool, now: bool) -> None:
        self.ask(ReapRequested(swarm="s", persona=self.alive(pick), cascade=cascade))
        if now:
            self.deliver(-1, 0)

    @rule(pick=picks, need=credits, used=credits, close=picks, now=st.booleans())
    def a_runner_wants_credits(self, pick: int, need: Credits, used: Credits, close: int, now: bool) -> None:
        persona = self.alive(pick)
        own = [grant_id for grant_id, grant in self.audit.granted.items() if grant.persona == persona]
        closing = own[close % len(own)] if own and close else None
        self.ask(GrantRequested(swarm="s", persona=persona, need=need, closing=closing, used=used))
        if now:
            self.deliver(-1, 0)

    @rule(first=personas, second=personas, parent=st.none() | picks, policy=policies)
    def two_personas_are_wanted_at_once(
        self, first: str, second: str, parent: int | None, policy: PersonaPolicy | None
    ) -> None:
        above = None if parent is None else self.alive(parent)
        for replica, persona in enumerate((first, second)):
            self.wish(persona, above, policy, now=False)
            self.decides(self.asked[-1], replica)
        self.commit(0)
        self.commit(1)

    @rule(pick=picks, other=picks, need=credits)
    def two_runners_want_credits_at_once(self, pick: int, other: int, need: Credits) -> None:
        for replica, persona in enumerate((self.alive(pick), self.alive(other))):
            self.ask(GrantRequested(swarm="s", persona=persona, need=need))
            self.decides(self.asked[-1], replica)
        self.commit(0)
        self.commit(1)

    @rule(pick=picks)
    def the_compactor_leaves_a_final_snapshot(self, pick: int) -> None:
        draining = [name for name, phase in self.audit.phase.items() if phase == "draining"]
        persona = draining[pick % len(draining)] if draining else self.alive(pick)
        self.ask(
            SnapshotCompressed(
                swarm="s",
                persona=persona,
                snapshot_id="snap",
                key="k",
                sha256="0" * 64,
                seq=1,
                summary="",
                counts=SnapshotCounts(),
                final=True,
            )
        )

    @rule(seconds=st.sampled_from((0.5, 7, 31, 65, 125)))
    def time_passes(self, seconds: float) -> None:
        self.second += seconds

    def deliver(self, which: int, replica: int) -> None:
        self.decides(self.asked[which], replica)
        self.commit(replica)

    def decides(self, message: Recorded, replica: int) -> None:
        """Replaces what it held: that is a crash before the commit."""
        delivered = Delivered(recorded=message, now=self.now())
        self.held[replica] = (delivered, *self.replicas[replica].decide(delivered))

    @rule(which=st.integers(0, 12), replica=st.integers(0, 1))
    def a_governor_decides_a_delivery_perhaps_not_the_first(self, which: int, replica: int) -> None:
        self.decides(self.asked[-1 - which % len(self.asked)], replica)

    @rule(which=st.integers(1, 6), same=st.booleans())
    def two_governors_race(self, which: int, same: bool) -> None:
        self.decides(self.asked[-1], 0)
        self.decides(self.asked[-1 if same else -min(which, len(self.asked))], 1)
        self.commit(1)
        self.commit(0)

    @rule(replica=st.integers(0, 1), books=st.booleans(), useful=st.dictionaries(personas, st.integers(0, 400)))
    def a_governor_decides_a_tick(self, replica: int, books: bool, useful: dict[str, int]) -> None:
        facts = LastThoughts(useful_at={name: at(s) for name, s in useful.items()}, running_since=at(0))
        tick = self.ticked(ExpiredGrants() if books else facts)
        self.held[replica] = (tick, *self.replicas[replica].decide(tick))

    @rule(replica=st.integers(0, 1))
    def commit(self, replica: int) -> None:
        """Refused: catch up and decide again. Stored: the same message now decides nothing."""
        held, self.held[replica] = self.held[replica], None
        if held is None:
            return
        message, decision, guards = held
        if self.log.commit(decision, message, guards) is None:
            decision, guards = self.replicas[replica].decide(message)
            assert self.log.commit(decision, message, guards) is not None
        while decision.retry_s is not None:  # a cascade that does not fit into one commit
            decision, guards = self.replicas[replica].decide(message)
            assert self.log.commit(decision, message, guards) is not None
        if isinstance(message, Delivered):
            assert self.replicas[1 - replica].decide(message)[0].events == ()

    @invariant()
    def every_prefix_keeps_the_limits(self) -> None:
        for recorded in self.log.events[self.audited :]:
            self.audited += 1
            self.audit.take(recorded)

    def teardown(self) -> None:
        """Left alone, reconciliation ends all that should end, and both governors and a fresh one have the same states."""
        first = self.replicas[0]
        quiet = 0
        while quiet < 2:
            self.second += 91
            quiet += 1
            for facts in (LastThoughts(), ExpiredGrants()):
                quiet = 0 if first.handle(self.ticked(facts)) else quiet
        self.every_prefix_keeps_the_limits()
        audit = self.audit
        for name in audit.spawned:
            if audit.phase[name] == "live":
                assert all(audit.phase[above] == "live" for above in audit.above(name)), f"{name} is an orphan"
        assert "draining" not in audit.phase.values()
        assert all(f"settled {grant_id}" in audit.answers for grant_id in audit.granted)
        fresh = Replica(self.log, Governor(limits=LIMITS))
        for message in (self.ticked(LastThoughts()), self.ticked(ExpiredGrants())):
            boundary = first.governor.boundary(message)
            assert boundary is not None
            assert first.state(boundary) == self.replicas[1].state(boundary) == fresh.state(boundary)


TestGovernors = Governors.TestCase
TestGovernors.settings = settings(max_examples=120, stateful_step_count=50, deadline=None, print_blob=True)
