"""A real nats-server on keys that `swarm keys init` made, for tests."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from nats.aio.client import Client

from services.cli.main import app
from services.cli.terminal.target import Stop
from services.supervisor.mesh import find_binary
from services.supervisor.running.ports import free_port
from services.supervisor.running.processes import die_with_parent
from services.supervisor.secrets.keys import seed_file
from shared.broker import inbox_prefix


class Keyed:
    """A broker on the configuration `swarm keys init` wrote, with its log of what it did."""

    def __init__(self, folder: Path) -> None:
        self.keys, self.port, self.said = folder / "keys", free_port(), folder / "nats.log"
        self.url = f"nats://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.clients: list[Client] = []

    def swarm(self, *words: str, code: int = 0) -> str:
        """What the command says, run in this process."""
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            try:
                ended = app([*words], result_action="return_value", exit_on_error=False)
            except Stop as stop:
                ended = stop.code
                print(stop)
        assert code == ended, said.getvalue()
        return said.getvalue()

    def key_command(self, *words: str, code: int = 0) -> str:
        return self.swarm("keys", *words, "--keys", str(self.keys), code=code)

    async def bootstrap(self, *words: str, code: int = 0) -> str:
        return await asyncio.to_thread(self.swarm, "bootstrap", "--nats-url", self.url, *words, code=code)

    async def start(self) -> None:
        with self.said.open("wb") as log:
            self.process = subprocess.Popen(
                [find_binary("nats-server"), "-c", str(self.keys / "nats" / "nats.conf")],
                stderr=log,
                preexec_fn=die_with_parent(os.getpid()),
            )
        await self.has_said("Server is ready")

    def places(self) -> tuple[str, ...]:
        """Where this broker is, for `swarm keys init`."""
        store = ("--store-dir", str(self.keys.parent / "js"), "--host", "127.0.0.1")
        return (*store, "--port", str(self.port), "--monitor-port", str(free_port()))

    def end(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def has_said(self, what: str, times: int = 1) -> None:
        async with asyncio.timeout(10):
            while self.said.read_text().count(what) < times:
                await asyncio.to_thread(self._look)

    def _look(self) -> None:
        assert self.process is not None
        try:
            self.process.wait(0.02)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(self.said.read_text())

    async def reload(self, times: int) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        await self.has_said("Reloaded server configuration", times)

    async def login(self, name: str, seed: Path | None = None, dropped: asyncio.Event | None = None) -> Client:
        client = Client()
        self.clients.append(client)

        async def gone() -> None:
            if dropped is not None:
                dropped.set()

        async def ignore(error: Exception) -> None:
            return

        await client.connect(
            self.url,
            nkeys_seed=str(seed or seed_file(self.keys, name)),
            inbox_prefix=inbox_prefix(name),
            allow_reconnect=False,
            connect_timeout=5,
            disconnected_cb=gone,
            error_cb=ignore,
        )
        return client
