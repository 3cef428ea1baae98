"""One intent on an in-memory log, decided by the real handling code; a scripted choice and evidence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from services.meta_orchestrator.routing import decider
from shared.contracts.boundaries import intent as boundary_of
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    AnyEvent,
    Candidate,
    Credits,
    EvidenceRef,
    IntentAnswered,
    IntentSubmitted,
)
from shared.contracts.ids import fresh_id
from shared.decider import Delivered, Effect, Result, Tick
from shared.intents import Life, fold
from shared.log.memory import Store
from shared.log.port import DuplicateEvent, StaleBoundary
from shared.runtime.handling import Again, Commit, Ends, Fold, Perform, Read, Verdict, handle

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
BUDGET = Credits(tokens=8000, compute_ms=40_000)
SUBMITTED = IntentSubmitted(
    swarm="alpha",
    persona="all",
    intent_id="i-1",
    goal="why is it slow?",
    deadline=NOW + timedelta(hours=1),
    budget=BUDGET,
    principal="ada",
)


class Desk:
    """`best` is who is chosen, best first; all that is cited is found unless it is in `missing`."""

    def __init__(self, *best: str, missing: tuple[str, ...] = (), clean: bool = False) -> None:
        self.now = NOW
        self.store = Store(lambda: self.now)
        self.best, self.missing, self.clean = list(best), missing, clean
        self.chosen = 0

    def put(self, event: AnyEvent, event_id: str | None = None) -> Recorded:
        own = event_id or fresh_id()
        envelope = Envelope(id=own, source="test", time=self.now, correlation=own)
        self.store.append([Message(event=event, envelope=envelope)])
        return self.store.records[-1]

    def submit(self, **fields: object) -> Verdict:
        return self.handle(self.put(msgspec.structs.replace(SUBMITTED, **fields)))

    def answer(self, persona: str, route: int = 1, **fields: object) -> Verdict:
        event = IntentAnswered(swarm="alpha", persona=persona, intent_id="i-1", home="alpha", route=route, slot="r1")
        return self.handle(self.put(msgspec.structs.replace(event, **fields)))

    def after(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def last(self, event_class: str) -> Recorded:
        """The newest event of a class on the intent's boundary."""
        return self.store.read((f"{event_class}.alpha.all.i-1",))[-1]

    def handle(self, message: Recorded | Tick, *, stop_after: int | None = None) -> Verdict | None:
        """To its verdict; with `stop_after` it dies after so many operations."""
        cause = Delivered(recorded=message, now=self.now) if isinstance(message, Recorded) else message
        boundary = decider.boundary(cause)
        if boundary is None:
            return None
        steps = handle(Fold(decider, boundary), cause, source="meta_orchestrator", lags=boundary.lags)
        answer: object = None
        done = 0
        while stop_after is None or done < stop_after:
            try:
                operation = steps.send(answer)  # type: ignore[arg-type]
            except StopIteration as stop:
                verdict: Verdict = stop.value
                return verdict
            done += 1
            match operation:
                case Read(filters, after):
                    answer = self.store.stored(filters, after)
                case Ends(filters):
                    answer = tuple(self.store.last_seq(f) for f in filters)
                case Perform(effect):
                    answer = (self.perform(effect), self.now)
                case Commit(messages, expect):
                    try:
                        answer = self.store.append(messages, expect)
                    except (StaleBoundary, DuplicateEvent):
                        answer = None
        return None

    def perform(self, effect: Effect) -> Result:
        if isinstance(effect, decider.Hear):
            found = tuple(ref for ref in effect.evidence if ref.id not in self.missing)
            return decider.Heard(found=found, clean=self.clean and bool(found))
        assert isinstance(effect, decider.Choose)
        self.chosen += 1
        past = {persona for _, persona in effect.past}
        best = tuple(
            Candidate(swarm="alpha", persona=name, total=round(1 - 0.01 * place, 3))
            for place, name in enumerate(self.best)
            if name not in past
        )
        return decider.Chosen(best=best, nobody="" if best else "nobody lives", lease_s=60)

    @property
    def life(self) -> Life:
        return fold(self.store.read((boundary_of("alpha", "i-1"),)))

    @property
    def said(self) -> list[str]:
        """Classes and whose, in order, but for the runners' answers."""
        return [
            r.subject.removeprefix("intent.").removesuffix(".i-1")
            for r in self.store.records
            if not isinstance(r.event, IntentAnswered)
        ]


def cite(*ids: str) -> tuple[EvidenceRef, ...]:
    return tuple(EvidenceRef(id=name, seq=number) for number, name in enumerate(ids, 1))


def waits(verdict: Verdict | None) -> float:
    """For how long it is handed back."""
    assert isinstance(verdict, Again)
    return verdict.delay_s
