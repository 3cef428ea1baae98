"""What the API does to the mesh: each command commits one decision to the log and waits for what the mesh makes of it.

A command's event id is fresh, or derives from principal, path and `Idempotency-Key`: the same key is the same event, and
its outcome is looked up by causation, so a repeat answers the same, also after a restart. Nothing here polls: whoever
waits is woken by the feed. When the deciding service does not answer in time the command stands in the log all the same,
and the problem says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from services.gateway.commands.admission import Admission
from services.gateway.projections.feed import Feed
from services.gateway.wire.problems import RETRY_AFTER_S, Problem
from shared.contracts.catalog import subject_of
from shared.contracts.envelope import Message, Recorded, enveloped
from shared.contracts.events import MAX_SWARMS, AnyEvent
from shared.contracts.ids import caused_id, fresh_id
from shared.log.port import DuplicateEvent, Expect, Log

SOURCE = "gateway"
PAGE = 1000
E = TypeVar("E", bound=AnyEvent)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends what: `key` is the `Idempotency-Key`, `traceparent` the caller's W3C trace context."""

    principal: str
    path: str
    key: str | None = None
    traceparent: str | None = None

    def event_id(self, event_class: str, index: int = 0) -> str:
        if self.key is None:
            return fresh_id()
        return caused_id(f"{self.principal}\n{self.path}\n{self.key}", event_class, index)


class Bus:
    """The log and the feed, and how a command goes through them. `admission` says how many may, `held`
    why nothing new is taken in now, if so; `max_swarms` may have a share of the budget."""

    def __init__(
        self,
        log: Log,
        feed: Feed,
        clock: Callable[[], datetime],
        timeout_s: float,
        *,
        four_eyes: bool = True,
        held: Callable[[], str | None] = lambda: None,
        admission: Admission,
        max_swarms: int = MAX_SWARMS,
    ) -> None:
        self.max_swarms = max_swarms
        self.log = log
        self.feed = feed
        self.clock = clock
        self.timeout_s = timeout_s
        self.four_eyes = four_eyes
        self.held = held
        self.admission = admission

    def message(
        self,
        command: Command,
        event_id: str,
        event: AnyEvent,
        *,
        cause: Recorded | None = None,
        charter: str | None = None,
    ) -> Message:
        envelope = enveloped(
            event_id,
            source=SOURCE,
            time=self.clock(),
            cause=None if cause is None else cause.envelope,
            charter=charter,
            traceparent=command.traceparent,
        )
        return Message(event=event, envelope=envelope)

    async def repeated(self, event_id: str, event: AnyEvent) -> bool:
        """Whether this command is in the log already. Raises `Problem` (422) when its key was used for something else."""
        seq = self.feed.projection.commands.get(event_id)
        if seq is None:
            return False
        await self._same((seq,), ((event_id, event),))
        return True

    async def send(
        self,
        command: Command,
        messages: Sequence[Message],
        expect: Sequence[Expect] = (),
        *,
        wait: bool = True,
        since: int | None = None,
    ) -> tuple[int, ...]:
        """Commit, once for one key, and return the sequences when the projection holds them.

        A key is remembered for so many commands; `since`: if it was used, then after that sequence, and that is looked up.
        """
        known = None if command.key is None else await self._folded(messages[0])
        if known is None and command.key is not None and since is not None:
            known = await self._stored(messages[0], since)
        if known is None:
            try:
                seqs = await self.log.commit(messages, expect)
            except DuplicateEvent:
                known = await self._known(messages[0])
        if known is not None:
            seqs = tuple(range(known, known + len(messages)))
        if command.key is not None:
            await self._same(seqs, [(m.envelope.id, m.event) for m in messages])
        if wait:
            await self.feed.reached(seqs[-1], self.timeout_s)
        return seqs

    async def outcome(
        self, queue: asyncio.Queue[Recorded], wanted: tuple[type[E], ...], event_id: str, who: str
    ) -> tuple[Recorded, E]:
        """The first event of the wanted classes. Raises `Problem` (503) when `who` does not answer in time."""
        try:
            async with asyncio.timeout(self.timeout_s):
                while True:
                    recorded = await queue.get()
                    if isinstance(recorded.event, wanted):
                        return recorded, recorded.event
        except TimeoutError:
            detail = (
                f"the {who} did not answer within {self.timeout_s:g} s; the command was stored as event {event_id} "
                "and may still take effect, ask again with the same Idempotency-Key or look at the state"
            )
            raise Problem(503, detail, reason="no_answer", retry_after_s=RETRY_AFTER_S, event_id=event_id) from None

    async def _folded(self, message: Message) -> int | None:
        """The sequence of a keyed event that is in the log already.

        The newest event on its subject says how far to have read to be sure: after an outage a caller that asks again may be
        quicker than the feed, and the broker's dedup window may have passed.
        """
        commands = self.feed.projection.commands
        if commands.get(message.envelope.id) is None:
            newest = await self.log.last((message.subject,))
            await self.feed.reached(newest[-1].seq if newest else 0, self.timeout_s)
        return commands.get(message.envelope.id)

    async def _stored(self, message: Message, since: int) -> int | None:
        """The sequence of an event that is in the log after that one, if it is."""
        (end,) = await self.log.ends((message.subject,))
        while since < end:
            page = await self.log.read((message.subject,), since, upto=end, limit=PAGE)
            if (seq := next((r.seq for r in page if r.id == message.envelope.id), None)) is not None:
                return seq
            if not page:
                return None
            since = page[-1].seq
        return None

    async def _known(self, message: Message) -> int:
        """The sequence of an event the log says it has."""
        found = await self.log.read((message.subject,))
        for recorded in reversed(found):
            if recorded.id == message.envelope.id:
                return recorded.seq
        raise _reused()

    async def _same(self, seqs: Sequence[int], wanted: Sequence[tuple[str, AnyEvent]]) -> None:
        """Raises `Problem` (422) unless the log holds exactly these events there."""
        subjects = sorted({subject_of(event) for _, event in wanted})
        found = await self.log.read(subjects, seqs[0] - 1, upto=seqs[-1])
        if [(r.id, r.event) for r in found] != list(wanted):
            raise _reused()


def _reused() -> Problem:
    return Problem(422, "this Idempotency-Key was used for a different request", reason="idempotency_key_reused")
