"""One message to its verdict, operation by operation, with the log's answers given by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from datetime import UTC, datetime

from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import AnyEvent, BudgetExhausted, ObservationRecorded, PersonaReaped
from shared.contracts.ids import caused_id
from shared.contracts.trace import carried_on
from shared.decider import NOTHING, Boundary, Decision, Delivered, Effect, Input, Performed, Result, Tick
from shared.log.memory import Store
from shared.log.port import DuplicateEvent, Expect, StaleBoundary
from shared.runtime.handling import (
    MAX_CONFLICTS,
    MAX_ROUNDS,
    Again,
    Answer,
    Commit,
    Dead,
    Done,
    Ends,
    Fold,
    Newest,
    Operation,
    Perform,
    Read,
    Verdict,
    handle,
)

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SEEN, REAPED = "observation.recorded.alpha.p1", "persona.reaped.alpha.p1"


class Ask(Effect, frozen=True, kw_only=True):
    """Anything."""


class Answered(Result, frozen=True, kw_only=True):
    """Anything."""


class Scripted:
    """The state is the texts and classes seen, in order; what is decided is the script's word."""

    def __init__(self, decide: Callable[[tuple[str, ...], Input], Decision]) -> None:
        self.decide = decide

    def initial(self) -> tuple[str, ...]:
        return ()

    def boundary(self, message: Delivered | Tick) -> Boundary | None:
        return None

    def evolve(self, state: tuple[str, ...], recorded: Recorded) -> tuple[str, ...]:
        event = recorded.event
        return (*state, event.text if isinstance(event, ObservationRecorded) else recorded.subject)


class World:
    """A log, and what happened on it."""

    def __init__(self) -> None:
        self.store = Store(lambda: NOW)
        self.operations: list[Operation] = []
        self.before_commit: Callable[[], object] = lambda: None

    def say(self, text: str, traceparent: str | None = None) -> Recorded:
        envelope = Envelope(
            id=text, source="test", time=NOW, correlation="first", charter="c" * 64, traceparent=traceparent
        )
        event = ObservationRecorded(swarm="alpha", persona="p1", text=text)
        self.store.append([Message(event=event, envelope=envelope)])
        return self.store.records[-1]

    def run(self, steps: Generator[Operation, Answer, Verdict]) -> Verdict:
        answer: Answer = None
        while True:
            try:
                operation = steps.send(answer)
            except StopIteration as stop:
                verdict: Verdict = stop.value
                return verdict
            self.operations.append(operation)
            match operation:
                case Read(filters, after):
                    answer = self.store.stored(filters, after)
                case Ends(filters):
                    answer = tuple(self.store.last_seq(f) for f in filters)
                case Newest(filters):
                    answer = self.store.newest(filters)
                case Perform():
                    answer = (Answered(), NOW)
                case Commit(messages, expect):
                    self.before_commit()
                    try:
                        answer = self.store.append(messages, expect)
                    except (StaleBoundary, DuplicateEvent):
                        answer = None

    def handle(self, fold: Fold[tuple[str, ...]], message: Delivered | Tick, *, lags: bool = False) -> Verdict:
        return self.run(handle(fold, message, source="test", lags=lags))

    def kinds(self) -> list[str]:
        return [type(operation).__name__ for operation in self.operations]


def reaped() -> PersonaReaped:
    return PersonaReaped(swarm="alpha", persona="p1", reason="test")


def exhausted() -> BudgetExhausted:
    return BudgetExhausted(swarm="alpha", persona="p1", scope="swarm", resource="tokens", retry_at=NOW)


def once(*events: AnyEvent) -> Callable[[tuple[str, ...], Input], Decision]:
    return lambda state, message: NOTHING if REAPED in state else Decision(events=events)


def fold_of(
    decide: Callable[[tuple[str, ...], Input], Decision],
    *,
    reads: tuple[str, ...] = (REAPED,),
    guards: tuple[str, ...] = (REAPED,),
    opens: bool = False,
) -> Fold[tuple[str, ...]]:
    return Fold(Scripted(decide), Boundary(reads=reads, guards=guards, opens=opens))


