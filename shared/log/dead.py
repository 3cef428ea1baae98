"""Dead letters: what could not be understood or handled, kept whole with its reason, once for each service that gave it up.

Subject `dead.<service>.<stream>.<sequence>.<original subject>` on stream `DEAD`; headers `swarm-dead-reason` and
`swarm-dead-detail` beside the original ones. A second burial of the same message finds the first.
"""

from __future__ import annotations

import msgspec

from shared.log.connection import WRONG_LAST_SEQUENCE, Connection
from shared.log.port import LogUnavailable
from shared.log.wire import Raw, is_name


class _Answer(msgspec.Struct):
    error: dict[str, object] | None = None


async def bury(
    connection: Connection, service: str, stream: str, seq: int, message: Raw, reason: str, detail: str
) -> None:
    """Returns once the letter is stored (now or before). Raises `LogUnavailable`."""
    headers = {k: v for k, v in message.headers.items() if is_name(k) and not k.startswith("Nats-")}
    headers["swarm-dead-reason"] = reason
    headers["swarm-dead-detail"] = " ".join(detail.split())[:500]
    headers["Nats-Expected-Last-Subject-Sequence"] = "0"
    subject = f"dead.{service}.{stream}.{seq}.{message.subject}"
    answer = await connection.request(subject, message.data, headers=headers)
    refused = msgspec.json.decode(answer.data, type=_Answer).error
    if refused is not None and refused.get("err_code") not in WRONG_LAST_SEQUENCE:
        raise LogUnavailable(f"the dead letters refused it: {refused.get('description')}")
