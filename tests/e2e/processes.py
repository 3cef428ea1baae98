"""Broker, governor and gateway as real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from services.supervisor.running.ports import free_port
from shared.log.streams import ensure
from tests.broker import Broker


class Process:
    """One service process."""

    def __init__(self, name: str, broker: Broker, folder: Path, **env: str) -> None:
        self.name = name
        self.env = {
            "PATH": os.environ["PATH"],
            "SWARM_NATS_URL": broker.url,
            "SWARM_REQUIRE_SYNC_ALWAYS": "false",
            "SWARM_DATA_DIR": str(folder),
            **env,
        }
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"services.{self.name}"],
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """The exit code."""
        self.process.send_signal(how)
        return await asyncio.to_thread(self.process.wait, 20)

    def settle(self) -> None:
        """A moment, or the end of the process, whichever is first."""
        try:
            self.process.wait(0.05)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(f"{self.name} ended with {self.process.returncode}")


class Mesh:
    """Broker, governor, gateway."""

    def __init__(self, broker: Broker, folder: Path, **env: str) -> None:
        port = free_port()
        self.broker = broker
        self.governor = Process("governor", broker, folder)
        self.gateway = Process("gateway", broker, folder, SWARM_HTTP_PORT=str(port), **env)
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False, timeout=20)

    async def answers(self, path: str, status: int) -> httpx.Response:
        """The first answer with that status; the gateway may still be starting, or finding its broker again."""
        async with asyncio.timeout(30):
            while True:
                try:
                    answer = await self.client.get(path)
                    if answer.status_code == status:
                        return answer
                except httpx.TransportError:
                    pass
                await asyncio.to_thread(self.gateway.settle)

    async def posts(self, path: str, json: object, key: str) -> httpx.Response:
        """Sends until the mesh answers, under one key; so it is done once."""
        async with asyncio.timeout(30):
            while True:
                try:
                    answer = await self.client.post(path, json=json, headers={"Idempotency-Key": key})
                    if answer.status_code != 503:
                        return answer
                except httpx.TransportError:
                    pass
                await asyncio.to_thread(self.gateway.settle)


@asynccontextmanager
async def running(folder: Path, **env: str) -> AsyncIterator[Mesh]:
    """All of it, ready; `env` is the gateway's."""
    broker = Broker(folder)
    await broker.start()
    await ensure(broker.url, None)
    found = Mesh(broker, folder, **env)
    try:
        await found.answers("/health/ready", 200)
        yield found
    finally:
        await found.client.aclose()
        for process in (found.gateway, found.governor):
            process.process.kill()
            process.process.wait()
        broker.kill()
