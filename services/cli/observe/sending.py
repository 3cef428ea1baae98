"""Sends lines to a swarm as observations: bounded batches, each sent until it is in, each in once."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import httpx
import msgspec

from services.cli.observe.follow import Chunk
from services.cli.observe.kept import Kept, Pending, State
from services.cli.terminal.target import refusal

MAX_BATCH = 1000
MAX_BODY = 240 * 1024
"""Below the API's limit of 256 KiB, with room for the frame around the observations."""
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 10.0

_AGAIN = (408, 425, 429, 500, 502, 503, 504, 507)


class Observer:
    """`sent` counts observations the mesh has acknowledged."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        swarm: str,
        source: str,
        *,
        batch: int = MAX_BATCH,
        tags: Sequence[str] = (),
        notice: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.sent = 0
        self._client, self._path = client, f"/v1/swarm/{swarm}/observations"
        self._source, self._batch, self._tags = source[:200], max(1, min(batch, MAX_BATCH)), list(tags)
        self._notice = notice

    async def take(self, chunks: AsyncIterator[list[str]]) -> int:
        """Send all lines; how many."""
        async for lines in chunks:
            await self.send(lines)
        return self.sent

    async def send(self, lines: Sequence[str]) -> None:
        """Returns when all are in. Raises `Stop` when the API refuses them for good."""
        for count, body in self.bodies(lines):
            await self.post(body, str(uuid.uuid4()))
            self.sent += count

    async def follow(self, chunks: AsyncIterator[Chunk], kept: Kept) -> int:
        """Send all lines, each once, whenever this process ends: what is about to be sent is kept first, with the place after it.

        What an earlier one kept and did not see answered is sent again under its own key.
        """
        if (last := kept.state.pending) is not None:
            await self.post(last.body.encode(), last.key, since=kept.state.sequence)
            await kept.save(msgspec.structs.replace(kept.state, pending=None))
        async for chunk in chunks:
            done = 0
            for count, body in self.bodies([line.text for line in chunk.lines]):
                places, done = chunk.at[done + count - 1], done + count
                key = "observe-" + hashlib.sha256(msgspec.json.encode(kept.state.places) + body).hexdigest()
                await kept.save(State(places, kept.state.sequence, Pending(key, body.decode())))
                sequence = await self.post(body, key)
                self.sent += count
                await kept.save(State(places, sequence))
            if chunk.rest != kept.state.places:
                await kept.save(State(chunk.rest, kept.state.sequence))
        return self.sent

    def bodies(self, lines: Sequence[str]) -> Iterator[tuple[int, bytes]]:
        batch: list[bytes] = []
        size = 0
        for line in lines:
            one = msgspec.json.encode({"text": line, "source": self._source, "tags": self._tags})
            if batch and (len(batch) >= self._batch or size + len(one) + 1 > MAX_BODY):
                yield len(batch), _body(batch)
                batch, size = [], 0
            batch.append(one)
            size += len(one) + 1
        if batch:
            yield len(batch), _body(batch)

    async def post(self, body: bytes, key: str, since: int | None = None) -> int:
        """The sequence of the last one. `since`: the batch may have been sent before, and if so came after that sequence."""
        # The same key on every try: the mesh stores the batch once, however often its answer was lost.
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        query = {} if since is None else {"since": since}
        wait_s, told = FIRST_WAIT_S, False
        while True:
            pause_s = wait_s
            try:
                answer = await self._client.post(self._path, content=body, headers=headers, params=query)
                if answer.is_success:
                    if told:
                        self._notice("the mesh answers again")
                    return msgspec.json.decode(answer.content, type=_Recorded).sequences[-1]
                if answer.status_code not in _AGAIN:
                    raise refusal(answer)
                why = f"the mesh answers {answer.status_code}: {refusal(answer)}"
                pause_s = max(wait_s, _seconds(answer.headers.get("Retry-After")))
            except httpx.TransportError as error:
                why = f"nobody answers at {self._client.base_url} ({type(error).__name__})"
            if not told:
                self._notice(f"{why}; trying again until it does")
                told = True
            await asyncio.sleep(min(pause_s, LONGEST_WAIT_S))
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)


class _Recorded(msgspec.Struct):
    sequences: tuple[int, ...] = (0,)


def _body(batch: Sequence[bytes]) -> bytes:
    return b'{"observations":[' + b",".join(batch) + b"]}"


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdigit() else 0.0
