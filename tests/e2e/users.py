"""A real broker with a key for everyone and no services: what each user may do is tried out on it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.supervisor.mesh import Mesh
from services.supervisor.secrets import keyring
from services.supervisor.secrets.keys import ensure_keys
from shared.broker import BOOTSTRAP, ROLES, BrokerConfig, by_door, inbox_prefix
from shared.contracts.catalog import class_filter
from shared.contracts.services import SERVICES
from shared.log.client.connection import Connection
from shared.log.jetstream import JetStreamLog
from shared.log.port import ConsumerSpec
from shared.log.reading.puller import create_request
from shared.runtime.doors import Doors

NAMES = (*ROLES, *(f"{service}-1" for service in SERVICES), "persona_runner-2", "checker-2")


class World:
    """A broker with one user for each name, and the violations it told each of them."""

    def __init__(self, mesh: BareBroker) -> None:
        self.mesh = mesh
        self.violations: dict[str, list[str]] = {}
        self._clients: list[Client] = []
        self._speakers: dict[str, Client] = {}
        self._connections: list[Connection] = []

    async def client(self, name: str) -> Client:
        async def told(error: Exception) -> None:
            self.violations.setdefault(name, []).append(str(error))

        client = await nats.connect(
            self.mesh.nats_url,
            nkeys_seed=str(self.mesh.key(name)),
            inbox_prefix=inbox_prefix(name).encode(),
            error_cb=told,
        )
        self._clients.append(client)
        return client

    async def log(self, name: str) -> JetStreamLog:
        connection = await Connection.open(
            self.mesh.nats_url, name=name, seed_file=self.mesh.key(name), inbox_prefix=inbox_prefix(name)
        )
        if name in self.mesh.serves:
            connection.asks = by_door(name)
        self._connections.append(connection)
        service = name.rpartition("-")[0]
        return JetStreamLog(
            connection, service=service, instance=name, buries=service not in SERVICES or SERVICES[service].trusted
        )

    async def opens_tails(self) -> None:
        """What the governor does for runners and checkers."""
        await Doors((await self.log("governor-1")).connection).open()

    async def refused(self, name: str, subject: str) -> bool:
        """Whether the broker refuses the publish; it says so before it answers a ping that came after."""
        client = self._speakers.get(name) or await self.client(name)
        self._speakers[name] = client
        before = len(self.violations.get(name, []))
        await client.publish(subject, b"{}")
        for _ in range(2):  # nats-py's first ping may overtake what is still in its buffer
            await client.flush()
        return len(self.violations.get(name, [])) > before

    async def puller(self, log: JetStreamLog) -> None:
        """Declares the durable consumer of the log's service, and asks it for nothing."""
        spec = ConsumerSpec(name=log.service, filters=(class_filter("proposal.created"),))
        subject = f"$JS.API.CONSUMER.CREATE.SWARM.{log.service}"
        answer = await log.connection.request(subject, create_request(spec))
        assert b'"error"' not in answer.data, answer.data

    async def subjects(self) -> dict[str, int]:
        client = await self.client("bootstrap")
        answer = await client.request("$JS.API.STREAM.INFO.SWARM", b'{"subjects_filter": ">"}')
        return dict(json.loads(answer.data)["state"].get("subjects") or {})

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        for connection in self._connections:
            await connection.close()


class BareBroker(Mesh):
    """The broker and the streams of a full mesh, with a key for everyone, and no services. `serves` as the broker is told."""

    serves: Mapping[str, tuple[str, ...]] = {}

    def _write_config(self, keys: dict[str, str]) -> None:
        (self.places.keys / BOOTSTRAP / "signers.json").unlink()  # who signs verdicts is not said: the log is empty
        config = BrokerConfig(
            keys=ensure_keys(self.places.keys, NAMES),
            serves=self.serves,
            store_dir=str(self.data / "nats"),
            port=self.ports["nats"],
            monitor_port=self.ports["monitor"],
            sync_always=False,
        )
        keyring.configure(self.places.keys, config)


async def answers(client: Client, subject: str, body: bytes) -> list[Msg]:
    """Everything that comes until the end-of-batch status."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(subject, body, reply=inbox)
    got: list[Msg] = []
    while not got or "Status" not in (got[-1].headers or {}):
        got.append(await subscription.next_msg(timeout=5))
    return got[:-1]
