"""A whole mesh as a folder: taken while it runs, put back where there is none.

Of a backup: `streams/<name>` (a snapshot of each stream in `STREAMS`), `objects/<digest>` (what is in the object store), and
`manifest.json` with the digests of all of it. Left out is what is made from that: consumers, checkpoints, leases, the newest
thoughts, the index. Keys are never in it; they go into a folder of their own, or are made anew.

The log is taken first, then what its events refer to, which is there before they are said: so nothing in the log lacks its object.
A backup that is there is whole: it is written beside its place and then renamed. So is what is put back, on a broker and a store of
its own below the data folder, where nobody but this works; it ends with the word that the log went back, so the mesh starts halted.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from services.supervisor import plan
from services.supervisor.mesh import Mesh
from services.supervisor.plan import Options
from services.supervisor.running.state import Lock, MeshRecord
from services.supervisor.secrets.keys import private_folder, write_private
from services.supervisor.stores import copies
from shared.broker import BOOTSTRAP, OPERATOR, inbox_prefix
from shared.log import backup as streams
from shared.log.backup import Taken
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.memory.cold import S3Cold
from shared.memory.port import ColdUnavailable
from shared.runtime.halting import say_went_back

VERSION = 1
LOG, STREAMS = "SWARM", ("SWARM", "DEAD", "KV_policies")
MANIFEST = "manifest.json"
BUCKET_S = 30.0
_HOLDER = "memory_compactor"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BESIDE = ".restoring"


class BackupRefused(Exception):
    """It is not done, for the reason given; nothing was changed."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. `objects` maps keys of the object store to the SHA-256 of their content, which names their file."""

    version: int = VERSION
    taken_at: datetime
    streams: tuple[Taken, ...]
    objects: dict[str, str]

    @property
    def log(self) -> Taken:
        return next(taken for taken in self.streams if taken.stream == LOG)


async def take(record: MeshRecord, to: Path, keys_to: Path | None) -> Manifest:
    """Back the running mesh up into the folder `to`, its keys into `keys_to`.

    Raises `BackupRefused`, `LogUnavailable`, `ColdUnavailable` and its kin, `OSError`.
    """
    for folder in (to, *([] if keys_to is None else [keys_to])):
        if folder.exists():
            raise BackupRefused(f"{folder} is there already; say a folder that is not")
    part, keys_part = (folder.with_name(f".{folder.name}.part") for folder in (to, keys_to or to / "keys"))
    try:
        for folder in (part, keys_part):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        manifest = await _take(record, part)
        await asyncio.to_thread(_sync, part)
        if keys_to is not None:
            await asyncio.to_thread(shutil.copytree, Path(record.data) / "keys", keys_part)
            keys_part.rename(keys_to)
        part.rename(to)
        await asyncio.to_thread(_sync, to.parent, whole=False)
        return manifest
    finally:
        for folder in (part, keys_part):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _take(record: MeshRecord, part: Path) -> Manifest:
    for folder in (part, part / "streams", part / "objects"):
        private_folder(folder)
    connection = await Connection.open(
        record.nats_url,
        name="swarm backup",
        seed_file=Path(record.operator_seed_file),
        inbox_prefix=inbox_prefix(OPERATOR),
        wait_s=2.0,
    )
    try:
        now = datetime.now(UTC)
        taken = [await streams.take(connection, name, part / "streams" / name) for name in STREAMS]
    finally:
        await connection.close()
    objects = await _take_objects(Path(record.data), record.s3_url, part / "objects") if record.s3_url else {}
    manifest = Manifest(taken_at=now, streams=tuple(taken), objects=objects)
    write_private(part / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2).decode())
    return manifest


def read(backup: Path) -> Manifest:
    """The manifest, and every file as it says. Raises `BackupRefused`."""
    try:
        manifest = msgspec.json.decode((backup / MANIFEST).read_bytes(), type=Manifest)
        if manifest.version != VERSION or {taken.stream for taken in manifest.streams} != set(STREAMS):
            raise BackupRefused(
                f"{backup} is a backup of another release (version {manifest.version}, this reads {VERSION})"
            )
        wanted = {backup / "streams" / taken.stream: taken.sha256 for taken in manifest.streams}
        wanted |= {backup / "objects" / digest: digest for digest in manifest.objects.values()}
        for file, digest in wanted.items():
            with file.open("rb") as source:
                if hashlib.file_digest(source, "sha256").hexdigest() != digest:
                    raise BackupRefused(f"{file} is not what was backed up: its digest is another one")
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupRefused(f"{backup} is no whole backup: {error}") from error
    return manifest


