"""Opens the tails of those who are not trusted to configure a consumer.

A consumer's configuration is the body of a request, which no permission of the broker looks into, and one of its fields has the
broker push what it delivers at any subject of the account: at `CONSUMER.MSG.NEXT` of another service's consumer, for one, with an
own message as the request, and that service's deliveries are gone. So runners ask here, and of what they ask for only the filters
and the sequence are taken; everything else is as all tails are.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from shared.broker import TAIL_OPEN
from shared.contracts.catalog import LOG_CLASSES
from shared.log.connection import Connection
from shared.log.port import LogUnavailable
from shared.log.tail import create_request

log = structlog.get_logger()

MAX_FILTERS = 2 * len(LOG_CLASSES)
QUEUE = "tails"
_Filter = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class _Config(msgspec.Struct):
    filter_subjects: Annotated[list[_Filter], msgspec.Meta(min_length=1, max_length=MAX_FILTERS)]
    opt_start_seq: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)] = 1


class _Request(msgspec.Struct):
    config: _Config


_REQUEST = msgspec.json.Decoder(_Request)


async def open_tails(connection: Connection) -> None:
    """Answer requests from now on, one instance of this service each; the answer is the broker's."""

    async def answer(request: Msg) -> None:
        stream, name = request.subject.removeprefix(TAIL_OPEN).split(".")
        try:
            wanted = _REQUEST.decode(request.data).config
            body = create_request(stream, name, wanted.filter_subjects, wanted.opt_start_seq)
            answered = (await connection.request(f"$JS.API.CONSUMER.CREATE.{stream}.{name}", body)).data
        except msgspec.MsgspecError as error:
            answered = _refusal(400, f"a tail takes filter_subjects and opt_start_seq: {error}")
        except LogUnavailable as error:
            answered = _refusal(503, str(error))
        try:
            await request.respond(answered)
        except NatsError as error:
            log.warning("answer_lost", subject=request.subject, why=str(error))

    await connection.client.subscribe(f"{TAIL_OPEN}*.*", queue=QUEUE, cb=answer)


def _refusal(code: int, why: str) -> bytes:
    """As the broker says no."""
    return msgspec.json.encode({"error": {"code": code, "err_code": 0, "description": why}})