def delivered(recorded: Recorded, attempt: int = 1) -> Delivered:
    return Delivered(recorded=recorded, now=NOW, attempt=attempt)


def test_an_unreadable_message_moves_the_guard_and_no_decider_sees_it() -> None:
    world, fold = World(), fold_of(once(reaped()))
    message = delivered(world.say("a"))
    world.store.publish(REAPED, b"{}")
    assert Done(1) == world.handle(fold, message)
    assert ["Read", "Commit"] == world.kinds()
    assert ((REAPED,), 3) == (fold.state, fold.last(REAPED))


def test_a_message_that_nobody_can_read_comes_in_between_and_the_commit_is_made_over_it() -> None:
    world, fold = World(), fold_of(once(reaped()))
    message = delivered(world.say("a"))
    late = iter((True,))
    world.before_commit = lambda: next(late, False) and world.store.publish(REAPED, b"{}")
    assert Done(1) == world.handle(fold, message)
    assert ["Read", "Commit", "Read", "Commit"] == world.kinds()


def test_a_guard_whose_last_message_left_the_log_or_is_not_read_is_taken_from_what_is_stored() -> None:
    for stored, guard in ((0, "persona.reaped.alpha.p1"), (1, "persona.*.alpha.>")):
        world, fold = World(), fold_of(once(reaped()), guards=(guard,))
        fold.guards[guard] = 0 if stored else 7  # kept in a checkpoint, and since then purged
        for _ in range(stored):
            world.store.publish("persona.spawned.alpha.p9", b"{}")
        message = delivered(world.say("a"))
        assert Done(1) == world.handle(fold, message)
        assert ["Read", "Commit", "Read", "Ends", "Read", "Commit"] == world.kinds()


def test_what_decides_nothing_on_a_fold_that_may_lag_is_not_read_for() -> None:
    def decide(state: tuple[str, ...], message: Input) -> Decision:
        return NOTHING if state else Decision(events=(reaped(),))

    world = World()
    boundary = Boundary(reads=(REAPED, SEEN), guards=(REAPED,), lags=True)
    fold: Fold[tuple[str, ...]] = Fold(Scripted(decide), boundary)
    first, second = delivered(world.say("a")), delivered(world.say("b"))
    assert [Done(0)] * 2 == [world.handle(fold, message, lags=True) for message in (first, second)]
    assert ["Read"] == world.kinds()
    world.handle(fold, delivered(world.say("c")))
    assert (["Read", "Read"], ("a", "b", "c")) == (world.kinds(), fold.state), "another of the boundary may not lag"
    unknown: Fold[tuple[str, ...]] = Fold(Scripted(lambda state, message: NOTHING), boundary)
    world.handle(unknown, first, lags=True)
    assert ["Read"] * 3 == world.kinds(), "a state nobody has read is no state"


def test_what_was_absorbed_is_not_absorbed_again() -> None:
    world = World()
    records = [world.say("a"), world.say("b")]
    fold = fold_of(once(), reads=(SEEN,), guards=(SEEN,))
    for again in (records, records, records[1:], records[:1]):
        fold.absorb(again)
    assert (("a", "b"), 2) == (fold.state, fold.last(SEEN))


def test_own_events_are_folded_as_they_were_stored_and_decide_nothing_again() -> None:
    world, fold = World(), fold_of(once(reaped()))
    message = delivered(world.say("a"))
    assert [Done(1), Done(0)] == [world.handle(fold, message), world.handle(fold, message)]
    assert [r.id for r in world.store.read((REAPED,))] == [fold.trail.newest.id]
    assert ((REAPED,), 2, 2) == (fold.state, fold.position, fold.last(REAPED))


def test_own_events_in_an_order_others_may_have_come_between_are_read_back_before_more_is_decided() -> None:
    seen: list[tuple[str, ...]] = []

    def decide(state: tuple[str, ...], message: Input) -> Decision:
        seen.append(state)
        return NOTHING if isinstance(message, Performed) else Decision(events=(reaped(),), effect=Ask())

    world = World()
    fold = fold_of(decide, reads=(SEEN, REAPED))
    message = delivered(world.say("a"))
    world.before_commit = lambda: world.say("b")
    assert Done(1) == world.handle(fold, message)
    assert ["Read", "Commit", "Read", "Perform"] == world.kinds()
    assert [("a",), ("a", "b", REAPED)] == seen


