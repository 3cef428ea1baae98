"""The host: one tail in, who is due out; own commits once, shards without gap or duplicate, and little memory."""

from __future__ import annotations

import gc
import tracemalloc
from datetime import timedelta

from services.persona_runner.decider import decide
from services.persona_runner.hosting.host import Host, Key, merged
from services.persona_runner.hosting.messages import guards, messages
from services.persona_runner.mind.guard import digest_of
from services.persona_runner.mind.steps import Think, Thoughtful
from shared.contracts.catalog import about
from shared.contracts.envelope import Envelope, Message, Recorded, enveloped
from shared.contracts.events import (
    AnyEvent,
    BudgetGranted,
    CognitionStarted,
    CognitionStopped,
    Credits,
    IntentAssigned,
    IntentReleased,
    ObservationRecorded,
    PersonaReaped,
    PersonaSpawned,
    SpawnRequested,
    ThoughtGenerated,
    Usage,
)
from shared.contracts.ids import caused_id, fresh_id
from shared.contracts.persona import Identity, PersonaPolicy
from shared.decider import Performed, Tick
from shared.log.memory import Store
from shared.placement import shard_of
from shared.thinker.port import Percept, Thought
from tests.unit.runner.runner_model import START, SWARM, WORST

SHARDS = 8


class Site:
    """A store, a host fed from it, and a clock."""

    def __init__(self, shards: int = SHARDS) -> None:
        self.now = START
        self.store = Store(clock=lambda: self.now)
        self.host = Host(shards=SHARDS, thinker="t", runner="runner-1")
        for shard in range(shards):
            self.host.begin(shard)
            self.host.end(shard)

    def put(self, event: AnyEvent, traceparent: str | None = None) -> int:
        event_id = fresh_id()
        envelope = enveloped(event_id, source="test", time=self.now, traceparent=traceparent)
        (seq,) = self.store.append([Message(event=event, envelope=envelope)])
        return seq

    def spawn(self, *personas: str) -> None:
        for persona in personas:
            identity = Identity(
                id=persona, name=persona, role="watcher", charter="Watch the log" * 10, swarm_id=SWARM, created_at=START
            )
            self.put(PersonaSpawned(swarm=SWARM, persona=persona, identity=identity, policy=PersonaPolicy()))

    def grant(self, persona: str) -> None:
        self.put(
            BudgetGranted(
                swarm=SWARM,
                persona=persona,
                grant_id=caused_id(persona, "grant", len(self.store.records)),
                window=1,
                credits=Credits(tokens=10_000, compute_ms=10_000),
                expires_at=self.now + timedelta(hours=2),
            )
        )

    def assign(self, persona: str, intent_id: str = "i-1", route: int = 1, until_s: float = 3600) -> int:
        return self.put(
            IntentAssigned(
                swarm=SWARM,
                persona=persona,
                intent_id=intent_id,
                home=SWARM,
                goal="Is anything unusual?",
                until=self.now + timedelta(seconds=until_s),
                budget=Credits(tokens=10_000, compute_ms=10_000),
                route=route,
                principal="ann",
            )
        )

    def release(self, persona: str, intent_id: str = "i-1", route: int = 1) -> int:
        return self.put(
            IntentReleased(
                swarm=SWARM, persona=persona, intent_id=intent_id, home=SWARM, route=route, reason="cancelled"
            )
        )

    def start(self) -> None:
        self.put(CognitionStarted(swarm="all", persona="all", loop_interval_ms=1000))

    def feed(self) -> None:
        for recorded in self.store.records[self.host.position :]:
            self.host.feed(recorded)

    def due(self, limit: int = 1_000_000) -> list[Key]:
        return sorted(self.host.due(self.now, limit))

    def think(self, key: Key, text: str = "hm") -> None:
        """One committed thought, whatever the persona is at."""
        state = self.host.state(key)
        assert state is not None
        facts = self.host.percepts(key, self.now)
        tick = Tick(id=key[1], now=self.now, swarm=key[0], facts=facts)
        effect = decide(state, tick).effect
        assert isinstance(effect, Think)
        result = Thoughtful(thought=Thought(text=text, usage=Usage(compute_ms=1)), worst=WORST)
        decision = decide(state, Performed(cause=tick, effect=effect, result=result, now=self.now))
        batch = messages(state, decision, self.now, "persona_runner", "r1", facts.percept.traces)
        self.host.committed(key, batch, self.store.append(batch, guards(state, decision)), self.now)
        self.host.settle(key, self.now)


def test_only_personas_of_own_shards_are_hosted() -> None:
    site = Site(shards=4)
    names = [f"p{i}" for i in range(40)]
    site.spawn(*names)
    site.start()
    site.feed()
    wanted = sorted((SWARM, n) for n in names if shard_of(SWARM, n, SHARDS) < 4)
    assert site.due() == wanted
    assert 0 < len(site.host) < 40


