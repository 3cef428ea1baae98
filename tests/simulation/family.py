"""A family of personas on a simulated clock: the real governor, the real runner and the real rules, on the in-memory log.

Only time is made up: it jumps to whatever is due next. What a thought costs is what it really took of the processor here. Checks
are answered at once, proposals by nobody. `measure` says what the log says about who got to think.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from services.governor.decider import ExpiredGrants, Governor
from services.governor.service import limits_of
from services.governor.sharing import Sharing
from services.persona_runner.effects import think
from services.persona_runner.hosting.host import Host
from services.persona_runner.hosting.stepping import stepping
from services.persona_runner.mind.steps import Think
from shared.contracts.catalog import class_of
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    AnyEvent,
    BudgetExhausted,
    BudgetGranted,
    BudgetLimited,
    BudgetSettled,
    CheckRequested,
    CheckResult,
    CognitionStarted,
    GrantRequested,
    ObservationRecorded,
    PersonaSpawned,
    SpawnRequested,
    ThoughtGenerated,
)
from shared.contracts.ids import EVERYONE, caused_id
from shared.contracts.services import SERVICES
from shared.decider import Decision, Delivered, Tick
from shared.invariants import Invariants, Limits
from shared.log.memory import Store
from shared.log.port import DuplicateEvent, StaleBoundary
from shared.runtime.handling import (
    Answer,
    Commit,
    Ends,
    Fold,
    Newest,
    Operation,
    Perform,
    Read,
    Verdict,
    addressed,
    handle,
)
from shared.settings import Settings
from shared.thinker.rules import RuleThinker

SWARM = "alpha"
PERCEIVED = frozenset(SERVICES["persona_runner"].consumes)
LEDGER = (GrantRequested, BudgetGranted, BudgetSettled, BudgetExhausted)
TICK_S = 5.0


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Who got how much: whole cycles of each persona in the leanest `window_s`, and of all of them over the whole time."""

    personas: int
    thoughts: int
    fewest_cycles_in_a_window: int
    min_over_median: float
    ledger_events_per_thought: float
    outstanding_at_rest: int
    violations: int


def flat(personas: int) -> list[tuple[str, str | None]]:
    """So many roots."""
    return [(f"p{n}", None) for n in range(personas)]


def tree(branching: int, depth: int) -> list[tuple[str, str | None]]:
    """A root and everything below it, parents first: 341 personas for 4 and 4."""
    level: list[tuple[str, str | None]] = [("r", None)]
    made = list(level)
    for _ in range(depth):
        level = [(f"{name}{n}", name) for name, _ in level for n in range(branching)]
        made += level
    return made


