"""The log on JetStream: a thin layer over one connection, because nats-py's own costs three times the CPU.

One event is a plain publish (0.13 ms), several are one atomic batch (ADR-50, about 3 ms). An answer that was lost is resolved
here: publish again with the same ids, and when the broker then refuses, look whether the refusal was caused by ourselves.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

import msgspec
import structlog

from shared.contracts.catalog import SHORT_LIVED, class_of, matches
from shared.contracts.envelope import Message, Recorded, Stored, encode
from shared.contracts.ids import utc_now
from shared.log.client.connection import BEING_WRITTEN, WRONG_LAST_SEQUENCE, Connection, is_status
from shared.log.client.wire import Raw
from shared.log.dead import bury
from shared.log.grouping import Grouping
from shared.log.marks import Trail
from shared.log.port import ConsumerSpec, DuplicateEvent, Expect, LogUnavailable, StaleBoundary, jittered
from shared.log.reading.direct import DIRECT_GET
from shared.log.reading.leader import Leader
from shared.log.reading.puller import JetStreamPuller
from shared.log.reading.reader import Reader
from shared.log.reading.tail import JetStreamTail
from shared.metrics.table import LAG

log = structlog.get_logger()

DUPLICATE_IN_BATCH = 10201
CROWDED = (10176, 10210)
"""Too many batches are open: told to the first message of one, which nobody waits for, so that the others find no beginning."""
NOT_NOW = (*CROWDED, BEING_WRITTEN)
NOT_NOW_S, NOT_NOW_PAUSE_S, NOT_NOW_MAX_PAUSE_S = 10.0, 0.005, 0.1
"""Refusals that have decided nothing: the same is sent again, for so long."""
COMMIT_ATTEMPTS = 4
STORED_LATELY = timedelta(minutes=4)
"""The dedup window and as much again, because the broker's clock is not ours."""
BATCHES_AT_ONCE = 8
"""The broker takes 50 a stream, of all clients, and commits them one after another."""


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    count: int = 0
    duplicate: bool = False
    error: _Error | None = None


_T = TypeVar("_T")
_ACK = msgspec.json.Decoder(_Ack)
_Encoded = tuple[str, str, bytes]
_ELSEWHERE = tuple(f"{name}." for name in SHORT_LIVED)
"""Subjects of another stream than the log's."""


