"""`python -m services.supervisor.stores.bucket [KEYS]`: memory's bucket in a MinIO, and a user of memory's own who reaches only that.

It is a process of its own so that the store's root keys, which it is told as `SWARM_S3_ACCESS_KEY` and `SWARM_S3_SECRET_KEY`, are with
nobody else that stays. `KEYS` (default `/keys`) has the user's: `s3-access`, `s3-secret`. It may be run again at any time, and by several
at once. Exit codes: 0 done, 1 the store would not, or did not serve in time, 2 settings that cannot be used.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import urllib3
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException
from minio.minioadmin import MinioAdmin

from shared.configuration import load
from shared.memory.cold import S3Cold, address, transport
from shared.settings import S3, SettingsError, read_text

DONE, REFUSED, UNUSABLE = 0, 1, 2
WAIT_S, AGAIN_S = 60.0, 1.0


def main(environ: Mapping[str, str] = os.environ, *, keys: Path = Path("/keys"), wait_s: float = WAIT_S) -> int:
    """With the settings of the environment and its file; the exit code, with the reason on stderr."""
    try:
        settings = load(environ, process="bucket").s3
        access, secret = (read_text("KEYS", str(keys / name)) for name in ("s3-access", "s3-secret"))
        if access == settings.access_key:
            raise SettingsError(f"SWARM_S3_ACCESS_KEY is who is in {keys / 's3-access'}; it is to be the store's root")
        cold, admin = S3Cold.of(settings), _admin(settings)
    except (SettingsError, ValueError) as error:
        return _failed(str(error), UNUSABLE)
    return asyncio.run(_prepare(cold, admin, settings.bucket, access, secret, wait_s))


def policy(bucket: str) -> dict[str, object]:
    """What memory does with its bucket, and no more: who has its key can delete nothing, nor have the bucket forget versions."""
    about = f"arn:aws:s3:::{bucket}"
    granted = {
        about: ["s3:GetBucketLocation", "s3:GetBucketVersioning", "s3:ListBucket"],
        f"{about}/*": ["s3:GetObject", "s3:PutObject"],
    }
    statements = [{"Effect": "Allow", "Action": actions, "Resource": [on]} for on, actions in granted.items()]
    # Without a word against it every user may make itself more keys, which would outlive its own.
    alone = {"Effect": "Deny", "Action": ["admin:*"]}
    return {"Version": "2012-10-17", "Statement": [*statements, alone]}


async def _prepare(cold: S3Cold, admin: MinioAdmin, bucket: str, access: str, secret: str, wait_s: float) -> int:
    """Asks again until the time is over: a MinIO that starts is away, then says 503, and then does not know its users yet."""
    until = time.monotonic() + wait_s
    try:
        while (why := await cold.problem()) or (why := await asyncio.to_thread(_let_in, admin, bucket, access, secret)):
            if time.monotonic() > until:
                return _failed(f"not within {wait_s:g} s: {why}", REFUSED)
            await asyncio.sleep(AGAIN_S)
    finally:
        await cold.close()
    print(f"bucket {bucket} is there, and memory's key is for it alone{f' ({cold.warning})' if cold.warning else ''}")
    return DONE


def _let_in(admin: MinioAdmin, bucket: str, access: str, secret: str) -> str | None:
    """Why it could not be done. A user without a policy may do nothing, so at no moment may one do more than it says."""
    name = f"memory-{bucket}"
    try:
        admin.policy_list()  # what is no MinIO refuses to be read so; written to, it may take it for an object
        admin.policy_add(name, policy=policy(bucket))
        admin.user_add(access, secret)
        admin.policy_set(name, user=access)
    except (MinioAdminException, urllib3.exceptions.HTTPError) as error:
        return f"memory's user of bucket {bucket}: {error}"
    return None


def _admin(settings: S3) -> MinioAdmin:
    host, secure = address(settings.endpoint, secure=settings.secure)
    root = StaticProvider(settings.access_key, settings.secret_key)
    http = transport(settings.ca_file)
    return MinioAdmin(endpoint=host, credentials=root, region=settings.region, secure=secure, http_client=http)


def _failed(why: str, code: int) -> int:
    print(f"bucket: {why}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(keys=Path((*sys.argv[1:], "/keys")[0])))