def test_nobody_is_due_while_cognition_stands_and_the_newest_word_counts() -> None:
    site = Site()
    site.spawn("a")
    site.feed()
    assert site.due() == []
    site.start()
    site.put(CognitionStopped(swarm=SWARM, persona="all"))
    site.feed()
    assert site.due() == []
    site.start()
    site.feed()
    assert site.due() == [(SWARM, "a")]


def test_a_persona_is_due_once_until_it_is_settled() -> None:
    site = Site()
    site.spawn("a", "b")
    site.start()
    site.feed()
    assert len(site.due(limit=1)) == 1
    assert len(site.due()) == 1
    assert site.due() == []
    site.host.settle((SWARM, "a"), site.now)
    assert site.due() == [(SWARM, "a")]


def test_an_own_commit_counts_at_once_and_only_once() -> None:
    site = Site()
    key = (SWARM, "a")
    site.spawn("a")
    site.start()
    site.grant("a")
    site.feed()
    site.due()
    site.think(key)
    first = site.host.state(key)
    assert first is not None
    assert first.step == 1
    site.feed()
    assert site.host.state(key) == first


def test_an_older_event_of_another_service_is_not_lost_behind_an_own_commit() -> None:
    site = Site()
    key = (SWARM, "a")
    site.spawn("a")
    site.start()
    site.grant("a")
    site.feed()
    heard = site.put(ObservationRecorded(swarm=SWARM, persona="a", text="psst"))
    site.due()
    site.think(key)
    before = site.host.state(key)
    assert before is not None
    assert before.heard_seq == 0
    site.feed()
    after = site.host.state(key)
    assert after is not None
    assert after.heard_seq == heard
    assert site.host.percepts(key, site.now).percept.last_seq == heard


def test_a_commit_the_tail_brought_first_is_not_applied_twice() -> None:
    site = Site()
    key = (SWARM, "a")
    site.spawn("a")
    site.start()
    site.grant("a")
    site.feed()
    site.due()
    state = site.host.state(key)
    assert state is not None
    tick = Tick(id="a", now=site.now, swarm=SWARM, facts=site.host.percepts(key, site.now))
    effect = decide(state, tick).effect
    assert isinstance(effect, Think)
    result = Thoughtful(thought=Thought(text="hm", usage=Usage(compute_ms=7)), worst=WORST)
    decision = decide(state, Performed(cause=tick, effect=effect, result=result, now=site.now))
    batch = messages(state, decision, site.now, "persona_runner", "r1", {})
    seqs = site.store.append(batch, guards(state, decision))
    site.feed()
    site.host.committed(key, batch, seqs, site.now)
    after = site.host.state(key)
    assert after is not None
    assert after.grant is not None
    assert after.grant.spent.compute_ms == 7


def test_an_observation_for_all_wakes_every_live_persona_of_the_swarm() -> None:
    site = Site()
    names = [f"p{i}" for i in range(20)]
    site.spawn(*names)
    site.start()
    for name in names:
        site.grant(name)
    site.feed()
    for key in site.due():
        site.think(key)
    site.feed()
    site.now += timedelta(seconds=1)
    assert site.due() == []
    site.put(ObservationRecorded(swarm=SWARM, persona="all", text="line"))
    site.put(ObservationRecorded(swarm="beta", persona="all", text="line"))
    site.put(PersonaReaped(swarm=SWARM, persona="p3", reason="test"))
    site.feed()
    assert len(site.due()) == 19


def test_a_shard_is_gained_without_gap_or_duplicate() -> None:
    site = Site(shards=0)
    site.spawn("a")
    site.start()
    site.grant("a")
    site.feed()
    shard = shard_of(SWARM, "a", SHARDS)
    upto = site.host.begin(shard)
    before = [r for r in site.store.read(about(SWARM, "a")) if r.seq <= upto]
    heard = site.put(ObservationRecorded(swarm=SWARM, persona="a", text="meanwhile"))
    site.feed()
    site.host.install(before)
    site.host.end(shard)
    state = site.host.state((SWARM, "a"))
    assert state is not None
    assert (state.heard_seq, state.grant is not None) == (heard, True)
    assert site.due() == [(SWARM, "a")]


def test_a_persona_that_was_asked_for_before_it_was_born_is_loaded_as_the_tail_brings_it() -> None:
    site = Site()
    site.put(SpawnRequested(swarm=SWARM, persona="a", name="a", role="r", charter="c", principal="al"))
    site.put(ObservationRecorded(swarm=SWARM, persona="a", text="nobody is there"))
    site.spawn("a")
    site.start()
    site.feed()
    by_tail, percepts = site.host.state((SWARM, "a")), site.host.percepts((SWARM, "a"), site.now)
    site.host.install(site.store.read(about(SWARM, "a")))
    assert by_tail is not None
    assert site.host.state((SWARM, "a")) == by_tail
    assert site.host.percepts((SWARM, "a"), site.now) == percepts
    assert site.due() == [(SWARM, "a")]


