"""Asking memory: a `recall.requested` on the short-lived stream, and its answer by causation id.

Memory is a help, not a need: when it does not answer in time, or refuses, a thought is made without it, and when it keeps doing so it
is left alone for a while.

What its swarm believes comes in the same answer, beside what the persona remembers, wherever policy lets it read that. Memory is asked of
what somebody asked or of what stands out, never of nothing. A model that is asked nothing, and before which nothing stands out, finds for
itself what matters in what it sees: it is told what is believed all the same, what is about that first. Rules would do nothing with it,
so for them a quiet step makes no request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from shared.contracts.catalog import class_filter
from shared.contracts.envelope import Message, Unreadable, enveloped
from shared.contracts.events import Memory, RecallAnswered, RecallRequested, Wanted
from shared.contracts.ids import fresh_id, utc_now
from shared.log.port import DuplicateEvent, Log, LogUnavailable, StaleBoundary
from shared.thinker.asking.questions import topic_of
from shared.thinker.port import Context

log = structlog.get_logger()

TIMEOUT_S = 0.5
SILENT_AFTER, SILENT_S = 3, 30.0
LIMIT = 4
BELIEF, BELIEFS = "belief", 4
"""Of what its swarm believes, beside what the persona remembers."""
MOST_SEEN = 8
MAX_WAITING = 256


class Recaller:
    """One process's questions to memory. `follow` must run for answers to come. `always_beliefs`: also in a quiet step."""

    def __init__(
        self, log_: Log, *, source: str, slot: str, serves: Sequence[str] = (), always_beliefs: bool = False
    ) -> None:
        self._log = log_
        self._slot = slot
        self._source = source
        self._always_beliefs = always_beliefs
        answers = [class_filter("recall.answered", swarm) for swarm in serves or ("*",)]
        self._tail = log_.tail(answers, stream="RECALL")
        self._waiting: dict[str, asyncio.Future[tuple[Memory, ...]]] = {}
        self._unanswered = 0
        self._silent_until = 0.0

    async def follow(self) -> None:
        """Hand out answers until `stop`."""
        async for recorded in self._tail:
            if isinstance(recorded, Unreadable):
                continue
            waiting = self._waiting.get(recorded.envelope.causation or "")
            if waiting is not None and not waiting.done() and isinstance(recorded.event, RecallAnswered):
                if recorded.event.refused is not None:
                    waiting.set_exception(LogUnavailable(f"memory was not asked: {recorded.event.refused}"))
                else:
                    waiting.set_result(recorded.event.memories)

    async def stop(self) -> None:
        """Ask no more."""
        await self._tail.stop()

    async def recall(self, context: Context) -> tuple[Memory, ...]:
        """What the persona remembers of what it was asked, or of what stands out now, and what its swarm believes; nothing of the former
        when there is neither, and nothing at all when memory is silent."""
        loop = asyncio.get_running_loop()
        query = _query(context)
        wanted: Wanted = "all"
        if not query and self._always_beliefs:
            query, wanted = _seen(context), "beliefs"
        if not query or loop.time() < self._silent_until or len(self._waiting) >= MAX_WAITING:
            return ()
        event_id = fresh_id()
        answer: asyncio.Future[tuple[Memory, ...]] = loop.create_future()
        self._waiting[event_id] = answer
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._ask(event_id, context, query, wanted)
                memories = await answer
        except (TimeoutError, LogUnavailable, StaleBoundary, DuplicateEvent):
            self._unanswered += 1
            if self._unanswered >= SILENT_AFTER:
                self._unanswered, self._silent_until = 0, loop.time() + SILENT_S
                log.warning("memory_silent", for_s=SILENT_S)
            return ()
        finally:
            del self._waiting[event_id]
        self._unanswered = 0
        own = [memory for memory in memories if memory.kind != BELIEF]
        believed = [memory for memory in memories if memory.kind == BELIEF]
        return (*own[:LIMIT], *believed[:BELIEFS])

    async def _ask(self, event_id: str, context: Context, query: str, wanted: Wanted) -> None:
        identity = context.identity
        request = RecallRequested(
            swarm=identity.swarm_id,
            persona=identity.id,
            query=query[:2000],
            limit=LIMIT,
            slot=self._slot,
            wanted=wanted,
        )
        envelope = enveloped(event_id, source=self._source, time=utc_now())
        await self._log.commit([Message(event=request, envelope=envelope)])


def _query(context: Context) -> str:
    if context.goal is not None:
        return topic_of(context.goal)
    findings = context.percept.findings
    return findings[-1].claim if findings else ""


def _seen(context: Context) -> str:
    """The newest lines it sees, and what it is for."""
    newest = [text[:200] for _, text in context.percept.samples[-MOST_SEEN:]]
    return "\n".join((*newest, context.identity.charter))
