"""How full the store is, and from where on newcomers are held back.

Verdicts, approvals and outcomes must always find room: an action that was done and cannot be recorded is the worst that can
happen. So from `HELD_FROM` of the store (or of its disk) on, what only adds work waits and is told: sensors and the API take no
observations, runners do not think. All others go on.

The store is the log's own share of it, by the broker's word. The disk is that of the service's data folder, which under
`swarm up` is the broker's too; it counts as full when what is left is 15 % of the store, or of the disk where that is smaller.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec
import structlog

from shared.ending import ended
from shared.log.client.connection import Connection
from shared.log.port import LogUnavailable
from shared.metrics.table import HELD_BACK, STORE_USED

log = structlog.get_logger()

HELD_FROM = 0.85
EVERY_S = 2.0


class _Config(msgspec.Struct, frozen=True):
    max_bytes: int = -1


class _State(msgspec.Struct, frozen=True):
    bytes: int = 0


class _Info(msgspec.Struct, frozen=True):
    config: _Config = _Config()
    state: _State = _State()
    error: dict[str, object] | None = None


class Pressure:
    """Measured every `EVERY_S` seconds while `run` runs; `held` is the answer for everybody."""

    def __init__(self, connection: Connection, folder: Path, *, store_bytes: int) -> None:
        self._connection, self._folder, self._store_bytes = connection, folder, store_bytes
        self.held: str | None = None
        """Why nothing new is taken in; None when there is room."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Measure until `stopping` is set."""
        while not stopping.is_set():
            await self.measure()
            await ended(stopping, EVERY_S)

    async def measure(self) -> None:
        """Look again. While the broker does not tell, what it last said holds."""
        try:
            answer = await self._connection.request("$JS.API.STREAM.INFO.SWARM")
        except LogUnavailable:
            return
        info = msgspec.json.decode(answer.data, type=_Info)
        if info.error is not None:
            return
        held = store_held(info.state.bytes, info.config.max_bytes) or disk_held(self._folder, self._store_bytes)
        if held != self.held and (held is None or self.held is None):
            log.warning("held_back", why=held)
        self.held = held
        STORE_USED.set(_share(info.state.bytes, info.config.max_bytes))
        HELD_BACK.set(held is not None)


def store_held(used: int, limit: int) -> str | None:
    """Why a log of `used` bytes with room for `limit` (-1: without bound) takes in nothing new; None when it does."""
    if (share := _share(used, limit)) < HELD_FROM:
        return None
    return (
        f"the log has {_size(used)} of {_size(limit)} ({share:.0%}, held back from {HELD_FROM:.0%}): no observations are taken and "
        "nobody thinks, verdicts and outcomes go on; raise SWARM_STORE_BYTES"
    )


def disk_held(folder: Path, store_bytes: int) -> str | None:
    """Why a disk takes in nothing new; None when it does, or cannot be looked at."""
    try:
        here = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        disk = shutil.disk_usage(here)
    except OSError:
        return None
    least = int((1 - HELD_FROM) * min(disk.total, store_bytes))
    if disk.free >= least:
        return None
    return (
        f"the disk of {here} has {_size(disk.free)} left (held back below {_size(least)}): no observations are taken and nobody "
        "thinks, verdicts and outcomes go on; free some"
    )


def _share(used: int, limit: int) -> float:
    return used / limit if limit > 0 else 0.0


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
