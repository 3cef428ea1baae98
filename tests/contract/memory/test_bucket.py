"""Memory's own key to its store, on real servers: it does what memory does, and nothing beyond."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import minio
import pytest
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, S3Error
from minio.minioadmin import MinioAdmin
from minio.versioningconfig import SUSPENDED, VersioningConfig

from services.supervisor.stores import bucket as bucket_process
from services.supervisor.stores.bucket import DONE, REFUSED, UNUSABLE, policy
from shared.memory.cold import S3Cold
from tests.contract.memory.test_cold_store import named
from tests.contract.memory.weed import ACCESS_KEY, BUCKET, MEMORY_ACCESS, MEMORY_SECRET, SECRET_KEY, Weed

Environment = dict[str, str]


@pytest.fixture
def root() -> Environment:
    """What the process is told of the MinIO that `SWARM_TEST_S3_URL` names; a bucket of the test's own."""
    told = urlsplit(os.environ.get("SWARM_TEST_S3_URL", ""))
    if not told.hostname:
        pytest.skip("SWARM_TEST_S3_URL names no S3 server")
    return {
        "SWARM_S3_ENDPOINT": f"{told.scheme}://{told.hostname}:{told.port}",
        "SWARM_S3_ACCESS_KEY": told.username or "",
        "SWARM_S3_SECRET_KEY": told.password or "",
        "SWARM_S3_BUCKET": f"test-{uuid.uuid4().hex[:12]}",
    }


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "s3-access").write_text(f"user-{uuid.uuid4().hex[:12]}\n")
    (tmp_path / "s3-secret").write_text(f"{uuid.uuid4().hex}\n")
    return tmp_path


async def prepare(told: Environment, keys: Path, wait_s: float = 60.0) -> int:
    return await asyncio.to_thread(bucket_process.main, told, keys=keys, wait_s=wait_s)


def client(endpoint: str, access: str, secret: str) -> minio.Minio:
    host = endpoint.rpartition("://")[2]
    return minio.Minio(host, access_key=access, secret_key=secret, secure=False, region="us-east-1")


async def does_what_memory_does(cold: S3Cold) -> None:
    async with asyncio.timeout(60):
        while await cold.problem() is not None:  # the server makes the bucket by itself, when it is up
            await asyncio.sleep(0.1)
    assert cold.warning is None, "versions are kept"
    key, digest = named(b"mine")
    assert await cold.put(key, b"mine") is True
    assert await cold.put(key, b"mine") is False
    assert await cold.get(key, digest) == b"mine"
    assert await cold.exists(named(b"nobody's")[0]) is False
    assert await cold.keys("") == [key]


def refused(calls: dict[str, Callable[[], object]]) -> list[str]:
    """Which of them were."""
    said = []
    for name, call in calls.items():
        try:
            call()
        except (S3Error, MinioAdminException) as error:
            said += [name] if "AccessDenied" in str(error) else [f"{name}: {error}"]
    return said


async def test_memorys_key_to_a_minio_is_for_its_bucket_and_deletes_nothing(root: Environment, keys: Path) -> None:
    for _ in range(2):
        assert await prepare(root, keys) == DONE
    access, secret = (keys / "s3-access").read_text().strip(), (keys / "s3-secret").read_text().strip()
    mine, others, endpoint = root["SWARM_S3_BUCKET"], f"other-{uuid.uuid4().hex[:12]}", root["SWARM_S3_ENDPOINT"]
    cold = S3Cold(endpoint, mine, access_key=access, secret_key=secret)
    await does_what_memory_does(cold)
    await cold.close()
    boss = client(endpoint, root["SWARM_S3_ACCESS_KEY"], root["SWARM_S3_SECRET_KEY"])
    user = client(endpoint, access, secret)
    await asyncio.to_thread(boss.make_bucket, others)
    host = endpoint.rpartition("://")[2]
    admin = MinioAdmin(endpoint=host, credentials=StaticProvider(access, secret), region="us-east-1", secure=False)
    calls: dict[str, Callable[[], object]] = {
        "delete": lambda: user.remove_object(mine, named(b"mine")[0]),
        "forget versions": lambda: user.set_bucket_versioning(mine, VersioningConfig(SUSPENDED)),
        "end the bucket": lambda: user.remove_bucket(mine),
        "see another": lambda: user.bucket_exists(others),
        "read another": lambda: list(user.list_objects(others)),
        "write another": lambda: user._put_object(others, "k", b"x", {}),
        "make one": lambda: user.make_bucket(f"{others}-2"),
        "a user": lambda: admin.user_add("another-user", "anothers-secret"),
        "its own secret": lambda: admin.user_add(access, "anothers-secret"),
        "a key more": lambda: admin.add_service_account(access_key="another-key", secret_key="anothers-secret"),
        "a policy": lambda: admin.policy_set("consoleAdmin", user=access),
    }
    assert list(calls) == await asyncio.to_thread(refused, calls)


