"""What is asked for runners and checkers, who may not ask the broker themselves: their consumers, and the log for runners that serve
some swarms only.

A consumer's configuration is the body of a request, which no permission of the broker looks into, and one of its fields has the
broker push what it delivers at any subject of the account: at `CONSUMER.MSG.NEXT` of another service's consumer, for one, with an
own message as the request, and that service's deliveries are gone. So they ask here. Of what is asked for a tail only the filters and
the sequence are taken, of a durable how long and how many it may hold; all else is as all of them are.

Which messages a direct get gives is in its body too, and what a stream is made of is told to whoever may ask after it. So a runner
that is to reach some swarms only has neither, asks here as well, and gets what is of its swarms and what is said to the whole mesh
(`SAID_TO_ALL`). Its scope stands in the subject, put there by the broker (`shared/broker.py`).

Each asker has a few of its requests looked at together and some more that wait: one that asks without end is refused, and delays
nobody but itself.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

import msgspec
import structlog

from shared.broker import DOOR_GET, DOOR_INFO, DOORS, DURABLE_OPEN, EVERY_SWARM, PUBLIC, TAIL_OPEN
from shared.contracts.catalog import SHORT_LIVED, class_filter
from shared.contracts.services import SERVICES
from shared.log.client.connection import Connection, is_status
from shared.log.client.wire import Raw
from shared.log.port import ConsumerSpec, LogUnavailable
from shared.log.reading.direct import DIRECT_GET
from shared.log.reading.puller import create_request as durable_request
from shared.log.reading.tail import create_request

log = structlog.get_logger()

QUEUE = "doors"
AT_ONCE, WAITING = 4, 64
"""Requests of one asker."""
MAX_FILTERS, MAX_PAGE, MAX_BYTES = 1024, 1024, 8 * 2**20
_Filter = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Filters = Annotated[list[_Filter], msgspec.Meta(min_length=1, max_length=MAX_FILTERS)]
_Seq = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class _Config(msgspec.Struct):
    filter_subjects: _Filters
    opt_start_seq: _Seq = 1


class _Tail(msgspec.Struct):
    config: _Config


class _Holding(msgspec.Struct):
    ack_wait: Annotated[int, msgspec.Meta(ge=10**9, le=600 * 10**9)]
    max_ack_pending: Annotated[int, msgspec.Meta(ge=1, le=2**20)]


class _Durable(msgspec.Struct):
    config: _Holding


class _Get(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A direct get (ADR-31) in one of the forms our own reading has."""

    seq: _Seq | None = None
    last_by_subj: _Filter | None = None
    next_by_subj: _Filter | None = None
    multi_last: _Filters | None = None
    start_time: datetime | None = None
    up_to_seq: _Seq | None = None
    batch: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)] | None = None
    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_BYTES)] | None = None

    @property
    def filters(self) -> list[str]:
        return [f for f in (self.last_by_subj, self.next_by_subj, *(self.multi_last or ())) if f is not None]


_TAIL, _DURABLE, _GET = msgspec.json.Decoder(_Tail), msgspec.json.Decoder(_Durable), msgspec.json.Decoder(_Get)
_NOT_FOUND = Raw("", "", b"", b"NATS/1.0 404 Message Not Found\r\n\r\n")


def within(scope: str, subject: str) -> bool:
    """Whether all that a subject or filter matches may be read in a scope."""
    words = subject.split(".")
    return scope == EVERY_SWARM or subject in PUBLIC or (len(words) > 3 and words[2] in scope.split("+"))


class Refused(Exception):
    """Not to be had; the message says why."""