def test_a_lost_shard_is_forgotten_even_while_loading() -> None:
    site = Site()
    site.spawn("a", "b")
    site.start()
    site.feed()
    site.host.begin((SWARM, "a"))
    site.host.lose(range(SHARDS))
    site.host.install(site.store.read(about(SWARM, "a")))
    site.host.end((SWARM, "a"))
    assert len(site.host) == 0
    assert site.due() == []
    site.host.settle((SWARM, "b"), site.now)


def test_percepts_of_two_senses_are_one() -> None:
    both = merged([Percept(first_seq=3, last_seq=9, new=2, total=5), Percept(last_seq=7, new=0, total=1)])
    assert (both.first_seq, both.last_seq, both.new, both.total) == (3, 9, 2, 6)


def test_an_idle_persona_takes_less_than_twenty_kilobytes() -> None:
    """Events go straight to the host, so that only what the host keeps is measured; long thoughts, twelve of them each."""
    count = 2_000
    host = Host(shards=1, thinker="t", runner="runner-1")
    host.begin(0)
    host.end(0)
    now = START

    def bring(event: AnyEvent) -> None:
        event_id = fresh_id()
        envelope = Envelope(id=event_id, source="test", time=now, correlation=event_id)
        subject = f"x.x.{event.swarm}.{event.persona}"
        host.feed(Recorded(event=event, envelope=envelope, seq=host.position + 1, stored_at=now, subject=subject))

    gc.collect()
    tracemalloc.start()
    base, _ = tracemalloc.get_traced_memory()
    bring(CognitionStarted(swarm="all", persona="all", loop_interval_ms=1000))
    for i in range(count):
        name = f"p{i}"
        charter = f"I am {name}. " + "Watch the log. " * 20
        identity = Identity(id=name, name=name, role="r", charter=charter, swarm_id=SWARM, created_at=START)
        bring(PersonaSpawned(swarm=SWARM, persona=name, identity=identity, policy=PersonaPolicy()))
    for step in range(1, 13):
        now += timedelta(minutes=10)
        due = host.due(now, count)
        assert len(due) == count
        for swarm, persona in due:
            text = f"Nothing new in cycle {step} of {persona}; " + "each kind of line within its usual rate, " * 20
            bring(
                ThoughtGenerated(
                    swarm=swarm,
                    persona=persona,
                    step=step,
                    cycle=step,
                    phase="reflect",
                    text=text,
                    thinker="t",
                    digest=digest_of(text),
                    useful_at=now,
                    next_in_ms=300_000,
                )
            )
            host.settle((swarm, persona), now)
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    each = (used - base) / count
    print(f"bytes per idle persona: {each:.0f}")
    assert each < 20_000
    assert len(host) == count


def test_who_is_asked_is_due_at_once_and_sees_all_that_stands_out_and_comes_from_where() -> None:
    site = Site()
    key = (SWARM, "a")
    site.spawn("a")
    site.start()
    site.put(ObservationRecorded(swarm=SWARM, persona="all", text="disk full", source="kernel"))
    site.grant("a")
    site.feed()
    for _ in range(6):
        site.now += timedelta(seconds=400)
        for due in site.due():
            site.grant("a")
            site.feed()
            site.think(due)
    assert site.host.percepts(key, site.now).sources == () and site.host.percepts(key, site.now).lately == ()
    site.now += timedelta(seconds=2)
    assert site.due() == []
    site.assign("a")
    site.grant("a")
    site.feed()
    assert site.due() == [key]
    facts = site.host.percepts(key, site.now)
    assert [(s.name, s.lines) for s in facts.sources] == [("kernel", 1)]
    assert [text for _, text in facts.lately] == ["disk full"] and facts.percept.samples == ()


def test_what_was_asked_is_over_with_its_time_and_nobody_is_looked_at_for_it() -> None:
    site = Site()
    key = (SWARM, "a")
    site.spawn("a")
    site.start()
    site.grant("a")
    site.feed()
    for _ in range(8):
        site.now += timedelta(seconds=400)
        for due in site.due():
            site.grant("a")
            site.feed()
            site.think(due)
    site.assign("a", until_s=5)
    site.feed()
    site.now += timedelta(seconds=6)
    assert site.due() == [key]
    site.host.settle(key, site.now)
    state = site.host.state(key)
    assert state is not None and state.assigned == ()
    said = len(site.store.records)
    assert site.due() == [] and said == len(site.store.records)
