"""An ordered reading of a stream: an ephemeral consumer without acks, made anew where it was left whenever it breaks.

Order and completeness come from the consumer sequence: a gap in it means a lost message, and the reading begins again after
the last event that was yielded. So a projection fed by it sees every event once, in order, over any number of restarts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

import msgspec
import structlog

from shared.contracts.envelope import Stored, Unreadable, passed, stored
from shared.log.client.connection import Connection
from shared.log.client.wire import Raw
from shared.log.dead import UNREADABLE, bury
from shared.log.port import LogUnavailable
from shared.log.reading.pulling import Pull, ack_numbers

log = structlog.get_logger()


class _Created(msgspec.Struct):
    num_pending: int = 0
    error: dict[str, object] | None = None


class JetStreamTail:
    """See `shared.log.port.Tail`. One tail per stream and process: its consumer's name is fixed.

    With `buries`, what cannot be read is in the dead letters before it is yielded; an onlooker leaves that to others. `seen` is told
    of each message before it is yielded, but for those whose subject is not `wanted`.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        name: str,
        filters: Sequence[str],
        after: int,
        *,
        buries: bool,
        wanted: Callable[[str], bool] = lambda subject: True,
        seen: Callable[[Stored], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._wanted, self._seen = wanted, seen
        self._buries = buries
        self._stream = stream
        self._name = name
        self._filters = list(filters)
        self.position = after
        self.pending = 0
        self._expected = 1
        self._reached = asyncio.Event()
        self._pull = Pull(connection, stream, lambda: name, self._ensure, batch=500)

    def __aiter__(self) -> AsyncIterator[Stored]:
        return self._messages()

    async def caught_up(self) -> None:
        await self._reached.wait()

    async def stop(self) -> None:
        await self._pull.stop()

    async def _messages(self) -> AsyncIterator[Stored]:
        async for message in self._pull.messages():
            _, seq, consumer_seq, stamp, pending = ack_numbers(message.reply)
            if consumer_seq != self._expected:
                log.warning("tail_gap", tail=self._name, at=seq)
                await self._pull.reset()
                continue
            self._expected += 1
            self.pending = pending
            if seq <= self.position:
                continue
            stored_at = datetime.fromtimestamp(stamp / 1e9, UTC)
            if not self._wanted(message.subject):
                yield passed(message.subject, seq, stored_at)
            else:
                taken = stored(message.subject, message.headers, message.data, seq=seq, stored_at=stored_at)
                if isinstance(taken, Unreadable) and self._buries and not await self._bury(message, taken):
                    self._expected = 0  # nothing counts until the reading has begun again before it
                    continue
                self._seen(taken)
                yield taken
            self.position = seq
            if pending == 0:
                self._reached.set()

    async def _bury(self, message: Raw, taken: Unreadable) -> bool:
        """To the dead letters; False when they cannot be reached, and then the reading begins again before it."""
        log.warning("event_unreadable", seq=taken.seq, subject=taken.subject, reason=taken.reason)
        try:
            await bury(self._connection, UNREADABLE, self._stream, taken.seq, message, taken.reason, taken.detail)
        except LogUnavailable as away:
            log.warning("dead_letter_waiting", seq=taken.seq, why=str(away))
            await self._pull.reset()
            return False
        return True

    async def _ensure(self) -> None:
        api = "$JS.API.CONSUMER"
        await self._connection.request(f"{api}.DELETE.{self._stream}.{self._name}")
        body = create_request(self._stream, self._name, self._filters, self.position + 1)
        answer = await self._connection.request(f"{api}.CREATE.{self._stream}.{self._name}", body)
        created = msgspec.json.decode(answer.data, type=_Created)
        if created.error is not None:
            raise LogUnavailable(f"tail {self._name} cannot be declared: {created.error.get('description')}")
        self._expected = 1
        self.pending = created.num_pending
        if created.num_pending == 0:
            self._reached.set()


def create_request(stream: str, name: str, filters: Sequence[str], first_seq: int) -> bytes:
    """The broker's request for a tail's consumer, from a sequence on."""
    config = {
        "name": name,
        "filter_subjects": list(filters),
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": first_seq,
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": int(60e9),
    }
    return msgspec.json.encode({"stream_name": stream, "config": config, "action": "create"})
