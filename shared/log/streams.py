"""Streams and buckets, declared once and reconciled at boot by whoever holds the bootstrap key.

`SWARM` is the log; `HOT` the ring buffer of thoughts; `RECALL` short-lived questions to memory; `DEAD` the dead letters.
All are on disk: a stream in memory would be gone, with its consumers, after every restart of a single broker.
A subject of no known class is nobody's: the broker tells the publisher that nobody responds.
Reconciling creates what is missing and updates what may be updated; what still differs is drift, and drift is not ready.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from shared.contracts.catalog import LOG_CLASSES, SHORT_LIVED, class_filter
from shared.log.connection import Connection
from shared.log.port import LogUnavailable

_DAY_NS = 86_400 * 10**9
_Config = dict[str, object]

STREAMS: dict[str, _Config] = {
    "SWARM": {
        "subjects": [class_filter(name) for name in LOG_CLASSES],
        "storage": "file",
        "compression": "s2",
        "duplicate_window": 120 * 10**9,
        "allow_atomic": True,
        "allow_direct": True,
        "deny_delete": True,
        "deny_purge": True,
    },
    "HOT": {
        "sources": [{"name": "SWARM", "filter_subject": "thought.generated.*.*"}],
        "storage": "file",
        "max_msgs_per_subject": 64,
        "max_bytes": 128 * 1024 * 1024,
        "allow_direct": True,
    },
    "RECALL": {
        "subjects": [class_filter(name) for name in SHORT_LIVED],
        "storage": "file",
        "max_age": 300 * 10**9,
        "max_bytes": 64 * 1024 * 1024,
        "duplicate_window": 120 * 10**9,
        "allow_direct": True,
    },
    "DEAD": {
        "subjects": ["dead.>"],
        "storage": "file",
        "max_age": 30 * _DAY_NS,
        "max_bytes": 512 * 1024 * 1024,
        "duplicate_window": 120 * 10**9,
        "allow_direct": True,
    },
    "KV_leases": {
        "subjects": ["$KV.leases.>"],
        "storage": "file",
        "max_msgs_per_subject": 1,
        "max_bytes": 16 * 1024 * 1024,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": 60 * 10**9,
        "discard": "new",
    },
    "KV_checkpoints": {
        "subjects": ["$KV.checkpoints.>"],
        "storage": "file",
        "max_msgs_per_subject": 1,
        "max_bytes": 512 * 1024 * 1024,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "discard": "new",
    },
}
"""Declared fields of each stream; a field not named here is the broker's default."""


class _Answer(msgspec.Struct):
    config: dict[str, object] = {}
    error: dict[str, object] | None = None


async def ensure(url: str, seed_file: str | None, *, inbox_prefix: str = "_INBOX") -> list[str]:
    """Create and update all streams; one line for each change. Raises `LogUnavailable` when one cannot be made so."""
    connection = await Connection.open(
        url, name="bootstrap", seed_file=Path(seed_file) if seed_file else None, inbox_prefix=inbox_prefix
    )
    try:
        changes = []
        for name, declared in STREAMS.items():
            existing = await _info(connection, name)
            if existing is None:
                await _api(connection, f"STREAM.CREATE.{name}", {"name": name, **declared})
                changes.append(f"created {name}")
            elif differing := _differing(declared, existing):
                await _api(connection, f"STREAM.UPDATE.{name}", {**existing, **declared})
                changes.append(f"updated {name}: {', '.join(differing)}")
        return changes
    finally:
        await connection.close()


async def drift(connection: Connection) -> list[str]:
    """What differs from the declaration now, one line a stream; empty is good."""
    lines = []
    for name, declared in STREAMS.items():
        existing = await _info(connection, name)
        if existing is None:
            lines.append(f"{name} is missing")
        elif differing := _differing(declared, existing):
            lines.append(f"{name} differs in {', '.join(differing)}")
    return lines


def _differing(declared: _Config, existing: _Config) -> list[str]:
    return [key for key, value in declared.items() if existing.get(key) != value]


async def _info(connection: Connection, name: str) -> _Config | None:
    answer = await connection.request(f"$JS.API.STREAM.INFO.{name}")
    info = msgspec.json.decode(answer.data, type=_Answer)
    return None if info.error else info.config


async def _api(connection: Connection, verb: str, config: _Config) -> None:
    answer = await connection.request(f"$JS.API.{verb}", msgspec.json.encode(config), timeout_s=15)
    refused = msgspec.json.decode(answer.data, type=_Answer).error
    if refused is not None:
        raise LogUnavailable(f"{verb} refused: {refused.get('description')}")
