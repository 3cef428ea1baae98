"""A swarm on a log in memory: who was born, what was observed, claimed and checked, and a compactor that may die in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.memory_compactor.believing.board import Belief, Board
from services.memory_compactor.believing.decider import Believer
from services.memory_compactor.believing.effects import BelievingEffects
from shared.contracts.envelope import Envelope, Message, Recorded
from shared.contracts.events import (
    AnyEvent,
    CheckResult,
    EvidenceRef,
    HypothesisRaised,
    ObservationRecorded,
    ObservationVouched,
    PersonaSpawned,
)
from shared.contracts.ids import EVERYONE, caused_id
from shared.contracts.persona import Identity, PersonaPolicy
from shared.decider import Delivered
from shared.log.memory import MemoryLog
from shared.runtime.driving import drive
from shared.runtime.handling import Again, Fold, Verdict, handle

START = datetime(2026, 11, 1, tzinfo=UTC)
REVIEW_S, ARCHIVE_S = 3600.0, 7200.0
TOPIC = "db"
BELIEVER = Believer(review_s=REVIEW_S, archive_s=ARCHIVE_S)


class Swarm:
    """`sharing` and `private` personas are born at once. Time passes only when told to."""

    def __init__(self, *sharing: str, private: tuple[str, ...] = (), swarm: str = "alpha") -> None:
        self.now = START
        self.swarm = swarm
        self.log = MemoryLog(lambda: self.now)
        self.effects = BelievingEffects(log=self.log)
        self.folds: dict[tuple[str, ...], Fold[Board]] = {}
        self._serial = 0
        self._born = [(name, True) for name in sharing] + [(name, False) for name in private]

    async def born(self) -> Swarm:
        for name, shares in self._born:
            await self.spawn(name, shares=shares)
        return self

    async def spawn(self, name: str, *, shares: bool) -> None:
        identity = Identity(id=name, name=name, role="r", charter="c", swarm_id=self.swarm, created_at=self.now)
        policy = PersonaPolicy(share_memory=shares)
        await self.say(PersonaSpawned(swarm=self.swarm, persona=name, identity=identity, policy=policy))

    async def say(self, event: AnyEvent) -> Recorded:
        self._serial += 1
        name = caused_id(f"said-{self._serial}", self.swarm)
        envelope = Envelope(id=name, source="test", time=self.now, correlation=name)
        (seq,) = await self.log.commit([Message(event=event, envelope=envelope)])
        found = await self.log.get(seq)
        assert isinstance(found, Recorded)
        return found

    async def observe(self, text: str, *, tainted: bool = False, persona: str = EVERYONE) -> EvidenceRef:
        cls = ObservationRecorded if tainted else ObservationVouched
        said = await self.say(cls(swarm=self.swarm, persona=persona, text=text))
        return EvidenceRef(id=said.id, seq=said.seq)

    async def check(
        self,
        persona: str,
        claim: str,
        *evidence: EvidenceRef,
        outcome: str = "confirmed",
        confidence: float = 0.8,
        topic: str = TOPIC,
        tainted: bool = False,
    ) -> Recorded:
        """A hypothesis of the persona and the result of its check, not yet delivered."""
        whose = {"swarm": self.swarm, "persona": persona, "hypothesis_id": f"h-{self._serial}"}
        await self.say(HypothesisRaised(**whose, topic=topic, claim=claim, confidence=confidence, evidence=evidence))
        result = CheckResult(
            **whose, check_id=f"c-{self._serial}", outcome=outcome, findings="f", evidence=evidence, tainted=tainted
        )  # type: ignore[arg-type]
        return await self.say(result)

    async def claims(self, persona: str, claim: str, *evidence: EvidenceRef, **how: object) -> list[AnyEvent]:
        """As `check`, and delivered; what followed."""
        return await self.deliver(await self.check(persona, claim, *evidence, **how))  # type: ignore[arg-type]

    async def deliver(self, recorded: Recorded) -> list[AnyEvent]:
        """What followed from the message."""
        before = len(await self.beliefs())
        await self.handled(recorded)
        return [r.event for r in (await self.beliefs())[before:]]

    async def handled(self, recorded: Recorded, attempt: int = 1) -> Verdict | None:
        message = Delivered(recorded=recorded, now=self.now, attempt=attempt)
        boundary = BELIEVER.boundary(message)
        if boundary is None:
            return None
        fold = self.folds.setdefault(boundary.reads, Fold(BELIEVER, boundary))
        steps = handle(fold, message, source="memory_compactor", lags=boundary.lags)
        return await drive(self.log, steps, self.effects.perform)

    def crash(self) -> None:
        self.folds.clear()

    async def later(self, seconds: float) -> list[AnyEvent]:
        """Time passes and every belief's timer comes; what followed, also from what followed."""
        self.now += timedelta(seconds=seconds)
        before = len(await self.beliefs())
        done: set[int] = set()
        while fresh := [r for r in await self.beliefs() if r.seq not in done]:
            for recorded in fresh:
                done.add(recorded.seq)
                await self.handled(recorded)
        return [r.event for r in (await self.beliefs())[before:]]

    async def beliefs(self) -> list[Recorded]:
        return await self.log.read(("belief.>",))

    async def board(self) -> Board:
        """Folded anew from the log."""
        board = BELIEVER.initial()
        for recorded in await self.log.read((f"persona.spawned.{self.swarm}.*", f"belief.*.{self.swarm}.>")):
            board = BELIEVER.evolve(board, recorded)
        return board

    async def standing(self) -> list[Belief]:
        return list((await self.board()).beliefs.values())


def kinds(events: list[AnyEvent]) -> list[str]:
    return [type(event).__name__.removeprefix("Belief").lower() for event in events]


def is_waiting(verdict: Verdict | None) -> bool:
    return isinstance(verdict, Again)
