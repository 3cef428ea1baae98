"""A real nats-server on a free port, for tests; it can be killed and started again on the same store."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

from services.supervisor.mesh import find_binary
from services.supervisor.ports import free_port
from services.supervisor.processes import die_with_parent


class Broker:
    """nats-server with a file store under `folder`. `limits`: lines of its `jetstream.limits`; `more`: of its configuration."""

    def __init__(self, folder: Path, *, sync_always: bool = False, limits: str = "", more: str = "") -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.config = folder / "nats.conf"
        sync = "  sync_interval: always\n" if sync_always else ""
        self.config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{\n  store_dir: "{folder / "js"}"\n  max_file: 16G\n'
            f"  strict: true\n  limits {{\n{limits}\n  }}\n{sync}}}\n{more}\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start and wait until it accepts connections."""
        self.process = subprocess.Popen(
            [find_binary("nats-server"), "-c", str(self.config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent(os.getpid()),
        )
        async with asyncio.timeout(15):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    assert self.process.poll() is None, "nats-server ended at once"
                    await asyncio.to_thread(self._settle)
                else:
                    writer.close()
                    return

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """An orderly end, with all that is in memory on disk."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait()

    def _settle(self) -> None:
        assert self.process is not None
        try:
            self.process.wait(0.05)
        except subprocess.TimeoutExpired:
            return
