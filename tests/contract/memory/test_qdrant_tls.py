"""Whether a Qdrant server over TLS is made sure of and is shown the API key. What answers here is no Qdrant: it has one answer."""

from __future__ import annotations

import asyncio
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.memory.index.server import ServerIndex
from shared.memory.port import IndexUnavailable
from tests.tls import pair


class Front:
    """HTTPS on loopback that answers 503 and remembers what it was shown."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.shown: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.shown.append(self.headers.get("api-key"))
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    found = Front(*pair(tmp_path, "qdrant"))
    yield found
    found.close()


async def refused(front: Front, ca_file: Path | str) -> str:
    async with asyncio.timeout(20):
        with pytest.raises(IndexUnavailable) as error:
            await ServerIndex.open(front.url, "memory", 8, api_key="hush", ca_file=str(ca_file))
    return str(error.value)


async def test_who_is_believed_is_asked_with_the_key_and_nobody_else_sees_it(front: Front, tmp_path: Path) -> None:
    other, _ = pair(tmp_path, "other")
    for ca_file in ("", other):
        assert "CERTIFICATE_VERIFY_FAILED" in await refused(front, ca_file)
    assert front.shown == []
    assert "503" in await refused(front, tmp_path / "qdrant.crt")
    assert set(front.shown) == {"hush"}


async def test_certificates_that_cannot_be_used_are_named(front: Front, tmp_path: Path) -> None:
    assert "SWARM_QDRANT_CA_FILE=" in await refused(front, tmp_path / "no.crt")