def shared(
    log: Sequence[Recorded],
    personas: Sequence[str],
    began: datetime,
    until: datetime,
    *,
    window_s: float,
    limits: Limits,
) -> Share:
    """How it was shared from `began` on, as a whole log from its first event says; thoughts after `until` don't count."""
    judge = Invariants(limits)
    windows = max(1, int((until - began).total_seconds() // window_s))
    cycles: Counter[tuple[str, int]] = Counter()
    thoughts = ledger = 0
    open_grants: set[str] = set()
    for recorded in log:
        judge.absorb(recorded)
        event = recorded.event
        if isinstance(event, BudgetGranted):
            open_grants.add(event.grant_id)
        elif isinstance(event, BudgetSettled):
            open_grants.discard(event.grant_id)
        if not began <= recorded.stored_at <= until:
            continue
        ledger += isinstance(event, LEDGER)
        if isinstance(event, ThoughtGenerated):
            thoughts += 1
            if event.phase == "compress" and event.status == "ok":
                window = int((recorded.stored_at - began).total_seconds() // window_s)
                cycles[event.persona, min(window, windows - 1)] += 1
    totals = sorted(sum(cycles[name, w] for w in range(windows)) for name in personas)
    return Share(
        personas=len(personas),
        thoughts=thoughts,
        fewest_cycles_in_a_window=min(cycles[name, w] for name in personas for w in range(windows)),
        min_over_median=round(totals[0] / max(1, totals[len(totals) // 2]), 3),
        ledger_events_per_thought=round(ledger / max(1, thoughts), 3),
        outstanding_at_rest=len(open_grants),
        violations=len(judge.violations),
    )


class Family:
    """`personas` as (id, parent). `settings` are the mesh's, by default the defaults."""

    def __init__(self, personas: list[tuple[str, str | None]], settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.now = self.began = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
        self.store = Store(lambda: self.now)
        self.governor = Governor(limits=limits_of(self.settings))
        self.sharing = Sharing(limits=self.governor.limits)
        self.host = Host(shards=1, thinker="rules", runner="runner-1")
        self.host.begin(0)
        self.host.end(0)
        self.thinker = RuleThinker()
        self._folds: dict[tuple[str, ...], Fold[object]] = {}
        self._heard = self._lines = self._serial = 0
        self._say(CognitionStarted(swarm=EVERYONE, persona=EVERYONE))
        for count, (name, parent) in enumerate(personas, 1):
            self._say(SpawnRequested(swarm=SWARM, persona=name, name=name, role="r", charter="c", parent_id=parent))
            self._hear()
            if count % self.settings.swarm.spawns_per_minute == 0:
                self.now += timedelta(seconds=61)
        self.personas = [name for name, _ in personas]
        self.began = self.now

    async def live(self, seconds: float, *, line_every_s: float) -> None:
        """So much time passes; until then a line comes for everybody every `line_every_s`."""
        end = self.now + timedelta(seconds=seconds)
        ticks = lines = self.now
        while self.now < end:
            if lines <= self.now:
                lines += timedelta(seconds=line_every_s)
                self._lines += 1
                self._say(ObservationRecorded(swarm=SWARM, persona=EVERYONE, text=f"request {self._lines} took 5 ms"))
            if ticks <= self.now:
                ticks += timedelta(seconds=TICK_S)
                self._govern(Tick(id=self._id(), now=self.now, swarm=SWARM, facts=ExpiredGrants()))
            self._hear()
            for key in self.host.due(self.now, 64):
                await self._step(stepping(self.host, key, lambda: self.now, "persona_runner"))
                self._hear()
            due = self.host.next_due()
            soonest = min(ticks, lines, end)
            self.now = max(self.now, min(soonest, datetime.fromtimestamp(due, UTC)) if due is not None else soonest)

    def measure(self, *, window_s: float) -> Share:
        """What the log says about the time since everybody was born."""
        return shared(
            self.store.records,
            self.personas,
            self.began,
            self.now,
            window_s=window_s,
            limits=Limits(
                swarm_per_minute=self.governor.limits.swarm_per_minute,
                actions_per_minute=self.governor.limits.actions_per_minute,
                lifetime_children=self.governor.limits.max_lifetime_children,
                global_per_minute=self.governor.limits.global_per_minute,
            ),
        )

    # -- the mesh ----------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Everybody takes in what is new: the governor answers, checks are answered, the host is fed."""
        while self._heard < len(self.store.messages):
            recorded = self.store.messages[self._heard]
            self._heard += 1
            assert isinstance(recorded, Recorded)
            match recorded.event:
                case GrantRequested() | SpawnRequested() | BudgetLimited():
                    self._govern(Delivered(recorded=recorded, now=self.now))
                case PersonaSpawned():
                    self._govern(Delivered(recorded=recorded, now=self.now), self.sharing)
                case CheckRequested() as event:
                    self._say(
                        CheckResult(
                            swarm=SWARM,
                            persona=event.persona,
                            check_id=event.check_id,
                            hypothesis_id=event.hypothesis_id,
                            outcome="refuted",
                            findings="counted",
                        )
                    )
            if class_of(recorded.event) in PERCEIVED:
                self.host.feed(recorded)
            else:
                self.host.position = recorded.seq

    def _govern(self, message: Delivered | Tick, decider: Governor | Sharing | None = None) -> None:
        decider = decider or self.governor
        if (boundary := decider.boundary(message)) is None:
            return
        fold = self._folds.setdefault(boundary.reads, Fold(decider, boundary))  # type: ignore[arg-type]
        steps, answer = handle(fold, message, source="governor", lags=boundary.lags), None
        while True:
            try:
                operation = steps.send(answer)
            except StopIteration:
                return
            answer = self._do(operation)  # type: ignore[assignment]

    async def _step(self, steps: Generator[Operation, Answer, Verdict]) -> None:
        answer: Answer = None
        while True:
            try:
                operation = steps.send(answer)
            except StopIteration:
                return
            if isinstance(operation, Perform):
                assert isinstance(operation.effect, Think)
                answer = (await think(self.thinker, operation.effect), self.now)
            else:
                answer = self._do(operation)

    def _do(self, operation: Operation) -> Answer:
        match operation:
            case Read(filters, after):
                return self.store.stored(filters, after)
            case Ends(filters):
                return tuple(self.store.last_seq(f) for f in filters)
            case Newest(filters):
                return self.store.newest(filters)
            case Commit(messages, expect):
                try:
                    return self.store.append(messages, expect)
                except (StaleBoundary, DuplicateEvent):
                    return None
            case Perform():
                raise TypeError("the governor has no hands")

    def _say(self, event: AnyEvent) -> None:
        tick = Tick(id=self._id(), now=self.now, swarm=SWARM)
        self.store.append(addressed(Decision(events=(event,)), tick, self.now, "client"))

    def _id(self) -> str:
        self._serial += 1
        return caused_id(f"{self._serial}", "family")