async def put_back(backup: Path, data: Path, keys: Path | None) -> Manifest:
    """Make the data folder of a mesh from a backup; it starts halted. Raises as `take`, and `MeshRunning`, `MeshFailed`."""
    manifest = await asyncio.to_thread(read, backup)
    lock = Lock(data)
    try:
        for store in (*copies.stores(data), data / "s3"):
            if store.is_dir() and any(store.iterdir()):
                raise BackupRefused(f"there is a store in {store}; move it away, or restore into another --data")
        if keys is not None and (data / "keys").exists():
            raise BackupRefused(f"there are keys in {data / 'keys'}; move them away, or leave --keys out")
        beside = data / _BESIDE
        await asyncio.to_thread(shutil.rmtree, beside, ignore_errors=True)
        async with Mesh(beside, Options(services=(), declares=False, s3=bool(manifest.objects))) as mesh:
            await mesh.wait_ready()
            await _fill(mesh, backup, manifest)
        await asyncio.to_thread(_move, beside, data, keys)
    finally:
        lock.release()
    return manifest


async def _fill(mesh: Mesh, backup: Path, manifest: Manifest) -> None:
    seed = mesh.key(BOOTSTRAP)
    connection = await Connection.open(
        mesh.nats_url, name="swarm restore", seed_file=seed, inbox_prefix=inbox_prefix(BOOTSTRAP)
    )
    try:
        for taken in manifest.streams:
            await streams.put_back(connection, taken, backup / "streams" / taken.stream)
        if manifest.objects:
            await _put_objects(mesh, backup / "objects", manifest.objects)
        log = JetStreamLog(connection, service="restore", instance="restore-1")
        reason = f"it was restored from a backup of {manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC"
        await say_went_back(log, source="restore", reason=reason, reached=manifest.log.last_seq, before=None)
    finally:
        await connection.close()


def _move(beside: Path, data: Path, keys: Path | None) -> None:
    """The log last: until it is there, this can be done again."""
    if keys is not None:
        shutil.copytree(keys, data / "keys")
    for name in ("s3", "nats"):
        if (beside / name).exists():
            shutil.rmtree(data / name, ignore_errors=True)  # it is empty
            (beside / name).rename(data / name)
    shutil.rmtree(beside)


def cold_of(keys: Path, url: str) -> S3Cold:
    """The object store of a mesh, as its one user."""
    access, secret = ((keys / _HOLDER / name).read_text().strip() for name in ("s3-access", "s3-secret"))
    return S3Cold(url.removeprefix("http://"), plan.BUCKET, access_key=access, secret_key=secret)


async def _take_objects(data: Path, url: str, folder: Path) -> dict[str, str]:
    cold = cold_of(data / "keys", url)
    try:
        named = {key: found[0] for key in await cold.keys("") if (found := _DIGEST.findall(key))}
        for key, digest in named.items():
            await asyncio.to_thread((folder / digest).write_bytes, await cold.get(key, digest))
        return named
    finally:
        await cold.close()


async def _put_objects(mesh: Mesh, folder: Path, objects: Mapping[str, str]) -> None:
    cold = cold_of(mesh.data / "keys", f"127.0.0.1:{mesh.ports['s3_s3']}")
    until = time.monotonic() + BUCKET_S
    try:
        while (why := await cold.problem()) is not None:  # the store answers before it has made its bucket
            if time.monotonic() > until:
                raise ColdUnavailable(why)
            await asyncio.sleep(0.1)
        for key, digest in objects.items():
            await cold.put(key, await asyncio.to_thread((folder / digest).read_bytes))
    finally:
        await cold.close()


def _sync(folder: Path, *, whole: bool = True) -> None:
    """Have the folder on disk, with all below it if it is to be `whole`, before its name is relied on; nobody else may read that."""
    for path in (*(folder.rglob("*") if whole else ()), folder):
        if path.is_file():
            path.chmod(0o600)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
