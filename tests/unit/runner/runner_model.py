"""A small world around the runner's deciders: a compare-and-set store, a governor that grants, a verifier that answers.

Time is a variable. Runners are `Runner`s with their own, perhaps stale, view of the log, so they can disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from services.persona_runner.decider import decide, evolve, initial
from services.persona_runner.hosting.messages import guards, messages
from services.persona_runner.mind.cadence import Limits, cursor
from services.persona_runner.mind.goals import current
from services.persona_runner.mind.spending import affordable
from services.persona_runner.mind.state import State
from services.persona_runner.mind.steps import OverBudget, Percepts, Think, Thoughtful, Thoughtless, Unaffordable
from shared.contracts.action import Action
from shared.contracts.catalog import about
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    AnyEvent,
    BudgetGranted,
    CheckRequested,
    CheckResult,
    Credits,
    EvidenceRef,
    GrantRequested,
    IntentAnswered,
    IntentAssigned,
    IntentReleased,
    LogCount,
    ObservationRecorded,
    PersonaDraining,
    PersonaSpawned,
    ThoughtGenerated,
    Usage,
)
from shared.contracts.ids import caused_id
from shared.contracts.persona import Identity, PersonaPolicy
from shared.decider import Decision, Effect, Performed, Result, Tick
from shared.log.memory import Store
from shared.log.port import DuplicateEvent, StaleBoundary
from shared.thinker.port import (
    CheckDraft,
    Context,
    Finding,
    HypothesisDraft,
    Percept,
    ProposalDraft,
    Thought,
)

SWARM, PERSONA = "alpha", "ada"
START = datetime(2026, 11, 1, tzinfo=UTC)
LOOP_MS = 1000
WORST = Usage(tokens_in=50, tokens_out=50, compute_ms=20)
GRANT = Credits(tokens=1000, compute_ms=1000)
IDENTITY = Identity(
    id=PERSONA, name="Ada", role="watcher", charter="Watch the log", swarm_id=SWARM, created_at=START, tags=()
)


def seconds(n: float) -> timedelta:
    return timedelta(seconds=n)


def ref(seq: int) -> EvidenceRef:
    return EvidenceRef(id=f"obs-{seq}", seq=seq)


def finding(topic: str, seq: int) -> Finding:
    return Finding(
        topic=topic,
        kind="burst",
        seq=seq,
        claim=f"{topic} happens too often",
        confidence=0.8,
        evidence=(ref(seq),),
        probe=LogCount(template="disk <*>", first_seq=1, last_seq=seq, at_least=1),
    )


class RulesOfThumb:
    """A thinker that takes every finding up, checks it and proposes a report; it says a new thing each time it can."""

    name = "thumb"

    def worst_case(self, context: Context) -> Usage:
        return WORST

    def thought(self, context: Context) -> Thought:
        usage = Usage(tokens_in=10, tokens_out=10, compute_ms=5)
        match context.phase:
            case "observe":
                return Thought(text=f"{context.percept.new} new up to {context.percept.last_seq}", usage=usage)
            case "reflect":
                drafts = tuple(
                    HypothesisDraft(topic=f.topic, claim=f.claim, confidence=f.confidence, evidence=f.evidence)
                    for f in context.percept.findings
                )
                return Thought(
                    text=f"I see {len(drafts)} things in step {context.step}", hypotheses=drafts, usage=usage
                )
            case "test":
                checks = tuple(
                    CheckDraft(hypothesis_id=h.hypothesis_id, probe=h.finding.probe)
                    for h in context.hypotheses
                    if h.finding is not None and h.result is None
                )
                return Thought(text=f"I check {len(checks)} of {context.step}", checks=checks, usage=usage)
            case _:
                proposals = tuple(
                    ProposalDraft(
                        title=f"Report {h.topic}",
                        rationale=h.claim,
                        action=Action(kind="file.write", target=f"findings/{h.topic}.md", params={"content": h.claim}),
                        evidence=h.evidence,
                        hypothesis_id=h.hypothesis_id,
                    )
                    for h in context.hypotheses
                )
                return Thought(text=f"In short {context.cycle}: {len(proposals)}", proposals=proposals, usage=usage)

    def result(self, effect: Effect) -> Result:
        assert isinstance(effect, Think)
        return refused(effect) or Thoughtful(thought=self.thought(effect.context), worst=WORST)


def refused(effect: Effect) -> Result | None:
    """As the real effect does: no thought that cannot be paid."""
    assert isinstance(effect, Think)
    if effect.allowance is not None and not affordable(WORST, effect.allowance):
        return OverBudget(worst=WORST)
    if effect.grant_id is None or not affordable(WORST, effect.limit):
        return Unaffordable(worst=WORST)
    return None


class World:
    """The log, what there is to perceive, and the other services' answers to what is in it."""

    def __init__(self, *, policy: PersonaPolicy | None = None, running: bool = True, grant: Credits = GRANT) -> None:
        self.now = START
        self.store = Store(clock=lambda: self.now)
        self.running = running
        self.grant = grant
        self.findings: list[Finding] = []
        self.heard = 0
        self.answered: set[str] = set()
        self.put(PersonaSpawned(swarm=SWARM, persona=PERSONA, identity=IDENTITY, policy=policy or PersonaPolicy()))

    def put(self, event: AnyEvent, *, cause: str | None = None) -> Recorded:
        event_id = caused_id(f"{len(self.store.records)}", type(event).__name__)
        envelope = Envelope(id=event_id, source="test", time=self.now, correlation=event_id, causation=cause)
        self.store.append([Message(event=event, envelope=envelope)])
        return self.store.records[-1]

    def pass_time(self, s: float) -> None:
        self.now += seconds(s)

    def observe(self, text: str = "disk full", *, topic: str | None = None) -> int:
        recorded = self.put(ObservationRecorded(swarm=SWARM, persona="all", text=text))
        self.heard = recorded.seq
        if topic is not None:
            self.findings = [f for f in self.findings if f.topic != topic]
            self.findings.append(finding(topic, recorded.seq))
        return recorded.seq

    def percept(self, after: int) -> Percept:
        new = [r.seq for r in self.store.read([f"observation.recorded.{SWARM}.all"], after)]
        return Percept(
            first_seq=new[0] if new else 0,
            last_seq=self.heard,
            new=len(new),
            findings=tuple(f for f in self.findings if f.seq > after),
            samples=tuple((ref(seq), "disk full") for seq in new[-3:]),
        )

    def govern(self) -> None:
        """Answer every request for credits with the same grant."""
        for recorded in list(self.store.records):
            event = recorded.event
            if isinstance(event, GrantRequested) and recorded.id not in self.answered:
                self.answered.add(recorded.id)
                if event.need != Credits():
                    self.put(
                        BudgetGranted(
                            swarm=SWARM,
                            persona=PERSONA,
                            grant_id=caused_id(recorded.id, "budget.granted"),
                            window=1,
                            credits=self.grant,
                            expires_at=self.now + seconds(90),
                        ),
                        cause=recorded.id,
                    )

    def verify(self, outcome: str = "confirmed") -> None:
        """Answer every check."""
        for recorded in list(self.store.records):
            event = recorded.event
            if isinstance(event, CheckRequested) and recorded.id not in self.answered:
                self.answered.add(recorded.id)
                self.put(
                    CheckResult(
                        swarm=SWARM,
                        persona=PERSONA,
                        check_id=event.check_id,
                        hypothesis_id=event.hypothesis_id,
                        outcome=outcome,  # type: ignore[arg-type]
                        findings="counted",
                        measured=3,
                    )
                )

    def assign(
        self,
        intent_id: str = "i-1",
        *,
        route: int = 1,
        until_s: float = 600,
        budget: Credits = GRANT,
        goal: str = "Is anything unusual?",
        options: tuple[str, ...] = (),
        priority: int = 5,
    ) -> Recorded:
        return self.put(
            IntentAssigned(
                swarm=SWARM,
                persona=PERSONA,
                intent_id=intent_id,
                home="home",
                goal=goal,
                options=options,
                priority=priority,
                until=self.now + seconds(until_s),
                budget=budget,
                route=route,
                principal="ann",
            )
        )

    def release(self, intent_id: str = "i-1", *, route: int = 1) -> None:
        self.put(
            IntentReleased(
                swarm=SWARM, persona=PERSONA, intent_id=intent_id, home="home", route=route, reason="cancelled"
            )
        )

    def answers(self) -> list[IntentAnswered]:
        return [r.event for r in self.store.records if isinstance(r.event, IntentAnswered)]

    def drain(self) -> None:
        self.put(PersonaDraining(swarm=SWARM, persona=PERSONA, reason="test", deadline=self.now + seconds(20)))

    def thoughts(self) -> list[ThoughtGenerated]:
        return [r.event for r in self.store.records if isinstance(r.event, ThoughtGenerated)]

    def events(self, kind: type[AnyEvent]) -> list[AnyEvent]:
        return [r.event for r in self.store.records if isinstance(r.event, kind)]


