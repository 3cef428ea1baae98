"""The event stream: Server-Sent Events with resume, filters, lag and heartbeats.

Theory of operation: a client is first brought from its `Last-Event-ID` to the present by paged reads of the log, and then
joins the live feed at `feed.position`: subscribing and taking that position happen without an await in between, the log is
read up to exactly there, and the subscription brings exactly what is above. So nothing is lost and nothing repeats. Where
it joined is told as an `id:` without data, and again with a heartbeat: a client that saw no event yet resumes too.

An id is the stream sequence, and `<sequence>.<epoch>` since the log went back once: sequences of before are taken anew, so a client
that resumes with an id of another epoch has seen events that may be nowhere, and is told so (`gap`).

An `EventSource` takes any status but 200 for the last word and never asks again. So what passes is no refusal: while the
gateway catches up or the bus is away the stream is open and says so in comments, and who must come back later is told when
in `retry:`. Refused is only what asking again does not change.
Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from services.gateway.front.streaming.asked import ANYTHING, ATTENTION, SHOWN, WORKSPACE, WORKSPACE_S, Filter, Place
from services.gateway.front.streaming.frames import (
    AWAY,
    CATCHING_UP,
    GOODBYE,
    HEARTBEAT,
    OPEN,
    at,
    beside,
    event_id,
    frame,
    later,
    of_another_log,
)
from services.gateway.projections.feed import Feed, Subscription
from services.gateway.wire.problems import Problem
from shared.contracts.catalog import class_of
from shared.contracts.envelope import Recorded
from shared.log.port import Log, LogUnavailable
from shared.metrics.table import STREAM_CLIENTS

PAGE = 500
PATH = "/v1/cognition/stream"
HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
"""A proxy that compresses, or buffers, would hold events back for good."""
AWAY_RETRY_S = 1.0
FULL_RETRY_S = 5


class Sees(Protocol):
    """What somebody may see."""

    def sees(self, recorded: Recorded) -> bool: ...


class Everything:
    """No policy forbids anything."""

    def sees(self, recorded: Recorded) -> bool:
        return True


async def everything() -> Sees:
    """For who may see all."""
    return Everything()


async def _once(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


class EventStream:
    """Streams to any number of clients, up to `max_clients` of one principal and `max_total` of all, exactly."""

    def __init__(
        self,
        log: Log,
        feed: Feed,
        *,
        buffer: int,
        heartbeat_s: float,
        max_clients: int,
        max_total: int,
        refused: Callable[[str, str], None] = lambda reason, detail: None,
        another: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._another = another
        self._log, self._feed = log, feed
        self._buffer, self._heartbeat_s = buffer, heartbeat_s
        self._max_clients, self._max_total = max_clients, max_total
        self._refused = refused
        self._clients: Counter[str] = Counter()

    async def open(
        self,
        principal: str,
        wanted: Filter,
        after: Place | None,
        *,
        again: bool = False,
        reader: Callable[[], Awaitable[Sees]] = everything,
    ) -> AsyncIterator[bytes]:
        """The chunks of one client's stream, with what `reader` says it may see by the policies in force then.

        Raises `Problem` (429) when there are too many; a client that comes `again` is told to wait instead, for it would
        take the refusal for the last word.
        """
        if full := self._full(principal):
            self._refused("too_many_streams", full)
            if not again:
                raise Problem(429, full, reason="too_many_streams", retry_after_s=FULL_RETRY_S)
            return _once(later(full, FULL_RETRY_S))
        chunks = self._chunks(principal, wanted, after, reader)
        await anext(chunks)  # counted from here on, with no await since the limit was looked at
        return chunks

    def _full(self, principal: str) -> str | None:
        if self._clients[principal] >= self._max_clients:
            return f"{principal} has {self._max_clients} event streams open, the limit"
        if self._clients.total() >= self._max_total:
            return f"{self._max_total} event streams are open, the limit of all together"
        return None

    async def _chunks(
        self, principal: str, wanted: Filter, after: Place | None, reader: Callable[[], Awaitable[Sees]]
    ) -> AsyncGenerator[bytes, None]:
        told = Telling(self._feed, wanted, reader)
        past = Past(self._log, self._feed, wanted, after, self._buffer, told)
        self._clients[principal] += 1
        STREAM_CLIENTS.at[""] += 1
        try:
            yield b""
            yield OPEN
            while not (self._feed.ready or self._feed.stopped):
                await self._feed.turn(self._heartbeat_s)
                yield CATCHING_UP
            while past.joined is None and not self._feed.stopped:
                try:
                    chunk = await past.advance()
                except LogUnavailable:
                    await self._feed.turn(AWAY_RETRY_S)
                    chunk = AWAY
                if chunk:
                    yield chunk
            if past.joined is not None:
                async for chunk in self._live(past.joined, past.cursor or 0, told):
                    yield chunk
            if (why := self._another()) is not None:
                yield of_another_log(why)
            yield GOODBYE
        finally:
            past.close()
            self._clients[principal] -= 1
            if not self._clients[principal]:
                del self._clients[principal]
            STREAM_CLIENTS.at[""] -= 1

    async def _live(self, subscription: Subscription, after: int, telling: Telling) -> AsyncIterator[bytes]:
        told = after
        while True:
            skipped, events = await subscription.take(self._heartbeat_s)
            position = self._feed.position
            epoch = self._feed.projection.halts.epoch
            fresh = [await self._told(telling, [r for r in events if r.seq > after], epoch)]
            fresh = [chunk for chunk in (*fresh, telling.workspace()) if chunk]
            if skipped:
                fresh.insert(0, b"event: lag\ndata: skipped %d\n\n" % skipped)
            if fresh:
                yield b"".join(fresh)
            elif not subscription.closed:
                yield HEARTBEAT if position <= told else HEARTBEAT[:-1] + at(position, epoch)
            told = max(told, position)
            if subscription.closed:
                return

    async def _told(self, telling: Telling, events: Sequence[Recorded], epoch: int) -> bytes:
        """Waits for the policies where they cannot be asked: what was taken from the feed comes only once."""
        while True:
            try:
                return await telling.frames(events, epoch)
            except LogUnavailable:
                if self._feed.stopped:
                    return b""
                await self._feed.turn(AWAY_RETRY_S)


class Telling:
    """What one client is told of events: those it wants and may see, and what is told beside them."""

    def __init__(self, feed: Feed, wanted: Filter, reader: Callable[[], Awaitable[Sees]]) -> None:
        self._feed, self._wanted, self._reader = feed, wanted, reader
        self._changed: Recorded | None = None
        self._at = -math.inf

    async def frames(self, events: Sequence[Recorded], epoch: int) -> bytes:
        """Raises `LogUnavailable` while the policies cannot be asked."""
        if not events:
            return b""
        may, chunks = await self._reader(), []
        for recorded in events:
            if not may.sees(recorded):
                continue
            if class_of(recorded.event).partition(".")[0] in SHOWN:
                self._changed = recorded
            item = self._feed.projection.attention.opened_by(recorded.id) if self._wanted.tells(ATTENTION) else None
            if item is not None:
                told = {name: getattr(item, name) for name in ("id", "topic", "priority", "source_type", "source_id")}
                chunks.append(beside(recorded, ATTENTION, told, item.assigned_persona))
            if self._wanted.shows(recorded):
                chunks.append(frame(recorded, epoch))
        return b"".join(chunks)

    def workspace(self) -> bytes:
        """That it has changed, when it has, and it is time to say so again."""
        now = asyncio.get_running_loop().time()
        if self._changed is None or now < self._at + WORKSPACE_S or not self._wanted.tells(WORKSPACE):
            return b""
        recorded, self._changed, self._at = self._changed, None, now
        return beside(recorded, WORKSPACE, {"updated": True}, None)


class Past:
    """Brings one client from `cursor` to the present; `joined` is its subscription once it is there."""

    def __init__(
        self, log: Log, feed: Feed, wanted: Filter, after: Place | None, buffer: int, telling: Telling
    ) -> None:
        self._telling = telling
        self.cursor = None if after is None else after.seq
        self._of = None if after is None else after.epoch
        self.joined: Subscription | None = None
        self._log, self._feed, self._wanted, self._buffer = log, feed, wanted, buffer
        self._checked = not self.cursor

    @property
    def _epoch(self) -> int:
        return self._feed.projection.halts.epoch

    async def advance(self) -> bytes:
        """One step, and what it brings. Raises `LogUnavailable`; then it is where it was."""
        if self.cursor is None:
            self.joined, self.cursor = self._subscribe(), self._feed.position
            return at(self.cursor, self._epoch)
        if not self._checked:
            self.cursor, told = await self._resumed(self.cursor)
            self._checked = True
            return told
        upto = self._feed.position
        if upto - self.cursor > PAGE:
            page = await self._page(upto, PAGE)
            frames = await self._frames(page)
            self.cursor = page[-1].seq if page else upto  # a short one is no end: it is without unreadable events
            return frames
        subscription = self._subscribe()
        try:
            page = await self._page(upto, None) if upto > self.cursor else []
            frames = await self._frames(page)
        except BaseException:
            self._feed.unsubscribe(subscription)
            raise
        self.joined, self.cursor = subscription, max(self.cursor, upto)
        return frames + at(self.cursor, self._epoch)

    async def _frames(self, page: Sequence[Recorded]) -> bytes:
        """As the live feed would have told them."""
        wanted = [r for r in page if self._feed.projection.heard(r) and self._wanted.wants(r)]
        return await self._telling.frames(wanted, self._epoch)

    def close(self) -> None:
        if self.joined is not None:
            self._feed.unsubscribe(self.joined)

    def _subscribe(self) -> Subscription:
        return self._feed.subscribe(self._wanted.wants, self._buffer)

    async def _page(self, upto: int, limit: int | None) -> list[Recorded]:
        return await self._log.read(self._wanted.subjects(), self.cursor or 0, upto=upto, limit=limit)

    async def _resumed(self, after: int) -> tuple[int, bytes]:
        """Where to go on, and how the client is told when the log does not reach back to `after`, never got there, or is another
        one since: then it goes on with the halt that says so."""
        if self._of != self._epoch:
            resumed = max(0, self._epoch - 1)
            note = msgspec.json.encode(
                {"last_event_id": after, "first_event_id": resumed + 1, "resumed_after": resumed}
            )
            return resumed, self._gap(resumed, note)
        if await self._log.get(after) is not None:
            return after, b""
        oldest = await self._log.read((ANYTHING,), 0, limit=1)
        first = oldest[0].seq if oldest else 1
        if first <= after + 1 <= self._feed.position + 1:
            return after, b""
        resumed = max(0, first - 1) if after < first else self._feed.position
        note = msgspec.json.encode({"last_event_id": after, "first_event_id": first, "resumed_after": resumed})
        return resumed, self._gap(resumed, note)

    def _gap(self, resumed: int, note: bytes) -> bytes:
        return b"id: %b\nevent: gap\ndata: %b\n\n" % (event_id(resumed, self._epoch), note)
