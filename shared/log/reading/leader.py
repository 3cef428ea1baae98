"""What the leader of a stream knows: on several brokers any replica may answer a direct get, also one that lags behind.

What a replica gives is true, only its end may be missing, for all replicas store the same in the same order. So a reading on
which a decision rests is told by the leader where it has to reach, and is taken only when it does: otherwise it is made again.
The leader itself may be behind a replica that has already delivered something, by as long as it takes to store what is agreed
upon: it is believed when it has reached what this process has seen.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from datetime import datetime

import msgspec

from shared.contracts.envelope import Stored, stored
from shared.log.client.connection import Connection
from shared.log.client.wire import read_headers
from shared.log.port import LogUnavailable, jittered

NOT_FOUND = 10037
BEHIND_S, AGAIN_S = 5.0, 0.01


class Behind(LogUnavailable):
    """A replica has not stored yet what the leader has. Remedy: read again."""


class _Found(msgspec.Struct):
    subject: str
    seq: int
    time: datetime
    hdrs: str = ""
    data: str = ""


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    message: _Found | None = None
    error: _Error | None = None


class Leader:
    """The leader of one stream, asked by `STREAM.MSG.GET`."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection, self._subject = connection, f"$JS.API.STREAM.MSG.GET.{stream}"
        self._reached = 0

    async def ends(self, filters: Sequence[str], seen: int = 0) -> tuple[int, ...]:
        """The last sequence on each filter, 0 where there is none, once it has reached `seen`. Raises `LogUnavailable`."""
        await self._reaches(seen)
        found = await asyncio.gather(*(self._find({"last_by_subj": subject_filter}) for subject_filter in filters))
        seqs = tuple(message.seq if message else 0 for message in found)
        self._reached = max((self._reached, *seqs))
        return seqs

    async def _reaches(self, seen: int) -> None:
        """Made sure of before anything else is asked: an answer beside it may be from before."""
        until = asyncio.get_running_loop().time() + BEHIND_S
        while self._reached < seen:
            newest = await self._find({"last_by_subj": ">"})
            self._reached = max(self._reached, newest.seq if newest else 0)
            if self._reached >= seen:
                return
            if asyncio.get_running_loop().time() > until:
                raise Behind(f"the leader has reached {self._reached} and not yet {seen}, which was seen already")
            await asyncio.sleep(jittered(AGAIN_S))

    async def get(self, seq: int) -> Stored | None:
        """What is stored at a sequence. Raises `LogUnavailable`."""
        message = await self._find({"seq": seq})
        return None if message is None else stored(message.subject, *_content(message), seq=seq, stored_at=message.time)

    async def last(self, subject: str) -> tuple[int, dict[str, str], bytes] | None:
        """Sequence, headers and body of what is last on a subject. Raises `LogUnavailable`."""
        message = await self._find({"last_by_subj": subject})
        return None if message is None else (message.seq, *_content(message))

    async def _find(self, ask: dict[str, object]) -> _Found | None:
        answer = await self._connection.request(self._subject, msgspec.json.encode(ask))
        found = msgspec.json.decode(answer.data, type=_Answer)
        if found.error is None:
            return found.message
        if found.error.err_code == NOT_FOUND:
            return None
        raise LogUnavailable(f"the leader answered {found.error.description} ({found.error.err_code})")


def _content(message: _Found) -> tuple[dict[str, str], bytes]:
    head = base64.b64decode(message.hdrs)
    return read_headers(head.partition(b"\r\n")[2]), base64.b64decode(message.data)
