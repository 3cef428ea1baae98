"""A durable consumer's deliveries: decoded, at least once, each ended by exactly one verdict.

The consumer's configuration is the caller's `ConsumerSpec`; it is created when missing (also when somebody deleted it) and
updated when it drifted. `dead` stores the raw message with its reason before it terms it, so nothing is lost in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import msgspec
import structlog

from shared.contracts.envelope import Stored, Unreadable, stored
from shared.log.client.connection import Connection
from shared.log.client.wire import Raw
from shared.log.dead import UNREADABLE, bury
from shared.log.port import ConsumerSpec, LogUnavailable
from shared.log.reading.pulling import Pull, ack_numbers

log = structlog.get_logger()


class _Answer(msgspec.Struct):
    error: dict[str, object] | None = None


class JetStreamDelivery:
    """One delivery; see `shared.log.port.Delivery`."""

    __slots__ = (
        "_buries",
        "_connection",
        "_message",
        "_service",
        "_stream",
        "attempt",
        "recorded",
        "seq",
        "size",
        "subject",
    )

    def __init__(self, connection: Connection, service: str, stream: str, message: Raw, *, buries: bool) -> None:
        self._connection = connection
        self._service = service
        self._buries = buries
        self._stream = stream
        self._message = message
        self.subject = message.subject
        self.size = len(message.data)
        self.attempt, self.seq, _, stamp, _ = ack_numbers(message.reply)
        stored_at = datetime.fromtimestamp(stamp / 1e9, UTC)
        self.recorded: Stored = stored(
            message.subject, message.headers, message.data, seq=self.seq, stored_at=stored_at
        )

    def ack(self) -> None:
        self._connection.send(self._message.reply, b"+ACK")

    def nak(self, delay_s: float) -> None:
        self._connection.send(self._message.reply, b'-NAK {"delay":%d}' % max(1, int(delay_s * 1e9)))

    def in_progress(self) -> None:
        self._connection.send(self._message.reply, b"+WPI")

    async def dead(self, reason: str, detail: str) -> None:
        who = UNREADABLE if self._buries and isinstance(self.recorded, Unreadable) else self._service
        await bury(self._connection, who, self._stream, self.seq, self._message, reason, detail)
        self._connection.send(self._message.reply, b"+TERM")


class JetStreamPuller:
    """The one puller of a durable consumer in this process. `buries`: whether what nobody can read is buried in everybody's name."""

    def __init__(
        self,
        connection: Connection,
        spec: ConsumerSpec,
        *,
        service: str,
        buries: bool = True,
        may_ask: Callable[[], bool] = lambda: True,
        seen: Callable[[Stored], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._service, self._buries = service, buries
        self._spec = spec
        self._seen = seen
        self._pull = Pull(
            connection,
            spec.stream,
            lambda: spec.name,
            self._ensure,
            batch=max(2, min(256, spec.max_ack_pending)),
            may_ask=may_ask,
        )

    def __aiter__(self) -> AsyncIterator[JetStreamDelivery]:
        return self._deliveries()

    async def stop(self) -> None:
        await self._pull.stop()

    async def _deliveries(self) -> AsyncIterator[JetStreamDelivery]:
        async for message in self._pull.messages():
            delivery = JetStreamDelivery(
                self._connection, self._service, self._spec.stream, message, buries=self._buries
            )
            self._seen(delivery.recorded)
            yield delivery

    async def _ensure(self) -> None:
        subject = f"$JS.API.CONSUMER.CREATE.{self._spec.stream}.{self._spec.name}"
        answer = await self._connection.request(subject, create_request(self._spec))
        refused = msgspec.json.decode(answer.data, type=_Answer).error
        if refused is not None:
            raise LogUnavailable(f"consumer {self._spec.name} cannot be declared: {refused.get('description')}")


def create_request(spec: ConsumerSpec) -> bytes:
    """The broker's create-or-update request for a spec.

    The broker itself never gives up: past its own limit a message would be gone with no dead letter to tell of it.
    """
    config = {
        "name": spec.name,
        "durable_name": spec.name,
        "filter_subjects": list(spec.filters),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(spec.ack_wait_s * 1e9),
        "max_deliver": -1,
        "max_ack_pending": spec.max_ack_pending,
        "max_waiting": 64,
    }
    return msgspec.json.encode({"stream_name": spec.stream, "config": config, "action": ""})
