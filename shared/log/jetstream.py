"""The log on JetStream: a thin layer over one connection, because nats-py's own costs three times the CPU.

One event is a plain publish (0.13 ms), several are one atomic batch (ADR-50, about 3 ms). An answer that was lost is resolved
here: publish again with the same ids, and when the broker then refuses, look whether the refusal was caused by ourselves.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec
import structlog

from shared.contracts.catalog import SHORT_LIVED, class_of, matches
from shared.contracts.envelope import Message, Recorded, Stored, Unreadable, encode
from shared.contracts.ids import utc_now
from shared.log.client.connection import WRONG_LAST_SEQUENCE, Connection, is_status
from shared.log.client.wire import Raw
from shared.log.dead import bury
from shared.log.marks import Trail
from shared.log.port import ConsumerSpec, DuplicateEvent, Expect, LogUnavailable, StaleBoundary, jittered
from shared.log.reading.direct import DIRECT_GET, decode_direct
from shared.log.reading.puller import JetStreamPuller
from shared.log.reading.tail import JetStreamTail
from shared.metrics.table import LAG

log = structlog.get_logger()

DUPLICATE_IN_BATCH = 10201
CROWDED = (10176, 10210)
"""Too many batches are open: told to the first message of one, which nobody waits for, so that the others find no beginning."""
CROWDED_S, CROWDED_PAUSE_S, CROWDED_MAX_PAUSE_S = 10.0, 0.005, 0.1
COMMIT_ATTEMPTS = 4
PAGE, PAGE_BYTES = 500, 8 * 2**20
"""What is asked for at once. By itself the broker stops at its `max_pending`, 64 MB, and cuts off who does not read that fast."""
STORED_LATELY = timedelta(minutes=4)
"""The dedup window and as much again, because the broker's clock is not ours."""
MAX_SEQ = 2**63 - 1
"""No log gets this long; the broker refuses to look further than 64 bits, and a cited sequence may be any number."""
FEW_SUBJECTS = 32
BATCHES_AT_ONCE = 8
"""The broker takes 50 a stream, of all clients, and commits them one after another."""


class _TooMany(LogUnavailable):
    """Asked for the last message of too many subjects at once."""


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    count: int = 0
    duplicate: bool = False
    error: _Error | None = None


_ACK = msgspec.json.Decoder(_Ack)
_Encoded = tuple[str, str, bytes]


