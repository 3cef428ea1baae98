"""What each swarm has use for, as the log tells it: the fold of grants, lots, lives and limits into claims. Pure; clocks come in.

Demand is measured. What was spent counts, by minute: grants in full until they are settled, then at their cost. What was refused for
lack of the swarm's room counts too, where the swarm had spent what it has; then it would have gone on as fast, so what it spent until
it ran dry is reckoned to the whole minute. Whoever stands in line and has not spent what is there counts for one wish, so a backlog
that is only declared gains nothing. A floor that was lent is recalled by the first who waits.

A swarm that a persona of another began is of that one's family as long as anybody lives there; `target.py` says what follows.

Memory: a row of each swarm in which somebody lives, that still has a share, of which a person said what it may have, or from which such a
one descends; in it names of live personas, those in line, grants that are open (at most `MOST_OPEN`), a few minutes.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from services.meta_orchestrator.allocation.target import RESOURCES, Claim
from shared.contracts.ceilings import ceiling
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    BudgetExhausted,
    BudgetGranted,
    BudgetLimited,
    BudgetRefused,
    BudgetSettled,
    Credits,
    LimitsChanged,
    LotGranted,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
)
from shared.contracts.ids import EVERYONE

CLASSES = (
    "persona.spawned",
    "persona.draining",
    "persona.reaped",
    "budget.granted",
    "budget.settled",
    "budget.exhausted",
    "budget.refused",
    "budget.limited",
    "lot.granted",
    "limits.changed",
)
WINDOW_S = 60
KEPT_WINDOWS = 3
MOST = 2**53
MOST_OPEN = 20_000
SPENT_PART = 0.8
"""Of its share: who has spent so much is believed to want what it was refused."""
FASTEST = 16
"""Times what was spent until it ran dry, at most."""
WAITS_FOR = timedelta(minutes=3)
"""Whoever stands in line longer has asked again, or is gone."""


class Minute(msgspec.Struct):
    """What a swarm spent in one minute by resource, the largest wish it was refused, the wishes for actions it was held, and the
    second each ran dry."""

    spent: dict[str, int] = {}
    wished: dict[str, int] = {}
    held: dict[str, int] = {}
    dry_at: dict[str, float] = {}


class Swarm(msgspec.Struct):
    """One swarm as far as it is known."""

    live: set[str] = msgspec.field(default_factory=set)
    minutes: dict[int, Minute] = {}
    open: dict[str, Credits] = {}
    waiting: dict[str, tuple[Credits, datetime]] = {}
    written: Credits = Credits()
    limits: LimitsChanged | None = None
    limits_seq: int = 0
    mother: str | None = None

    def minute(self, window: int) -> Minute:
        found = self.minutes.setdefault(window, Minute())
        for old in [w for w in self.minutes if w <= max(self.minutes) - KEPT_WINDOWS]:
            del self.minutes[old]
        return found


class Measures:
    """All swarms; fed in the order of the log. `changed` counts what came, so that nothing new needs no new look."""

    def __init__(self) -> None:
        self.swarms: dict[str, Swarm] = {}
        self.changed = 0

    def apply(self, recorded: Recorded) -> None:
        """Take one event of `CLASSES` in."""
        event = recorded.event
        if event.swarm == EVERYONE:
            return
        begins = isinstance(event, PersonaSpawned | LimitsChanged | BudgetLimited)
        if event.swarm not in self.swarms and not begins:
            return  # what ends after its swarm
        self.changed += 1
        swarm = self.swarms.setdefault(event.swarm, Swarm())
        match event:
            case PersonaSpawned(persona=persona):
                if not swarm.live:
                    swarm.mother = event.parent_swarm
                swarm.live.add(persona)
            case PersonaDraining(persona=persona) | PersonaReaped(persona=persona):
                swarm.live.discard(persona)
                swarm.waiting.pop(persona, None)
            case BudgetGranted():
                swarm.waiting.pop(event.persona, None)
                swarm.open[event.grant_id] = event.credits
                while len(swarm.open) > MOST_OPEN:
                    del swarm.open[next(iter(swarm.open))]
                _spend(swarm, event.window, event.credits, 1)
            case BudgetSettled():
                granted = swarm.open.pop(event.grant_id, None)
                if granted is not None and event.window in swarm.minutes:
                    _spend(swarm, event.window, granted, -1)
                    _spend(swarm, event.window, event.credits, 1)
            case BudgetRefused():
                _spend(swarm, event.window, event.credits, 1)
            case BudgetExhausted():
                self._refused(swarm, event, recorded.envelope.time)
            case BudgetLimited():
                swarm.written = event.credits
            case LotGranted():
                minute = swarm.minute(event.window)
                _add(minute.spent, "actions", sum(share.actions for share in event.shares))
                held = sum(share.actions for share in event.held if share.scope == "swarm")
                minute.held["actions"] = max(minute.held.get("actions", 0), held)
                if held:
                    _dry(swarm, event.window, "actions", recorded.envelope.time)
            case LimitsChanged():
                swarm.limits, swarm.limits_seq = event, recorded.seq
            case _:
                pass
        if isinstance(event, PersonaDraining | PersonaReaped | BudgetLimited):
            self._forget(event.swarm)

    def _forget(self, name: str | None) -> None:
        """A swarm of which nothing is left, and those that were kept for it."""
        while name is not None and (row := self.swarms.get(name)) is not None:
            if row.live or row.limits is not None or row.written != Credits():
                return
            if any(other.mother == name for other in self.swarms.values()):
                return
            del self.swarms[name]
            name = row.mother

    def _refused(self, swarm: Swarm, event: BudgetExhausted, now: datetime) -> None:
        swarm.waiting.pop(event.persona, None)
        if event.scope != "swarm" or event.need == Credits():
            return
        swarm.waiting[event.persona] = event.need, now
        window = int(now.timestamp()) // WINDOW_S
        wished = swarm.minute(window).wished
        for name in RESOURCES:
            wished[name] = max(wished.get(name, 0), getattr(event.need, name))
        _dry(swarm, window, event.resource, now)

    def claims(self, now: datetime, default: Credits) -> tuple[Claim, ...]:
        """Of every swarm in which somebody lives. `default`: the ceiling where nobody set another."""
        return tuple(self._claim(name, now, default) for name, swarm in sorted(self.swarms.items()) if swarm.live)

    def _claim(self, name: str, now: datetime, default: Credits) -> Claim:
        swarm = self.swarms[name]
        demand, wish = self.demand(swarm, now)
        return Claim(
            swarm=name,
            family=self._family(name),
            demand=demand,
            wish=wish,
            floor=swarm.limits.floor if swarm.limits else Credits(),
            ceiling=ceiling(swarm.limits.ceiling if swarm.limits else None, default),
            weight=swarm.limits.weight if swarm.limits else 100,
        )

    def _family(self, name: str) -> str:
        """The swarm from which all of them descend that led to this one."""
        seen = {name}
        while (mother := self.swarms[name].mother) is not None and mother in self.swarms and mother not in seen:
            name = mother
            seen.add(name)
        return name

    def demand(self, swarm: Swarm, now: datetime) -> tuple[Credits, Credits]:
        """What it has use for in a minute, the more of what the present one and the last say; and what of that is only declared."""
        window = int(now.timestamp()) // WINDOW_S
        waiting = [need for need, at in swarm.waiting.values() if now - at <= WAITS_FOR]
        wants: dict[str, int] = {}
        declared: dict[str, int] = {}
        minutes = [m for m in (swarm.minutes.get(window), swarm.minutes.get(window - 1)) if m is not None]
        for name in RESOURCES:
            backlog = sum(getattr(need, name) for need in waiting)
            wanted = max((_in(minute, name) for minute in minutes), default=0)
            wish = max((minute.wished.get(name, 0) for minute in minutes), default=0)
            if any(name in minute.dry_at for minute in minutes):
                wanted += max(backlog, wish)
                total = wanted
            else:
                total = wanted + wish
            if wish and swarm.limits is not None:
                total = max(total, getattr(swarm.limits.floor, name))
            wants[name] = min(MOST, total)
            declared[name] = max(0, wants[name] - wanted)
        return Credits(**wants), Credits(**declared)


def _in(minute: Minute, name: str) -> int:
    """What was wanted in one minute; who ran dry would have gone on as fast."""
    spent = minute.spent.get(name, 0)
    fast = 0
    if (dry_at := minute.dry_at.get(name)) is not None:
        fast = round(spent * min(FASTEST, WINDOW_S / max(dry_at, 1.0)))
    return max(spent + minute.held.get(name, 0), fast)


def _spend(swarm: Swarm, window: int, credits: Credits, sign: int) -> None:
    spent = swarm.minute(window).spent
    for name in RESOURCES:
        if amount := getattr(credits, name):
            _add(spent, name, sign * amount)


def _add(amounts: dict[str, int], name: str, amount: int) -> None:
    amounts[name] = min(MOST, max(0, amounts.get(name, 0) + amount))


def _dry(swarm: Swarm, window: int, resource: str, now: datetime) -> None:
    """The first time in the minute that it was refused with its share as good as spent."""
    minute = swarm.minute(window)
    if minute.spent.get(resource, 0) >= SPENT_PART * getattr(swarm.written, resource):
        minute.dry_at.setdefault(resource, now.timestamp() % WINDOW_S)