def test_a_refused_commit_is_decided_again_on_what_came_in_between() -> None:
    world, fold = World(), fold_of(once(reaped()))
    message = delivered(world.say("a"))
    theirs = Envelope(id="theirs", source="other", time=NOW, correlation="x")

    def other() -> None:
        if not world.store.read((REAPED,)):
            world.store.append([Message(event=reaped(), envelope=theirs)])

    world.before_commit = other
    assert Done(0) == world.handle(fold, message)
    assert ["theirs"] == [r.id for r in world.store.read((REAPED,))]
    assert ["Read", "Commit", "Read"] == world.kinds()


def test_a_boundary_that_never_stands_still_is_handed_back_and_nothing_is_called_done() -> None:
    world, fold = World(), fold_of(lambda state, message: Decision(events=(reaped(),)), reads=(SEEN,), guards=(SEEN,))
    message = delivered(world.say("a"))
    names = iter(range(10**6))
    world.before_commit = lambda: world.say(f"other {next(names)}")
    verdict = world.handle(fold, message)
    assert isinstance(verdict, Again) and 0 < verdict.delay_s < 5
    assert MAX_CONFLICTS == world.kinds().count("Commit") and [] == world.store.read((REAPED,))


def test_effects_without_end_are_handed_back() -> None:
    world, fold = World(), fold_of(lambda state, message: Decision(effect=Ask()))
    assert isinstance(world.handle(fold, delivered(world.say("a"))), Again)
    assert MAX_ROUNDS == world.kinds().count("Perform")


def test_a_rejection_commits_nothing_and_a_message_that_comes_again_has_its_events_stored_first() -> None:
    world = World()
    message = delivered(world.say("a"))
    rejects = fold_of(lambda state, message: Decision(reject="bad", events=(reaped(),)))
    assert Dead("bad") == world.handle(rejects, message)
    assert "Commit" not in world.kinds()
    waits = fold_of(lambda state, message: Decision(retry_s=3.0, events=() if REAPED in state else (reaped(),)))
    assert [Again(3.0), Again(3.0)] == [world.handle(waits, message), world.handle(waits, message)]
    assert [REAPED] == [r.subject for r in world.store.read((REAPED,))]


def test_the_message_that_opens_a_boundary_is_read_only_when_it_comes_again() -> None:
    decide = once(reaped())
    opens = {"reads": ("*.*.alpha.p1",), "guards": ("*.*.alpha.p1",), "opens": True}
    world = World()
    message = delivered(world.say("a"))
    assert Done(1) == world.handle(fold_of(decide, **opens), message)  # type: ignore[arg-type]
    assert ["Commit"] == world.kinds()
    again = once_more(message)
    assert Done(0) == world.handle(fold_of(decide, **opens), again)  # type: ignore[arg-type]
    assert ["Commit", "Read"] == world.kinds()


def test_what_is_to_be_known_before_the_message_is_taken_in_before_it_and_when_it_is_not_there_all_is_read() -> None:
    reads, known = ("*.*.alpha.p1",), "budget.exhausted.alpha.p1"
    world = World()
    world.say("before")
    world.store.append(
        [Message(event=exhausted(), envelope=Envelope(id="x", source="test", time=NOW, correlation="x"))]
    )
    message = delivered(world.say("a"))
    for begins, kinds, state in (
        ((known,), ["Newest", "Commit"], (known, "a")),
        (("persona.spawned.alpha.p1",), ["Newest", "Read", "Commit"], ("before", known, "a")),
    ):
        states: list[tuple[str, ...]] = []

        def decide(state: tuple[str, ...], message: Input, states: list[tuple[str, ...]] = states) -> Decision:
            states.append(state)
            return NOTHING if REAPED in state else Decision(events=(reaped(),))

        fresh = World()
        fresh.store = copy.deepcopy(world.store)
        boundary = Boundary(reads=reads, guards=("persona.*.alpha.p1",), opens=True, begins=begins)
        assert Done(1) == fresh.handle(Fold(Scripted(decide), boundary), message)
        assert (kinds, state) == (fresh.kinds(), states[0])