class JetStreamLog:
    """`Log` over a connection. `service` names the durable consumer and the dead letters, `instance` the tail.

    `buries`: whether its tail sends what it cannot read to the dead letters, or leaves that to those who are trusted with it.
    `dedup_key`: secret of those whose events the broker is to know again. Event ids can be foretold and the broker's dedup
    window is the whole stream's: who could foretell a dedup id too could publish under it first, and the event would be lost.
    """

    def __init__(
        self, connection: Connection, *, service: str, instance: str, buries: bool = True, dedup_key: bytes = b""
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
        self._batches = asyncio.Semaphore(BATCHES_AT_ONCE)

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
                ack = await self._send(encoded)
            except LogUnavailable as error:
                lost = error
                continue
            if ack.error is None:
                if ack.duplicate and ack.stream == "SWARM" and not await self._is_at(ack.seq, messages[0]):
                    raise DuplicateEvent(f"the id {messages[0].envelope.id} belongs to another event, at {ack.seq}")
                return tuple(range(ack.seq - len(encoded) + 1, ack.seq + 1))
            if ack.error.err_code in WRONG_LAST_SEQUENCE or ack.error.err_code == DUPLICATE_IN_BATCH:
                if (lost or len(encoded) > 1) and (seqs := await self._find(messages, expect)):
                    return seqs
                if ack.error.err_code == DUPLICATE_IN_BATCH:
                    raise DuplicateEvent(ack.error.description)
                raise StaleBoundary(ack.error.description)
            lost = LogUnavailable(f"refused by the broker: {ack.error.description} ({ack.error.err_code})")
        raise lost or LogUnavailable("the broker gave no answer")

    async def _send(self, encoded: list[_Encoded]) -> _Ack:
        """The broker's answer. A batch it has no room for has stored nothing and is sent again, for `CROWDED_S` at most."""
        if len(encoded) == 1:
            subject, lines, body = encoded[0]
            return _ACK.decode((await self.connection.ask(subject, body, lines=lines)).data)
        until, pause_s = time.monotonic() + CROWDED_S, CROWDED_PAUSE_S
        while True:
            ack = _ACK.decode((await self._publish_batch(encoded)).data)
            if ack.error is None or ack.error.err_code not in CROWDED or time.monotonic() > until:
                return ack
            await asyncio.sleep(jittered(pause_s))
            pause_s = min(2 * pause_s, CROWDED_MAX_PAUSE_S)

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
        found: dict[int, Stored] = {}
        lately = utc_now() - STORED_LATELY
        for subject in {message.subject for message in messages}:
            guards = [e.last_seq for e in expect if matches(e.subject_filter, subject)]
            await self._read(subject, max(guards, default=0), None, None, found, since=None if guards else lately)
        events = [m for m in found.values() if isinstance(m, Recorded)]
        known = {encode(Message(event=r.event, envelope=r.envelope)): r.seq for r in events}
        seqs = [known.get(encode(message)) for message in messages]
        return None if None in seqs else tuple(seq for seq in seqs if seq is not None)

    # -- read -------------------------------------------------------------------------------------------------------

    async def read(
        self, filters: Sequence[str], after: int = 0, *, upto: int | None = None, limit: int | None = None
    ) -> list[Recorded]:
        return [m for m in await self._stored(filters, after, upto, limit) if isinstance(m, Recorded)][:limit]

    async def stored(self, filters: Sequence[str], after: int = 0, *, upto: int | None = None) -> list[Stored]:
        return await self._stored(filters, after, upto, None)

    async def _stored(self, filters: Sequence[str], after: int, upto: int | None, limit: int | None) -> list[Stored]:
        """In stream order; on each filter at least up to its first `limit` events."""
        if limit is None and any("*" in f for f in filters) and not any(">" in f for f in filters):
            few = await self._read_few(filters, after, upto)
            if few is not None:
                return few
        found: dict[int, Stored] = {}
        horizons: list[int] = []
        for subject_filter in filters:
            horizons.append(await self._read(subject_filter, after, upto, limit, found))
        cut = max(horizons, default=after)
        newest = horizons.index(cut) if horizons else 0
        for subject_filter, horizon in list(zip(filters, horizons, strict=True))[:newest]:
            # what was stored between the reading of this filter and of the newest one would be missing below the cut
            await self._read(subject_filter, horizon, cut, limit, found)
        return [found[seq] for seq in sorted(found) if seq <= cut]

    async def _read_few(self, filters: Sequence[str], after: int, upto: int | None) -> list[Stored] | None:
        """The messages on wildcard filters that match few subjects; None when they match more than `FEW_SUBJECTS`.

        Reading on through a wildcard makes the broker look at every message (2 ms over 5 000 that came since). Which subjects
        there are and what is last on each it knows (0.3 ms), and that is the cut; the rest is found by exact subjects.
        """
        ask: dict[str, object] = {"multi_last": list(filters), "batch": FEW_SUBJECTS + 1}
        try:
            newest, end = await self._direct(ask)
        except _TooMany:
            return None
        if len(newest) > FEW_SUBJECTS or _has_more(end):
            return None
        newest = [m for m in newest if _seq(m) > after]
        if not newest:
            return []
        subjects = [m.headers["Nats-Subject"] for m in newest]
        asks = [msgspec.json.encode({"seq": after + 1, "next_by_subj": subject}) for subject in subjects]
        answered = itertools.count(1)
        oldest = await self.connection.request_many(DIRECT_GET, *asks, is_last=lambda _: next(answered) == len(asks))
        firsts = {m.headers["Nats-Subject"]: m for m in oldest if not is_status(m)}
        if len(firsts) < len(asks):
            raise LogUnavailable(
                f"only {len(firsts)} of {len(asks)} subjects were given, with what is last on all of them"
            )
        found: dict[int, Stored] = {}
        for subject, last in zip(subjects, newest, strict=True):
            ends = {_seq(m): m for m in (firsts[subject], last)}
            found.update((_seq(message), self._decode_direct(message)) for message in ends.values())
            if len(ends) > 1:
                await self._read(subject, min(ends), max(ends) - 1, None, found)
        return [found[seq] for seq in sorted(found) if upto is None or seq <= upto]

    async def _read(
        self,
        subject_filter: str,
        after: int,
        upto: int | None,
        limit: int | None,
        found: dict[int, Stored],
        *,
        since: datetime | None = None,
    ) -> int:
        """Adds the filter's messages to `found`; the sequence it has read up to. `limit` counts events; `since`: from what was
        stored then, not `after`."""
        position, count = after, 0
        start: dict[str, object] = {"seq": after + 1} if since is None else {"start_time": since}
        while position < MAX_SEQ and (limit is None or count < limit):
            page = PAGE if limit is None else min(PAGE, limit - count)
            answers, end = await self._direct({"batch": page, **start, "next_by_subj": subject_filter})
            for message in answers:
                seq = _seq(message)
                if upto is not None and seq > upto:
                    return position
                position = seq
                found[seq] = self._decode_direct(message)
                count += isinstance(found[seq], Recorded)
            if not _has_more(end):
                break
            start = {"seq": position + 1}
        return position

    async def ends(self, filters: Sequence[str]) -> tuple[int, ...]:
        asks = [msgspec.json.encode({"last_by_subj": subject_filter}) for subject_filter in filters]
        answers = await asyncio.gather(*(self.connection.request(DIRECT_GET, ask) for ask in asks))
        for answer in answers:
            if is_status(answer) and answer.status != "404":
                raise LogUnavailable(f"direct get answered {answer.status} for what is last")
        return tuple(0 if is_status(answer) else _seq(answer) for answer in answers)

    async def get(self, seq: int) -> Stored | None:
        if seq > MAX_SEQ:
            return None
        answer = await self.connection.request(DIRECT_GET, b'{"seq":%d}' % seq)
        if not is_status(answer):
            return self._decode_direct(answer)
        if answer.status != "404":
            raise LogUnavailable(f"direct get answered {answer.status} for sequence {seq}")
        return None

    async def last(self, filters: Sequence[str]) -> list[Recorded]:
        found: list[Recorded] = []
        hidden: list[Unreadable] = []
        for start in range(0, len(filters), PAGE):
            ask: dict[str, object] = {"multi_last": list(filters[start : start + PAGE]), "batch": 1024}
            while True:
                answers, end = await self._direct(ask)
                for one in map(self._decode_direct, answers):
                    (found if isinstance(one, Recorded) else hidden).append(one)  # type: ignore[arg-type]
                if not _has_more(end):
                    break
                ask |= {"seq": _seq(answers[-1]) + 1, "up_to_seq": int(end.headers["Nats-UpTo-Sequence"])}
        while hidden:  # what cannot be read does not hide what stands before it
            if (last := hidden.pop()).seq == 1:
                continue
            answers, _ = await self._direct({"multi_last": [last.subject], "batch": 1, "up_to_seq": last.seq - 1})
            for one in map(self._decode_direct, answers):
                (found if isinstance(one, Recorded) else hidden).append(one)  # type: ignore[arg-type]
        return sorted(found, key=lambda r: r.seq)

    async def _direct(self, ask: dict[str, object]) -> tuple[list[Raw], Raw]:
        """Messages, `PAGE_BYTES` of them at most, and the status that ends them."""
        body = msgspec.json.encode({**ask, "max_bytes": PAGE_BYTES})
        answers = await self.connection.request_many(DIRECT_GET, body, is_last=is_status)
        status = answers[-1].status
        if status == "413":
            raise _TooMany("the filters match more subjects than the broker gives at once, 1024")
        if status not in ("204", "404"):
            raise LogUnavailable(f"direct get answered {status} {answers[-1].description}")
        return answers[:-1], answers[-1]

    def _decode_direct(self, message: Raw) -> Stored:
        found = decode_direct(message)
        self.trail.note(found)
        return found

    # -- follow -----------------------------------------------------------------------------------------------------

    async def bury(self, seq: int, reason: str, detail: str) -> None:
        found = await self.connection.request(DIRECT_GET, b'{"seq":%d}' % seq)
        if is_status(found):
            raise LogUnavailable(f"direct get answered {found.status} for sequence {seq}")
        message = Raw(found.headers["Nats-Subject"], "", found.data, found.head)
        await bury(self.connection, self.service, "SWARM", seq, message, reason, detail)

    def tail(self, filters: Sequence[str], after: int = 0, *, stream: str = "SWARM") -> JetStreamTail:
        suffix = "" if stream == "SWARM" else f"-{stream.lower()}"
        name = f"tail-{self.instance}{suffix}"
        tail = JetStreamTail(
            self.connection, stream, name, tuple(filters), after, buries=self._buries, seen=self._seen(stream)
        )
        LAG.follow(lambda: tail.pending, name)
        return tail

    def pull(self, spec: ConsumerSpec) -> JetStreamPuller:
        return JetStreamPuller(
            self.connection, spec, service=self.service, may_ask=lambda: self.may_work(), seen=self._seen(spec.stream)
        )

    def _seen(self, stream: str) -> Callable[[Stored], None]:
        return self.trail.note if stream == "SWARM" else lambda _: None


def _has_more(end: Raw) -> bool:
    """Whether the batch that this status ends was not all there is."""
    return end.headers.get("Nats-Num-Pending", "0") != "0"


def _seq(message: Raw) -> int:
    """The stream sequence of a message that came by direct get."""
    return int(message.headers["Nats-Sequence"])


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
