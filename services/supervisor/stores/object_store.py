"""The embedded object store (SeaweedFS): how it is run, and who may speak to its inner parts.

Beside the S3 door, which wants a key, it has parts that speak to each other over ports of their own: master, volume, filer and
admin, over HTTP and gRPC. By default these take reads, writes and deletions from anybody who reaches them, and the filer hands
out the S3 keys. So every one of them wants the store's own certificate of whoever connects (mutual TLS), also on the loopback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from services.supervisor.running.ports import S3_GRPC, S3_PORTS
from services.supervisor.secrets.certificate import certificate, private_key
from services.supervisor.secrets.keys import ensure_secret, write_private

ADDRESS = IPv4Address("127.0.0.1")
DOOR = "s3_s3"
"""The one port that is for others."""
INNER = tuple(name for name in (*S3_PORTS, *S3_GRPC) if name not in (DOOR, "s3_admin"))
"""Those that are not. (`s3_admin` has nothing to say: the admin's pages are off.)"""
DOOR_S = 2.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_ALERT = b"\x15"
_HTTP_PARTS = ("master", "volume", "filer")
_GRPC_PARTS = (*_HTTP_PARTS, "s3", "admin", "worker", "client")


def command(
    binary: str,
    folder: Path,
    identities: Path,
    ports: Mapping[str, int],
    *,
    bucket: str,
    listen: str = str(ADDRESS),
) -> tuple[str, ...]:
    """It runs in `folder`, where it finds `security.toml`. Its gRPC ports are said too, or it would take each port + 10000.

    `bucket` is made by itself, for nobody who comes through its door may. `listen` is the address it takes connections on; its parts
    speak to each other over the loopback all the same.
    """
    flags = [f"-{name.removeprefix('s3_')}.port={ports[name]}" for name in S3_PORTS]
    flags += [f"-{name.removeprefix('s3_')}.port.grpc={ports[f'{name}_grpc']}" for name in S3_PORTS]
    at = (f"-dir={folder}", f"-ip={ADDRESS}", f"-ip.bind={listen}", f"-s3.config={identities}", f"-bucket={bucket}")
    off = ("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false")
    # Its own log files are kept small and in its folder; it would write up to 1.8 GB each to the temporary folder.
    log = (f"-logdir={folder}", "-log_max_size_mb=8", "-log_max_files=2")
    return (binary, *log, "mini", *at, *flags, *off)


def configure(folder: Path, keys: Path, bucket: str) -> Path:
    """Make its secrets below `keys`, once, and write what it reads there and in `folder`; the file with its identities.

    Through its door comes memory alone, and to this one bucket: it may make no other, nor end it. (It has no finer word for writing: who
    may add an object may delete one; the bucket keeps what was deleted.)
    """
    access, secret = ensure_secret(keys / "s3-access", length=10), ensure_secret(keys / "s3-secret", length=24)
    seed = bytes.fromhex(ensure_secret(keys / "s3-inner", length=32))
    write_private(keys / "s3-inner.key", private_key(seed))
    write_private(keys / "s3-inner.crt", certificate(seed, name="object store", address=ADDRESS))
    write_private(folder / "security.toml", _security(keys / "s3-inner.crt", keys / "s3-inner.key"))
    credentials = [{"accessKey": access, "secretKey": secret}]
    actions = [f"{action}:{bucket}" for action in ("Read", "Write", "List")]
    identities = {"identities": [{"name": "memory", "credentials": credentials, "actions": actions}]}
    write_private(keys / "s3.json", msgspec.json.encode(identities).decode())
    return keys / "s3.json"


async def open_doors(ports: Mapping[str, int]) -> list[str]:
    """Which inner ports of a running store answer somebody without its certificate, by name; there should be none."""
    inner = [name for name in INNER if name in ports]
    answers = await asyncio.gather(*(_answers_a_stranger(ports[name]) for name in inner))
    return [name for name, answers_him in zip(inner, answers, strict=True) if answers_him]


async def _answers_a_stranger(port: int) -> bool:
    """Whether something comes back to HTTP/2's opening words that is no TLS alert: gRPC and HTTP in the clear both answer them."""
    try:
        async with asyncio.timeout(DOOR_S):
            reader, writer = await asyncio.open_connection(str(ADDRESS), port)
            try:
                writer.write(_PREFACE)
                said = await reader.read(1)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return said not in (b"", _ALERT)


def _security(shown: Path, key: Path) -> str:
    """`security.toml`: every part shows the one certificate, and believes nobody without it."""
    ca, pair = f'ca = "{shown}"\n', f'cert = "{shown}"\nkey = "{key}"\n'
    return (
        f"[grpc]\n{ca}"
        + "".join(f"[grpc.{part}]\n{pair}" for part in _GRPC_PARTS)
        + "".join(f"[https.{part}]\n{pair}{ca}" for part in _HTTP_PARTS)
        + f"[https.client]\nenabled = true\n{pair}{ca}"
    )
