"""The event stream: Server-Sent Events with resume, filters, lag and heartbeats.

Theory of operation: a client is first brought from its `Last-Event-ID` to the present by paged reads of the log, and then
joins the live feed at `feed.position`: subscribing and taking that position happen without an await in between, the log is
read up to exactly there, and the subscription brings exactly what is above. So nothing is lost and nothing repeats.
Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from services.gateway.projections.feed import Feed, Subscription
from services.gateway.wire.problems import Problem
from shared.contracts.catalog import LOG_CLASSES, class_of, has_life
from shared.contracts.envelope import Recorded
from shared.contracts.ids import is_token
from shared.log.port import Log, LogUnavailable
from shared.telemetry import STREAM_CLIENTS

PAGE = 500
HEARTBEAT = b": heartbeat\n\n"
GOODBYE = b"retry: 500\n\n"
ANYTHING = "*.*.*.>"


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What a client wants to see; None is no limit."""

    swarm: str | None = None
    persona: str | None = None
    types: tuple[str, ...] = ()

    def wants(self, recorded: Recorded) -> bool:
        event = recorded.event
        return (
            self.swarm in (None, event.swarm)
            and self.persona in (None, event.persona)
            and (not self.types or class_of(event) in self.types)
        )

    def subjects(self) -> tuple[str, ...]:
        who = f"{self.swarm or '*'}.{self.persona or '*'}"
        if self.types:
            return tuple(f"{t}.{who}.*" if has_life(t) else f"{t}.{who}" for t in self.types)
        return (f"*.*.{who}", f"*.*.{who}.*") if self.swarm or self.persona else (ANYTHING,)


def parse_filter(swarm: str | None, persona: str | None, types: str | None) -> Filter:
    """`types` is a comma-separated list of event classes, with `.` or `_`. Raises `Problem` (422)."""
    for name, value in (("swarm", swarm), ("persona", persona)):
        if value is not None and not is_token(value):
            raise Problem(422, f"{name}: {value[:60]!r} is no id", reason="not_a_token")
    by_name = {name.replace(".", "_"): name for name in LOG_CLASSES}
    wanted = [t.strip().replace(".", "_") for t in (types or "").split(",") if t.strip()]
    unknown = [t for t in wanted if t not in by_name]
    if unknown:
        raise Problem(422, f"type: {unknown[0][:60]!r} is none of {', '.join(by_name)}", reason="unknown_type")
    return Filter(swarm=swarm, persona=persona, types=tuple(dict.fromkeys(by_name[t] for t in wanted)))


def parse_position(last_event_id: str | None, start: str | None) -> int | None:
    """The sequence to go on after; None is only what comes from now on. `Last-Event-ID` wins over `from`. Raises `Problem` (422)."""
    if last_event_id:
        if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 18):
            raise Problem(
                422, "Last-Event-ID: it is the id of an event of this stream, a number", reason="bad_event_id"
            )
        return int(last_event_id)
    if start not in (None, "beginning", "now"):
        raise Problem(422, f"from: {str(start)[:60]!r} is neither 'beginning' nor 'now'", reason="bad_from")
    return 0 if start == "beginning" else None


def frame(recorded: Recorded) -> bytes:
    """One event as it goes over the wire."""
    event = recorded.event
    body = msgspec.to_builtins(event)
    payload = {k: v for k, v in body.items() if k not in ("type", "swarm", "persona")}
    data = msgspec.json.encode(
        {
            "id": recorded.id,
            "event_type": class_of(event).replace(".", "_"),
            "persona_id": event.persona,
            "swarm_id": event.swarm,
            "timestamp": recorded.envelope.time,
            "payload": payload,
        }
    )
    return b"id: %d\nevent: cognition\ndata: %b\n\n" % (recorded.seq, data)


class EventStream:
    """Streams to any number of clients up to `max_clients`."""

    def __init__(self, log: Log, feed: Feed, *, buffer: int, heartbeat_s: float, max_clients: int) -> None:
        self._log, self._feed = log, feed
        self._buffer, self._heartbeat_s, self._max_clients = buffer, heartbeat_s, max_clients
        self._clients = 0

    async def open(self, wanted: Filter, after: int | None) -> AsyncIterator[bytes]:
        """The chunks of one client's stream. Raises `Problem` (429) when there are too many clients."""
        if self._clients >= self._max_clients:
            raise Problem(429, f"{self._max_clients} event streams are open, the limit", retry_after_s=5)
        first = b": open\n\n"
        if after is not None and after > 0:
            missed = await self._gap(after)
            if missed is not None:
                after, note = missed
                first += note
        return self._chunks(wanted, after, first)

    def _join(self, wanted: Filter) -> Subscription:
        return self._feed.subscribe(wanted.wants, self._buffer)

    async def _chunks(self, wanted: Filter, after: int | None, first: bytes) -> AsyncIterator[bytes]:
        subscription = None if after is not None else self._join(wanted)
        self._clients += 1
        STREAM_CLIENTS.inc()
        try:
            yield first
            if subscription is None:
                cursor = after or 0
                while self._feed.position - cursor > PAGE and not self._feed.stopped:
                    upto = self._feed.position
                    page = await self._page(wanted, cursor, upto, PAGE)
                    cursor = page[-1].seq if page else upto  # a short one is no end: it is without unreadable events
                    yield b"".join(map(frame, page))
                if self._feed.stopped:  # the client asks again for the rest
                    yield GOODBYE
                    return
                subscription, upto = self._join(wanted), self._feed.position
                if upto > cursor:
                    yield b"".join(map(frame, await self._page(wanted, cursor, upto, None)))
                after = max(cursor, upto)
            async for chunk in self._live(subscription, after or 0):
                yield chunk
            yield GOODBYE
        except LogUnavailable:
            yield GOODBYE
        finally:
            if subscription is not None:
                self._feed.unsubscribe(subscription)
            self._clients -= 1
            STREAM_CLIENTS.dec()

    async def _live(self, subscription: Subscription, after: int) -> AsyncIterator[bytes]:
        while True:
            skipped, events = await subscription.take(self._heartbeat_s)
            fresh = [frame(r) for r in events if r.seq > after]
            if skipped:
                fresh.insert(0, b"event: lag\ndata: skipped %d\n\n" % skipped)
            if fresh:
                yield b"".join(fresh)
            elif not subscription.closed:
                yield HEARTBEAT
            if subscription.closed:
                return

    async def _page(self, wanted: Filter, after: int, upto: int, limit: int | None) -> list[Recorded]:
        return await self._log.read(wanted.subjects(), after, upto=upto, limit=limit)

    async def _gap(self, after: int) -> tuple[int, bytes] | None:
        """Where to go on instead, and how the client is told, when the log does not reach back to `after`, or never got there."""
        if await self._log.get(after) is not None:
            return None
        oldest = await self._log.read((ANYTHING,), 0, limit=1)
        first = oldest[0].seq if oldest else 1
        if first <= after + 1 <= self._feed.position + 1:
            return None
        resumed = max(0, first - 1) if after < first else self._feed.position
        note = msgspec.json.encode({"last_event_id": after, "first_event_id": first, "resumed_after": resumed})
        return resumed, b"event: gap\ndata: %b\n\n" % note