class Runner:
    """One runner of the one persona, with its own view."""

    def __init__(self, world: World, *, thinker: RulesOfThumb | None = None, limits: Limits | None = None) -> None:
        self.world = world
        self.thinker = thinker or RulesOfThumb()
        self.limits = limits or Limits()
        self.state: State = initial()
        self.seen = 0
        self.pending: tuple[Tick, Think] | None = None

    def catch_up(self, upto: int | None = None) -> State:
        for recorded in self.world.store.read(about(SWARM, PERSONA), self.seen):
            if upto is not None and recorded.seq > upto:
                break
            self.state = evolve(self.state, recorded)
            self.seen = recorded.seq
        return self.state

    def tick(self) -> Tick:
        self.state = current(self.state, self.world.now)
        percept = self.world.percept(cursor(self.state))
        facts = Percepts(
            running=self.world.running,
            loop_interval_ms=LOOP_MS,
            percept=percept,
            findings={f.topic: f for f in self.world.findings},
            lately=self.world.percept(0).samples if self.state.assigned else (),
            thinker=self.thinker.name,
            runner="runner-1",
            limits=self.limits,
        )
        return Tick(id=PERSONA, now=self.world.now, swarm=SWARM, facts=facts)

    def begin(self) -> Decision:
        """Decide a tick; a wanted thought stays pending until `finish`."""
        tick = self.tick()
        decision = decide(self.state, tick)
        self.pending = (tick, decision.effect) if isinstance(decision.effect, Think) else None
        return decision

    def finish(self, answer: Callable[[Think], Result] | None = None) -> Decision:
        """Think the pending thought and decide its result."""
        assert self.pending is not None
        tick, effect = self.pending
        self.pending = None
        result = (answer or self.thinker.result)(effect)
        return decide(self.state, Performed(cause=tick, effect=effect, result=result, now=self.world.now))

    def commit(self, decision: Decision) -> bool:
        if not decision.events:
            return False
        batch = messages(self.state, decision, self.world.now, "persona_runner", "r1", {})
        try:
            self.world.store.append(batch, guards(self.state, decision))
        except (StaleBoundary, DuplicateEvent):
            return False
        return True

    def step(self, answer: Callable[[Think], Result] | None = None) -> Decision:
        """One whole look with a fresh view, its commit included."""
        self.catch_up()
        decision = self.begin()
        if self.pending is not None:
            decision = self.finish(answer)
        self.commit(decision)
        self.catch_up()
        return decision

    def think(self, answer: Callable[[Think], Result] | None = None) -> ThoughtGenerated:
        """The next thought, with credits, one loop interval later."""
        self.world.pass_time(LOOP_MS / 1000)
        for _ in range(3):
            for event in self.step(answer).events:
                if isinstance(event, ThoughtGenerated):
                    return event
            self.world.govern()
        raise AssertionError("no thought came")


def says(text: str, **drafts: object) -> Callable[[Think], Result]:
    """A thinker that says just this, when it can be paid."""

    def answer(effect: Think) -> Result:
        if (no := refused(effect)) is not None:
            return no
        thought = Thought(text=text, usage=Usage(tokens_in=10, compute_ms=5))
        return Thoughtful(thought=msgspec.structs.replace(thought, **drafts), worst=WORST)

    return answer


def fails(status: str, retry_after_s: float = 5.0) -> Callable[[Think], Result]:
    """A thinker that cannot."""

    def answer(effect: Think) -> Result:
        if effect.grant_id is None:
            return Unaffordable(worst=WORST)
        return Thoughtless(status=status, detail="no", retry_after_s=retry_after_s)  # type: ignore[arg-type]

    return answer
