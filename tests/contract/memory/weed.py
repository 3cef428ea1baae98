"""A real SeaweedFS with an S3 door, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from services.supervisor.mesh import find_binary
from services.supervisor.plan import weed
from services.supervisor.ports import S3_GRPC, S3_PORTS, choose
from services.supervisor.processes import die_with_parent

ACCESS_KEY, SECRET_KEY = "test-access", "test-secret-key"


class Weed:
    """SeaweedFS with an S3 door on a free port; `kill` is kill -9."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = choose((*S3_PORTS, *S3_GRPC), host="127.0.0.1")
        self.endpoint = f"127.0.0.1:{self.ports['s3_s3']}"
        self.identities = folder / "identities.json"
        self.identities.touch(0o600)
        identity = {
            "name": "test",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        self.identities.write_text(json.dumps({"identities": [identity]}))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            weed(find_binary("weed"), self.folder, self.identities, self.ports),
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
