"""Messages to another NATS account, on subjects that the operator named; none other.

Each has the claim as its `Nats-Msg-Id`, so a stream that keeps the subject has it once. What can be told afterwards: a receipt is placed
before anything is sent, so an inquiry fences off what was not; after that a stream's acknowledgement is success, and where one is named
it can be asked for its newest message. Without a stream nobody keeps it: the server's answer to what came after it is success, and a
lost one is unknown.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping

import nats
import nats.errors
from nats.aio.client import Client
from nats.js.api import Header
from nats.js.errors import APIError, NoStreamResponseError

from services.actuator.hands.begun import begin, fenced
from services.actuator.hands.hand import Task, cannot_tell, failed
from services.actuator.hands.receipts import Receipts
from services.actuator.terms import Outcome
from shared.contracts.events import Receipt
from shared.contracts.kinds.bridge import NatsPublish
from shared.outside.subjects import Subject

CONNECT_S = 5.0
NAME = "perpetual-persona-swarms"


class BridgeHand:
    """Publishes what has rows."""

    def __init__(self, rows: Mapping[str, Subject], receipts: Receipts) -> None:
        self._rows, self._receipts = rows, receipts

    async def act(self, task: Task) -> Outcome:
        params, row = _of(task), self._rows.get(task.target)
        if row is None:
            return failed("not_named", f"the operator has named no subject {task.target}")
        if row.row.digest != task.job.row:
            return failed("row_changed", f"{task.target} was judged by another row than the one here")
        if trouble := row.trouble(params.arguments):
            return failed("bad_params", f"{task.target}: {trouble}")
        begun = False
        try:
            async with asyncio.timeout(min(row.timeout_s, task.timeout_s)):
                client = await _connected(row)
                try:
                    if (refused := await begin(self._receipts, task)) is not None:
                        return refused
                    begun = True
                    return await _publish(client, row, task, params)
                finally:
                    await client.close()
        except (TimeoutError, nats.errors.Error, OSError, ValueError) as error:
            said = f"{task.target}: {type(error).__name__} {error}"
            return cannot_tell(said, "no_answer") if begun else failed("not_connected", said)

    async def inquire(self, task: Task) -> Outcome:
        if (told := await fenced(self._receipts, task)) is not None:
            return told
        row = self._rows.get(task.target)
        if row is None or not row.stream:
            return cannot_tell(f"{task.target} was begun, and nobody keeps what is published there")
        try:
            async with asyncio.timeout(row.timeout_s):
                client = await _connected(row)
                try:
                    newest = await client.jetstream().get_last_msg(row.stream, row.filled(_of(task).arguments))
                finally:
                    await client.close()
        except (TimeoutError, nats.errors.Error, OSError, ValueError) as error:
            return cannot_tell(f"{row.stream} does not tell: {type(error).__name__} {error}")
        if (newest.headers or {}).get(Header.MSG_ID) == task.claim.id:
            return Outcome(outcome="success", summary=f"{row.stream} has it as {newest.seq}")
        return cannot_tell(f"{row.stream} has something newer there, or never had it")


async def _publish(client: Client, row: Subject, task: Task, params: NatsPublish) -> Outcome:
    subject, payload = row.filled(params.arguments), row.payload(params.arguments)
    receipt = Receipt(
        target=f"{task.target} {subject}", sha256=hashlib.sha256(payload).hexdigest(), size_bytes=len(payload)
    )
    headers = {Header.MSG_ID.value: task.claim.id}
    if not row.stream:
        await client.publish(subject, payload, headers=headers)
        await client.flush()
        return Outcome(outcome="success", summary=f"published {len(payload)} bytes on {subject}", receipt=receipt)
    try:
        ack = await client.jetstream().publish(subject, payload, stream=row.stream, headers=headers)
    except (APIError, NoStreamResponseError) as error:  # the server's own word: it is not stored
        return failed("refused", f"{subject} is not stored: {error}")
    again = ", which had it before" if ack.duplicate else ""
    return Outcome(outcome="success", summary=f"{ack.stream} has it as {ack.seq}{again}", receipt=receipt)


async def _connected(row: Subject) -> Client:
    async def quiet(error: Exception) -> None:
        """It is told where the call fails."""

    return await nats.connect(
        row.url,
        name=NAME,
        user_credentials=row.creds_file or None,
        connect_timeout=round(CONNECT_S),
        allow_reconnect=False,
        max_reconnect_attempts=1,
        error_cb=quiet,
    )


def _of(task: Task) -> NatsPublish:
    if not isinstance(task.params, NatsPublish):
        raise TypeError(f"{type(task.params).__name__} is nothing to publish")
    return task.params
