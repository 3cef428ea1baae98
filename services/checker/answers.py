"""Memory's answers, for all who wait for one: a process has one tail of a stream, because its consumer's name is fixed."""

from __future__ import annotations

import asyncio

from shared.contracts.envelope import Unreadable
from shared.contracts.events import RecallAnswered
from shared.log.port import Log


class Answers:
    """`follow` must run for answers to come."""

    def __init__(self, log: Log) -> None:
        self._tail = log.tail(("recall.answered.*.*",), stream="RECALL")
        self._waiting: dict[str, asyncio.Future[RecallAnswered]] = {}

    async def follow(self) -> None:
        """Hand out answers until `stop`."""
        async for recorded in self._tail:
            if isinstance(recorded, Unreadable):
                continue
            waiting = self._waiting.get(recorded.envelope.causation or "")
            if waiting is not None and not waiting.done() and isinstance(recorded.event, RecallAnswered):
                waiting.set_result(recorded.event)

    async def stop(self) -> None:
        """No more answers."""
        await self._tail.stop()

    def expect(self, request_id: str) -> asyncio.Future[RecallAnswered]:
        """The answer to a question that is yet to be asked, and until then its place; cancel it to give the place up."""
        answer: asyncio.Future[RecallAnswered] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        answer.add_done_callback(lambda _: self._waiting.pop(request_id))
        return answer