class JetStreamLog:
    """`Log` over a connection. `service` names the durable consumer and the dead letters, `instance` the tail.

    `buries`: whether it sends what nobody can read to the dead letters in everybody's name; who is not trusted with that has its tail
    leave it to others, and its durable buries it as its own.
    `dedup_key`: secret of those whose events the broker is to know again. Event ids can be foretold and the broker's dedup
    window is the whole stream's: who could foretell a dedup id too could publish under it first, and the event would be lost.
    `replicated`: there are several replicas, and what is read is what their leader has (`leader`); who may not ask it reads what some
    replica has, which guards hold against. `groups`: each write is synced, so that many commits of one event go together (`grouping`).
    """

    def __init__(
        self,
        connection: Connection,
        *,
        service: str,
        instance: str,
        buries: bool = True,
        dedup_key: bytes = b"",
        replicated: bool = False,
        groups: bool = False,
    ) -> None:
        self.connection = connection
        self._dedup_key = dedup_key
        self.service = service
        self.instance = instance
        self._buries = buries
        self.trail = Trail()
        """Marks of what was read, given and committed."""
        self.may_work: Callable[[], bool] = lambda: True
        """Whether work may be asked for now: while it says no, consumers pull nothing."""
        self.failing: str | None = None
        """Why the last commit failed, None when it did not: what was refused by a guard did not."""
        self.failed_at = 0.0
        self._grouping = Grouping(self._publish, self._publish_together) if groups else None
        self._batches = asyncio.Semaphore(BATCHES_AT_ONCE)
        self._reader = Reader(connection, self.trail, Leader(connection, "SWARM") if replicated else None)

    # -- commit -----------------------------------------------------------------------------------------------------

    async def commit(self, messages: Sequence[Message], expect: Sequence[Expect] = ()) -> tuple[int, ...]:
        try:
            seqs = await self._commit(messages, expect)
        except LogUnavailable as error:
            self.failing, self.failed_at = str(error), time.monotonic()
            raise
        except (StaleBoundary, DuplicateEvent):
            self.failing = None
            raise
        self.failing = None
        if class_of(messages[0].event) not in SHORT_LIVED:
            for seq, message in zip(seqs, messages, strict=True):
                self.trail.own(seq, message.envelope.id)
        return seqs

    async def _commit(self, messages: Sequence[Message], expect: Sequence[Expect]) -> tuple[int, ...]:
        encoded = _guarded([self._encode(m) for m in messages], expect)
        lost: LogUnavailable | None = None
        for attempt in range(COMMIT_ATTEMPTS):
            if attempt:
                await asyncio.sleep(jittered(0.05 * 2**attempt))
            try:
                ack = await self._send(encoded, expect[0].subject_filter if expect else "")
            except LogUnavailable as error:
                lost = error
                continue
            if ack.duplicate and ack.stream == "SWARM" and not await self._is_at(ack.seq, messages[0]):
                raise DuplicateEvent(f"the id {messages[0].envelope.id} belongs to another event, at {ack.seq}")
            if ack.error is None and not (ack.duplicate and expect):
                return tuple(range(ack.seq - len(encoded) + 1, ack.seq + 1))
            # a cluster knows an id again before it looks at the guard, which the one of that id has moved
            refused = ack.error or _Error(WRONG_LAST_SEQUENCE, f"the id is at {ack.seq}")
            if refused.err_code in (WRONG_LAST_SEQUENCE, DUPLICATE_IN_BATCH):
                if (lost or len(encoded) > 1) and (seqs := await self._find(messages, expect)):
                    return seqs
                if refused.err_code == DUPLICATE_IN_BATCH:
                    raise DuplicateEvent(refused.description)
                raise StaleBoundary(refused.description)
            lost = LogUnavailable(f"refused by the broker: {refused.description} ({refused.err_code})")
        raise lost or LogUnavailable("the broker gave no answer")

    async def _send(self, encoded: list[_Encoded], guard: str) -> _Ack:
        """The broker's answer. What it has decided nothing about is sent again, for `NOT_NOW_S` at most: a batch it has no room
        for, and a guard on which something else is in flight, which gets in or not.
        """
        until, pause_s = time.monotonic() + NOT_NOW_S, NOT_NOW_PAUSE_S
        while True:
            if len(encoded) > 1:
                ack = _ACK.decode((await self._publish_batch(encoded)).data)
            elif self._grouping is not None and not encoded[0][0].startswith(_ELSEWHERE):
                ack = await self._grouping.send(encoded[0], guard)
            else:
                ack = await self._publish(encoded[0])
            if ack.error is None or ack.error.err_code not in NOT_NOW or time.monotonic() > until:
                return ack
            await asyncio.sleep(jittered(pause_s))
            pause_s = min(2 * pause_s, NOT_NOW_MAX_PAUSE_S)

    async def _publish(self, encoded: _Encoded) -> _Ack:
        subject, lines, body = encoded
        return _ACK.decode((await self.connection.ask(subject, body, lines=lines)).data)

    async def _publish_together(self, encoded: Sequence[_Encoded]) -> list[_Ack] | None:
        """One answer for each; None when the batch was refused."""
        ack = _ACK.decode((await self._publish_batch(list(encoded))).data)
        if ack.error is not None:
            return None
        first = ack.seq - len(encoded) + 1
        return [_Ack(stream=ack.stream, seq=first + number) for number in range(len(encoded))]

    def _encode(self, message: Message) -> _Encoded:
        subject, lines, body = encode(message)
        key, event_id = self._dedup_key, message.envelope.id
        dedup_id = hmac.digest(key, event_id.encode(), "sha256").hex() if key else event_id
        return subject, f"{lines}Nats-Msg-Id: {dedup_id}\r\n", body

    async def _publish_batch(self, encoded: list[_Encoded]) -> Raw:
        batch = secrets.token_hex(12)
        last = len(encoded)
        async with self._batches:
            if not self.connection.is_connected:  # what is buffered now would be half a batch to the broker later
                raise LogUnavailable("the connection to NATS is down")
            for number, (subject, lines, body) in enumerate(encoded, start=1):
                lines += f"Nats-Batch-Id: {batch}\r\nNats-Batch-Sequence: {number}\r\n"
                if number < last:
                    self.connection.send(subject, body, lines=lines)
            return await self.connection.ask(subject, body, lines=f"{lines}Nats-Batch-Commit: 1\r\n")

    async def _is_at(self, seq: int, message: Message) -> bool:
        """Whether a duplicate is this event: ids of caused events can be foretold, and anyone may have taken one first."""
        there = await self.get(seq)
        return isinstance(there, Recorded) and (there.id, there.subject) == (message.envelope.id, message.subject)

    async def _find(self, messages: Sequence[Message], expect: Sequence[Expect]) -> tuple[int, ...] | None:
        """The sequences of these very events, if they are all in the log.

        The id alone does not tell: two replicas that decide the same thing give it the same id and perhaps other contents.
        What no guard bounds was stored lately: its answer was lost just now, or its id is in the dedup window.
        """
        lately = utc_now() - STORED_LATELY
        events: list[Recorded] = []
        for subject in {message.subject for message in messages}:
            guards = [e.last_seq for e in expect if matches(e.subject_filter, subject)]
            events += await self._reader.since(subject, max(guards) if guards else lately)
        known = {encode(Message(event=r.event, envelope=r.envelope)): r.seq for r in events}
        seqs = [known.get(encode(message)) for message in messages]
        return None if None in seqs else tuple(seq for seq in seqs if seq is not None)

    # -- read -------------------------------------------------------------------------------------------------------

    async def read(
        self, filters: Sequence[str], after: int = 0, *, upto: int | None = None, limit: int | None = None
    ) -> list[Recorded]:
        return await self._reader.read(filters, after, upto=upto, limit=limit)

    async def stored(self, filters: Sequence[str], after: int = 0, *, upto: int | None = None) -> list[Stored]:
        return await self._reader.stored(filters, after, upto=upto)

    async def ends(self, filters: Sequence[str]) -> tuple[int, ...]:
        return await self._reader.ends(filters)

    async def get(self, seq: int) -> Stored | None:
        return await self._reader.get(seq)

    async def newest(self, filters: Sequence[str]) -> list[Stored]:
        return await self._reader.newest(filters)

    async def last(self, filters: Sequence[str]) -> list[Recorded]:
        return await self._reader.last(filters)

    # -- follow -----------------------------------------------------------------------------------------------------

    async def bury(self, seq: int, reason: str, detail: str) -> None:
        found = await self.connection.request(DIRECT_GET, b'{"seq":%d}' % seq)
        if is_status(found):
            raise LogUnavailable(f"direct get answered {found.status} for sequence {seq}")
        message = Raw(found.headers["Nats-Subject"], "", found.data, found.head)
        await bury(self.connection, self.service, "SWARM", seq, message, reason, detail)

    def tail(
        self,
        filters: Sequence[str],
        after: int = 0,
        *,
        stream: str = "SWARM",
        wanted: Callable[[str], bool] = lambda subject: True,
    ) -> JetStreamTail:
        suffix = "" if stream == "SWARM" else f"-{stream.lower()}"
        name = f"tail-{self.instance}{suffix}"
        tail = JetStreamTail(
            self.connection,
            stream,
            name,
            tuple(filters),
            after,
            buries=self._buries,
            wanted=wanted,
            seen=self._seen(stream),
        )
        LAG.follow(lambda: tail.pending, name)
        return tail

    def pull(self, spec: ConsumerSpec) -> JetStreamPuller:
        return JetStreamPuller(
            self.connection,
            spec,
            service=self.service,
            buries=self._buries,
            may_ask=lambda: self.may_work(),
            seen=self._seen(spec.stream),
        )

    def _seen(self, stream: str) -> Callable[[Stored], None]:
        return self.trail.note if stream == "SWARM" else lambda _: None


def _guarded(encoded: list[_Encoded], expect: Sequence[Expect]) -> list[_Encoded]:
    """With guards added; each goes on a message of its own boundary where there is one, and on one of its own."""
    free = list(range(len(encoded)))
    for guard in expect:
        if not free:
            raise ValueError(f"{len(expect)} expectations for {len(encoded)} events; there can be one an event")
        own = [i for i in free if matches(guard.subject_filter, encoded[i][0])] if len(free) > 1 else free
        at = (own or free)[0]
        free.remove(at)
        subject, lines, body = encoded[at]
        lines += (
            f"Nats-Expected-Last-Subject-Sequence: {guard.last_seq}\r\n"
            f"Nats-Expected-Last-Subject-Sequence-Subject: {guard.subject_filter}\r\n"
        )
        encoded[at] = subject, lines, body
    return encoded