def test_an_opened_boundary_rests_on_its_guards_alone_and_its_own_events_are_its_next() -> None:
    """What others say on what it does not guard is not waited for; a second effect follows on its own event."""

    def decide(state: tuple[str, ...], message: Input) -> Decision:
        if REAPED not in state:
            return Decision(events=(reaped(),), effect=Ask())
        return Decision(events=(exhausted(),)) if isinstance(message, Performed) else NOTHING

    world = World()
    message = delivered(world.say("a"))
    world.before_commit = lambda: world.store.publish("memory.kept.alpha.p1", b"{}")
    boundary = Boundary(reads=("*.*.alpha.p1",), guards=("persona.*.alpha.p1",), opens=True)
    assert Done(2) == world.handle(Fold(Scripted(decide), boundary), message)
    assert ["Commit", "Perform", "Commit"] == world.kinds()


def test_a_message_of_its_own_boundary_that_comes_again_is_read_with_all_that_is_before_it() -> None:
    world, states = World(), []

    def decide(state: tuple[str, ...], message: Input) -> Decision:
        states.append(state)
        return NOTHING

    world.say("before")
    message = once_more(delivered(world.say("a")))
    boundary = Boundary(reads=("*.*.alpha.p1",), guards=("*.*.alpha.p1",), opens=True)
    assert Done(0) == world.handle(Fold(Scripted(decide), boundary), message)
    assert (["Read"], [("before", "a")]) == (world.kinds(), states)


def once_more(message: Delivered) -> Delivered:
    return delivered(message.recorded, message.attempt + 1)


def test_there_is_at_most_one_guard_an_event_and_each_is_where_the_fold_has_read_to() -> None:
    world, fold = World(), fold_of(once(reaped()), reads=(SEEN, REAPED), guards=(REAPED, SEEN))
    world.handle(fold, delivered(world.say("a")))
    (commit,) = [o for o in world.operations if isinstance(o, Commit)]
    assert (Expect(REAPED, 0),) == commit.expect


def test_a_decision_may_name_guards_of_its_own() -> None:
    decide = lambda state, message: NOTHING if REAPED in state else Decision(events=(reaped(),), guards=(SEEN,))  # noqa: E731
    world, fold = World(), fold_of(decide, reads=(SEEN, REAPED), guards=(REAPED, SEEN))
    world.handle(fold, delivered(world.say("a")))
    (commit,) = [o for o in world.operations if isinstance(o, Commit)]
    assert (Expect(SEEN, 1),) == commit.expect


def test_what_follows_from_a_message_points_back_to_it_and_has_ids_of_its_own() -> None:
    world, fold = World(), fold_of(once(reaped(), exhausted(), exhausted()), guards=())
    cause = world.say("a", traceparent=TRACE)
    world.handle(fold, delivered(cause))
    (commit,) = [o for o in world.operations if isinstance(o, Commit)]
    envelopes = [m.envelope for m in commit.messages]
    budget = "budget.exhausted.alpha.p1"
    assert [caused_id("a", REAPED), caused_id("a", budget), caused_id("a", budget, 1)] == [e.id for e in envelopes]
    for e in envelopes:
        assert ("first", "a", "c" * 64) == (e.correlation, e.causation, e.charter)
        assert carried_on(e.id, "first", TRACE) == e.traceparent
    assert 3 == len({e.traceparent for e in envelopes})


def test_what_follows_from_a_tick_hangs_together() -> None:
    world, fold = World(), fold_of(once(reaped(), exhausted()), guards=())
    world.handle(fold, Tick(id="t1", now=NOW, swarm="alpha"))
    (commit,) = [o for o in world.operations if isinstance(o, Commit)]
    first, second = (m.envelope for m in commit.messages)
    assert (caused_id("t1", REAPED), first.id, None) == (first.id, first.correlation, first.causation)
    assert (first.id, first.id) == (second.correlation, second.causation)
    assert carried_on(first.id, first.id, None) == first.traceparent
    assert carried_on(second.id, first.id, first.traceparent) == second.traceparent
