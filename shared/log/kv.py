"""Buckets over raw JetStream subjects: nats-py's own KV breaks after a TTL expires (`get` returns a value of None)."""

from __future__ import annotations

import msgspec

from shared.log.client.connection import WRONG_LAST_SEQUENCE, Connection, is_status
from shared.log.client.wire import Raw
from shared.log.port import Entry, LogUnavailable, StaleBoundary

MAX_ENTRIES = 1024
"""More keys than this a filter may not match: a limit of the broker."""


class _Ack(msgspec.Struct):
    seq: int = 0
    error: dict[str, object] | None = None


class JetStreamKeyValue:
    """`KeyValue` over bucket `bucket` (stream `KV_<bucket>`)."""

    def __init__(self, connection: Connection, bucket: str) -> None:
        self._connection = connection
        self._prefix = f"$KV.{bucket}."
        self._get = f"$JS.API.DIRECT.GET.KV_{bucket}"

    async def get(self, key: str) -> Entry | None:
        answer = await self._last(key)
        if answer is None or _is_gone(answer.headers):
            return None
        return Entry(key, answer.data, int(answer.headers["Nats-Sequence"]))

    async def put(self, key: str, value: bytes, *, revision: int | None = None, ttl_s: int | None = None) -> int:
        headers = {} if ttl_s is None else {"Nats-TTL": f"{ttl_s}s"}
        return await self._store(key, value, headers, revision)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        await self._store(key, b"", {"KV-Operation": "DEL", "Nats-TTL": "60s"}, revision)

    async def entries(self, key_filter: str = ">") -> list[Entry]:
        ask = msgspec.json.encode({"multi_last": [self._prefix + key_filter], "batch": MAX_ENTRIES})
        answers = await self._connection.request_many(self._get, ask, is_last=is_status)
        _refuse(answers[-1], ("204", "404"))
        return [
            Entry(m.headers["Nats-Subject"][len(self._prefix) :], m.data, int(m.headers["Nats-Sequence"]))
            for m in answers[:-1]
            if not _is_gone(m.headers)
        ]

    async def _store(self, key: str, value: bytes, headers: dict[str, str], revision: int | None) -> int:
        if revision is not None:
            if revision == 0 and (gone := await self._tombstone(key)):
                revision = gone
            headers["Nats-Expected-Last-Subject-Sequence"] = str(revision)
        answer = await self._connection.request(self._prefix + key, value, headers=headers)
        ack = msgspec.json.decode(answer.data, type=_Ack)
        if ack.error is None:
            return ack.seq
        if ack.error.get("err_code") in WRONG_LAST_SEQUENCE:
            raise StaleBoundary(f"{key}: {ack.error.get('description')}")
        raise LogUnavailable(f"bucket refused {key}: {ack.error.get('description')}")

    async def _tombstone(self, key: str) -> int:
        """The revision of a delete marker on the key, 0 when there is none."""
        answer = await self._last(key)
        return 0 if answer is None or not _is_gone(answer.headers) else int(answer.headers["Nats-Sequence"])

    async def _last(self, key: str) -> Raw | None:
        answer = await self._connection.request(self._get, msgspec.json.encode({"last_by_subj": self._prefix + key}))
        if not is_status(answer):
            return answer
        _refuse(answer, ("404",))
        return None


def _refuse(status: Raw, fine: tuple[str, ...]) -> None:
    """What the broker cannot give now is not what is missing: raises `LogUnavailable` for a status that is not fine."""
    if status.status not in fine:
        raise LogUnavailable(f"the bucket answered {status.status} {status.description}")


def _is_gone(headers: dict[str, str]) -> bool:
    return "KV-Operation" in headers or "Nats-Marker-Reason" in headers
