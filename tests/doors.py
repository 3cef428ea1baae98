"""A cluster behind proxies: what clients say to each broker and brokers to each other can be slowed or held."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import nats

from tests.broker import Cluster
from tests.chaos.proxy import Proxy, Weather


class Doors:
    """The proxies before the brokers of `cluster`. `url` is where clients find them; `delay_s` each way is for all that comes."""

    def __init__(self, cluster: Cluster, clients: list[Proxy], routes: list[Proxy]) -> None:
        self.cluster, self.clients, self.routes = cluster, clients, routes

    @property
    def url(self) -> str:
        return ",".join(f"nats://127.0.0.1:{proxy.port}" for proxy in self.clients)

    async def between(self, number: int) -> list[Weather]:
        """All that is said between a broker and the others, whoever of the two connected."""
        ids = [await _server_id(broker.url) for broker in self.cluster.brokers]
        others = [n for n in range(len(ids)) if n != number]
        return [self.routes[number].of(ids[n]) for n in others] + [self.routes[n].of(ids[number]) for n in others]


@asynccontextmanager
async def doors(folder: Path, *, delay_s: float = 0.0) -> AsyncIterator[Doors]:
    """A cluster in `folder` that has not been started, and is ended; with `delay_s` each way from the first byte on."""
    cluster = Cluster(folder)
    async with AsyncExitStack() as stack:
        routes = [await stack.enter_async_context(Proxy(port, delay_s)) for port in cluster.routes]
        cluster.configure({number: door.port for number, door in enumerate(routes)})
        clients = [await stack.enter_async_context(Proxy(broker.port, delay_s)) for broker in cluster.brokers]
        stack.callback(cluster.kill)
        yield Doors(cluster, clients, routes)


async def _server_id(url: str) -> str:
    client = await nats.connect(url, allow_reconnect=False)
    try:
        return str(client._server_info["server_id"])
    finally:
        await client.close()
