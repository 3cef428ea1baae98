"""Streams and buckets, declared once and reconciled at boot by whoever holds the bootstrap key.

`SWARM` is the log; `HOT` the ring buffer of thoughts; `RECALL` short-lived questions to memory; `DEAD` the dead letters;
`KV_policies` has the bundles of policies by digest, `PROBE` the last test write of each service (`shared/runtime/vitals/probe.py`).
All are on disk: a stream in memory would be gone, with its consumers, after every restart of a single broker.
A subject of no known class is nobody's: the broker tells the publisher that nobody responds.
Every stream has its share of the store, so that none can take the room of another; a full log refuses, it forgets nothing.
Reconciling creates what is missing and updates what may be updated; what still differs is drift, and drift is not ready.
What is not declared must be the broker's default: a `max_age` somebody set on the log would forget events in silence.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from shared.contracts.catalog import LOG_CLASSES, SHORT_LIVED, class_filter
from shared.log.client.connection import Connection
from shared.log.port import LogUnavailable
from shared.settings import STORE_BYTES

_DAY_NS = 86_400 * 10**9
_Config = dict[str, object]

_SHARES = {
    "HOT": (0.0125, 8 * 2**20),
    "RECALL": (0.00625, 4 * 2**20),
    "DEAD": (0.05, 8 * 2**20),
    "KV_leases": (0.0015, 2**20),
    "KV_checkpoints": (0.05, 16 * 2**20),
    "KV_policies": (0.005, 2 * 2**20),
    "PROBE": (0.0, 2**20),
}
"""Of the store, and the least bytes: what streams beside the log may take. The log has the rest."""

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
        "discard": "new",
    },
    "HOT": {
        "sources": [{"name": "SWARM", "filter_subject": class_filter("thought.generated")}],
        "storage": "file",
        "max_msgs_per_subject": 64,
        "allow_direct": True,
    },
    "RECALL": {
        "subjects": [class_filter(name) for name in SHORT_LIVED],
        "storage": "file",
        "max_age": 300 * 10**9,
        "duplicate_window": 120 * 10**9,
        "allow_direct": True,
    },
    "DEAD": {
        "subjects": ["dead.>"],
        "storage": "file",
        "max_age": 30 * _DAY_NS,
        "duplicate_window": 120 * 10**9,
        "allow_direct": True,
    },
    "KV_leases": {
        "subjects": ["$KV.leases.>"],
        "storage": "file",
        "max_msgs_per_subject": 1,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "discard": "new",
    },
    "KV_checkpoints": {
        "subjects": ["$KV.checkpoints.>"],
        "storage": "file",
        "max_msgs_per_subject": 1,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "discard": "new",
    },
    "KV_policies": {
        "subjects": ["$KV.policies.>"],
        "storage": "file",
        "max_msgs_per_subject": 1,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "discard": "new",
    },
    "PROBE": {
        "subjects": ["probe.*"],
        "storage": "file",
        "max_msgs_per_subject": 1,
        "max_msg_size": 4096,
        "allow_direct": True,
    },
}
"""Declared fields of each stream, without its size; a field not named here is the broker's default."""

_DEFAULTS: _Config = {
    "retention": "limits",
    "max_consumers": -1,
    "max_msgs": -1,
    "max_bytes": -1,
    "max_age": 0,
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "discard": "old",
    "duplicate_window": 120 * 10**9,
    "compression": "none",
}
"""What the broker (nats-server 2.15) gives a stream by itself; what is not here either is absent, false, 0 or empty."""
_OURS_TO_LEAVE = ("name", "description", "num_replicas", "placement")
"""What an operator may choose without changing what a stream promises; of replicas, to have more than are asked for."""


class _Answer(msgspec.Struct):
    config: dict[str, object] = {}
    error: dict[str, object] | None = None


def sizes(store_bytes: int) -> dict[str, int]:
    """The `max_bytes` of every stream; together a little less than the store, which also keeps the consumers' state."""
    taken = {name: max(least, int(store_bytes * share)) for name, (share, least) in _SHARES.items()}
    return {"SWARM": int(store_bytes * 0.99) - sum(taken.values()), **taken}


