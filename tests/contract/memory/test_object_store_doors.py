"""The object store's inner ports, on a real server: whoever has not its certificate gets nothing done, and S3 works all the same."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from services.supervisor.mesh import find_binary
from services.supervisor.stores.object_store import open_doors
from shared.memory.cold import S3Cold
from tests.contract.memory.test_cold_store import connect, named
from tests.contract.memory.weed import Weed

HTTP_DOORS = {
    "s3_filer": (
        ("GET", "/buckets/?pretty=y"),
        ("PUT", "/buckets/evil/file"),
        ("DELETE", "/buckets/?recursive=true"),
    ),
    "s3_master": (("GET", "/dir/assign"), ("GET", "/col/delete?collection=test"), ("GET", "/vol/vacuum")),
    "s3_volume": (("GET", "/status"), ("POST", "/1,01637037d6")),
}


async def kept(store: S3Cold) -> tuple[str, str]:
    key, digest = named(b"what is kept")
    await store.put(key, b"what is kept")
    return key, digest


@pytest.mark.parametrize("part", HTTP_DOORS)
async def test_without_the_certificate_no_part_answers_over_http_or_https(weed: Weed, part: str) -> None:
    store = await connect(weed)
    key, digest = await kept(store)
    port = weed.ports[part]
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=5) as stranger:
        for method, path in HTTP_DOORS[part]:
            try:
                answer = await stranger.request(method, f"http://127.0.0.1:{port}{path}", content=b"evil")
                assert (answer.status_code, "HTTPS server" in answer.text) == (400, True)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                pass  # it hung up
            with pytest.raises((httpx.TransportError, ssl.SSLError)):
                await stranger.request(method, f"https://127.0.0.1:{port}{path}", content=b"evil")
    assert await store.get(key, digest) == b"what is kept"
    await store.close()


async def test_with_the_certificate_they_answer(weed: Weed) -> None:
    context = ssl.create_default_context(cafile=str(weed.folder / "keys" / "s3-inner.crt"))
    context.load_cert_chain(weed.folder / "keys" / "s3-inner.crt", weed.folder / "keys" / "s3-inner.key")
    async with httpx.AsyncClient(trust_env=False, verify=context, timeout=5) as own:
        answer = await own.get(f"https://127.0.0.1:{weed.ports['s3_master']}/dir/assign")
        assert answer.status_code == 200 and "fid" in answer.json()


def test_the_stores_own_shell_reads_no_keys_and_no_files_without_the_certificate(weed: Weed, tmp_path: Path) -> None:
    master = f"127.0.0.1:{weed.ports['s3_master']}.{weed.ports['s3_master_grpc']}"
    filer = f"127.0.0.1:{weed.ports['s3_filer']}.{weed.ports['s3_filer_grpc']}"
    shell = [find_binary("weed"), "shell", f"-master={master}", f"-filer={filer}"]
    said = ""
    try:
        done = subprocess.run(
            shell,
            input="s3.configure\nfs.ls /buckets\n",
            capture_output=True,
            text=True,
            timeout=10,
            cwd=tmp_path,
            env={"HOME": str(tmp_path)},
            check=False,
        )
        said = done.stdout + done.stderr
    except subprocess.TimeoutExpired as refused:  # it tries until it is let in
        said = str(refused.stdout) + str(refused.stderr)
    assert "test-secret-key" not in said
    assert "test-" not in said.replace(str(tmp_path), "")


async def test_the_doctor_sees_that_the_doors_are_closed_and_names_those_of_a_store_without_certificates(
    weed: Weed, tmp_path: Path
) -> None:
    assert [] == await open_doors(weed.ports)
    bare = Weed(tmp_path)
    (tmp_path / "security.toml").unlink()
    bare.start()
    try:
        opened = await open_doors(bare.ports)
        assert {f"s3_{part}{kind}" for part in ("master", "filer", "volume") for kind in ("", "_grpc")} <= set(opened)
    finally:
        bare.kill()
