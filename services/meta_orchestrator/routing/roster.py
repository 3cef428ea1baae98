"""Who lives, what they are good for and what they cost: a fold of the log that routing chooses by. Pure but for its embedder.

One row a persona, in columns, so that ten thousand are ranked at once; who is reaped leaves its row to another. Every score is a whole
number of thousandths, the order is total (by swarm and persona where scores are equal), and texts become vectors in the order of the log:
two replicas that have folded the same say the same, as long as neither had more to read than it keeps (`MAX_UNREAD`). A persona is

- capable by the share of wanted tags it has (its tags and the words of its role) and by how near its charter is to the goal;
- where the memory is by how near what it found out lately is to the goal;
- free by how few open intents it has and how much of its tokens is left in this minute;
- cheap by what a thought of it costs, and successful by useful actions and answers for what it spent.

Suitable is who has a wanted tag, or is near enough to the goal; else the root of the swarm it was wanted of, or of its home.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from services.meta_orchestrator.routing.decider import Choose, Chosen
from shared.contracts.envelope import Recorded
from shared.contracts.events import (
    ActionExecuted,
    BudgetExhausted,
    BudgetGranted,
    Candidate,
    HypothesisRaised,
    IntentAccepted,
    PersonaDraining,
    PersonaReaped,
    PersonaSpawned,
    ThoughtGenerated,
)
from shared.intents import Whose
from shared.memory.port import Embedder, EmbedderUnavailable, Vector

CLASSES = (
    "persona.spawned",
    "persona.draining",
    "persona.reaped",
    "thought.generated",
    "hypothesis.raised",
    "action.executed",
    "budget.granted",
    "budget.exhausted",
)
WEIGHTS = {"capability": 450, "memory": 200, "load": 150, "success": 100, "price": 100}
NEAR_ENOUGH = 150
"""Thousandths of cosine between unrelated texts are below."""
SHOWN = 32
BATCH, MAX_UNREAD = 256, 16_384
"""Texts that are read at once, and of what was found out that wait to be read: beyond them the oldest is never read."""
TEXT_CHARS = 400
KEEPS, TAKES = np.float32(0.75), np.float32(0.25)
"""Of a persona's past work when something new comes to it."""
COST_KEEPS = 7
MINUTE_S = 60
_WORDS = re.compile(r"[a-z0-9]+")
_INTS = (
    "live",
    "load",
    "limit",
    "window",
    "granted",
    "cost",
    "spent",
    "useful",
    "thoughts",
    "depth",
)
Ints = NDArray[np.int64]


