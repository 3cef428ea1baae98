"""A real nats-server on a free port, or three of them as a cluster, for tests; each can be killed and started again on its store."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats

from services.supervisor.mesh import find_binary
from services.supervisor.running.ports import free_port
from services.supervisor.running.processes import die_with_parent


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


class Cluster:
    """Three of them under `folder`, as one JetStream. `url` names all, `routes` are the ports they reach each other at."""

    SIZE = 3

    def __init__(self, folder: Path, *, sync_always: bool = False) -> None:
        self.routes = [free_port() for _ in range(self.SIZE)]
        self._folder, self._sync_always = folder, sync_always
        self.brokers: list[Broker] = []
        self.configure({})

    def configure(self, through: Mapping[int, int]) -> None:
        """Write the configurations, before the first start. `through`: by number, the port of what stands before a broker's routes."""
        doors = [through.get(number, port) for number, port in enumerate(self.routes)]
        routes = "".join(f'    "nats://127.0.0.1:{port}"\n' for port in doors)
        self.brokers = []
        for number, (port, door) in enumerate(zip(self.routes, doors, strict=True), start=1):
            home = self._folder / f"n{number}"
            home.mkdir(parents=True, exist_ok=True)
            more = (
                f'server_name: n{number}\ncluster {{\n  name: mesh\n  listen: "127.0.0.1:{port}"\n'
                f'  advertise: "127.0.0.1:{door}"\n  pool_size: -1\n  no_advertise: true\n  routes: [\n{routes}  ]\n}}\n'
            )
            self.brokers.append(Broker(home, sync_always=self._sync_always, more=more))

    @property
    def url(self) -> str:
        return ",".join(broker.url for broker in self.brokers)

    async def start(self) -> None:
        """Start all, and wait until they are one JetStream."""
        await asyncio.gather(*(broker.start() for broker in self.brokers))
        await self.whole()

    async def whole(self) -> None:
        """Returns when JetStream has a leader and all three are in it."""
        async with asyncio.timeout(60):
            while not await self._is_whole():
                await asyncio.sleep(0.1)

    async def leader(self, stream: str = "SWARM") -> int | None:
        """Which of `brokers` leads the stream; None while nobody does."""
        cluster = (await self._ask(f"$JS.API.STREAM.INFO.{stream}")).get("cluster", {})
        leader = cluster.get("leader")
        return int(leader[1:]) - 1 if leader else None

    async def in_step(self, stream: str = "SWARM") -> None:
        """Returns when every replica of the stream is current."""
        async with asyncio.timeout(60):
            while True:
                cluster = (await self._ask(f"$JS.API.STREAM.INFO.{stream}")).get("cluster", {})
                others = cluster.get("replicas", [])
                if cluster.get("leader") and len(others) == self.SIZE - 1 and all(r["current"] for r in others):
                    return
                await asyncio.sleep(0.1)

    def kill(self) -> None:
        """kill -9 of all that run."""
        for broker in self.brokers:
            if broker.process is not None:
                broker.kill()

    async def _is_whole(self) -> bool:
        name = "whole"
        config = {"name": name, "subjects": [name], "storage": "memory", "num_replicas": self.SIZE}
        made = await self._ask(f"$JS.API.STREAM.CREATE.{name}", config)
        await self._ask(f"$JS.API.STREAM.DELETE.{name}")
        return "config" in made

    async def _ask(self, subject: str, body: object = "") -> dict[str, Any]:
        """The answer of whoever answers; empty when nobody does."""
        for broker in self.brokers:
            if broker.process is None or broker.process.poll() is not None:
                continue
            try:
                client = await nats.connect(broker.url, allow_reconnect=False, connect_timeout=2)
            except (nats.errors.Error, OSError):
                continue
            try:
                content = json.dumps(body).encode() if body else b""
                answer: dict[str, Any] = json.loads((await client.request(subject, content, timeout=5)).data)
                return answer
            except nats.errors.Error:
                continue
            finally:
                await client.close()
        return {}


REPLICAS = Cluster.SIZE
LOGS = ["memory", "jetstream", *(["cluster"] if os.environ.get("SWARM_TEST_CLUSTER") else [])]
"""What a contract is proved on: with SWARM_TEST_CLUSTER=1 also on three brokers, which takes some seconds for each test."""


@asynccontextmanager
async def serving(kind: str, folder: Path) -> AsyncIterator[tuple[str, int]]:
    """URL and replicas of what runs meanwhile, one broker or, as `cluster`, three."""
    server = Cluster(folder) if kind == "cluster" else Broker(folder)
    await server.start()
    try:
        yield server.url, REPLICAS if kind == "cluster" else 1
    finally:
        server.kill()