def declared(store_bytes: int = STORE_BYTES, replicas: int = 1) -> dict[str, _Config]:
    """Every stream as it shall be in a store of this size, on so many brokers at least.

    Durable consumers have as many replicas as their stream.
    """
    return {
        name: {**STREAMS[name], "max_bytes": size, "num_replicas": replicas}
        for name, size in sizes(store_bytes).items()
    }


async def ensure(
    url: str,
    seed_file: str | None,
    *,
    inbox_prefix: str = "_INBOX",
    store_bytes: int = STORE_BYTES,
    replicas: int = 1,
) -> list[str]:
    """Create and update all streams; one line for each change. Raises `LogUnavailable` when one cannot be made so."""
    connection = await Connection.open(
        url, name="bootstrap", seed_file=Path(seed_file) if seed_file else None, inbox_prefix=inbox_prefix
    )
    try:
        return await reconcile(connection, store_bytes, replicas)
    finally:
        await connection.close()


async def reconcile(connection: Connection, store_bytes: int = STORE_BYTES, replicas: int = 1) -> list[str]:
    """As `ensure`, over a connection that may declare streams."""
    changes = []
    for name, wanted in declared(store_bytes, replicas).items():
        existing = await _info(connection, name)
        if existing is None:
            await _api(connection, f"STREAM.CREATE.{name}", {"name": name, **wanted})
            changes.append(f"created {name}")
        elif differing := _differing(wanted, existing):
            mended = {key: _expected(wanted, key) for key in differing}
            await _api(connection, f"STREAM.UPDATE.{name}", {**existing, **mended})
            changes.append(f"updated {name}: {', '.join(differing)}")
    return changes


async def drift(connection: Connection, store_bytes: int | None = STORE_BYTES, replicas: int = 1) -> list[str]:
    """What differs from the declaration now, one line a stream; empty is good. With None any size will do."""
    lines = []
    for name, wanted in declared(store_bytes or STORE_BYTES, replicas).items():
        existing = await _info(connection, name)
        if store_bytes is None and existing is not None:
            wanted["max_bytes"] = existing.get("max_bytes")
        if existing is None:
            lines.append(f"{name} is missing")
        elif differing := _differing(wanted, existing):
            said = (f"{key} ({existing.get(key)!r} instead of {_expected(wanted, key)!r})" for key in differing)
            lines.append(f"{name} differs in {', '.join(said)}")
    return lines


async def undeclared(connection: Connection) -> list[str]:
    """The streams that are not there. Raises `LogUnavailable`."""
    return [name for name in STREAMS if await _info(connection, name) is None]


def _differing(wanted: _Config, existing: _Config) -> list[str]:
    keys = [*wanted, *(key for key in existing if key not in wanted and key not in _OURS_TO_LEAVE)]
    return [key for key in keys if not _is(key, existing.get(key), _expected(wanted, key))]


def _expected(wanted: _Config, key: str) -> object:
    return wanted.get(key, _DEFAULTS.get(key))


def _is(key: str, value: object, expected: object) -> bool:
    if key == "num_replicas":
        return int(str(value or 1)) >= int(str(expected))
    if isinstance(value, dict):  # `metadata` has the broker's own notes in it, which are nobody's setting
        value = {key: each for key, each in value.items() if not key.startswith("_nats.")}
    return value == expected or not (value or expected)


async def _info(connection: Connection, name: str) -> _Config | None:
    answer = await connection.request(f"$JS.API.STREAM.INFO.{name}")
    info = msgspec.json.decode(answer.data, type=_Answer)
    return None if info.error else info.config


async def _api(connection: Connection, verb: str, config: _Config) -> None:
    answer = await connection.request(f"$JS.API.{verb}", msgspec.json.encode(config), timeout_s=15)
    refused = msgspec.json.decode(answer.data, type=_Answer).error
    if refused is not None:
        raise LogUnavailable(f"{verb} refused: {refused.get('description')}")