class Roster:
    """See the module. `apply` takes events in order; `choose` ranks."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._rows: dict[Whose, int] = {}
        self._names: list[Whose] = []
        self._tags: dict[str, set[int]] = {}
        self._tags_of: dict[int, set[str]] = {}
        self._swarms: dict[str, set[int]] = {}
        self._ints: dict[str, Ints] = {name: np.zeros(64, np.int64) for name in _INTS}
        self._exhausted = np.zeros(64, np.float64)
        self._charters = np.zeros((64, embedder.dim), np.float32)
        self._work = np.zeros((64, embedder.dim), np.float32)
        self._lengths = np.zeros(64, np.float32)
        self._unread_charters: dict[Whose, str] = {}
        self._unread: deque[tuple[Whose, str]] = deque(maxlen=MAX_UNREAD)
        self._free: list[int] = []
        self._reading = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    # -- the fold -----------------------------------------------------------------------------------------------------

    def apply(self, recorded: Recorded) -> None:
        """Take one event in."""
        event = recorded.event
        if isinstance(event, PersonaSpawned):
            self._spawned(event)
            return
        row = self._rows.get((event.swarm, event.persona))
        if row is None:
            return
        ints = self._ints
        match event:
            case PersonaDraining():
                ints["live"][row] = 0
            case PersonaReaped():
                self._reaped((event.swarm, event.persona), row)
            case ThoughtGenerated():
                self._thought((event.swarm, event.persona), row, event)
            case HypothesisRaised():
                self._unread.append(((event.swarm, event.persona), f"{event.topic} {event.claim}"[:TEXT_CHARS]))
            case ActionExecuted(outcome="success"):
                ints["useful"][row] += 1
            case BudgetGranted():
                if event.window > ints["window"][row]:
                    ints["window"][row], ints["granted"][row] = event.window, 0
                if event.window == ints["window"][row]:
                    ints["granted"][row] += min(event.credits.tokens, 2**40)
                self._exhausted[row] = 0.0
            case BudgetExhausted():
                self._exhausted[row] = event.retry_at.timestamp()
            case _:
                pass

    def answered(self, event: IntentAccepted) -> None:
        """Its answer counts."""
        if (row := self._rows.get((event.by.swarm, event.by.persona))) is not None:
            self._ints["useful"][row] += 1

    def load(self, whose: Whose, change: int) -> None:
        """It has so many open intents more, or fewer."""
        if (row := self._rows.get(whose)) is not None:
            self._ints["load"][row] += change

    def lives(self, whose: Whose) -> bool:
        """Whether it can be assigned anything."""
        row = self._rows.get(whose)
        return row is not None and bool(self._ints["live"][row])

    def _spawned(self, event: PersonaSpawned) -> None:
        whose = (event.swarm, event.persona)
        if whose in self._rows:
            return
        row = self._rows[whose] = self._row(whose)
        identity = event.identity
        self._ints["live"][row] = 1
        self._ints["limit"][row] = min(event.policy.token_budget_per_minute, 2**40)
        self._ints["depth"][row] = identity.depth
        self._swarms.setdefault(event.swarm, set()).add(row)
        self._tags_of[row] = {*(t.lower() for t in identity.tags), *_WORDS.findall(identity.role.lower())}
        for tag in self._tags_of[row]:
            self._tags.setdefault(tag, set()).add(row)
        self._unread_charters[whose] = f"{identity.role}. {identity.charter} {' '.join(identity.tags)}"[:2000]

    def _row(self, whose: Whose) -> int:
        """One that nobody has, as if it were new."""
        if not self._free:
            self._names.append(whose)
            if len(self._names) > len(self._exhausted):
                self._grow()
            return len(self._names) - 1
        row = self._free.pop()
        self._names[row] = whose
        for column in self._ints.values():
            column[row] = 0
        self._exhausted[row], self._charters[row], self._work[row], self._lengths[row] = 0.0, 0.0, 0.0, 0.0
        return row

    def _reaped(self, whose: Whose, row: int) -> None:
        """It never comes again: its row is another's."""
        self._ints["live"][row] = 0
        del self._rows[whose]
        self._unread_charters.pop(whose, None)
        self._free.append(row)
        _leave(self._swarms, whose[0], row)
        for tag in self._tags_of.pop(row):
            _leave(self._tags, tag, row)

    def _thought(self, whose: Whose, row: int, event: ThoughtGenerated) -> None:
        ints = self._ints
        cost = min(event.usage.tokens + event.usage.compute_ms, 2**40)
        first = ints["thoughts"][row] == 0
        ints["cost"][row] = cost if first else (COST_KEEPS * ints["cost"][row] + cost) // (COST_KEEPS + 1)
        ints["spent"][row] = min(int(ints["spent"][row]) + cost, 2**60)
        ints["thoughts"][row] += 1
        if event.progress and event.status == "ok":
            self._unread.append((whose, event.text[:TEXT_CHARS]))

    def _grow(self) -> None:
        size = 2 * len(self._exhausted)
        for name, column in self._ints.items():
            self._ints[name] = np.resize(column, size)
            self._ints[name][size // 2 :] = 0
        for name in ("_exhausted", "_charters", "_work", "_lengths"):
            old = getattr(self, name)
            new = np.zeros((size, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    async def read(self) -> None:
        """Have vectors of all that was taken in, in its order. Raises `EmbedderUnavailable`."""
        async with self._reading:
            while self._unread_charters:
                born = list(self._unread_charters.items())[:BATCH]
                for (whose, text), vector in zip(
                    born, await self._embedder.embed([text for _, text in born]), strict=True
                ):
                    if self._unread_charters.get(whose) == text:
                        del self._unread_charters[whose]
                        self._charters[self._rows[whose]] = vector
            while self._unread:
                found = [self._unread.popleft() for _ in range(min(BATCH, len(self._unread)))]
                try:
                    vectors = await self._embedder.embed([text for _, text in found])
                except EmbedderUnavailable:
                    self._unread.extendleft(reversed(found[: MAX_UNREAD - len(self._unread)]))
                    raise
                for (whose, _), vector in zip(found, vectors, strict=True):
                    if (row := self._rows.get(whose)) is not None:
                        self._work[row] = KEEPS * self._work[row] + TAKES * vector
                        self._lengths[row] = np.linalg.norm(self._work[row])

    async def read_ahead(self) -> None:
        """Read, if much waits for it: perhaps nobody ever chooses. What cannot be read now is read by who does."""
        if len(self._unread) + len(self._unread_charters) >= BATCH:
            with contextlib.suppress(EmbedderUnavailable):
                await self.read()

    # -- the choice ---------------------------------------------------------------------------------------------------

    async def choose(self, wish: Choose, now: datetime, *, lease_s: float) -> Chosen:
        """The best first. Raises `EmbedderUnavailable`."""
        (goal,) = await self._embedder.embed([f"{wish.goal[:2000]} {' '.join(wish.tags)}"])
        await self.read()
        count = len(self._names)
        open_ = self._eligible(wish, count, now)
        if not open_.any():
            return Chosen(nobody=self._nobody(wish), lease_s=lease_s)
        scores = self._scores(wish, goal, count, now)
        chosen: NDArray[np.bool_] = (scores["suits"] > 0) & open_
        reason, note = "", ""
        if wish.wanted_persona is not None or wish.among:
            chosen, reason = open_, "it was wanted"
        elif not chosen.any():
            home = wish.wanted_swarm or wish.home
            rows = self._among(self._swarms.get(home, ()), count)
            chosen = open_ & rows & (self._ints["depth"][:count] == 0)
            reason = note = f"nobody suits; it goes to a root of {home}"
            if not chosen.any():
                return Chosen(
                    nobody=f"nobody suits who could have it, and {home} has no root that could", lease_s=lease_s
                )
        best = self._of_each(wish, scores, chosen, note)
        return Chosen(best=best, reason=reason or f"best of {int(chosen.sum())} that suit", lease_s=lease_s)

    def _eligible(self, wish: Choose, count: int, now: datetime) -> NDArray[np.bool_]:
        found = (self._ints["live"][:count] > 0) & (self._exhausted[:count] <= now.timestamp())
        for whose in wish.past:
            if (row := self._rows.get(whose)) is not None:
                found[row] = False
        if wish.wanted_swarm is not None or wish.wanted_persona is not None or wish.among:
            found &= self._among(self._wanted(wish), count)
        return found

    def _wanted(self, wish: Choose) -> Iterable[int]:
        """Who was asked for: a persona is of the home unless a swarm is said."""
        if wish.among:
            return (row for swarm in wish.among for row in self._swarms.get(swarm, ()))
        if wish.wanted_persona is None:
            return self._swarms.get(wish.wanted_swarm or wish.home, ())
        row = self._rows.get((wish.wanted_swarm or wish.home, wish.wanted_persona))
        return () if row is None else (row,)

    def _among(self, rows: Iterable[int], count: int) -> NDArray[np.bool_]:
        found = np.zeros(count, np.bool_)
        found[list(rows)] = True
        return found

    def _scores(self, wish: Choose, goal: Vector, count: int, now: datetime) -> dict[str, NDArray[np.int64]]:
        ints = {name: column[:count] for name, column in self._ints.items()}
        near = _thousandths(_dot(self._charters[:count], goal))
        lengths: NDArray[np.float32] = np.maximum(self._lengths[:count], np.float32(1e-9))
        memory = _thousandths(_dot(self._work[:count], goal) / lengths)
        has = np.zeros(count, np.int64)
        for tag in dict.fromkeys(wish.tags):
            has[list(self._tags.get(tag, ()))] += 1
        share = 1000 * has // max(1, len(set(wish.tags)))
        capability = (6 * share + 4 * near) // 10 if wish.tags else near
        used = np.where(ints["window"] == int(now.timestamp()) // MINUTE_S, ints["granted"], 0)
        left = np.where(
            ints["limit"] > 0, np.maximum(0, ints["limit"] - used) * 1000 // np.maximum(1, ints["limit"]), 0
        )
        scores = {
            "capability": capability,
            "memory": memory,
            "load": left // (1 + np.maximum(0, ints["load"])),
            "success": 1000 * (1 + ints["useful"]) // (2 + ints["useful"] + ints["spent"] // 10_000),
            "price": 1_000_000 // (1000 + ints["cost"]),
        }
        scores["total"] = sum((WEIGHTS[name] * scores[name] for name in WEIGHTS), np.zeros(count, np.int64)) // 1000
        scores["suits"] = ((has > 0) | (near >= NEAR_ENOUGH) | (memory >= NEAR_ENOUGH)).astype(np.int64)
        return scores

    def _of_each(
        self, wish: Choose, scores: dict[str, NDArray[np.int64]], chosen: NDArray[np.bool_], note: str
    ) -> tuple[Candidate, ...]:
        """The best; of several swarms the best of each, then the second of each."""
        count = max(SHOWN, wish.count)
        if not wish.among:
            return self._best(scores, chosen, count, note)
        swarms = (chosen & self._among(self._swarms.get(swarm, ()), len(chosen)) for swarm in wish.among)
        each = [self._best(scores, those, count, note) for those in swarms]
        return tuple(one for row in zip_longest(*each) for one in row if one is not None)[:count]

    def _best(
        self, scores: dict[str, NDArray[np.int64]], chosen: NDArray[np.bool_], count: int, note: str
    ) -> tuple[Candidate, ...]:
        """So many, by total and then by name; of equal ones at the edge those whose names come first."""
        rows = np.flatnonzero(chosen)
        totals = scores["total"][rows]
        if len(rows) > count:
            edge = np.partition(totals, len(totals) - count)[len(totals) - count]
            rows = rows[totals >= edge]
        ordered = sorted(rows.tolist(), key=lambda row: (-int(scores["total"][row]), self._names[row]))
        return tuple(
            Candidate(
                swarm=self._names[row][0],
                persona=self._names[row][1],
                **{name: int(scores[name][row]) / 1000 for name in (*WEIGHTS, "total")},
                note=note,
            )
            for row in ordered[:count]
        )

    def _nobody(self, wish: Choose) -> str:
        where = f" of {wish.wanted_swarm}" if wish.wanted_swarm else ""
        if wish.wanted_persona is not None:
            return f"persona {wish.wanted_persona} of {wish.wanted_swarm or wish.home} does not live, had it, or has no credits now"
        live = int(self._ints["live"][: len(self._names)].sum())
        return f"no persona{where} could have it: {live} live in all, {len(wish.past)} had it, the others have no credits now"


def _leave(rows: dict[str, set[int]], name: str, row: int) -> None:
    rows[name].discard(row)
    if not rows[name]:
        del rows[name]


def _dot(rows: NDArray[np.float32], vector: Vector) -> NDArray[np.float32]:
    """Of each row with the vector. By one thread: those of BLAS wait for each other longer than the product takes on cores that others
    use too (a choice among 10 000 took 17 ms instead of 5), and how many there are is not to tell what comes out."""
    found: NDArray[np.float32] = np.einsum("ij,j->i", rows, vector)
    return found


def _thousandths(cosines: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.rint(np.clip(cosines, 0.0, 1.0) * 1000).astype(np.int64)
