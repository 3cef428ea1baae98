"""A real SeaweedFS with an S3 door, for tests."""

from __future__ import annotations

import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import msgspec

from services.supervisor.mesh import find_binary
from services.supervisor.running.ports import S3_GRPC, S3_PORTS, choose
from services.supervisor.running.processes import die_with_parent
from services.supervisor.secrets.keys import private_folder, write_private
from services.supervisor.stores.object_store import command, configure

_ANYBODY = ssl._create_unverified_context()  # it only looks whether somebody is there
ACCESS_KEY, SECRET_KEY = "test-access", "test-secret-key"
"""Of who may do everything, here alone."""
BUCKET, MEMORY_ACCESS, MEMORY_SECRET = "swarm", "memory-access", "memory-secret-key"
"""As a mesh has them."""


class Weed:
    """SeaweedFS with an S3 door on a free port; `kill` is kill -9. `tls`: certificate and key (PEM) the door shows."""

    def __init__(self, folder: Path, *, tls: tuple[Path, Path] | None = None) -> None:
        self._door = () if tls is None else (f"-s3.cert.file={tls[0]}", f"-s3.key.file={tls[1]}")
        self.folder = folder
        self.ports = choose((*S3_PORTS, *S3_GRPC), host="127.0.0.1")
        self.endpoint = f"127.0.0.1:{self.ports['s3_s3']}"
        keys = folder / "keys"
        private_folder(keys)
        write_private(keys / "s3-access", MEMORY_ACCESS)
        write_private(keys / "s3-secret", MEMORY_SECRET)
        self.identities = configure(folder, keys, BUCKET)
        self._add_root()
        self.process: subprocess.Popen[bytes] | None = None

    def _add_root(self) -> None:
        known = msgspec.json.decode(self.identities.read_bytes())
        credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        known["identities"].append({"name": "root", "credentials": credentials, "actions": ["Admin"]})
        write_private(self.identities, msgspec.json.encode(known).decode())

    def start(self) -> None:
        self.process = subprocess.Popen(
            (*command(find_binary("weed"), self.folder, self.identities, self.ports, bucket=BUCKET), *self._door),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent(os.getpid()),
            cwd=self.folder,
        )
        deadline = time.monotonic() + 30
        while not self._answers():
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"weed ended at once with {self.process.wait(0.05)}")
            assert time.monotonic() < deadline, "weed did not answer within 30 s"

    def _answers(self) -> bool:
        scheme = "https" if self._door else "http"
        try:
            urllib.request.urlopen(f"{scheme}://{self.endpoint}/healthz", timeout=0.5, context=_ANYBODY).close()
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
