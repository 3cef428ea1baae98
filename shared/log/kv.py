"""Buckets over raw JetStream subjects: nats-py's own KV breaks after a TTL expires (`get` returns a value of None)."""

from __future__ import annotations

import asyncio

import msgspec

from shared.log.client.connection import WRONG_LAST_SEQUENCE, Connection, is_status
from shared.log.client.wire import Raw
from shared.log.port import Entry, LogUnavailable, StaleBoundary
from shared.log.reading.leader import Leader

MAX_ENTRIES = 1024
"""More keys than this a filter may not match: a limit of the broker."""


class _Ack(msgspec.Struct):
    seq: int = 0
    error: dict[str, object] | None = None


class _State(msgspec.Struct, frozen=True):
    subjects: dict[str, int] | None = None


class _Info(msgspec.Struct):
    state: _State = _State()
    error: dict[str, object] | None = None


class JetStreamKeyValue:
    """`KeyValue` over bucket `bucket` (stream `KV_<bucket>`). `replicated`: it has several replicas, and its leader is asked."""

    def __init__(self, connection: Connection, bucket: str, *, replicated: bool = False) -> None:
        self._connection = connection
        self._prefix = f"$KV.{bucket}."
        self._stream = f"KV_{bucket}"
        self._get = f"$JS.API.DIRECT.GET.{self._stream}"
        self._leader = Leader(connection, self._stream) if replicated else None

    async def get(self, key: str) -> Entry | None:
        found = await self._last(key)
        if found is None or _is_gone(found[1]):
            return None
        seq, _, data = found
        return Entry(key, data, seq)

    async def put(self, key: str, value: bytes, *, revision: int | None = None, ttl_s: int | None = None) -> int:
        headers = {} if ttl_s is None else {"Nats-TTL": f"{ttl_s}s"}
        return await self._store(key, value, headers, revision)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        await self._store(key, b"", {"KV-Operation": "DEL", "Nats-TTL": "60s"}, revision)

    async def entries(self, key_filter: str = ">") -> list[Entry]:
        if self._leader is not None:
            entries = await asyncio.gather(*(self.get(key) for key in await self._keys(key_filter)))
            return sorted((entry for entry in entries if entry is not None), key=lambda entry: entry.revision)
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
        if ack.error.get("err_code") == WRONG_LAST_SEQUENCE:
            raise StaleBoundary(f"{key}: {ack.error.get('description')}")
        raise LogUnavailable(f"bucket refused {key}: {ack.error.get('description')}")

    async def _tombstone(self, key: str) -> int:
        """The revision of a delete marker on the key, 0 when there is none."""
        found = await self._last(key)
        return 0 if found is None or not _is_gone(found[1]) else found[0]

    async def _keys(self, key_filter: str) -> list[str]:
        """As the leader knows them, at most `MAX_ENTRIES`."""
        ask = msgspec.json.encode({"subjects_filter": self._prefix + key_filter})
        answer = await self._connection.request(f"$JS.API.STREAM.INFO.{self._stream}", ask)
        info = msgspec.json.decode(answer.data, type=_Info)
        if info.error is not None:
            raise LogUnavailable(f"the bucket cannot be looked at: {info.error.get('description')}")
        subjects = sorted(info.state.subjects or ())
        if len(subjects) > MAX_ENTRIES:
            raise LogUnavailable(f"{key_filter} matches {len(subjects)} keys; {MAX_ENTRIES} can be told at once")
        return [subject[len(self._prefix) :] for subject in subjects]

    async def _last(self, key: str) -> tuple[int, dict[str, str], bytes] | None:
        """Revision, headers and body of what is last on a key."""
        subject = self._prefix + key
        if self._leader is not None:
            return await self._leader.last(subject)
        answer = await self._connection.request(f"{self._get}.{subject}")
        if not is_status(answer):
            return int(answer.headers["Nats-Sequence"]), answer.headers, answer.data
        _refuse(answer, ("404",))
        return None


def _refuse(status: Raw, fine: tuple[str, ...]) -> None:
    """What the broker cannot give now is not what is missing: raises `LogUnavailable` for a status that is not fine."""
    if status.status not in fine:
        raise LogUnavailable(f"the bucket answered {status.status} {status.description}")


def _is_gone(headers: dict[str, str]) -> bool:
    return "KV-Operation" in headers or "Nats-Marker-Reason" in headers
