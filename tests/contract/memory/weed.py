"""A real SeaweedFS with an S3 door, for tests."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.broker import binary, free_port

ACCESS_KEY, SECRET_KEY = "test-access", "test-secret-key"
_GRPC = 10_000


class Weed:
    """SeaweedFS with an S3 door on a free port; `kill` is kill -9."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports: dict[str, int] = {}
        for name in ("master", "volume", "filer", "s3", "admin"):
            self.ports[name] = self._free()
        self.endpoint = f"127.0.0.1:{self.ports['s3']}"
        self.identities = folder / "identities.json"
        self.identities.touch(0o600)
        identity = {
            "name": "test",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        self.identities.write_text(json.dumps({"identities": [identity]}))
        self.process: subprocess.Popen[bytes] | None = None

    def _free(self) -> int:
        """Each port also takes the one 10 000 above it."""
        while True:
            port = free_port()
            if port + _GRPC < 65536 and port not in self.ports.values():
                return port

    def start(self) -> None:
        arguments = [f"-{name}.port={port}" for name, port in self.ports.items()]
        self.process = subprocess.Popen(
            [binary("weed"), "mini", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *arguments,
             "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={self.identities}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self.process.poll() is None, "weed ended at once"
            assert time.monotonic() < deadline, "weed did not answer within 30 s"

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.endpoint}/healthz", timeout=0.5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return error.code < 500
        except OSError:
            return False
        return True

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
