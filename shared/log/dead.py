"""Dead letters: what could not be understood or handled, kept with its reason, once for each service that gave it up.

Subject `dead.<service>.<stream>.<sequence>.<original subject>` on stream `DEAD`, with the SHA-256 of a subject that is too long;
headers `swarm-dead-reason` and `swarm-dead-detail` beside the original ones. A second burial of the same message finds the first.
"""

from __future__ import annotations

import hashlib

import msgspec

from shared.log.connection import WRONG_LAST_SEQUENCE, Connection
from shared.log.port import LogUnavailable
from shared.log.wire import Raw, is_name

MAX_BODY, MAX_HEADERS, MAX_SUBJECT = 900_000, 64_000, 1_000
"""Bytes of a letter: the broker takes 1 MiB with the headers, and 4 KiB for a line with subjects."""


class _Answer(msgspec.Struct):
    error: dict[str, object] | None = None


async def bury(
    connection: Connection, service: str, stream: str, seq: int, message: Raw, reason: str, detail: str
) -> None:
    """Returns once the letter is stored (now or before). Raises `LogUnavailable`.

    What would not fit into a letter is cut, and the letter says so: headers that are too long are left out, of a body that is
    too large the beginning is kept, and a subject that is too long is named by its digest, and by its beginning in a header.
    """
    headers = {k: v for k, v in message.headers.items() if is_name(k) and not k.startswith("Nats-")}
    if len(message.head) > MAX_HEADERS:
        headers = {"swarm-dead-headers-bytes": str(len(message.head))}
    if len(message.data) > MAX_BODY:
        headers["swarm-dead-body-bytes"] = str(len(message.data))
    name = message.subject
    if len(name.encode("utf-8", "replace")) > MAX_SUBJECT:
        headers["swarm-dead-subject"] = name[:MAX_SUBJECT]
        name = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
    headers["swarm-dead-reason"] = reason
    headers["swarm-dead-detail"] = " ".join(detail.split())[:500]
    headers["Nats-Expected-Last-Subject-Sequence"] = "0"
    subject = f"dead.{service}.{stream}.{seq}.{name}"
    answer = await connection.request(subject, message.data[:MAX_BODY], headers=headers)
    refused = msgspec.json.decode(answer.data, type=_Answer).error
    if refused is not None and refused.get("err_code") not in WRONG_LAST_SEQUENCE:
        raise LogUnavailable(f"the dead letters refused it: {refused.get('description')}")
