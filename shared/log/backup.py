"""A stream as a file, taken while it is written to, and put back where there is none (JetStream API: stream snapshot and restore).

Consumers are left out: they would be as of a moment later than the messages, and a durable that had passed what is not in the
file would never be given what follows from it. Without them each service is given everything once more, and finds it done.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec

from shared.log.client.connection import Connection
from shared.log.client.wire import Raw
from shared.log.port import LogUnavailable

CHUNK_BYTES = 128 * 1024
SILENT_S = 30.0
"""The longest the broker may take from one chunk to the next."""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream's file is of: its name, its configuration and state by the broker's word; `size` in bytes as it is stored."""

    stream: str
    config: dict[str, object]
    state: dict[str, object]
    sha256: str
    size: int

    @property
    def last_seq(self) -> int:
        """The last sequence that is in it."""
        found = self.state.get("last_seq", 0)
        return found if isinstance(found, int) else 0


class _Answer(msgspec.Struct, frozen=True):
    config: dict[str, object] = {}
    state: dict[str, object] = {}
    deliver_subject: str = ""
    error: dict[str, object] | None = None


async def take(connection: Connection, stream: str, file: Path) -> Taken:
    """Write the stream as it is now to `file`. Raises `LogUnavailable` and `OSError`; the file is then not whole."""
    inbox = f"{connection.client.new_inbox()}.snapshot"
    chunks: asyncio.Queue[Raw] = asyncio.Queue()  # bounded by the window: the broker sends no more than is acknowledged
    subscription = await connection.subscribe(inbox, chunks.put_nowait)
    try:
        asked = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK_BYTES, "jsck": True}
        answer = await _ask(connection, f"$JS.API.STREAM.SNAPSHOT.{stream}", asked)
        digest, size = hashlib.sha256(), 0
        with file.open("xb") as out:
            async for data in _received(connection, stream, chunks):
                await asyncio.to_thread(out.write, data)
                digest.update(data)
                size += len(data)
        return Taken(stream=stream, config=answer.config, state=answer.state, sha256=digest.hexdigest(), size=size)
    finally:
        await subscription.unsubscribe()


async def _received(connection: Connection, stream: str, chunks: asyncio.Queue[Raw]) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(SILENT_S):
                chunk = await chunks.get()
        except TimeoutError:
            raise LogUnavailable(f"the broker sends no more of {stream}: nothing came for {SILENT_S:g} s") from None
        if chunk.status not in ("", "204"):
            raise LogUnavailable(f"the broker gave up on {stream}: {chunk.status} {chunk.description}")
        if not chunk.data:
            return
        yield chunk.data
        if chunk.reply:
            connection.send(chunk.reply)


async def put_back(connection: Connection, taken: Taken, file: Path) -> None:
    """Make the stream from `file`, its messages under their sequences and times. Raises `LogUnavailable`: also where it is there."""
    config = {**taken.config, "max_bytes": -1}  # how large it may be is said when it is declared
    wanted = {"config": config, "state": taken.state}
    answer = await _ask(connection, f"$JS.API.STREAM.RESTORE.{taken.stream}", wanted)
    with file.open("rb") as source:
        while data := await asyncio.to_thread(source.read, CHUNK_BYTES):
            told = await connection.request(answer.deliver_subject, data, timeout_s=SILENT_S)
            if told.data:
                _checked(told, taken.stream)
    _checked(await connection.request(answer.deliver_subject, timeout_s=SILENT_S), taken.stream)


async def _ask(connection: Connection, subject: str, body: Mapping[str, object]) -> _Answer:
    return _checked(await connection.request(subject, msgspec.json.encode(body), timeout_s=SILENT_S), subject)


def _checked(raw: Raw, about: str) -> _Answer:
    answer = msgspec.json.decode(raw.data, type=_Answer)
    if answer.error is not None:
        raise LogUnavailable(f"{about}: {answer.error.get('description')}")
    return answer