async def test_who_was_the_stores_root_before_becomes_a_user_when_the_root_is_another(
    root: Environment, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (keys / "s3-access").write_text(root["SWARM_S3_ACCESS_KEY"])
    assert await prepare(root, keys) == UNUSABLE
    assert "it is to be the store's root" in capsys.readouterr().err


async def test_a_store_that_is_away_or_has_no_users_to_give_is_told_in_its_own_words(
    weed: Weed, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"SWARM_S3_ACCESS_KEY": "root", "SWARM_S3_SECRET_KEY": "root-secret", "SWARM_S3_ENDPOINT": "127.0.0.1:9"}
    assert await prepare(told, keys, wait_s=0) == REFUSED
    assert "bucket: not within 0 s: S3 bucket swarm: " in capsys.readouterr().err
    told |= {"SWARM_S3_ENDPOINT": weed.endpoint, "SWARM_S3_ACCESS_KEY": ACCESS_KEY, "SWARM_S3_SECRET_KEY": SECRET_KEY}
    assert await prepare(told, keys, wait_s=0) == REFUSED
    assert "memory's user of bucket swarm: admin request failed" in capsys.readouterr().err


@pytest.mark.parametrize("lacking", ["SWARM_S3_ENDPOINT", "SWARM_S3_ACCESS_KEY", "SWARM_S3_SECRET_KEY"])
async def test_what_it_cannot_do_without_is_told(lacking: str, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = {"SWARM_S3_ENDPOINT": "h:1", "SWARM_S3_ACCESS_KEY": "root", "SWARM_S3_SECRET_KEY": "root-secret"}
    assert await prepare({name: value for name, value in whole.items() if name != lacking}, keys) == UNUSABLE
    assert f"bucket: {lacking}" in capsys.readouterr().err


def test_the_policy_lets_nothing_be_deleted_and_names_one_bucket() -> None:
    allowed = [row for row in policy("mine")["Statement"] if row["Effect"] == "Allow"]  # type: ignore[attr-defined]
    assert {"arn:aws:s3:::mine", "arn:aws:s3:::mine/*"} == {on for row in allowed for on in row["Resource"]}
    actions = {name for row in allowed for name in row["Action"]}
    assert {"s3:PutObject"} == {name for name in actions if not name.startswith(("s3:Get", "s3:List"))}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Weed]:
    server = Weed(tmp_path)
    server.start()
    yield server
    server.kill()


async def test_memorys_key_to_the_embedded_store_is_for_its_bucket(own: Weed) -> None:
    cold = S3Cold(own.endpoint, BUCKET, access_key=MEMORY_ACCESS, secret_key=MEMORY_SECRET)
    await does_what_memory_does(cold)
    await cold.close()
    other = S3Cold(own.endpoint, "other", access_key=MEMORY_ACCESS, secret_key=MEMORY_SECRET)
    assert "bucket other: it is not there, or not for this key" in str(await other.problem())
    await other.close()
    user = client(own.endpoint, MEMORY_ACCESS, MEMORY_SECRET)
    calls: dict[str, Callable[[], object]] = {
        "end the bucket": lambda: user.remove_bucket(BUCKET),
        "make one": lambda: user.make_bucket("other"),
        "write another": lambda: user._put_object("other", "k", b"x", {}),
    }
    assert list(calls) == await asyncio.to_thread(refused, calls)
