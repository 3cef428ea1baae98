"""Which instance of its service a process is: it holds a slot, and nobody else does.

Consumers, checkpoints and permissions are named after the instance, so two processes of one name would take each other's. A slot is
two things: a lock on a file in the data folder, which ends with the process, and a lease in the bucket `leases`, which ends `TTL_S`
after it was last renewed. The lease says whose it is. What this very file held was a process that is dead, for its lock is ours: so who
is started again after a kill -9 goes on at once, and whoever comes from elsewhere waits for the lease to end.

Invariant: of those that can reach the broker, one process at a time believes it holds a slot, but for what a stall longer than `TTL_S`
does; who finds the slot another's on waking up ends. Nothing that must happen once rests on it: that is what boundaries are for.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from pathlib import Path
from uuid import uuid4

import msgspec
import structlog

from shared.broker import SLOTS
from shared.contracts.ids import Instant, utc_now
from shared.log.port import KeyValue, LogUnavailable, StaleBoundary
from shared.settings import Settings, SettingsError

log = structlog.get_logger()

TTL_S, RENEW_S, STALE_S = 10, 3.0, 0.05


class Candidate(msgspec.Struct, frozen=True):
    """An instance this process may be, and the seed that lets it."""

    instance: str
    seed_file: Path | None


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a slot: `place` is the file it has locked."""

    place: str
    host: str
    pid: int
    since: Instant

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since:%Y-%m-%d %H:%M:%S} UTC"


def candidates(service: str, settings: Settings) -> list[Candidate]:
    """What this process may be, in the order it is tried. Raises `SettingsError` when there is no key for any."""
    keys = settings.nats.keys_dir
    if not keys or settings.nats.seed_file:
        seed = settings.nats.seed_file
        return [Candidate(settings.instance_of(service), Path(seed) if seed else None)]
    found = {file.stem: file for file in Path(keys).glob(f"{service}-*.nk") if file.stem.rpartition("-")[2].isdigit()}
    if settings.instance:
        found = {name: file for name, file in found.items() if name == settings.instance}
    if not found:
        wanted = settings.instance or f"{service}-1"
        raise SettingsError(
            f"SWARM_NATS_KEYS_DIR={keys}: there is no {wanted}.nk; give {service} its folder of `swarm keys init`"
        )
    return [Candidate(name, found[name]) for name in sorted(found, key=lambda name: (len(name), name))]


class Lock:
    """The file that is locked while a process of this folder is the instance. Raises `BlockingIOError` when one is, and `OSError`."""

    def __init__(self, folder: Path, instance: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(folder / instance, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.pread(self._descriptor, 32, 0):
                os.pwrite(self._descriptor, uuid4().hex.encode(), 0)
            self.place = os.pread(self._descriptor, 32, 0).decode()
        except BaseException:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        os.close(self._descriptor)


class Slot:
    """A slot of the service, once `claim` says so. `lost` is told to whoever holds it no more."""

    def __init__(self, bucket: KeyValue, instance: str, lock: Lock, *, lost: asyncio.Event) -> None:
        self._bucket, self._key, self._lock, self.lost = bucket, SLOTS + instance, lock, lost
        self._holder = Holder(place=lock.place, host=socket.gethostname(), pid=os.getpid(), since=utc_now())
        self._value = msgspec.json.encode(self._holder)
        self._revision = 0
        self._keeping: asyncio.Task[None] | None = None

    async def claim(self) -> Holder | None:
        """Take it; None when it is ours, else who has it. Raises `LogUnavailable`, after which it may be ours all the same."""
        while True:
            entry = await self._bucket.get(self._key)
            if entry is not None and (other := _holder(entry.value)).place != self._holder.place:
                return other
            try:
                self._revision = await self._bucket.put(
                    self._key, self._value, revision=entry.revision if entry else 0, ttl_s=TTL_S
                )
                return None
            except StaleBoundary:  # somebody came between, or what was read was a replica's that is behind
                await asyncio.sleep(STALE_S)

    def keep(self) -> None:
        """From now on it is renewed."""
        self._keeping = asyncio.create_task(self._keep(), name="slot")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                self._revision = await self._bucket.put(self._key, self._value, revision=self._revision, ttl_s=TTL_S)
            except LogUnavailable:
                continue
            except StaleBoundary:  # it had ended, or what was not answered was stored
                if await self._is_anothers():
                    return

    async def _is_anothers(self) -> bool:
        try:
            entry = await self._bucket.get(self._key)
            if entry is None:
                other = await self.claim()
            elif entry.value == self._value:
                self._revision, other = entry.revision, None
            else:
                other = _holder(entry.value)
        except LogUnavailable:
            return False
        if other is not None:
            log.error("slot_lost", slot=self._key, holder=str(other))
            self.lost.set()
        return other is not None

    async def release(self) -> None:
        """Give it up, so that another may have it at once. Not being able to is fine: it ends by itself."""
        if self._keeping is not None:
            self._keeping.cancel()
        if self._revision and not self.lost.is_set():
            try:
                await self._bucket.delete(self._key, revision=self._revision)
            except (LogUnavailable, StaleBoundary):
                log.info("slot_not_released", slot=self._key)
        self._lock.release()


def _holder(value: bytes) -> Holder:
    """What cannot be read is somebody's."""
    try:
        return msgspec.json.decode(value, type=Holder)
    except msgspec.DecodeError:
        return Holder(place="", host="a machine that does not say", pid=0, since=utc_now())
