"""Cold storage against a real S3 server."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from minio.error import S3Error

from shared.memory.cold import S3Cold
from shared.memory.port import ColdCorrupt, ColdMissing, ColdStore, ColdUnavailable
from shared.settings import S3
from tests.contract.memory.weed import ACCESS_KEY, SECRET_KEY, Weed
from tests.tls import pair


async def connect(server: Weed, bucket: str = "") -> S3Cold:
    bucket = bucket or f"test-{uuid.uuid4().hex[:12]}"
    store = S3Cold(server.endpoint, bucket, access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    assert await store.problem() is None
    return store


@pytest.fixture(params=["embedded", "named"])
async def cold(request: pytest.FixtureRequest, weed: Weed) -> AsyncIterator[S3Cold]:
    """On the embedded server, and on the one that `SWARM_TEST_S3_URL` names, as `http://KEY:SECRET@host:port`."""
    if request.param == "embedded":
        store = await connect(weed)
    else:
        named = urlsplit(os.environ.get("SWARM_TEST_S3_URL", ""))
        if not named.hostname:
            pytest.skip("SWARM_TEST_S3_URL names no S3 server")
        store = S3Cold(
            f"{named.hostname}:{named.port}",
            f"test-{uuid.uuid4().hex[:12]}",
            access_key=named.username or "",
            secret_key=named.password or "",
            secure=named.scheme == "https",
        )
        assert await store.problem() is None
    yield store
    await store.close()


def named(data: bytes, prefix: str = "snapshots/alpha/ada/1-") -> tuple[str, str]:
    digest = hashlib.sha256(data).hexdigest()
    return f"{prefix}{digest}.zst", digest


async def test_what_was_put_is_got_and_listed(cold: ColdStore) -> None:
    data = os.urandom(300_000)
    key, digest = named(data)
    assert await cold.exists(key) is False
    assert await cold.put(key, data) is True
    assert await cold.exists(key) is True
    assert await cold.get(key, digest) == data
    other, _ = named(b"x", "snapshots/beta/")
    await cold.put(other, b"x")
    assert await cold.keys("snapshots/alpha/") == [key]
    assert await cold.keys("snapshots/") == sorted([key, other])
    assert await cold.keys("nothing/") == []


async def test_a_second_put_changes_nothing_not_even_beside_the_first(cold: ColdStore) -> None:
    key, digest = named(b"the same")
    stored = await asyncio.gather(*(cold.put(key, b"the same") for _ in range(12)))
    assert sum(stored) >= 1
    assert await cold.put(key, b"the same") is False
    assert await cold.get(key, digest) == b"the same"


async def test_a_key_must_name_its_content(cold: ColdStore) -> None:
    with pytest.raises(ValueError, match="does not contain the content's SHA-256"):
        await cold.put("snapshots/latest.zst", b"x")


async def test_a_missing_object_and_one_that_was_tampered_with_are_told_apart(cold: S3Cold) -> None:
    key, digest = named(b"honest")
    with pytest.raises(ColdMissing, match="there is no snapshots/"):
        await cold.get(key, digest)
    await asyncio.to_thread(cold._client._put_object, cold._bucket, key, b"forged", {})
    with pytest.raises(ColdCorrupt, match=f"expected {digest}"):
        await cold.get(key, digest)


async def test_opening_a_bucket_twice_at_once_is_fine(weed: Weed) -> None:
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    for store in await asyncio.gather(*(connect(weed, bucket) for _ in range(4))):
        await store.close()


async def test_a_wrong_key_is_refused_in_plain_words(weed: Weed) -> None:
    store = S3Cold(weed.endpoint, "test", access_key=ACCESS_KEY, secret_key="wrong-secret")
    with pytest.raises(ColdUnavailable, match="S3 bucket test"):
        await store.keys("")
    await store.close()


async def test_a_server_that_is_away_fails_within_seconds() -> None:
    began = time.monotonic()
    store = S3Cold("127.0.0.1:9", "test", access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    with pytest.raises(ColdUnavailable):
        await store.keys("")
    assert time.monotonic() - began < 8
    assert "127.0.0.1" in str(await store.problem())
    await store.close()


class Restarting:
    """A server that answers `refusals` requests with `status` and a wish to be left alone for an hour, and then serves `BODY`."""

    BODY = b"what was kept"

    def __init__(self, status: int, refusals: int) -> None:
        self.asked = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                busy = outer.asked <= refusals
                body = (
                    b"<Error><Code>InternalError</Code><Message>no volume yet</Message></Error>" if busy else outer.BODY
                )
                self.send_response(status if busy else 200)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Retry-After", "3600")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_that_cannot_serve_yet_is_asked_again_and_not_when_it_pleases(status: int) -> None:
    server = Restarting(status, refusals=4)
    store = S3Cold(server.endpoint, "test", access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    try:
        async with asyncio.timeout(60):
            assert await store.get("kept", hashlib.sha256(server.BODY).hexdigest()) == server.BODY
    finally:
        await store.close()
        server.close()


async def test_a_server_that_never_serves_is_given_up_in_its_own_words() -> None:
    server = Restarting(503, refusals=1000)
    store = S3Cold(server.endpoint, "test", access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    store._is_there = True  # the answer to HEAD has no words
    try:
        async with asyncio.timeout(60):
            with pytest.raises(ColdUnavailable, match="no volume yet"):
                await store.get("kept", hashlib.sha256(server.BODY).hexdigest())
    finally:
        await store.close()
        server.close()


async def test_what_was_acknowledged_survives_a_kill_and_the_client_outlives_the_outage(tmp_path: Path) -> None:
    server = Weed(tmp_path)
    server.start()
    store = await connect(server)
    keys = []
    for n in range(20):
        data = f"object {n}".encode()
        key, digest = named(data, f"snapshots/{n}-")
        await store.put(key, data)
        keys.append((key, digest, data))
    server.kill()
    began = time.monotonic()
    with pytest.raises(ColdUnavailable):
        await store.get(keys[0][0], keys[0][1])
    assert time.monotonic() - began < 8
    server.start()
    try:
        assert [await store.get(key, digest) for key, digest, _ in keys] == [data for _, _, data in keys]
    finally:
        await store.close()
        server.kill()


async def test_a_store_over_tls_is_used_when_it_is_the_one_that_is_believed(tmp_path: Path) -> None:
    (shown, key), (other, _) = pair(tmp_path, "store"), pair(tmp_path, "other")
    server = Weed(tmp_path, tls=(shown, key))
    server.start()
    try:
        for ca_file, endpoint in (
            (str(shown), f"https://{server.endpoint}"),
            (str(other), server.endpoint),
            ("", server.endpoint),
        ):
            s3 = S3(
                endpoint=endpoint,
                access_key=ACCESS_KEY,
                secret_key=SECRET_KEY,
                secure=True,
                ca_file=ca_file,
                bucket="tls",
            )
            store = S3Cold.of(s3)
            problem = await store.problem()
            assert problem is None if ca_file == str(shown) else "CERTIFICATE_VERIFY_FAILED" in str(problem)
            if problem is None:
                named_, digest = named(b"over TLS")
                assert await store.put(named_, b"over TLS") and await store.get(named_, digest) == b"over TLS"
            await store.close()
    finally:
        server.kill()


async def test_versions_are_kept_unless_told_otherwise(weed: Weed) -> None:
    for versioning, expected in ((True, "Enabled"), (False, None)):
        bucket = f"test-{uuid.uuid4().hex[:12]}"
        keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
        store = S3Cold.of(S3(endpoint=f"http://{weed.endpoint}/", bucket=bucket, versioning=versioning, **keys))
        assert await store.problem() is None
        assert store._client.get_bucket_versioning(bucket).status == expected
        assert store.warning is None
        await store.close()


async def test_a_store_that_keeps_no_versions_is_used_and_says_so(
    cold: S3Cold, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise S3Error(None, "AccessDenied", "Access Denied.", None, None, None)  # type: ignore[arg-type]

    monkeypatch.setattr(cold._client, "set_bucket_versioning", refuse)
    monkeypatch.setattr(cold, "_bucket", f"test-{uuid.uuid4().hex[:12]}")
    cold._is_there = False
    assert await cold.problem() is None
    assert "keeps no versions" in str(cold.warning) and "Access Denied" in str(cold.warning)


async def test_where_the_bucket_stands_is_as_told() -> None:
    for path_style, host, path in ((True, "s3.example.org", "/cold/k"), (False, "cold.s3.example.org", "/k")):
        store = S3Cold(
            "s3.example.org", "cold", access_key="a", secret_key="s", path_style=path_style, region="eu-west-1"
        )
        url = store._client._base_url.build(method="GET", region="eu-west-1", bucket_name="cold", object_name="k")
        assert (url.netloc, url.path) == (host, path)
        assert store._client._get_region("cold") == "eu-west-1"
        await store.close()


def test_what_is_no_endpoint_is_refused_and_so_are_certificates_that_are_none(tmp_path: Path) -> None:
    for endpoint, ca_file, said in (
        ("ftp://s3:21", "", "'ftp://s3:21' is to begin with http:// or https://"),
        ("http://s3:9000/path", "", "path"),
        ("s3:9000", str(tmp_path / "no.crt"), r"no\.crt: No such file"),
    ):
        with pytest.raises(ValueError, match=said):
            S3Cold(endpoint, "b", access_key="a", secret_key="s", ca_file=ca_file)
