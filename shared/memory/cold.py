"""Cold storage on S3 (MinIO, SeaweedFS, AWS) through minio-py.

The client is synchronous: calls run in a small pool of threads. Its default pool waits far too long for a dead server, so it
gets one with explicit timeouts. Objects are content-addressed and put with `If-None-Match: *`: a second put changes nothing.

Who does not answer is given up within seconds. Who answers that it cannot serve (500, 502, 503, 504) has more patience: a server
that was started again answers so until it has found its volumes, SeaweedFS for one pulse of 5 s.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from xml.etree.ElementTree import ParseError

import minio
import urllib3
from minio.commonconfig import ENABLED
from minio.error import MinioException, S3Error
from minio.versioningconfig import VersioningConfig

from shared.memory.port import ColdCorrupt, ColdMissing, ColdUnavailable
from shared.metrics.table import S3_FAILED, S3_SECONDS
from shared.settings import S3

T = TypeVar("T")
_THREADS = 8
_LATER = ("InternalError", "ServiceUnavailable", "SlowDown")
"""What a store says that can do it, and cannot do it now."""
_RETRIES = urllib3.Retry(
    total=None,
    connect=2,
    read=2,
    redirect=2,
    other=2,
    status=8,  # 0, 0.2, 0.4, 0.8, 1.6, 2, 2, 2: 9 s
    status_forcelist=(500, 502, 503, 504),
    backoff_factor=0.1,
    backoff_max=2,
    raise_on_status=False,  # the server's own words are the reason
    respect_retry_after_header=False,  # it may name any time
)


def address(endpoint: str, *, secure: bool) -> tuple[str, bool]:
    """Host and port, and whether it is asked over TLS: `http://host:port`, `https://host:port`, or `host:port` and `secure`.

    Raises `ValueError` for what is none.
    """
    scheme, split, rest = endpoint.rpartition("://")
    if split and scheme not in ("http", "https"):
        raise ValueError(f"endpoint {endpoint!r} is to begin with http:// or https://, or to be host:port")
    return rest.rstrip("/"), scheme == "https" if split else secure


def transport(ca_file: str) -> urllib3.PoolManager:
    """Connections that wait as told above, to whom `ca_file` or else this machine believes. Raises `ValueError`."""
    try:
        trust = ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise ValueError(f"ca_file {ca_file}: {error.strerror or error}; want certificates in PEM") from error
    timeout = urllib3.Timeout(connect=2, read=10)
    return urllib3.PoolManager(timeout=timeout, maxsize=_THREADS, retries=_RETRIES, ssl_context=trust)


class _NoBucket(MinioException):
    """Who has a key for one bucket only waits until somebody has made it."""


class S3Cold:
    """A `ColdStore` in one bucket, which is made when it is missing and may be made with this key. The first use connects.

    Raises `ValueError` for what is no endpoint, and for a `ca_file` that cannot be used.
    """

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        *,
        access_key: str,
        secret_key: str,
        secure: bool = False,
        region: str = "us-east-1",
        ca_file: str = "",
        path_style: bool = True,
        versioning: bool = True,
    ) -> None:
        host, secure = address(endpoint, secure=secure)
        self._client = minio.Minio(
            host,
            access_key=access_key,
            secret_key=secret_key,
            secure=secure,
            region=region,
            http_client=transport(ca_file),
        )
        if path_style:
            self._client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        else:
            self._client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        self._bucket, self._versioning = bucket, versioning
        self.warning: str | None = None
        """What is not as it should be, although the store works."""
        self._is_there = False
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="cold")

    @classmethod
    def of(cls, settings: S3) -> S3Cold:
        """The store the settings name. Raises `ValueError`."""
        return cls(
            settings.endpoint,
            settings.bucket,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            secure=settings.secure,
            region=settings.region,
            ca_file=settings.ca_file,
            path_style=settings.path_style,
            versioning=settings.versioning,
        )

    async def problem(self) -> str | None:
        """Why the store cannot be used now; None when it answers."""
        try:
            await self._run(self._client.bucket_exists, self._bucket)
        except ColdUnavailable as error:
            return str(error)
        return None

    def _ensure_bucket(self) -> None:
        try:
            if not self._client.bucket_exists(self._bucket):
                self._client.make_bucket(self._bucket)
        except S3Error as error:
            if error.code == "AccessDenied":
                raise _NoBucket("it is not there, or not for this key, which may not make it") from error
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):  # another service was first
                raise
        if self._versioning:
            self._keep_versions()

    def _keep_versions(self) -> None:
        """Snapshots are written without it too: whoever may not switch it on says so, and goes on."""
        try:
            if self._client.get_bucket_versioning(self._bucket).status != ENABLED:
                self._client.set_bucket_versioning(self._bucket, VersioningConfig(ENABLED))
            self.warning = None
        except (S3Error, ParseError) as error:
            if isinstance(error, S3Error) and error.code in _LATER:
                raise
            self.warning = (
                f"bucket {self._bucket} keeps no versions, so what is overwritten or deleted is gone, and they cannot be switched on: "
                f"{error}; do it yourself, or set SWARM_S3_VERSIONING=false"
            )

    async def put(self, key: str, data: bytes) -> bool:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in key:
            raise ValueError(f"the key {key!r} does not contain the content's SHA-256 {digest}")
        return await self._run(self._put, key, data)

    def _put(self, key: str, data: bytes) -> bool:
        try:
            # put_object cannot send conditional headers
            self._client._put_object(
                self._bucket, key, data, {"If-None-Match": "*", "Content-Type": "application/zstd"}
            )
        except S3Error as error:
            if error.code in ("PreconditionFailed", "ConditionalRequestConflict"):
                return False
            raise
        return True

    async def get(self, key: str, sha256: str) -> bytes:
        data = await self._run(self._get, key)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise ColdCorrupt(f"{key} has SHA-256 {found}, expected {sha256}")
        return data

    def _get(self, key: str) -> bytes:
        answer = None
        try:
            answer = self._client.get_object(self._bucket, key)
            return bytes(answer.read())
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise ColdMissing(f"there is no {key} in bucket {self._bucket}") from error
            raise
        finally:
            if answer is not None:
                answer.close()
                answer.release_conn()

    async def exists(self, key: str) -> bool:
        return await self._run(self._exists, key)

    def _exists(self, key: str) -> bool:
        try:
            self._client.stat_object(self._bucket, key)
        except S3Error as error:
            if error.code == "NoSuchKey":
                return False
            raise
        return True

    async def keys(self, prefix: str) -> list[str]:
        return await self._run(self._keys, prefix)

    def _keys(self, prefix: str) -> list[str]:
        found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
        return sorted(str(entry.object_name) for entry in found)

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client._http.clear()

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        call, began = work.__name__.strip("_"), time.perf_counter()
        try:
            if not self._is_there:
                await loop.run_in_executor(self._pool, self._ensure_bucket)
                self._is_there = True
            return await loop.run_in_executor(self._pool, work, *args)
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            S3_FAILED.by[call] += 1
            raise ColdUnavailable(f"S3 bucket {self._bucket}: {error}") from error
        finally:
            S3_SECONDS.observe(time.perf_counter() - began, call)
