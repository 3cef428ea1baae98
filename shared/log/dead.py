"""Dead letters: what could not be read, once, and what could not be handled, once for each service that gave it up.

Subject `dead.<who>.<stream>.<sequence>.<original subject>` on stream `DEAD`, with the SHA-256 of a subject that is too long; `who`
is the service, or `unreadable` for what is no event to anybody: whoever meets it first buries it. Headers `swarm-dead-reason` and
`swarm-dead-detail` beside the original ones. A second burial of the same message finds the first. Only those who decide may
write letters of the unreadable: a forged one would stand in the place of the true one.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import msgspec

from shared.contracts.catalog import owner
from shared.log.client.connection import WRONG_LAST_SEQUENCE, Connection
from shared.log.client.wire import Raw, is_name
from shared.log.port import LogUnavailable
from shared.metrics.table import DEAD_LETTERS

UNREADABLE = "unreadable"
MAX_BODY, MAX_HEADERS, MAX_SUBJECT = 900_000, 64_000, 1_000
"""Bytes of a letter: the broker takes 1 MiB with the headers, and 4 KiB for a line with subjects."""


class _Answer(msgspec.Struct):
    error: dict[str, object] | None = None


class _State(msgspec.Struct):
    subjects: dict[str, int] = {}


class _Info(msgspec.Struct):
    total: int = 0
    state: _State = msgspec.field(default_factory=_State)
    error: dict[str, object] | None = None


async def bury(connection: Connection, who: str, stream: str, seq: int, message: Raw, reason: str, detail: str) -> None:
    """Returns once the letter is stored (now or before). Raises `LogUnavailable`.

    What would not fit into a letter is cut, and the letter says so: headers that are too long are left out, of a body that is
    too large the beginning is kept, and a subject that is too long is named by class, swarm, persona
    and its digest, and by its beginning in a header.
    """
    headers = {k: v for k, v in message.headers.items() if is_name(k) and not k.startswith("Nats-")}
    if len(message.head) > MAX_HEADERS:
        headers = {"swarm-dead-headers-bytes": str(len(message.head))}
    if len(message.data) > MAX_BODY:
        headers["swarm-dead-body-bytes"] = str(len(message.data))
    name = message.subject
    if len(name.encode("utf-8", "replace")) > MAX_SUBJECT:
        headers["swarm-dead-subject"] = name[:MAX_SUBJECT]
        digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
        name = ".".join((*name.split(".")[:4], digest)) if owner(name) else digest
    headers["swarm-dead-reason"] = reason
    headers["swarm-dead-detail"] = " ".join(detail.split())[:500]
    headers["Nats-Expected-Last-Subject-Sequence"] = "0"
    subject = f"dead.{who}.{stream}.{seq}.{name}"
    answer = await connection.request(subject, message.data[:MAX_BODY], headers=headers)
    refused = msgspec.json.decode(answer.data, type=_Answer).error
    if refused is None:
        DEAD_LETTERS.by.add(reason)
    elif refused.get("err_code") != WRONG_LAST_SEQUENCE:
        raise LogUnavailable(f"the dead letters refused it: {refused.get('description')}")


async def buried(connection: Connection, who: str, stream: str = "SWARM") -> Counter[str]:
    """How many messages of the stream `who` has buried in the last 30 days, by class and swarm, such as `persona.spawned in alpha`.

    Raises `LogUnavailable`. Of more than the broker names at once, 100 000, the rest is `more`.
    """
    ask = msgspec.json.encode({"subjects_filter": f"dead.{who}.{stream}.>"})
    answer = msgspec.json.decode((await connection.request("$JS.API.STREAM.INFO.DEAD", ask)).data, type=_Info)
    if answer.error is not None:
        raise LogUnavailable(f"the dead letters cannot be counted: {answer.error.get('description')}")
    found = Counter(_boundary(subject.split(".")[4:]) for subject in answer.state.subjects)
    if answer.total > found.total():
        found["more"] = answer.total - found.total()
    return found


def _boundary(words: list[str]) -> str:
    """Of the original subject's words; such as are none of ours are not shown as they came."""
    address = owner(".".join(words))
    return "elsewhere" if address is None else f"{'.'.join(words[:2])} in {address[0]}"
