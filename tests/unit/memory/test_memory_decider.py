"""When snapshots are taken: given a persona's past, when a message comes, then this follows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import datetime
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_model import SHA, asked, at, draining, hypothesis, record, snapshotted, spawned, thought

from services.memory_compactor.decider import (
    Compactor,
    Recall,
    Recalled,
    State,
    TakeSnapshot,
    Unavailable,
    Written,
)
from shared.contracts.catalog import class_of, matches
from shared.contracts.envelope import MAX_BODY_BYTES, Message, Recorded
from shared.contracts.events import (
    AnyEvent,
    Memory,
    PersonaReaped,
    RecallAnswered,
    RecallRequested,
    SnapshotCompressed,
    SnapshotCounts,
    SnapshotDelayed,
    Usage,
)
from shared.contracts.ids import caused_id
from shared.contracts.persona import charter_sha256
from shared.contracts.services import SERVICES
from shared.decider import NOTHING, Boundary, Decision, Delivered, Effect, Performed, Result, Tick
from shared.log.port import Expect
from shared.runtime.handling import Answer, Commit, Done, Fold, Perform, Read, Verdict, handle
from shared.runtime.handling import recorded as as_recorded

DECIDER = Compactor(every_thoughts=4)
REAPED = PersonaReaped(swarm="alpha", persona="ada", reason="manual_reap")
WRITTEN = Written(
    key="k",
    sha256=SHA,
    seq=7,
    summary="all quiet",
    counts=SnapshotCounts(thoughts=4, kept=3),
    ratio=2.5,
    size_bytes=100,
)


def folded(*events: AnyEvent) -> State:
    state = DECIDER.initial()
    for seq, event in enumerate(events, 1):
        state = DECIDER.evolve(state, record(event, seq))
    return state


def when(state: State, event: AnyEvent, *, seq: int = 50, now: datetime | None = None, attempt: int = 1) -> Decision:
    return DECIDER.decide(state, Delivered(recorded=record(event, seq), now=now or at(seq), attempt=attempt))


def then(state: State, event: AnyEvent, effect: Effect, result: Result, *, seq: int = 50, attempt: int = 1) -> Decision:
    cause = Delivered(recorded=record(event, seq), now=at(seq), attempt=attempt)
    return DECIDER.decide(state, Performed(cause=cause, effect=effect, result=result, now=at(seq)))


TAKE = TakeSnapshot(seq=50, swarm="alpha", persona="ada")


def boundary_of(event: AnyEvent) -> Boundary | None:
    return DECIDER.boundary(Delivered(recorded=record(event, 50), now=at(50)))


def test_what_no_snapshot_can_follow_is_not_looked_at() -> None:
    assert [boundary_of(e) for e in (thought("hm", step=9), hypothesis("x", "h-1"), spawned())] == [None, None, None]
    assert when(folded(spawned()), thought("hm", step=9)) == NOTHING
    of_ada = ("persona.*.alpha.ada", "snapshot.*.alpha.ada")
    assert boundary_of(thought("so", phase="compress")) == Boundary(reads=of_ada, guards=of_ada[1:], lags=True)
    assert boundary_of(thought("", phase="reflect", final=True)) == Boundary(reads=of_ada, guards=of_ada[1:])
    assert boundary_of(draining(60)) == Boundary(reads=of_ada, guards=of_ada[1:])


def test_the_more_a_persona_remembers_the_more_it_thinks_from_one_snapshot_to_the_next() -> None:
    large = msgspec.structs.replace(snapshotted(step=100), counts=SnapshotCounts(kept=400))
    past = folded(spawned(), large)
    assert when(past, thought("so", phase="compress", step=299)) == NOTHING
    assert when(past, thought("so", phase="compress", step=300)) == Decision(effect=TAKE)


@given(
    steps=st.lists(st.integers(1, 80), max_size=4, unique=True),
    end=st.sampled_from([(), (draining(60),), (draining(60), snapshotted(final=True)), (draining(60), REAPED)]),
    cut=st.integers(0, 6),
    step=st.integers(1, 90),
)
def test_what_decides_nothing_on_an_older_state_decides_nothing_on_a_later_one(
    steps: list[int], end: tuple[AnyEvent, ...], cut: int, step: int
) -> None:
    past = [spawned(), *(snapshotted(step=s) for s in sorted(steps)), *end]
    event = thought("so", phase="compress", step=step)
    if when(folded(*past[: 1 + cut]), event) == NOTHING:
        assert when(folded(*past), event) == NOTHING


def test_a_distillation_is_written_down_when_enough_was_thought_since_the_last_one() -> None:
    past = folded(spawned(), snapshotted(step=3))
    assert when(past, thought("so", phase="compress", step=6)) == NOTHING
    assert when(past, thought("so", phase="compress", step=7)) == Decision(effect=TAKE)
    assert when(past, thought("so", phase="reflect", step=70)) == NOTHING
    assert when(past, thought("", phase="compress", step=7, status="model_error")) == NOTHING


def test_the_snapshot_says_where_it_comes_from() -> None:
    past = folded(spawned())
    event = thought("so", phase="compress", step=8, cycle=2, thinker="llama", usage=Usage(tokens_out=120))
    decision = then(past, event, TAKE, WRITTEN)
    assert decision.charter == charter_sha256(spawned().identity)
    assert decision.events == (
        SnapshotCompressed(
            swarm="alpha",
            persona="ada",
            snapshot_id=caused_id(record(event, 50).id, "snapshot.compressed.alpha.ada"),
            key="k",
            sha256=SHA,
            seq=7,
            summary="all quiet",
            counts=SnapshotCounts(thoughts=4, kept=3),
            ratio=2.5,
            size_bytes=100,
            metadata={
                "role": "watcher",
                "phase": "compress",
                "step": "8",
                "cycle": "2",
                "source": "model",
                "model": "llama",
                "completion_tokens": "120",
            },
        ),
    )


def test_a_snapshot_says_truthfully_who_thought() -> None:
    said = {}
    for thinker in ("rules", "runner", "model:llama", "llama"):
        event = thought("so", phase="compress", step=8, cycle=2, thinker=thinker)
        (snapshot,) = then(folded(spawned()), event, TAKE, WRITTEN).events
        assert isinstance(snapshot, SnapshotCompressed)
        said[thinker] = (snapshot.metadata["source"], snapshot.metadata.get("model"))
    model = ("model", "llama")
    assert said == {"rules": ("rules", None), "runner": ("runner", None), "model:llama": model, "llama": model}


def test_a_draining_persona_is_waited_for_until_its_deadline() -> None:
    past = folded(spawned(), draining(60))
    assert when(past, draining(60), seq=2, now=at(40)) == Decision(retry_s=20)


def test_the_final_thought_of_a_draining_persona_is_its_final_snapshot() -> None:
    past = folded(spawned(), draining(60), snapshotted(step=8))
    event = thought("goodbye", phase="compress", step=9, final=True)
    assert when(past, event) == Decision(effect=TAKE)
    (snapshot,) = then(past, event, TAKE, WRITTEN).events
    assert isinstance(snapshot, SnapshotCompressed) and snapshot.final and snapshot.metadata["step"] == "9"
    failed = thought("", phase="compress", step=9, final=True, status="model_error")
    assert when(past, failed) == Decision(effect=TAKE)


def test_a_dead_runner_does_not_keep_its_persona_from_ending() -> None:
    past = folded(spawned(), draining(60))
    assert when(past, draining(60), seq=2, now=at(60)) == Decision(effect=msgspec.structs.replace(TAKE, seq=2))
    (snapshot,) = then(past, draining(60), TAKE, WRITTEN, seq=2).events
    assert isinstance(snapshot, SnapshotCompressed) and snapshot.final
    assert snapshot.metadata == {"role": "watcher", "source": "deadline"}


def test_whoever_comes_second_finds_the_final_snapshot_taken() -> None:
    past = folded(spawned(), draining(60), snapshotted(final=True))
    last = thought("goodbye", phase="compress", step=90, final=True)
    assert when(past, last) == NOTHING
    assert then(past, last, TAKE, WRITTEN) == NOTHING
    assert when(past, draining(60), seq=2, now=at(99)) == NOTHING
    assert then(past, draining(60), TAKE, WRITTEN, seq=2) == NOTHING
    assert when(past, thought("so", phase="compress", step=91)) == NOTHING


def test_a_draining_of_an_earlier_life_is_over() -> None:
    reaped = PersonaReaped(swarm="alpha", persona="ada", reason="manual_reap")
    past = folded(spawned(), draining(60), snapshotted(final=True), reaped, spawned(), draining(90))
    assert when(past, draining(60), seq=2, now=at(99)) == NOTHING
    assert when(past, draining(90), seq=6, now=at(99)).effect == msgspec.structs.replace(TAKE, seq=6)


def test_a_store_that_is_away_is_retried_for_a_final_snapshot_and_passed_over_for_others() -> None:
    away = Unavailable(detail="S3 is away")
    past = folded(spawned(), draining(60))
    final = thought("goodbye", step=9, final=True)
    assert then(past, final, TAKE, away).retry_s == 1.0
    assert then(past, draining(60), TAKE, away, seq=2, attempt=40).retry_s == 30.0
    assert then(folded(spawned()), thought("so", phase="compress", step=9), TAKE, away) == NOTHING


def test_a_final_snapshot_that_cannot_be_written_says_why_once_and_is_tried_again() -> None:
    away = Unavailable(detail="S3 is away", reason="cold_unavailable")
    past = folded(spawned(), draining(60))
    final = thought("goodbye", step=9, final=True)
    decision = then(past, final, TAKE, away)
    delayed = SnapshotDelayed(swarm="alpha", persona="ada", reason="cold_unavailable", detail="S3 is away")
    assert decision == Decision(events=(delayed,), retry_s=1.0)
    known = folded(spawned(), draining(60), delayed)
    assert then(known, final, TAKE, away) == then(known, draining(60), TAKE, away, seq=2) == Decision(retry_s=1.0)
    assert then(known, final, TAKE, WRITTEN).events != ()
    assert then(past, final, TAKE, Unavailable(detail="stopping")) == Decision(retry_s=1.0)


def test_a_recall_is_answered_as_of_the_delivery_and_without_a_guard() -> None:
    question = asked("ssh")
    recall = Recall(swarm="alpha", persona="ada", query="ssh", limit=8, now=at(50))
    assert when(State(), question) == Decision(effect=recall)
    decision = then(State(), question, recall, Recalled(memories=(), seq=12))
    assert [(class_of(e), e.seq) for e in decision.events] == [("recall.answered", 12)]  # type: ignore[union-attr]
    assert decision.guards == ()
    assert then(State(), question, recall, Unavailable(detail="x")).retry_s == 1.0


def test_a_recall_beyond_the_swarms_share_is_refused_at_once() -> None:
    decision = DECIDER.decide(State(), Delivered(recorded=record(asked("ssh"), 50), now=at(50), crowd=65))
    (answer,) = decision.events
    assert decision.effect is None and isinstance(answer, RecallAnswered) and "too_many_waiting" == answer.refused


@pytest.mark.parametrize("text", ["plain " * 1000, "\x01" * 8000, "\U0001f9e0" * 8000])
def test_an_answer_holds_as_many_of_the_best_as_fit_in_an_event(text: str) -> None:
    question = RecallRequested(swarm="s" * 48, persona="p" * 48, query="ssh", limit=100)
    memories = tuple(
        Memory(
            id=caused_id(f"e-{n}", "test"), seq=n, kind="thought", text=text, at=at(n), score=1 - n / 100,
            semantic=0.123456, recency=0.123456, importance=0.123456, persona="p" * 48,
        )
        for n in range(100)
    )  # fmt: skip
    recall = Recall(swarm="s" * 48, persona="p" * 48, query="ssh", limit=100, now=at(50))
    (answer,) = then(State(), question, recall, Recalled(memories=memories, seq=10**15)).events
    assert isinstance(answer, RecallAnswered)
    size = len(msgspec.json.encode(answer))
    assert 1 <= len(answer.memories) < 100 and answer.memories == memories[: len(answer.memories)]
    assert size <= MAX_BODY_BYTES < size + len(msgspec.json.encode(memories[0])) + 512


def test_it_decides_only_what_is_its_own_and_listens_only_to_its_own_boundary() -> None:
    owned = set(SERVICES["memory_compactor"].emits)
    assert {"snapshot.compressed", "recall.answered"} <= owned
    boundary = DECIDER.boundary(Delivered(recorded=record(draining(9), 1), now=at(1)))
    assert boundary is not None and boundary.guards == ("snapshot.*.alpha.ada",)
    assert DECIDER.boundary(Tick(id="t", now=at(1), swarm="alpha")) is None
    assert DECIDER.boundary(Delivered(recorded=record(snapshotted(), 1), now=at(1))) is None
    assert "persona.draining" in SERVICES["memory_compactor"].consumes


EVENTS = st.one_of(
    st.builds(
        lambda phase, step, final, status: thought("t", phase=phase, step=step, final=final, status=status),
        st.sampled_from(["observe", "reflect", "test", "compress"]),
        st.integers(1, 60),
        st.booleans(),
        st.sampled_from(["ok", "model_error"]),
    ),
    st.builds(draining, st.integers(0, 60)),
    st.builds(snapshotted, st.integers(0, 60), final=st.booleans()),
    st.just(PersonaReaped(swarm="alpha", persona="ada", reason="x")),
    st.just(spawned()),
    st.just(asked("x")),
)
RESULTS = st.sampled_from(
    [WRITTEN, Recalled(memories=(), seq=3), Unavailable(detail="away", reason="cold_unavailable")]
)


@given(st.lists(EVENTS, max_size=12), EVENTS, RESULTS, st.integers(0, 100))
def test_deciding_is_total_deterministic_and_leaves_the_state_alone(
    past: list[AnyEvent], event: AnyEvent, result: Result, now_s: int
) -> None:
    state = folded(*past)
    before = copy.deepcopy(state)
    cause = Delivered(recorded=record(event, 50), now=at(now_s))
    inputs = (
        cause,
        Performed(cause=cause, effect=TAKE, result=result, now=at(now_s)),
        Tick(id="t", now=at(1), swarm="alpha"),
    )
    for message in inputs:
        assert DECIDER.decide(state, message) == DECIDER.decide(before, message)
    assert state == before


@given(
    script=st.lists(st.one_of(EVENTS.filter(lambda e: not isinstance(e, SnapshotCompressed)), st.none()), max_size=25),
    random=st.randoms(use_true_random=False),
    outage=st.sets(st.integers(0, 40)),
)
def test_every_draining_leaves_exactly_one_final_snapshot_under_any_redelivery(
    script: list[AnyEvent | None], random: Random, outage: set[int]
) -> None:
    """Messages are delivered late, repeatedly, in any order and beside each other; cold storage is away now and then."""
    mesh = Mesh(random, outage)
    for now_s, event in enumerate(script):
        if event is not None:
            mesh.log.append(record(event, len(mesh.log) + 1))
            mesh.sent.append(mesh.log[-1])
        elif mesh.sent:
            mesh.deliver(random.choice(mesh.sent), now_s)
    mesh.outage = set()
    for message in [*mesh.sent, *mesh.sent]:
        assert isinstance(mesh.deliver(message, 1000), Done)
    _check_finals(mesh.log)


class Mesh:
    """A log of one persona and any number of compactors on it."""

    def __init__(self, random: Random, outage: set[int]) -> None:
        self.random, self.outage, self.calls = random, outage, 0
        self.log: list[Recorded] = []
        self.sent: list[Recorded] = []

    def deliver(self, message: Recorded, now_s: float, depth: int = 0) -> Verdict:
        """One delivery to its verdict; while an effect runs, another compactor may handle another message."""
        cause = Delivered(recorded=message, now=at(now_s))
        boundary = DECIDER.boundary(cause)
        if boundary is None:
            return Done()
        steps = handle(Fold(DECIDER, boundary), cause, source="memory_compactor")
        answer: Answer = None
        while True:
            try:
                operation = steps.send(answer)
            except StopIteration as end:
                verdict: Verdict = end.value
                return verdict
            match operation:
                case Read(filters, after):
                    answer = [r for r in self.log if r.seq > after and any(matches(f, r.subject) for f in filters)]
                case Perform(effect):
                    self.calls += 1
                    away = self.calls in self.outage
                    if depth < 2 and self.random.random() < 0.3:
                        self.deliver(self.random.choice(self.sent), now_s, depth + 1)
                    answer = (
                        Unavailable(detail="away", reason="cold_unavailable") if away else _performed(effect),
                        at(now_s),
                    )
                case Commit(messages, expect):
                    answer = self.commit(messages[0], expect)

    def commit(self, message: Message, expect: tuple[Expect, ...]) -> tuple[int, ...] | None:
        for guard in expect:
            if max((r.seq for r in self.log if matches(guard.subject_filter, r.subject)), default=0) != guard.last_seq:
                return None
        if message.envelope.id not in {r.id for r in self.log}:
            self.log.append(as_recorded(message, len(self.log) + 1, at(0)))
        return (len(self.log),)


def _performed(effect: Effect) -> Result:
    match effect:
        case TakeSnapshot():
            return WRITTEN
        case _:
            assert isinstance(effect, Recall)
            return Recalled(memories=(), seq=1)


def _check_finals(log: Sequence[Recorded]) -> None:
    """The last draining of a life that was not reaped has one final snapshot after it; no draining has two."""
    finals: int | None = None
    for r in log:
        match class_of(r.event):
            case "persona.draining":
                finals = 0
            case "persona.spawned" | "persona.reaped":
                finals = None
            case "snapshot.compressed" if r.event.final:  # type: ignore[union-attr]
                assert finals == 0, "a final snapshot without a draining, or a second one"
                finals = 1
    assert finals in (None, 1), "a draining was left without its final snapshot"


@pytest.mark.parametrize("attempt", [1, 99])
def test_a_second_delivery_of_what_was_written_down_decides_no_event(attempt: int) -> None:
    event = thought("so", phase="compress", step=8)
    past = folded(spawned())
    (snapshot,) = then(past, event, TAKE, WRITTEN).events
    after = DECIDER.evolve(past, record(snapshot, 51))
    assert when(after, event, attempt=attempt) == NOTHING
