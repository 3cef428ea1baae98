"""What nobody sends a message about: who has an intent and is gone, who may suit one that waits, who is waited for by nobody.

A fold of the open intents beside the roster; each thing it finds is a tick of routing, of which the intent's boundary lets one take
effect, however many replicas tick. At the start everything open is looked at once, so a process that died between the finding and the
tick is made up for. What should have happened by its time and did not, for the message that brings it about ended in the dead letters, is
found by `sweep`, so no intent depends on one delivery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Literal

import structlog

from services.meta_orchestrator.routing.decider import Gone, Look
from services.meta_orchestrator.routing.roster import Roster
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    BudgetExhausted,
    IntentAccepted,
    IntentAnswered,
    IntentSubmitted,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
)
from shared.contracts.ids import caused_id, utc_now
from shared.decider import Tick
from shared.ending import ended
from shared.intents import Life, Said, Whose, evolve
from shared.log.port import LogUnavailable
from shared.runtime.service import first_of

log = structlog.get_logger()

LIVES = (
    "intent.submitted",
    "intent.delegated",
    "intent.routed",
    "intent.delayed",
    "intent.returned",
    "intent.answered",
    "intent.accepted",
    "intent.cancelled",
    "intent.closed",
)
AGAIN_S = 1.0
OVERDUE = timedelta(seconds=5)
"""So long after its time nobody else is believed to be at it."""
Key = tuple[str, str]
"""Home and id of an intent."""
Fact = Gone | Look


class Reconciling:
    """`apply` takes events of `LIVES` and of the roster, after it; `run` ticks."""

    def __init__(self, roster: Roster, tick: Callable[[Tick], Awaitable[object]]) -> None:
        self._roster = roster
        self._tick = tick
        self._live = False
        self._wanted: dict[tuple[Key, Fact], str] = {}
        self._found = asyncio.Event()
        self.lives: dict[Key, Life] = {}
        self._moved: dict[Key, datetime] = {}
        self._had: dict[Whose, set[Key]] = {}
        self._answered: set[tuple[Key, Whose]] = set()

    def apply(self, recorded: Recorded) -> None:
        """Take one event in, and find what follows from it."""
        match event := recorded.event:
            case PersonaDraining() | PersonaReaped():
                reason: Literal["draining", "reaped"] = "draining" if isinstance(event, PersonaDraining) else "reaped"
                self._gone((event.swarm, event.persona), reason, recorded.id)
            case BudgetExhausted():
                self._gone((event.swarm, event.persona), "no_budget", recorded.id, event.retry_at)
            case IntentAnswered():
                self._heard((event.home, event.intent_id), (event.swarm, event.persona), event.route)
            case PersonaSpawned():
                for key, life in self.lives.items():
                    if life.delayed is not None:
                        self._want(key, Look(intent_id=key[1]), recorded.id)
            case _ if isinstance(event, Said):
                self._life((event.swarm, event.intent_id), recorded)
            case _:
                pass

    def _heard(self, key: Key, whose: Whose, route: int) -> None:
        """It is judged by what it said, wherever it is by then; the route ends by its time if nobody does."""
        if any(r.whose == whose and r.number == route for r in self.lives.get(key, Life()).open):
            self._answered.add((key, whose))

    def _life(self, key: Key, recorded: Recorded) -> None:
        before = self.lives.get(key, Life())
        after = evolve(before, recorded)
        had, has = {r.whose for r in before.open}, {r.whose for r in after.open}
        for whose in has - had:
            self._roster.load(whose, 1)
            self._had.setdefault(whose, set()).add(key)
            if self._live and not self._roster.lives(whose):
                self._want(key, Gone(intent_id=key[1], whose=whose, reason="draining"), recorded.id)
        for whose in had - has:
            self._roster.load(whose, -1)
            self._had[whose].discard(key)
            self._answered.discard((key, whose))
            if not self._had[whose]:
                del self._had[whose]
        if isinstance(recorded.event, IntentAccepted):
            self._roster.answered(recorded.event)
        if after.ended and not after.open:
            self.lives.pop(key, None)
            self._moved.pop(key, None)
        else:
            self.lives[key] = after
            self._moved[key] = recorded.stored_at

    def _gone(
        self,
        whose: Whose,
        reason: Literal["draining", "reaped", "no_budget"],
        cause: str,
        until: datetime | None = None,
    ) -> None:
        """It has what it can answer no more; until when it cannot, where that is not for ever."""
        for key in self._had.get(whose, ()):
            routes = [r for r in self.lives[key].open if r.whose == whose]
            if (key, whose) not in self._answered and (until is None or any(until >= r.until for r in routes)):
                self._want(key, Gone(intent_id=key[1], whose=whose, reason=reason), cause)

    def begin(self) -> None:
        """The past is folded: look at all that is open, once; from now on at what comes."""
        self._live = True
        for key, life in self.lives.items():
            for route in life.open:
                if not self._roster.lives(route.whose) and (key, route.whose) not in self._answered:
                    self._want(key, Gone(intent_id=key[1], whose=route.whose, reason="reaped"), f"{key}@{life.seq}")
            if not life.open and life.delayed is None:
                self._want(key, Look(intent_id=key[1]), f"{key}@{life.seq}")

    def sweep(self, now: datetime) -> None:
        """Look at what is overdue; an id for what it finds is the same until something has happened."""
        for key, life in self.lives.items():
            if life.submitted is not None and _due(life.submitted, life, self._moved[key]) + OVERDUE <= now:
                self._want(key, Look(intent_id=key[1]), f"{key}@{life.seq}")

    def _want(self, key: Key, fact: Fact, cause: str) -> None:
        if self._live:
            self._wanted[key, fact] = cause
            self._found.set()

    def next(self, now: datetime) -> Tick | None:
        """A tick for what was found first, which is then no more remembered."""
        if not self._wanted:
            return None
        (key, fact), cause = next(iter(self._wanted.items()))
        del self._wanted[key, fact]
        what = ".".join((type(fact).__name__, *key, *(fact.whose if isinstance(fact, Gone) else ())))
        return Tick(id=caused_id(cause, what), now=now, swarm=key[0], facts=fact)

    async def run(self, stopping: asyncio.Event) -> None:
        """Tick for what is found, until `stopping`."""
        while not stopping.is_set():
            tick = self.next(utc_now())
            if tick is None:
                self._found.clear()
                await first_of(self._found.wait(), stopping.wait())
                continue
            while not stopping.is_set():
                try:
                    await self._tick(tick)
                    break
                except LogUnavailable as error:
                    log.warning("log_unavailable", work="reconciling intents", why=str(error))
                    await ended(stopping, AGAIN_S)


def _due(submitted: IntentSubmitted, life: Life, moved: datetime) -> datetime:
    """When something should happen to it next; at once where nobody has it and nothing is waited for, or it has ended."""
    if life.ended or (life.delayed is None and not life.open):
        return moved
    waits = () if life.delayed is None else (life.delayed.until,)
    return min(submitted.deadline, *waits, *(route.until for route in life.open))