class Doors:
    """Answers runners' requests over one connection, one instance of this service each."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rooms: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
        self._asked: defaultdict[str, int] = defaultdict(int)
        self._work: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Answer from now on. Raises `LogUnavailable`."""
        for subject, answer in zip(DOORS, (self._tail, self._durable, self._get, self._info), strict=True):
            await self._connection.subscribe(subject, self._taking(answer), queue=QUEUE)

    def _taking(self, answer: Callable[[Raw], Awaitable[list[Raw]]]) -> Callable[[Raw], None]:
        def take(request: Raw) -> None:
            asker = request.subject.rpartition(".")[2]
            if self._asked[asker] >= AT_ONCE + WAITING:
                self._say(request, [_status(503, "too many requests of one asker")])
                return
            self._asked[asker] += 1
            task = asyncio.create_task(self._handle(asker, request, answer), name=f"door-{asker}")
            self._work.add(task)
            task.add_done_callback(self._work.discard)

        return take

    async def _handle(self, asker: str, request: Raw, answer: Callable[[Raw], Awaitable[list[Raw]]]) -> None:
        try:
            async with self._rooms[asker]:
                answers = await answer(request)
        except (msgspec.MsgspecError, Refused) as error:
            answers = [_status(403, str(error))]
        except LogUnavailable as error:
            answers = [_status(503, str(error))]
        finally:
            self._asked[asker] -= 1
        self._say(request, answers)

    def _say(self, request: Raw, answers: list[Raw]) -> None:
        try:
            for answer in answers:
                self._connection.relay(request.reply, answer)
        except (LogUnavailable, ValueError) as error:
            log.warning("answer_lost", subject=request.subject, why=str(error))

    async def _tail(self, request: Raw) -> list[Raw]:
        scope, stream, name = request.subject.removeprefix(TAIL_OPEN).split(".")
        try:
            wanted = _TAIL.decode(request.data).config
            _check(scope, wanted.filter_subjects)
            body = create_request(stream, name, wanted.filter_subjects, wanted.opt_start_seq)
            return [await self._connection.request(f"$JS.API.CONSUMER.CREATE.{stream}.{name}", body)]
        except (msgspec.MsgspecError, Refused) as error:
            return [_refusal(400, f"a tail takes filter_subjects and opt_start_seq: {error}")]
        except LogUnavailable as error:
            return [_refusal(503, str(error))]

    async def _durable(self, request: Raw) -> list[Raw]:
        stream, name = request.subject.removeprefix(DURABLE_OPEN).split(".")
        try:
            wanted = _DURABLE.decode(request.data).config
            classes = (c for c in SERVICES[name].consumes if (c in SHORT_LIVED) == (stream == "RECALL"))
            spec = ConsumerSpec(
                name=name,
                stream=stream,
                filters=tuple(class_filter(event_class) for event_class in classes),
                ack_wait_s=wanted.ack_wait / 1e9,
                max_ack_pending=wanted.max_ack_pending,
            )
            return [await self._connection.request(f"$JS.API.CONSUMER.CREATE.{stream}.{name}", durable_request(spec))]
        except msgspec.MsgspecError as error:
            return [_refusal(400, f"a durable takes ack_wait and max_ack_pending: {error}")]
        except LogUnavailable as error:
            return [_refusal(503, str(error))]

    async def _get(self, request: Raw) -> list[Raw]:
        scope, _ = request.subject.removeprefix(DOOR_GET).split(".")
        wanted = _GET.decode(request.data)
        filters = wanted.filters
        _check(scope, filters)
        body = msgspec.json.encode(wanted)
        if wanted.batch is not None:
            if not filters:
                raise Refused("a batch is of subjects")
            return await self._connection.request_many(DIRECT_GET, body, is_last=is_status)
        answer = await self._connection.request(DIRECT_GET, body)
        if not is_status(answer) and not within(scope, answer.headers.get("Nats-Subject", "")):
            return [_NOT_FOUND]
        return [answer]

    async def _info(self, request: Raw) -> list[Raw]:
        """What is configured and how much there is; of subjects nothing, which the body would ask for."""
        stream, _ = request.subject.removeprefix(DOOR_INFO).split(".")
        try:
            return [await self._connection.request(f"$JS.API.STREAM.INFO.{stream}")]
        except LogUnavailable as error:
            return [_refusal(503, str(error))]


def _check(scope: str, filters: list[str]) -> None:
    """Raises `Refused` for the first filter that reaches beyond the scope."""
    for subject_filter in filters:
        if not within(scope, subject_filter):
            raise Refused(f"{subject_filter} reaches beyond {scope.replace('+', ', ')}")


def _status(code: int, why: str) -> Raw:
    """As the broker refuses a direct get."""
    line = " ".join(why.encode("ascii", "replace").decode().split())[:400]
    return Raw("", "", b"", f"NATS/1.0 {code} {line}\r\n\r\n".encode())


def _refusal(code: int, why: str) -> Raw:
    """As the broker's API says no."""
    return Raw("", "", msgspec.json.encode({"error": {"code": code, "err_code": 0, "description": why}}))
