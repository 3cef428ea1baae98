"""Commits of one event each, many of them as one atomic batch, where the broker syncs each write before it acknowledges it.

Theory of operation. A few are under way by themselves; who comes then waits. As soon as enough wait they go as one batch, which is synced
once: measured, a batch costs the broker as much as fourteen events by themselves, and not much more whatever it holds. A batch is all or
nothing, so when it is refused, for whatever reason, each of its events goes by itself and gets an answer of its own. Where few
commit nothing waits.

Invariant: each is answered as if it had gone by itself; of a batch whose answer was lost each is told that its answer was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from shared.log.port import LogUnavailable

E = TypeVar("E")
A = TypeVar("A")

ALONE, TOGETHER, MOST = 8, 16, 128
"""So many go by themselves at once; a batch has at least and at most so many."""


class Grouping(Generic[E, A]):
    """`one` sends an event; `many` sends a batch and has an answer for each of its events, or None when it was refused."""

    def __init__(
        self, one: Callable[[E], Awaitable[A]], many: Callable[[Sequence[E]], Awaitable[Sequence[A] | None]]
    ) -> None:
        self._one, self._many = one, many
        self._waiting: list[tuple[E, str, asyncio.Future[A | None]]] = []
        """Their future is None when it is their turn to go by themselves."""
        self._alone = 0
        self._batch: asyncio.Task[None] | None = None

    async def send(self, event: E, guard: str) -> A:
        """The answer to the event. Of two with one `guard` that is not empty, the second is in no batch with the first."""
        if self._alone < ALONE and not self._waiting:
            return await self._by_itself(event)
        answer: asyncio.Future[A | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, guard, answer))
        self._go_on()
        try:
            said = await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None and answer.result() is None:
                self._alone -= 1  # its turn had come
                self._go_on()
            raise
        return said if said is not None else await self._by_itself(event, counted=True)

    async def _by_itself(self, event: E, *, counted: bool = False) -> A:
        self._alone += not counted
        try:
            return await self._one(event)
        finally:
            self._alone -= 1
            self._go_on()

    def _go_on(self) -> None:
        """A batch, if enough wait; else the next by themselves, as many as may."""
        self._waiting = [waits for waits in self._waiting if not waits[2].done()]
        if self._batch is None and len(self._waiting) >= TOGETHER:
            self._batch = asyncio.create_task(self._together(self._taken()), name="commits-together")
        elif self._batch is None:
            free = max(0, ALONE - self._alone)
            for _, _, answer in self._waiting[:free]:
                self._give_turn(answer)
            del self._waiting[:free]

    def _give_turn(self, answer: asyncio.Future[A | None]) -> None:
        self._alone += 1
        answer.set_result(None)

    def _taken(self) -> list[tuple[E, asyncio.Future[A | None]]]:
        """The next of those that wait, one for each guard."""
        taken: list[tuple[E, asyncio.Future[A | None]]] = []
        left: list[tuple[E, str, asyncio.Future[A | None]]] = []
        guards: set[str] = set()
        for event, guard, answer in self._waiting:
            if len(taken) < MOST and guard not in guards:
                taken.append((event, answer))
                guards |= {guard} - {""}
            else:
                left.append((event, guard, answer))
        self._waiting = left
        return taken

    async def _together(self, taken: list[tuple[E, asyncio.Future[A | None]]]) -> None:
        try:
            answers = await self._many([event for event, _ in taken])
            for number, (_, waiting) in enumerate(taken):
                if waiting.done():
                    continue
                if answers is None:
                    self._give_turn(waiting)
                else:
                    waiting.set_result(answers[number])
        except BaseException as error:
            why = error if isinstance(error, Exception) else LogUnavailable("the commit was given up")
            for _, waiting in taken:
                if not waiting.done():
                    waiting.set_exception(why)
            if why is not error:
                raise
        finally:
            self._batch = None
            self._go_on()
