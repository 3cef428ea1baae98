"""Questions of many askers as one, and what comes back handed out to each.

What is asked while an answer is awaited goes out together once it is there; so a single asker waits for nobody, and a crowd costs the
broker one request, the disk one sync, in place of its number. An answer rests on work that began after the question was put, as if each
had asked alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from shared.log.port import LogUnavailable

Q = TypeVar("Q")
A = TypeVar("A")

AT_ONCE, MOST = 1, 64
"""Readings under way, and questions in one of them."""


class Gathering(Generic[Q, A]):
    """`ask` answers questions in their order. What it raises is raised to all of them, `LogUnavailable` as a rule."""

    def __init__(self, ask: Callable[[list[Q]], Awaitable[list[A]]]) -> None:
        self._ask = ask
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._busy = 0
        """How many of them will yet look for who waits."""

    async def of(self, question: Q) -> A:
        """The answer to one question."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._busy < AT_ONCE:
            self._busy += 1
            task = asyncio.create_task(self._run(), name="gathered")
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        return await answer

    async def _run(self) -> None:
        """Until nobody waits."""
        try:
            while self._waiting:
                asked, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                await self._answer([one for one in asked if not one[1].done()])
        finally:
            self._busy -= 1

    async def _answer(self, asked: list[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._ask([question for question, _ in asked]) if asked else []
        except BaseException as error:
            why = error if isinstance(error, Exception) else LogUnavailable("the work was given up")
            for _, waiting in asked:
                if not waiting.done():
                    waiting.set_exception(why)
            if why is not error:
                raise
            return
        for (_, waiting), answer in zip(asked, answers, strict=True):
            if not waiting.done():
                waiting.set_result(answer)
